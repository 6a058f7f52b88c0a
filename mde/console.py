"""What the terminal shows, and what stays readable without one: in a log file, without colour, in any encoding."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich takes some hundredths of a second, which the answer to TAB or --version can do without
    from rich.console import Console

__all__ = ["FILE_WIDTH", "animated", "complain", "console", "counting", "say", "tolerate_encoding"]

FILE_WIDTH = 200  # columns of a file: wide enough for the tables of this library

_SPELLED = {"…": "...", "±": "+-", "↑": "^", "↓": "v", "×": "x", "≠": "!=", "−": "-", "–": "-", "—": "-", "•": "*"}


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Where tables and progress bars are printed.

    A terminal has its own width and colours; ``NO_COLOR`` and ``TERM=dumb`` are obeyed. A file or a pipe gets neither
    colours nor control characters, and is `FILE_WIDTH` columns wide, so that no table is folded there. ``COLUMNS``
    decides in both cases.

    Args:
        stderr: print to the error output.
        width: columns, whatever the terminal has.
    """
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, emoji=False)
    if made.is_jupyter:
        return made
    asked = os.environ.get("COLUMNS", "")
    columns = int(asked) if asked.isdecimal() and int(asked) > 0 else None if made.is_terminal else FILE_WIDTH
    chosen = width or columns
    # a dumb terminal is 80 columns wide to rich unless it is told both
    return Console(stderr=stderr, highlight=False, emoji=False, width=chosen, height=chosen and made.height)


def animated(*, stderr: bool = False) -> bool:
    """Somebody looks, and a line can be drawn anew: a progress bar makes sense."""
    made = console(stderr=stderr)
    return made.is_jupyter or (made.is_terminal and not made.is_dumb_terminal)


@contextmanager
def counting() -> Iterator[Callable[[str, int, int | None], None]]:
    """A function ``show(label, done, total)`` that draws a bar for each label while somebody looks.

    The total is None where nobody knows it. Nothing is drawn before the first call; the bars go when the work is done.
    """
    if not animated(stderr=True):
        yield lambda label, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    tasks: dict[str, TaskID] = {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bars = Progress(*columns, console=console(stderr=True), transient=True)

    def show(label: str, done: int, total: int | None) -> None:
        bars.start()
        if label not in tasks:
            tasks[label] = bars.add_task(label, total=total)
        bars.update(tasks[label], completed=done)

    try:
        yield show
    finally:
        bars.stop()


def say(text: object, style: str = "", *, stderr: bool = False) -> None:
    """Print one line or more as they are: paths stay whole, brackets are brackets, a rich `Text` keeps its style.

    >>> say("written: runs/[a]/report.html")
    written: runs/[a]/report.html
    """
    from rich.text import Text

    console(stderr=stderr).print(text if isinstance(text, Text) else Text(str(text), style), soft_wrap=True)


def complain(text: object, kind: str = "error") -> None:
    """Print a line of the form ``mde: error: …`` to the error output."""
    from rich.text import Text

    style = "bold red" if kind == "error" else "yellow"
    console(stderr=True).print(Text.assemble((f"mde: {kind}:", style), f" {text}"), soft_wrap=True)


def tolerate_encoding() -> None:
    """Spell signs that the outputs cannot encode, such as … and ±, instead of failing at them."""
    codecs.register_error("mde", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="mde")


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_SPELLED.get(sign, "?") for sign in error.object[error.start : error.end]), error.end
