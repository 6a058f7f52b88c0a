"""`mde report`: what it writes, and what it says when it cannot."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mde.cli.report import run
from mde.errors import ConfigError, DataFormatError, ProtocolMismatchError
from tests.page.runs import PROTOCOL, write_run


def test_it_writes_a_page_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "unet" / "2026-01-02_03-04-05")
    assert run(["unet"]) == 0
    assert "written: report.html" in capsys.readouterr().out
    assert "<title>mde report: unet</title>" in (tmp_path / "report.html").read_text()


def test_a_figure_alone_makes_no_page(tmp_path: Path) -> None:
    folders = [str(write_run(tmp_path / name)) for name in ("a", "b")]
    assert run([*folders, "--figure", "f.pdf", "--images", "hall/b,attic/c"]) == 0
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")
    assert not (tmp_path / "report.html").exists()
    assert run([*folders, "--figure", "f.png", "-o", "deep/p.html", "--images", "attic/d", "--title", "Rooms"]) == 0
    text = (tmp_path / "deep" / "p.html").read_text()
    assert text.count('class="card"') == 1
    assert "<h1>Rooms</h1>" in text


def test_notes_are_said_in_the_terminal_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_run(tmp_path / "a")
    other = write_run(tmp_path / "b", protocol=replace(PROTOCOL, max_depth=8.0), kept=(0,))
    with pytest.raises(ProtocolMismatchError, match="max_depth"):
        run([str(first), str(other)])
    assert run([str(first), str(other), "--force"]) == 0
    out = capsys.readouterr().out
    assert "not comparable with a: b" in out
    assert "not kept: attic/c" in out


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (["nowhere"], DataFormatError, "nowhere.*Next: "),
        (["a", "-o", "x.txt"], ConfigError, r"x\.txt.*Next: let the name end in \.html"),
        (["a", "--figure", "x.svg"], ConfigError, r"x\.svg.*Next: .*\.png or \.pdf"),
        (["a", "--images", "zzz"], ConfigError, "zzz.*Next: nearest"),
    ],
)
def test_bad_words_end_with_the_next_action(tmp_path: Path, words: list[str], error: type, match: str) -> None:
    write_run(tmp_path / "a")
    with pytest.raises(error, match=match):
        run(words)
    assert not (tmp_path / "report.html").exists()


def test_all_runs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (write_run(tmp_path / "a") / "results.json").write_text("{")
    with pytest.raises(DataFormatError, match=r"2 of 2 runs(.|\n)*results\.json(.|\n)*nowhere"):
        run(["a", "nowhere"])


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom mde.cli.report import run\ntry:\n    run(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'lightning', 'matplotlib', 'cv2')))"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert made.returncode == 0
    assert "--figure" in made.stdout
