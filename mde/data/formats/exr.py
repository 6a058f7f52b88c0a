"""OpenEXR: depth as renderers write it. Needs the extra ``mde[exr]``; OpenCV's wheels cannot read the format."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mde.errors import ConfigError, DataFormatError

__all__ = ["decode_exr", "read_exr", "write_exr"]

_MAGIC = b"\x76\x2f\x31\x01"
_CHANNELS = ("Z", "depth.Z", "Depth.Z", "R", "Y", "V")
"""Where depth is looked for: Z by the standard, R where a renderer fills a colour picture with it (Unreal), Y for grey,
V for Blender's passes."""


def decode_exr(data: bytes, where: object) -> NDArray[Any]:
    """The depth channel of an EXR file: Z, else R, Y or V, else the only one; float16 or float32 (H,W).

    Raises:
        ConfigError: the extra is not installed.
        DataFormatError: the file is truncated, or it is not clear which channel is the depth.
    """
    channels = read_exr(data, where)[0]
    names = [name for name in _CHANNELS if name in channels] or list(channels)
    if len(names) > 1 and names[0] not in _CHANNELS:
        what = f"which channel is the depth? {', '.join(sorted(channels))}"
        raise DataFormatError(what, where=where, next_action="name it Z")
    return np.asarray(channels[names[0]])


def read_exr(data: bytes, where: object) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """All channels of the first part by name, each (H,W), and the attributes of its header.

    Raises:
        ConfigError: the extra is not installed.
        DataFormatError: the file is truncated, or no EXR.
    """
    library = _library(where)
    found: tuple[dict[str, NDArray[Any]], dict[str, Any]] = {}, {}
    if data.startswith(_MAGIC):
        with tempfile.TemporaryDirectory() as folder:  # the library reads from memory only since 3.5
            path = Path(folder, "depth.exr")
            path.write_bytes(data)
            found = _content(library, path)
    if not found[0]:
        raise DataFormatError("the file is truncated or no EXR", where=where, next_action="fetch or export it again")
    return found


def write_exr(
    path: Path,
    numbers: NDArray[Any],
    attributes: Mapping[str, str] = MappingProxyType({}),
    more: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> None:
    """Write (H,W) as channel Z, and more channels by name; float16 stays float16, anything else becomes float32.

    Args:
        path: of the file.
        numbers: (H,W).
        attributes: texts for the header.
        more: further channels, (H,W).
    """
    library = _library(path)
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage, **attributes}
    channels = {name: _pixels(values) for name, values in {"Z": numbers, **more}.items()}
    library.File(header, channels).write(str(path))


def _pixels(numbers: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(numbers if numbers.dtype == np.float16 else numbers.astype(np.float32))


def _content(library: Any, path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Channels and header of the first part; none if the file is damaged."""
    try:
        file = library.File(str(path), separate_channels=True)
        found = file.channels()
        return {name: np.asarray(channel.pixels) for name, channel in found.items()}, dict(file.header())
    except (RuntimeError, ValueError, IndexError, KeyError, MemoryError):
        return {}, {}


def _library(where: object) -> Any:
    try:
        import OpenEXR
    except ImportError as error:
        hint = "pip install mde[exr], or convert the files to npy"
        raise ConfigError("EXR files need the package OpenEXR", where=where, next_action=hint) from error
    return OpenEXR
