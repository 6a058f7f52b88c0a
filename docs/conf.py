"""Settings of Sphinx: `make docs` builds the site into docs/_build/html, warnings are errors."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from mde import __version__  # noqa: E402
from tools.notebooks import place  # noqa: E402
from tools.reference import write_reference  # noqa: E402

project = "mde"
author = "the authors of mde"
release = version = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

html_theme = "furo"
html_title = f"mde {release}"
html_static_path = ["_static"]

# docstrings: Google's form; `name` in single backticks links to that name where there is one
default_role = "py:obj"
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # what Lightning's hooks say is Lightning's
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "forward, extra_repr"}

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # `make notebooks` runs them; the pages show what it left

place(HERE / "notebooks")
write_reference(HERE / "reference")
