"""File formats: bytes to pixels and back, with no opinion on what the numbers mean (`mde.data.encodings`).

Files are read as bytes and checked for their end before they are decoded: decoders fill the missing part of a truncated
JPEG with grey and say nothing. 16-bit files never go through PIL, which turns 16-bit colour into 8 bits.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.data.formats.exr import decode_exr, write_exr
from mde.errors import DataFormatError

__all__ = [
    "DEPTH_SUFFIXES",
    "IMAGE_SUFFIXES",
    "NUMPY_FAULTS",
    "decode_picture",
    "decode_pixels",
    "encode_pixels",
    "read_bytes",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp"})
DEPTH_SUFFIXES = frozenset({".png", ".npy", ".npz", ".tif", ".tiff", ".pfm", ".pgm", ".h5", ".hdf5", ".exr"})

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_DEPTH_KEYS = ("depth", "dataset")  # Hypersim calls it "dataset"
_INTEGER_PICTURES = frozenset({".png", ".pgm", ".ppm", ".jpg", ".jpeg", ".bmp", ".webp"})


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataFormatError: there is no such file, or it is empty.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataFormatError(f"cannot be read ({error.strerror})", where=path, next_action="check the path") from error
    if not data:
        raise DataFormatError("the file is empty", where=path, next_action="fetch or export it again")
    return data


def decode_pixels(data: bytes, suffix: str, where: object) -> NDArray[Any]:
    """The bytes of a depth file of type `suffix` as they are: (H,W) or (H,W,C), pictures in OpenCV's order B, G, R, A.

    Raises:
        DataFormatError: the type is unknown, the file is truncated, or it holds several arrays.
    """
    suffix = suffix.lower()
    if suffix not in DEPTH_SUFFIXES:
        known = f"use {', '.join(sorted(DEPTH_SUFFIXES))}"
        raise DataFormatError(f"depth files of type {suffix or 'none'} are not known", where=where, next_action=known)
    if suffix in {".npy", ".npz"}:
        return _load_numpy(data, where)
    if suffix in {".h5", ".hdf5"}:
        return _load_hdf5(data, where)
    if suffix == ".exr":
        return decode_exr(data, where)
    return decode_picture(data, where, cv2.IMREAD_UNCHANGED)


def encode_pixels(path: Path, pixels: NDArray[Any], settings: Sequence[int] = ()) -> None:
    """Write pixels; the suffix of the path says the format.

    Raises:
        DataFormatError: the format cannot hold such numbers.
    """
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".npz":
        np.savez_compressed(path, depth=pixels)
    elif path.suffix in {".h5", ".hdf5"}:
        import h5py

        with h5py.File(path, "w") as file:
            file.create_dataset("dataset" if path.suffix == ".hdf5" else "depth", data=pixels, compression="gzip")
    elif path.suffix == ".exr":
        write_exr(path, pixels)
    else:
        path.write_bytes(_encode_picture(path, pixels, settings))


def decode_picture(data: bytes, where: object, flags: int) -> NDArray[Any]:
    """The bytes of a JPEG, PNG, PGM, PFM, TIFF, … by OpenCV.

    Raises:
        DataFormatError: the file is truncated or no image.
    """
    image = None
    if not _truncated(data):
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            image = None
    if image is None:
        raise DataFormatError("the file is truncated or no image", where=where, next_action="fetch or export it again")
    return image


def _encode_picture(path: Path, pixels: NDArray[Any], settings: Sequence[int]) -> bytes:
    holds = True
    if path.suffix.lower() in _INTEGER_PICTURES:  # OpenCV would cut floats to 8 bits
        holds = pixels.dtype in (np.uint8, np.uint16)
    if path.suffix.lower() == ".pfm":
        holds = pixels.dtype == np.float32
    try:
        done, data = cv2.imencode(path.suffix, pixels, list(settings)) if holds else (False, np.zeros(0, np.uint8))
    except cv2.error:
        done = False
    if not done:
        hint = "write uint8 or uint16 to PNG and PGM, floats to npy, TIFF or PFM"
        what = f"{pixels.dtype} {pixels.shape} cannot be written as {path.suffix or 'a file without suffix'}"
        raise DataFormatError(what, where=path, next_action=hint)
    return data.tobytes()


def _truncated(data: bytes) -> bool:
    """True for a JPEG or PNG without its end marker, or a PFM or PGM that is shorter than its header says."""
    if data.startswith(_PNG_START):
        return not data.endswith(_PNG_END) and _PNG_END not in data
    if data.startswith(_JPEG_START):
        return not data.endswith(_JPEG_END) and data.find(_JPEG_END, _jpeg_scan(data)) < 0
    if data[:2] in (b"P5", b"P6", b"Pf"):
        return _short_raster(data)
    return False


def _short_raster(data: bytes) -> bool:
    """Netpbm and PFM: magic, width, height and highest value (or scale), comments in between, then the samples."""
    lines = [line.split(b"#")[0] for line in data[:1024].split(b"\n")]
    words = b" ".join(lines).split(maxsplit=4)
    try:
        width, height, highest = int(words[1]), int(words[2]), float(words[3])
    except (IndexError, ValueError):
        return True
    size = {b"P5": 1, b"P6": 3, b"Pf": 4}[words[0]] * (2 if highest > 255 and words[0] != b"Pf" else 1)
    return len(data) < width * height * size


def _jpeg_scan(data: bytes) -> int:
    """Where the first scan of a JPEG starts: the headers before it may hold a thumbnail with its own end marker."""
    at = 2
    while at + 4 <= len(data) and data[at + 1] != 0xDA:  # SOS, start of scan (ITU T.81, table B.1)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


NUMPY_FAULTS = (
    *(OSError, ValueError, EOFError, OverflowError, MemoryError, zipfile.BadZipFile, zlib.error),
    *(SyntaxError, tokenize.TokenError),  # the header of an array is Python
)
"""What reading a damaged .npy or .npz file ends in."""


def _load_numpy(data: bytes, where: object) -> NDArray[Any]:
    try:
        loaded = np.load(BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return np.asarray(loaded[_depth_key(loaded.files, where)])
    except NUMPY_FAULTS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataFormatError(f"no NumPy file ({reason})", where=where, next_action="export it again") from error


def _load_hdf5(data: bytes, where: object) -> NDArray[Any]:
    import h5py  # where it is used: reading a PNG must not wait for it

    try:
        with h5py.File(BytesIO(data), "r") as file:
            arrays = [name for name, item in file.items() if isinstance(item, h5py.Dataset)]
            return np.asarray(file[_depth_key(arrays, where)])
    except (OSError, ValueError, KeyError) as error:
        hint = "fetch or export it again"
        raise DataFormatError(f"no HDF5 file, or truncated ({error})", where=where, next_action=hint) from error


def _depth_key(keys: Sequence[str], where: object) -> str:
    """The array that is the depth: named so, or the only one."""
    for key in _DEPTH_KEYS:
        if key in keys:
            return key
    if len(keys) != 1:
        what = f"which array is the depth? {', '.join(keys) or 'there is none'}"
        raise DataFormatError(what, where=where, next_action="name it 'depth'")
    return keys[0]
