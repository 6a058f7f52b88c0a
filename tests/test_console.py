"""What is printed can be read in a terminal, in a log file, without colour and in any encoding."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from rich.text import Text

from mde.cli.info import SECTIONS
from mde.console import FILE_WIDTH, animated, complain, console, counting, say, tolerate_encoding
from mde.report.tables import Cell, Grid

GRID = Grid(
    ["a metric with a long name", "network", "another network"],
    [["abs_rel", Cell("0.123 ± 0.004", best=True), "0.2"], ["a_row_with_a_long_name_indeed", "1", "x" * 30]],
    title="scores of [this] and that",
)


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    before = sys.stdout, sys.stderr
    yield
    sys.stdout, sys.stderr = before


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def printed(stream: io.StringIO) -> str:
    sys.stdout = stream
    console().print(GRID)
    return stream.getvalue()


def test_a_file_gets_whole_lines_without_control_characters() -> None:
    text = printed(io.StringIO())
    assert console().width == FILE_WIDTH
    assert not any(ord(sign) < 32 and sign != "\n" for sign in text)
    assert "[this]" in text
    assert "…" not in text


def test_a_styled_text_keeps_its_colours_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    sys.stdout = screen = Terminal()
    say(Text.assemble(("error", "bold red"), " of [this]"))
    assert screen.getvalue() == "\x1b[1;31merror\x1b[0m of [this]\n"


@pytest.mark.parametrize("columns", [30, 60, 200])
def test_columns_decide(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = printed(io.StringIO())
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    assert text.count("x") == 30  # folded, not cut


def test_numbers_are_never_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for all columns, rows stand one under another."""
    for columns in range(20, 90):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = printed(io.StringIO()).splitlines()
        words = [word for line in lines for word in line.replace("│", " ").replace("┃", " ").split()]
        assert {"0.123", "0.004", "0.2", "1"} <= set(words), columns
        assert sum("abs_rel" in word for word in words) == 1, columns
        assert any("┃" in line for line in lines) == (columns >= 12 + 7 + 30 + 10), columns  # the cells and the frame


def test_colours_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    sys.stderr = Terminal()
    complain("x")
    assert "\x1b[1;31m" in sys.stderr.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    sys.stderr = Terminal()
    complain("x")
    assert "31m" not in sys.stderr.getvalue()


def test_a_dumb_terminal_has_neither_colours_nor_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in printed(Terminal())
    assert not animated()
    monkeypatch.setenv("COLUMNS", "120")
    assert console().width == 120
    monkeypatch.setenv("TERM", "xterm")
    assert animated()
    sys.stdout = io.StringIO()
    assert not animated()


def test_counting_is_drawn_for_somebody_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for stream in (Terminal(), io.StringIO()):
        sys.stderr = stream
        with counting() as show:
            for done in range(3):
                show("frames", done, None)
                show("pairs", done, 2)
        say("made", stderr=True)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
        assert ("2/2" in text) == ("frames" in text) == isinstance(stream, Terminal)
        assert text.splitlines()[-1].strip() == "made"


def test_lines_stay_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    path = "runs/" + "x" * 100 + "/[a]:smile:"
    say(path)
    complain(path)
    found = capsys.readouterr()
    assert found.out == f"{path}\n"
    assert found.err == f"mde: error: {path}\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_signs_that_cannot_be_encoded_are_spelled(encoding: str) -> None:
    raw = io.BytesIO()
    sys.stdout = io.TextIOWrapper(raw, encoding=encoding)
    tolerate_encoding()
    print("± … ↑ ↓ × 漢")
    console().print(GRID)
    sys.stdout.flush()
    text = raw.getvalue().decode(encoding)
    assert ("±" if encoding != "ascii" else "+-") in text
    assert ("×" if encoding != "ascii" else "x ?") in text
    assert "^ v" in text
    assert "+---" in text  # the frame of the table


@pytest.mark.parametrize("section", [name for name in SECTIONS if name not in ("devices", "methods", "protocols")])
def test_a_process_with_ascii_outputs(section: str) -> None:
    asked = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "60", "PYTHONUTF8": "0"}
    words = [sys.executable, "-m", "mde.cli", "info", section]
    done = subprocess.run(words, capture_output=True, check=True, env=asked)
    assert done.stdout.decode("ascii").startswith(section)
    assert done.stderr == b""


def test_a_reader_that_leaves_is_no_error() -> None:
    code = f"{sys.executable} -m mde.cli info experiments | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    first, status = done.stdout.splitlines()
    assert first.strip() == "experiments"
    assert status in ("0", "141")  # 0, where all fitted into the pipe
    assert done.stderr == ""


def test_an_output_that_was_closed() -> None:
    code = f"{sys.executable} -m mde.cli --help >&-"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
