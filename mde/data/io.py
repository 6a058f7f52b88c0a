"""Reading images and depth maps: every file becomes RGB bytes or metres with a mask, or an error of one line.

Formats are in `mde.data.formats`, what the numbers of a depth map mean in `mde.data.encodings`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.data.encodings import DepthEncoding, Metres, get_encoding, masked_depth
from mde.data.formats import DEPTH_SUFFIXES, IMAGE_SUFFIXES, decode_picture, decode_pixels, encode_pixels, read_bytes
from mde.data.formats.guess import describe, propose_encoding, propose_scale, recognise_packing
from mde.data.formats.packings import PACKINGS
from mde.errors import DataFormatError

__all__ = [
    "DEPTH_SUFFIXES",
    "IMAGE_SUFFIXES",
    "DepthEncoding",
    "decode_array",
    "decode_image",
    "masked_depth",
    "propose_encoding",
    "propose_scale",
    "read_array",
    "read_depth",
    "read_image",
    "read_pixels",
    "recognise_packing",
    "write_depth",
    "write_image",
]

_PLAIN = DepthEncoding()


def read_image(path: str | Path, *, upright: bool = False) -> NDArray[np.uint8]:
    """Read an 8-bit image as RGB.

    Grey becomes three equal channels, transparency is dropped, 16-bit colour is cut to its upper 8 bits.

    Args:
        path: JPEG, PNG, PPM, BMP, TIFF or WebP.
        upright: turn a photograph as its EXIF orientation says. A frame with depth must not be turned: its depth map
            carries no such mark.

    Returns:
        uint8 (H,W,3), RGB.

    Raises:
        DataFormatError: the file is missing, empty, truncated or no image.
    """
    return decode_image(read_bytes(path), path, upright=upright)


def decode_image(data: bytes, where: object, *, upright: bool = False) -> NDArray[np.uint8]:
    """`read_image` for the bytes of a file, such as a member of an archive; `where` names them in errors."""
    flags = cv2.IMREAD_COLOR_RGB if upright else cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image: NDArray[np.uint8] = decode_picture(data, where, flags)
    return image


def read_depth(
    path: str | Path, encoding: DepthEncoding | str | float, intrinsics: NDArray[np.float32] | None = None
) -> Metres:
    """Read a depth map in metres.

    Args:
        path: PNG (8 or 16 bit), TIFF (float or integer), PFM, PGM, EXR, or npy, npz and HDF5 with an array "depth" or
            "dataset", or only one.
        encoding: the name of one of `mde.data.encodings.ENCODINGS`, a `DepthEncoding`, or just its scale in metres per
            unit.
        intrinsics: (3,3), pixels of the map; only needed for depth along viewing rays.

    Returns:
        Depth float32 (H,W) in metres, 0 where unknown, and the mask, bool (H,W).

    Raises:
        DataFormatError: the file is missing, truncated, no map of one number per pixel, or not of this encoding.
        ConfigError: the depth is along rays and the camera is unknown, or the encoding has no such name.
    """
    encoding = get_encoding(encoding)
    return encoding.to_metres(read_array(path, encoding), intrinsics)


def read_array(path: str | Path, encoding: DepthEncoding = _PLAIN) -> NDArray[Any]:
    """Read a depth map in the units of its file, (H,W), integer or float; see `read_depth`."""
    return _unpacked(read_pixels(path), Path(path).suffix, path, encoding)


def decode_array(data: bytes, suffix: str, where: object, encoding: DepthEncoding = _PLAIN) -> NDArray[Any]:
    """`read_array` for the bytes of a file of type `suffix` (".png", ".npy", …); `where` names them in errors."""
    return _unpacked(decode_pixels(data, suffix, where), suffix, where, encoding)


def read_pixels(path: str | Path) -> NDArray[Any]:
    """Read a depth file as it is, (H,W) or (H,W,C), for `propose_encoding`."""
    suffix = Path(path).suffix
    return decode_pixels(read_bytes(path) if suffix.lower() in DEPTH_SUFFIXES else b"", suffix, path)


def write_depth(
    path: str | Path,
    depth: NDArray[np.float32],
    encoding: DepthEncoding | str | float = "metres",
    dtype: type[np.generic] | None = None,
    intrinsics: NDArray[np.float32] | None = None,
) -> None:
    """Write a depth map; `read_depth` with the same encoding gives it back, to half a unit of the file.

    Args:
        path: its suffix says the format; folders are made.
        depth: (H,W), z-depth in metres, 0 where unknown.
        encoding: as of `read_depth`.
        dtype: of the numbers in the file: np.uint8 or np.uint16 for PNG, np.float32 for npy, npz, TIFF and PFM; default
            what is usual for the encoding.
        intrinsics: (3,3), only needed for depth along viewing rays.

    Raises:
        DataFormatError: the format cannot hold such numbers.
        ConfigError: the depth is along rays and the camera is unknown.
    """
    target, encoding = Path(path), get_encoding(encoding)
    target.parent.mkdir(parents=True, exist_ok=True)
    numbers = encoding.from_metres(depth, dtype or encoding.dtype, intrinsics)
    pixels = PACKINGS[encoding.packing].pack(numbers)
    encode_pixels(target, pixels[::-1] if _upside_down(encoding, target.suffix) else pixels)


def write_image(path: str | Path, image: NDArray[np.uint8], quality: int = 95) -> None:
    """Write an RGB image, uint8 (H,W,3), as JPEG (of this quality), PNG or PPM; folders are made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    settings = (cv2.IMWRITE_JPEG_QUALITY, quality) if target.suffix.lower() in {".jpg", ".jpeg"} else ()
    encode_pixels(target, image[..., ::-1], settings)


def _unpacked(pixels: NDArray[Any], suffix: str, where: object, encoding: DepthEncoding) -> NDArray[Any]:
    """The numbers in the pixels of a file, if it is one of this encoding."""
    wanted = encoding.name or "the depth"
    if encoding.files and suffix.lower() not in encoding.files:
        what = f"{wanted} is stored in {' or '.join(encoding.files)}, not in {suffix}"
        raise DataFormatError(what, where=where, next_action=_advice(pixels, encoding))
    if encoding.dtypes and pixels.dtype.name not in encoding.dtypes:
        what = f"{wanted} is stored as {' or '.join(encoding.dtypes[:2])}, this looks like {describe(pixels)}"
        raise DataFormatError(what, where=where, next_action=_advice(pixels, encoding))
    try:
        numbers = PACKINGS[encoding.packing].unpack(pixels)
    except ValueError as error:
        what = f"{error}; it looks like {describe(pixels)}"
        raise DataFormatError(what, where=where, next_action=_advice(pixels, encoding)) from error
    return np.ascontiguousarray(numbers[::-1]) if _upside_down(encoding, suffix) else numbers


def _advice(pixels: NDArray[Any], encoding: DepthEncoding) -> str:
    name = recognise_packing(pixels)
    if name is not None and name != encoding.name:
        return f"set encoding: {name}"
    if pixels.ndim == 3 and not (pixels == pixels[..., :1]).all():
        return "is it a colour image, or a picture of the depth? Give the depth itself"
    if pixels.dtype == np.uint8 and "uint16" in encoding.dtypes:
        return (
            "were 16 bits lost on the way (PIL does that to colour)? Export it again, or set encoding: densedepth_8bit"
        )
    try:
        return (
            f"give metres per unit, or the encoding of these files (from the numbers: {propose_encoding([pixels])[0]})"
        )
    except DataFormatError:
        return "give metres per unit, or the encoding that these files have"


def _upside_down(encoding: DepthEncoding, suffix: str) -> bool:
    return encoding.pfm_from_top and suffix.lower() == ".pfm"
