"""Reading images and depth maps: every file becomes RGB bytes or metres with a mask, or an error of one line.

Files are read as bytes and checked for their end before they are decoded: decoders fill the missing part of a truncated
JPEG with grey and say nothing. 16-bit files never go through PIL, which turns 16-bit colour into 8 bits.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.data.encodings import DepthEncoding, Metres, get_encoding, masked_depth
from mde.errors import DataFormatError

__all__ = [
    "DEPTH_SUFFIXES",
    "IMAGE_SUFFIXES",
    "DepthEncoding",
    "decode_array",
    "decode_image",
    "masked_depth",
    "propose_scale",
    "read_array",
    "read_depth",
    "read_image",
    "write_depth",
    "write_image",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp"})
DEPTH_SUFFIXES = frozenset({".png", ".npy", ".npz", ".tif", ".tiff", ".pfm", ".pgm"})

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


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
    return decode_image(_read_bytes(path), path, upright=upright)


def decode_image(data: bytes, where: object, *, upright: bool = False) -> NDArray[np.uint8]:
    """`read_image` for the bytes of a file, such as a member of an archive; `where` names them in errors."""
    flags = cv2.IMREAD_COLOR_RGB if upright else cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image: NDArray[np.uint8] = _decode(data, where, flags)
    return image


def read_depth(
    path: str | Path, encoding: DepthEncoding | str | float, intrinsics: NDArray[np.float32] | None = None
) -> Metres:
    """Read a depth map in metres.

    Args:
        path: PNG (8 or 16 bit), npy, npz (key "depth", or the only one), TIFF (float or integer), PFM or PGM.
        encoding: a `DepthEncoding`, the name of one, or just its scale in metres per unit.
        intrinsics: (3,3), pixels of the map; only needed for depth along viewing rays.

    Returns:
        Depth float32 (H,W) in metres, 0 where unknown, and the mask, bool (H,W).

    Raises:
        DataFormatError: the file is missing, truncated, or no map of one number per pixel.
        ConfigError: the depth is along rays and the camera is unknown, or the encoding has no such name.
    """
    return get_encoding(encoding).to_metres(read_array(path), intrinsics)


def read_array(path: str | Path) -> NDArray[Any]:
    """Read a depth map in the units of its file, (H,W), integer or float; see `read_depth`."""
    _require_depth_suffix(Path(path).suffix.lower(), path)
    return decode_array(_read_bytes(path), Path(path).suffix, path)


def decode_array(data: bytes, suffix: str, where: object) -> NDArray[Any]:
    """`read_array` for the bytes of a file of type `suffix` (".png", ".npy", …); `where` names them in errors."""
    suffix = suffix.lower()
    _require_depth_suffix(suffix, where)
    raw = _load_numpy(data, where) if suffix in {".npy", ".npz"} else _decode(data, where, cv2.IMREAD_UNCHANGED)
    return _one_channel(raw, where)


def write_depth(
    path: str | Path,
    depth: NDArray[np.float32],
    encoding: DepthEncoding | str | float = "metres",
    dtype: type[np.generic] = np.float32,
    intrinsics: NDArray[np.float32] | None = None,
) -> None:
    """Write a depth map; `read_depth` with the same encoding gives it back, to half a unit of the file.

    Args:
        path: its suffix says the format; folders are made.
        depth: (H,W), z-depth in metres, 0 where unknown.
        encoding: as of `read_depth`.
        dtype: of the numbers in the file: np.uint8 or np.uint16 for PNG, np.float32 for npy, npz, TIFF and PFM.
        intrinsics: (3,3), only needed for depth along viewing rays.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    raw = get_encoding(encoding).from_metres(depth, dtype, intrinsics)
    if target.suffix == ".npy":
        np.save(target, raw)
    elif target.suffix == ".npz":
        np.savez_compressed(target, depth=raw)
    else:
        _write_picture(target, raw)


def write_image(path: str | Path, image: NDArray[np.uint8], quality: int = 95) -> None:
    """Write an RGB image, uint8 (H,W,3), as JPEG (of this quality), PNG or PPM; folders are made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _write_picture(target, image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))


def propose_scale(samples: Sequence[NDArray[Any]]) -> tuple[float, str]:
    """Guess the metres per unit of depth maps from their numbers, and say why.

    Args:
        samples: maps (H,W) in units of the file, a few frames of a data set.

    Returns:
        Metres per unit, and the reason as a clause for a message.

    Raises:
        DataFormatError: no pixel of the samples holds a measurement.

    >>> propose_scale([np.array([[0, 812, 1650, 2480]], np.uint16)])[0]
    0.001
    """
    flat = np.concatenate([sample.ravel() for sample in samples]) if samples else np.zeros(0)
    known = flat[np.isfinite(flat) & (flat > 0) & (flat != 65535)]  # 65535: see DepthEncoding.invalid
    if known.size == 0:
        raise DataFormatError("no valid depth to guess the unit from", next_action="set depth_scale in metres per unit")
    if flat.dtype.kind == "f":
        return 1.0, "floating-point maps usually hold metres"
    median, high = (float(v) for v in np.percentile(known, (50, 95)))
    share = known.size / flat.size
    facts = f"median {median:.0f}, 95 % below {high:.0f}, {share:.0%} of the pixels known"
    if flat.dtype == np.uint8:
        return 10 / 255, f"8-bit maps hold 0 to 10 m in DenseDepth's NYU export ({facts})"
    if share < 0.35 and median > 512:  # a 64-line lidar covers 4 % of a KITTI image, accumulated scans some 20 %
        return 1 / 256, f"sparse as a lidar's, stored in 1/256 m by KITTI ({facts})"
    if high > 12_000 or np.gcd.reduce(known.astype(np.int64)) == 5:  # no such sensor sees 12 m; TUM's steps are 1 mm
        return 1 / 5000, f"too large for millimetres, or all multiples of 5: 1/5000 m, as TUM RGB-D ({facts})"
    if median < 400:  # a median of 0.4 m is nearer than a Kinect can see
        return 1 / 100, f"too small for millimetres: centimetres ({facts})"
    return 1 / 1000, f"in the range of millimetres ({facts})"


# --------------------------------------------------------------------------------------------------------------- files


def _write_picture(path: Path, pixels: NDArray[Any], settings: Sequence[int] = ()) -> None:
    done, data = cv2.imencode(path.suffix, pixels, list(settings))
    if not done:
        raise DataFormatError(f"{pixels.dtype} {pixels.shape} cannot be written as {path.suffix}", where=path)
    path.write_bytes(data.tobytes())


def _require_depth_suffix(suffix: str, where: object) -> None:
    if suffix not in DEPTH_SUFFIXES:
        known = f"use {', '.join(sorted(DEPTH_SUFFIXES))}"
        hint = "convert it to npy: OpenEXR is not read" if suffix == ".exr" else known
        raise DataFormatError(f"depth files of type {suffix or 'none'} are not known", where=where, next_action=hint)


def _decode(data: bytes, where: object, flags: int) -> NDArray[Any]:
    image = None
    if not _truncated(data):
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            image = None
    if image is None:
        raise DataFormatError("the file is truncated or no image", where=where, next_action="fetch or export it again")
    return image


def _read_bytes(path: str | Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataFormatError(f"cannot be read ({error.strerror})", where=path, next_action="check the path") from error
    if not data:
        raise DataFormatError("the file is empty", where=path, next_action="fetch or export it again")
    return data


def _truncated(data: bytes) -> bool:
    """True for a JPEG or PNG without its end marker; what follows the marker does not matter."""
    if data.startswith(_PNG_START):
        return not data.endswith(_PNG_END) and _PNG_END not in data
    if data.startswith(_JPEG_START):
        return not data.endswith(_JPEG_END) and data.find(_JPEG_END, _jpeg_scan(data)) < 0
    return False


def _jpeg_scan(data: bytes) -> int:
    """Where the first scan of a JPEG starts: the headers before it may hold a thumbnail with its own end marker."""
    at = 2
    while at + 4 <= len(data) and data[at + 1] != 0xDA:  # SOS, start of scan (ITU T.81, table B.1)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def _load_numpy(data: bytes, where: object) -> NDArray[Any]:
    try:
        loaded = np.load(BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            keys = loaded.files
            if "depth" in keys or len(keys) == 1:
                return np.asarray(loaded["depth" if "depth" in keys else keys[0]])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataFormatError(f"no NumPy file ({reason})", where=where, next_action="export it again") from error
    raise DataFormatError(f"which array is the depth? {', '.join(keys)}", where=where, next_action="name it 'depth'")


def _one_channel(raw: NDArray[Any], where: object) -> NDArray[Any]:
    """(H,W) from (H,W), (H,W,1), (1,H,W), or three equal channels."""
    if raw.dtype.kind not in "uif":
        raise DataFormatError(f"a depth map holds numbers, not {raw.dtype}", where=where, next_action="export it again")
    if raw.ndim == 3 and raw.shape[2] == 3 and (raw == raw[..., :1]).all():
        raw = np.ascontiguousarray(raw[..., 0])
    if raw.ndim == 3 and 1 in (raw.shape[0], raw.shape[2]):
        raw = raw[0] if raw.shape[0] == 1 else raw[..., 0]
    if raw.ndim != 2:
        raise DataFormatError(
            f"a depth map has one number per pixel, this file is {raw.shape}",
            where=where,
            next_action="is it a colour image, or a picture of the depth? Give the depth itself",
        )
    return raw
