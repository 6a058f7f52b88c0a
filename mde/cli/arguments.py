"""Words of a command: its parser, whose help ends with examples, and words that become values."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NoReturn

from mde.errors import ConfigError, nearest

__all__ = ["Parser", "Paragraphs", "examples_text", "size_pair"]


class Paragraphs(argparse.HelpFormatter):
    """Fills paragraphs to the width of the terminal; lines that are indented stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for plain, block in groupby(text.splitlines(), lambda line: bool(line) and not line.startswith(" ")):
            if plain:
                lines += textwrap.wrap(" ".join(block), width, break_long_words=False, break_on_hyphens=False)
            else:
                lines += block
        return "\n".join(indent + line for line in lines)


class Parser(argparse.ArgumentParser):
    """The parser of ``mde COMMAND``. A wrong word is an error of ours; abbreviations of options are none.

    Args:
        command: its name.
        description: what it does, in paragraphs.
        examples: commands that work, one a line; the end of the help.
        notes: what else the help says, before the examples.
    """

    def __init__(self, command: str, description: str, examples: Sequence[str], notes: str = "") -> None:
        super().__init__(
            prog=f"mde {command}",
            description=description,
            epilog=f"{notes}\n\n{examples_text(examples)}".strip(),
            formatter_class=Paragraphs,
            allow_abbrev=False,
        )
        self.examples = tuple(examples)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, with the nearest that is right.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(message, where=self.prog, next_action=f"{self._nearest(message)}{self.prog} --help")

    def _nearest(self, message: str) -> str:
        unknown = re.match(r"unrecognized arguments: (--[\w.-]+)", message)
        if unknown:
            return f"nearest: {nearest(unknown[1], self.flags())}; see "
        chosen = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if chosen:
            valid = re.findall("[^', ]+", chosen[2])
            return f"nearest: {nearest(chosen[1], valid)}; see "
        return "see "

    def flags(self) -> list[str]:
        """All long options."""
        return [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]


def examples_text(examples: Iterable[str]) -> str:
    """The end of a command's help."""
    return "\n".join(["examples:", *(f"  {example}" for example in examples)])


def size_pair(text: str) -> tuple[int, int]:
    """(height, width) of ``480x640``, or (rows, columns) of ``2x3``.

    Raises:
        argparse.ArgumentTypeError: it is something else; argparse makes it the error of the command.
    """
    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        what = f"{text!r} is no HEIGHTxWIDTH such as 480x640: not two numbers with an x between"
        raise argparse.ArgumentTypeError(what)
    return int(height), int(width)
