"""Errors that a user can meet: each says what is wrong, where, and what to do next.

All derive from `MdeError`; the command line prints them as one line and never as a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataFormatError",
    "DatasetNotFoundError",
    "MdeError",
    "NonFiniteLossError",
    "ProtocolMismatchError",
    "nearest",
]


class MdeError(Exception):
    """Base of all errors of this library.

    The message has three parts: what is wrong, where (a file, a key, a sample id), and the next action. They are
    joined into one string at once, because a DataLoader worker re-creates an exception from its text alone.

    >>> str(DataFormatError("depth is 8-bit", where="a.png", next_action="give depth_scale"))
    'depth is 8-bit [a.png]. Next: give depth_scale'
    """

    def __init__(self, what: str, *, where: object = None, next_action: str | None = None) -> None:
        place = "" if where is None else f" [{where}]"
        action = "" if next_action is None else f". Next: {next_action}"
        super().__init__(f"{what}{place}{action}")


class DatasetNotFoundError(MdeError):
    """A data set is not where it was looked for."""


class DataFormatError(MdeError):
    """A file exists, but its content is not what the data set promises (truncated, other size, other unit)."""


class ConfigError(MdeError):
    """A setting is unknown, out of range, or contradicts another."""


class CheckpointError(MdeError):
    """A checkpoint cannot be read, written, or rebuilt into its module."""


class ProtocolMismatchError(MdeError):
    """Two results were made under different evaluation protocols and must not be compared."""


class NonFiniteLossError(MdeError):
    """The training loss became NaN or infinite."""


def nearest(name: str, valid: Iterable[str], count: int = 3) -> str:
    """Return the valid names closest to a wrong one, for the end of an error message.

    >>> nearest("densdepth", ["DenseDepth", "UNet"])
    'DenseDepth'
    """
    lookup = {v.lower(): v for v in valid}
    close = difflib.get_close_matches(name.lower(), lookup, n=count, cutoff=0.5)
    return ", ".join(lookup[c] for c in close) if close else ", ".join(sorted(lookup.values())[:12])
