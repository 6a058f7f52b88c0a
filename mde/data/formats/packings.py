"""Packings: how the channels of a pixel hold one number, for data sets that do not just write it down.

The pixels are those of the file as OpenCV decodes it: (H,W) or (H,W,C), with colours in the order blue, green, red,
alpha. What comes out are the numbers of the file, (H,W); what they mean in metres says `mde.data.encodings`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PACKINGS", "Packing"]

_KINECT_ZERO = 1092.5  # raw value at infinity; nyu_depth_v2 toolbox, depth_rel2depth_abs.m
_TOO_FEW = 500  # pixels to judge by
_KINECT_NOTHING = 2047  # all eleven bits: no measurement


@dataclass(frozen=True)
class Packing:
    """One way to put a number into a pixel.

    Attributes:
        summary: what the pixels of such a file are, for people.
        unpack: pixels as they are in the file to numbers (H,W); a ValueError says why that is not possible.
        pack: numbers (H,W), 0 where unknown, to pixels.
        numbers: dtype that `pack` wants; None for that of the file.
    """

    summary: str
    unpack: Callable[[NDArray[Any]], NDArray[Any]]
    pack: Callable[[NDArray[Any]], NDArray[Any]]
    numbers: type[np.generic] | None = None


def one_channel(pixels: NDArray[Any]) -> NDArray[Any]:
    """(H,W) from (H,W), (H,W,1), (1,H,W), or equal channels.

    >>> one_channel(np.full((2, 4, 3), 7)).shape
    (2, 4)
    """
    if pixels.dtype.kind not in "uif":
        raise ValueError(f"a depth map holds numbers, not {pixels.dtype}")
    if pixels.ndim == 3 and pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all():
        pixels = np.ascontiguousarray(pixels[..., 0])
    if pixels.ndim == 3 and 1 in (pixels.shape[0], pixels.shape[2]):
        pixels = pixels[0] if pixels.shape[0] == 1 else pixels[..., 0]
    if pixels.ndim != 2:
        raise ValueError(f"a depth map has one number per pixel, this file is {pixels.shape}")
    return pixels


def _same(numbers: NDArray[Any]) -> NDArray[Any]:
    return numbers


def _to_equal(numbers: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(numbers[..., None], 3, axis=2)


def _from_rotated(pixels: NDArray[Any]) -> NDArray[Any]:
    plane = one_channel(pixels)
    if np.mean((plane & 7) > 1) > 0.5:  # the three lowest bits count 8 m: hardly ever above 1
        raise ValueError("these numbers are not rotated: most would lie beyond 16 m")
    return (plane >> 3) | (plane << 13)


def _to_rotated(numbers: NDArray[Any]) -> NDArray[Any]:
    return (numbers << 3) | (numbers >> 13)


def _from_rgb24(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise ValueError(f"three colours or four hold one number, this file is {pixels.shape}")
    blue, green, red = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    if _is_photograph(blue):
        raise ValueError("these are the colours of a picture, not 24 bits of depth")
    return red | (green << 8) | (blue << 16)


def _is_photograph(highest: NDArray[Any]) -> bool:
    """The highest byte of a depth stands for steps of 4 m and is the same in most neighbours; blue never is."""
    rows = highest[::8]
    return bool(rows.size > _TOO_FEW and np.mean(rows[:, 1:] != rows[:, :-1]) > 0.4)


def _to_rgb24(numbers: NDArray[Any]) -> NDArray[Any]:
    code = np.minimum(numbers, (1 << 24) - 1).astype(np.uint32)
    return np.stack([(code >> shift) & 255 for shift in (16, 8, 0)], axis=2).astype(np.uint8)


def _from_float_bytes(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.ndim != 3 or pixels.shape[2] != 4:
        raise ValueError(f"four channels hold the bytes of one float, this file is {pixels.shape}")
    return np.ascontiguousarray(pixels).view("<f4")[..., 0].astype(np.float32, copy=False)


def _to_float_bytes(numbers: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(numbers, dtype="<f4")[..., None].view(np.uint8)


def _from_kinect(pixels: NDArray[Any]) -> NDArray[Any]:
    raw = one_channel(pixels).byteswap()  # the standard of PGM is big-endian, and these files are not
    if raw.max() > _KINECT_NOTHING:
        raise ValueError(
            "byte-swapped 11-bit values end at 2047, these do not: they are in order already, or no raw data"
        )
    return np.where(raw == _KINECT_NOTHING, 0, _KINECT_ZERO - raw).astype(np.float32)


def _to_kinect(numbers: NDArray[Any]) -> NDArray[Any]:
    raw = np.clip(np.round(_KINECT_ZERO - numbers), 0, int(_KINECT_ZERO))
    return np.where(numbers > 0, raw, _KINECT_NOTHING).astype(np.uint16).byteswap()


PACKINGS: Mapping[str, Packing] = MappingProxyType(
    {
        "plain": Packing("one channel", one_channel, _same),
        "equal": Packing("three equal channels", one_channel, _to_equal),
        "rotated": Packing("16 bits, rotated left by three", _from_rotated, _to_rotated, np.uint16),
        "rgb24": Packing("24 bits in red, green, blue, the lowest in red", _from_rgb24, _to_rgb24, np.uint32),
        "float_bytes": Packing(
            "the four bytes of a float in four channels", _from_float_bytes, _to_float_bytes, np.float32
        ),
        "kinect": Packing("11-bit Kinect values with swapped bytes", _from_kinect, _to_kinect, np.float32),
    }
)
"""Packings by name.

"kinect" gives the disparity 1092.5 - r of the raw value r: of a raw NYU frame, 351.3 / (1092.5 - r) are metres.
"""
