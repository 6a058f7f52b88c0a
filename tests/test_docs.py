"""The documentation names what exists."""

from __future__ import annotations

import re
from pathlib import Path

from mde.cli.experiments import names
from mde.data.encodings import ENCODINGS
from mde.data.layouts import layouts

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_page_of_the_data_sets_lists_every_layout_and_encoding_as_it_is():
    page = (ROOT / "docs" / "data.md").read_text()
    for layout in layouts().values():
        configs = ", ".join(f"`{name}`" for name in layout.configs) or "-"
        assert f"| `{layout.name}` | {layout.summary} | {configs} |" in page
    for name, encoding in ENCODINGS.items():
        assert f"| `{name}` |" in page
        assert encoding.source in page


def test_experiments_that_pages_name_exist():
    for page in PAGES:
        used = re.findall(r"--config ([a-z]\w*(?:/\w+)?)(?![\w./])", page.read_text())
        assert set(used) <= set(names()), page
