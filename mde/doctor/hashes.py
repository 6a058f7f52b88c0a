"""Finding equal and nearly equal pictures among very many: 8 bytes a picture, and no comparison of all with all."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["NEAR_BITS", "difference_hash", "near_pairs", "repeated", "similar"]

NEAR_BITS = 3
"""Hashes that differ in so many of 64 bits, or fewer, are candidates: with four bands, one band is then equal."""

_BANDS = 4
_FLAT = 6  # a hash with fewer ones (or zeros) comes from a picture without content
_ALIKE = 0.95  # correlation of two thumbnails, above which two candidates are called nearly identical
_THUMBNAIL = (32, 24)

Hashes = NDArray[np.uint64]


def difference_hash(image: NDArray[np.uint8]) -> int:
    """64 bits: is each pixel of a 9x8 thumbnail brighter than its right neighbour?

    The difference hash of N. Krawetz, "Kind of Like That", hackerfactor.com, 2013.

    Args:
        image: uint8 (H,W,3), RGB.
    """
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.packbits(grey[:, 1:] < grey[:, :-1])
    return int.from_bytes(bits.tobytes(), "big")


def near_pairs(first: Hashes, second: Hashes) -> list[tuple[int, int]]:
    """For each hash of `second` the nearest of `first`, where it differs in at most `NEAR_BITS` bits.

    Hashes are sorted by each of four bands of 16 bits, so that only those are compared that share a band; the time is
    nearly linear. Pictures without content (a wall, the dark) are left out: all their hashes are alike.

    Returns:
        Pairs (row of `first`, row of `second`).
    """
    best: dict[int, tuple[int, int]] = {}
    rows, others = np.flatnonzero(_telling(first)), np.flatnonzero(_telling(second))
    for band in range(_BANDS):
        keys = _band(first[rows], band)
        order = np.argsort(keys, kind="stable")
        wanted = _band(second[others], band)
        starts = np.searchsorted(keys[order], wanted, "left")
        ends = np.searchsorted(keys[order], wanted, "right")
        for other, start, end in zip(others, starts, ends, strict=True):
            if start == end:
                continue
            same_band = rows[order[start:end]]
            distances = _bit_count(first[same_band] ^ second[other])
            nearest = int(distances.argmin())
            found = (int(distances[nearest]), int(same_band[nearest]))
            if found[0] <= NEAR_BITS:
                best[int(other)] = min(best.get(int(other), found), found)
    return [(row, other) for other, (_, row) in sorted(best.items())]


def similar(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> bool:
    """True if two pictures are nearly the same at thumbnail size, whatever their brightness."""
    a, b = (_thumbnail(image) for image in (first, second))
    spread = float(a.std() * b.std())
    return spread > 0 and float(((a - a.mean()) * (b - b.mean())).mean()) / spread > _ALIKE


def repeated(values: Hashes) -> list[NDArray[np.int64]]:
    """Groups of rows with the same value, in order; zeros are left out."""
    order = np.argsort(values, kind="stable")
    kept = values[order]
    equal = np.flatnonzero((kept[1:] == kept[:-1]) & (kept[1:] != 0))
    runs = np.split(equal, np.flatnonzero(np.diff(equal) > 1) + 1) if len(equal) else []
    groups = [np.sort(order[run[0] : run[-1] + 2]) for run in runs]
    return sorted(groups, key=lambda group: int(group[0]))


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float64))


def _band(values: Hashes, band: int) -> NDArray[np.uint64]:
    return (values >> np.uint64(16 * band)) & np.uint64(0xFFFF)


def _telling(values: Hashes) -> NDArray[np.bool_]:
    ones = _bit_count(values)
    return (ones >= _FLAT) & (ones <= 64 - _FLAT)


def _bit_count(values: Hashes) -> NDArray[np.int64]:
    bits = np.unpackbits(np.ascontiguousarray(values).view(np.uint8).reshape(-1, 8), axis=1)
    return np.asarray(bits.sum(axis=1, dtype=np.int64))
