"""Maps and pictures as text inside an HTML file."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["NEAREST", "STEPS", "bytes_text", "codes", "from_codes", "jpeg", "pack_bits", "pack_codes", "palette"]

NEAREST = 1e-3
"""Metres of the code 1."""

STEPS = 2048
"""Codes for each factor e of depth: half a step is 0.024 %, 0.7 mm at 3 m, and 65535 codes reach any depth there is."""

_JPEG_QUALITY = 82


def codes(depth: NDArray[Any]) -> NDArray[np.uint16]:
    """Metres to 16 bits on a logarithmic scale; 0 where there is no positive, finite number.

    >>> codes(np.array([0.0, 1.0, np.nan])).tolist()
    [0, 14148, 0]
    """
    depth = np.asarray(depth, np.float64)  # 16 bits would overflow
    known = np.isfinite(depth) & (depth > 0)
    steps = np.rint(STEPS * np.log(np.where(known, depth, 1.0) / NEAREST)) + 1
    return np.where(known, np.clip(steps, 1, 65535), 0).astype(np.uint16)


def from_codes(values: NDArray[np.uint16]) -> NDArray[np.float64]:
    """The way back, as the page does it; 0 where there is no number.

    >>> from_codes(codes(np.array([3.0]))).round(3).tolist()
    [3.0]
    """
    return np.where(values > 0, NEAREST * np.exp((values.astype(np.float64) - 1) / STEPS), 0.0)


def pack_codes(values: NDArray[np.uint16]) -> str:
    """(h,w) uint16 as text: differences along the rows, high bytes before low bytes, zlib, base64."""
    steps = np.diff(values, axis=1, prepend=np.uint16(0)).astype(np.uint16)
    return _text(np.concatenate(((steps >> 8).ravel(), (steps & 255).ravel())).astype(np.uint8).tobytes())


def pack_bits(mask: NDArray[np.bool_]) -> str:
    """(h,w) bool as text: eight pixels a byte, the first in the highest bit, zlib, base64."""
    return _text(np.packbits(mask.ravel()).tobytes())


def jpeg(image: NDArray[np.uint8]) -> str:
    """(H,W,3) RGB as a data URI."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def palette(name: str) -> NDArray[np.uint8]:
    """The 256 colours of a colour map of matplotlib, (256,3) RGB."""
    from matplotlib import colormaps

    return np.asarray(colormaps[name](np.arange(256), bytes=True)[:, :3], np.uint8)


def bytes_text(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode()


def _text(data: bytes) -> str:
    return bytes_text(zlib.compress(data, 9))
