"""Words of a command that become values."""

from __future__ import annotations

import argparse

__all__ = ["size_pair"]


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
