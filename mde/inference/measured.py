"""Measured depth that lies beside pictures, to scale predictions by."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mde.data import io
from mde.data.encodings import ENCODINGS, DepthEncoding
from mde.data.formats import DEPTH_SUFFIXES
from mde.data.noted import facts_of
from mde.errors import ConfigError, DataFormatError
from mde.inference.result import read_depth
from mde.types import Ambiguity

__all__ = ["measured_depth"]


def measured_depth(
    place: Path, name: str, encoding: DepthEncoding | str | float | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The depth map of a picture.

    Args:
        place: the map itself, or a folder with one for each picture, of the same name but the suffix.
        name: of the picture, such as "holiday/a.jpg".
        encoding: what the numbers are, see `mde.data.io.read_depth`; not needed for maps that this library wrote.

    Returns:
        Depth float32 (h,w), metres, 0 where unknown, and the mask, bool (h,w).

    Raises:
        DataFormatError: no such map, damaged, or relative.
        ConfigError: the map does not say what its numbers are, and no encoding is given.
    """
    path = _file_for(place, name) if place.is_dir() else place
    facts = facts_of(path) if path.is_file() else None
    if encoding is not None or facts is None:
        if encoding is None and path.is_file():
            hint = f"give --sparse-encoding, metres per unit or one of {', '.join(ENCODINGS)}"
            raise ConfigError("what are the numbers of this map?", where=path, next_action=hint)
        return io.read_depth(path, encoding or 1.0)
    result = read_depth(path)
    if result.ambiguity is not Ambiguity.METRIC:
        what = f"a {result.unit} is no measured depth"
        raise DataFormatError(what, where=path, next_action="give depth in metres")
    known = np.isfinite(result.values) & (result.values > 0)
    return np.where(known, result.values, np.float32(0)), known


def _file_for(folder: Path, name: str) -> Path:
    stem = folder / PurePosixPath(name).with_suffix("")
    found = [stem.with_name(stem.name + suffix) for suffix in sorted(DEPTH_SUFFIXES)]
    match = next((path for path in found if path.is_file()), None)
    if match is None:
        what = f"no depth map {stem.name} with any of the suffixes {', '.join(sorted(DEPTH_SUFFIXES))}"
        raise DataFormatError(what, where=stem.parent, next_action="name it like its picture")
    return match
