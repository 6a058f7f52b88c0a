"""OpenEXR: depth as renderers write it. Needs the extra ``mde[exr]``; OpenCV's wheels cannot read the format."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mde.errors import ConfigError, DataFormatError

__all__ = ["decode_exr", "write_exr"]

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
    library = _library(where)
    channels: dict[str, Any] = {}
    if data.startswith(_MAGIC):
        with tempfile.TemporaryDirectory() as folder:  # the library reads from memory only since 3.5
            path = Path(folder, "depth.exr")
            path.write_bytes(data)
            channels = _channels(library, path)
    if not channels:
        raise DataFormatError("the file is truncated or no EXR", where=where, next_action="fetch or export it again")
    names = [name for name in _CHANNELS if name in channels] or list(channels)
    if len(names) > 1 and names[0] not in _CHANNELS:
        what = f"which channel is the depth? {', '.join(sorted(channels))}"
        raise DataFormatError(what, where=where, next_action="name it Z")
    return np.asarray(channels[names[0]])


def write_exr(path: Path, numbers: NDArray[Any]) -> None:
    """Write (H,W) as channel Z; float16 stays float16, anything else becomes float32."""
    library = _library(path)
    pixels = np.ascontiguousarray(numbers if numbers.dtype == np.float16 else numbers.astype(np.float32))
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
    library.File(header, {"Z": pixels}).write(str(path))


def _channels(library: Any, path: Path) -> dict[str, Any]:
    """All channels of the first part by name; none if the file is damaged."""
    try:
        found = library.File(str(path), separate_channels=True).channels()
    except (RuntimeError, ValueError, IndexError, KeyError, MemoryError):
        return {}
    return {name: channel.pixels for name, channel in found.items()}


def _library(where: object) -> Any:
    try:
        import OpenEXR
    except ImportError as error:
        hint = "pip install mde[exr], or convert the files to npy"
        raise ConfigError("EXR files need the package OpenEXR", where=where, next_action=hint) from error
    return OpenEXR
