"""Small things of the file system: sizes for people, free space, writing whole or not at all, errors of the disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

from mde.errors import DataFormatError, MdeError

__all__ = ["DiskError", "disk_error", "free_bytes", "human_size", "read_json", "some", "write_json"]

_LISTED = 10  # names in an error message


class DiskError(MdeError):
    """A folder cannot be written, or has too little space."""


def human_size(size: int | None) -> str:
    """Bytes for people, in decimal units.

    >>> human_size(2_972_037_809), human_size(950), human_size(None)
    ('2.97 GB', '950 B', 'unknown')
    """
    if size is None:
        return "unknown"
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.3g} {units[0]}"


def some(names: list[str]) -> str:
    """The first names of a list, and how many more there are.

    >>> some(["a", "b"])
    'a, b'
    """
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def free_bytes(folder: Path) -> int:
    """Free bytes of the disk that `folder` is on, or will be on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def disk_error(error: OSError, path: Path) -> DiskError:
    """What the user can do about an error of writing `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "make room and give the same command again: it goes on from here"
        return DiskError("the disk is full", where=path, next_action=hint)
    hint = "check the permissions, or give another folder"
    return DiskError(f"cannot be written ({error.strerror or error})", where=path, next_action=hint)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file: the old content stays until the new one is complete.

    Raises:
        DiskError: the folder is read-only, or the disk is full.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise disk_error(error, path) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        DataFormatError: it cannot be read, or holds something else.
    """
    hint = "remove it; the next `mde prepare` writes a new one"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataFormatError(f"no readable JSON ({error})", where=path, next_action=hint) from error
    if not isinstance(content, dict):
        raise DataFormatError("a JSON object is expected", where=path, next_action=hint)
    return content
