"""The documentation site is built without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT


@pytest.mark.slow
def test_sphinx_makes_a_page_of_each_page(tmp_path: Path) -> None:
    pytest.importorskip("myst_nb", reason="needs what the extra dev has: sphinx, furo, myst-nb, sphinx-copybutton")
    words = ["-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "trees")]
    run = subprocess.run(
        [sys.executable, *words, "docs", str(tmp_path / "html")], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stderr[-4000:]
    for source in (ROOT / "docs").glob("*.md"):
        page = (tmp_path / "html" / f"{source.stem}.html").read_text(encoding="utf-8")
        assert "<h1>" in page
        for picture in re.findall(r'<img[^>]* src="([^":]+)"', page):
            assert (tmp_path / "html" / picture).is_file(), (source, picture)
