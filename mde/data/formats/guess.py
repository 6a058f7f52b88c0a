"""What the numbers of unknown depth files seem to mean: a proposal with its reason, and a description for errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mde.data.encodings import ENCODINGS, DepthEncoding
from mde.data.formats.packings import PACKINGS, one_channel
from mde.errors import DataFormatError

__all__ = ["describe", "propose_encoding", "propose_scale", "recognise_packing"]

_SKY_BEYOND = 12_000  # of a Kinect's millimetres; no such sensor sees 12 m


def propose_encoding(samples: Sequence[NDArray[Any]]) -> tuple[DepthEncoding, str]:
    """Guess what depth maps mean from their numbers, and say why.

    Args:
        samples: a few frames of a data set as `mde.data.io.read_pixels` gives them, (H,W) or (H,W,C).

    Returns:
        The encoding, and the reason as a clause for a message.

    Raises:
        DataFormatError: no pixel of the samples holds a measurement, or they are colour pictures.

    >>> propose_encoding([np.array([[0, 812, 1650, 2480]], np.uint16)])[0].name
    'millimetres'
    """
    packed = {recognise_packing(sample) for sample in samples}
    name = packed.pop() if len(packed) == 1 else None
    if name is not None:
        return ENCODINGS[name], f"this looks like {_LOOKS[name]}"
    try:
        planes = [one_channel(sample) for sample in samples]
    except ValueError as error:
        hint = "is it a colour image, or a picture of the depth? Give the depth itself"
        raise DataFormatError(str(error), where="depth files", next_action=hint) from error
    return _by_numbers(planes)


def propose_scale(samples: Sequence[NDArray[Any]]) -> tuple[float, str]:
    """Guess the metres per unit of depth maps from their numbers, and say why.

    Args:
        samples: maps (H,W) in units of the file, a few frames of a data set.

    Returns:
        Metres per unit, and the reason as a clause for a message.

    Raises:
        DataFormatError: no pixel of the samples holds a measurement, or a scale alone cannot make metres of them.

    >>> propose_scale([np.array([[0, 812, 1650, 2480]], np.uint16)])[0]
    0.001
    """
    encoding, reason = propose_encoding(samples)
    if encoding.packing not in ("plain", "equal"):
        what = f"no scale makes metres of these numbers: {reason}"
        raise DataFormatError(what, next_action=f"set encoding: {encoding.name}")
    return encoding.scale, reason


def recognise_packing(pixels: NDArray[Any]) -> str | None:
    """The name of the encoding whose packing is recognised in the pixels of a file; None for plain numbers."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype == np.uint8 and channels == 4 and _are_floats(pixels):
        return "tartanair_v2"
    if pixels.dtype == np.uint8 and channels in (3, 4) and _is_rgb24(pixels):
        return "carla"
    if pixels.dtype == np.uint16 and channels == 3 and (pixels == pixels[..., :1]).all():
        return "synthia"
    if pixels.dtype == np.uint16 and channels == 1 and pixels.any():
        if _is_rotated(pixels):
            return "sun_rgbd"
        if pixels.max() > 2047 and 255 < pixels.byteswap().max() <= 2047:
            return "nyu_raw_kinect"
    return None


def describe(pixels: NDArray[Any]) -> str:
    """What the pixels of a file look like, for an error: "a colour picture of 8 bits", …"""
    name = recognise_packing(pixels)
    if name is not None:
        return _LOOKS[name]
    bits = f"{pixels.dtype.itemsize * 8}-bit{' floating-point' if pixels.dtype.kind == 'f' else ''}"
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4) and not (pixels[..., :3] == pixels[..., :1]).all():
        return f"a colour picture ({bits}, {pixels.shape[2]} channels)"
    return f"a {bits} map {pixels.shape}"


_LOOKS = {
    "tartanair_v2": "TartanAir V2's floats in the four channels of a PNG",
    "carla": "CARLA's 24-bit depth in the colours of a PNG",
    "synthia": "SYNTHIA's centimetres in three equal 16-bit channels",
    "sun_rgbd": "SUN RGB-D's millimetres, rotated by three bits",
    "nyu_raw_kinect": "a raw Kinect frame of NYU Depth v2, 11 bits with swapped bytes",
}


def _by_numbers(planes: Sequence[NDArray[Any]]) -> tuple[DepthEncoding, str]:
    flat = np.concatenate([plane.ravel() for plane in planes]) if planes else np.zeros(0)
    measured = np.isfinite(flat) & (flat > 0)
    if flat.dtype != np.float16:  # which cannot hold the marker; see DepthEncoding.invalid
        measured &= flat != 65535
    known = flat[measured]
    if known.size == 0:
        raise DataFormatError("no valid depth to guess the unit from", next_action="set depth_scale in metres per unit")
    median, high = (float(v) for v in np.percentile(known, (50, 95)))
    share = known.size / flat.size
    facts = f"median {median:.0f}, 95 % below {high:.0f}, {share:.0%} of the pixels known"
    if flat.dtype.kind == "f":
        if median > 100:  # metres: no camera looks at such a scene; a room or a street of the Unreal engine
            return ENCODINGS["centimetres"], f"too large for metres: centimetres, as the Unreal engine ({facts})"
        return ENCODINGS["metres"], "floating-point maps usually hold metres"
    if flat.dtype == np.uint8:
        return ENCODINGS["densedepth_8bit"], f"8-bit maps hold 0 to 10 m in DenseDepth's NYU export ({facts})"
    if share < 0.35 and median > 512:  # a 64-line lidar covers 4 % of a KITTI image, accumulated scans some 20 %
        return ENCODINGS["kitti"], f"sparse as a lidar's, stored in 1/256 m by KITTI ({facts})"
    if known.max() > _SKY_BEYOND and median < 8000 and (flat == 65535).any():  # TUM's rooms have medians above 1.6 m
        return ENCODINGS["virtual_kitti"], f"a sky of 65535 over a wide range: centimetres, as Virtual KITTI ({facts})"
    if high > _SKY_BEYOND or np.gcd.reduce(known.astype(np.int64)) == 5:  # TUM's steps are 1 mm
        return ENCODINGS["tum"], f"too large for millimetres, or all multiples of 5: 1/5000 m, as TUM RGB-D ({facts})"
    if median < 400:  # a median of 0.4 m is nearer than a Kinect can see
        return ENCODINGS["centimetres"], f"too small for millimetres: centimetres ({facts})"
    return ENCODINGS["millimetres"], f"in the range of millimetres ({facts})"


def _are_floats(pixels: NDArray[Any]) -> bool:
    """Almost all are floats between 1 mm and 100 km; an opaque picture read so gives NaN or huge negative numbers."""
    numbers = PACKINGS["float_bytes"].unpack(pixels)
    numbers = numbers[numbers != 0]
    with np.errstate(invalid="ignore"):
        return bool(numbers.size and np.mean((numbers > 1e-3) & (numbers < 1e5)) > 0.95)


def _is_rgb24(pixels: NDArray[Any]) -> bool:
    """The lowest byte changes from pixel to pixel like noise, the highest hardly: no photograph does that."""
    blue, _, red = (np.abs(np.diff(pixels[..., channel].astype(np.int16), axis=1)).mean() for channel in range(3))
    return bool(red > 4 and red > 12 * blue)


def _is_rotated(pixels: NDArray[Any]) -> bool:
    """The three lowest bits came from the top: all 0 below 8.192 m, then 1; no other files have such steps of 8."""
    low = pixels & 7
    near = pixels[(low == 0) & (pixels > 0)].astype(np.int64)
    return bool(low.max() <= 1 and near.size and np.gcd.reduce(near) == 8)
