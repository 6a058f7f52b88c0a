"""Where the pixels of a frame were in the frame before: dense inverse search, checked both ways."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Motion", "motion"]

F32 = NDArray[np.float32]

_LONGEST = 320  # pixels: flow is found in pictures of that size; depth needs no finer motion
_ALPHA, _BETA = 0.01, 0.5  # Sundaram et al., ECCV 2010, equation 5: |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5
_COLOUR = 25.0  # grey levels, of 255, that a point may change beside what the whole picture changes
_CUT = 0.4  # share of pixels that must be followed; less is another scene


@dataclass(frozen=True, eq=False)
class Motion:
    """From one frame to the next.

    Attributes:
        back: float32 (H,W,2), pixels (x, y) from each pixel of this frame to its place in the frame before.
        seen: bool (H,W), where that can be trusted: forward and backward flow agree, the place is inside the picture,
            and the grey value is the same. False where something was hidden before.
    """

    back: F32
    seen: NDArray[np.bool_]

    @cached_property
    def is_cut(self) -> bool:
        """Another scene: hardly anything of this frame was in the one before."""
        return bool(self.seen.mean() < _CUT)

    def warp(self, before: F32) -> F32:
        """A map of the frame before as this frame sees it, float32 (H,W); NaN where it came from outside.

        Between pixels it is interpolated, across holes it is NaN.
        """
        return _moved(before, self.back)


def motion(before: NDArray[np.uint8], now: NDArray[np.uint8], fine: bool = True) -> Motion:
    """The motion between two frames of one size, uint8 (H,W,3).

    T. Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, at most 320 pixels long, both ways;
    consistency as of N. Sundaram et al., "Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow",
    ECCV 2010.

    Args:
        before: the frame before.
        now: this frame.
        fine: OpenCV's medium preset; False takes the fast one, some ten times faster, enough for means.
    """
    height, width = now.shape[:2]
    factor = min(1.0, _LONGEST / max(height, width))
    size = max(16, round(width * factor)), max(16, round(height * factor))  # the search has patches of 8 pixels
    first, second = (_grey(each, size) for each in (before, now))
    preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM if fine else cv2.DISOPTICAL_FLOW_PRESET_FAST
    search = cv2.DISOpticalFlow.create(preset)
    back = np.asarray(search.calc(second, first, None), np.float32)
    forth = np.asarray(search.calc(first, second, None), np.float32)
    there = _moved(forth, back)
    length = (back**2).sum(2) + (there**2).sum(2)
    agree = ((back + there) ** 2).sum(2) < _ALPHA * length + _BETA  # False for NaN
    change = second.astype(np.float32) - _moved(first.astype(np.float32), back)
    brighter = np.median(change[agree]) if agree.any() else 0.0  # an exposure that adapts is no other scene
    seen = agree & (np.abs(change - brighter) < _COLOUR)
    if size == (width, height):
        return Motion(back, seen)
    scaled = cv2.resize(back, (width, height), interpolation=cv2.INTER_LINEAR)
    scaled *= np.array([width / size[0], height / size[1]], np.float32)
    # area-averaged, so that a pixel at the rim of what is hidden counts as hidden
    whole = cv2.resize(seen.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return Motion(scaled, whole > 0.99)


def _grey(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(grey if grey.shape[::-1] == size else cv2.resize(grey, size, interpolation=cv2.INTER_AREA))


def _moved(values: F32, back: F32) -> F32:
    height, width = back.shape[:2]
    x = back[..., 0] + np.arange(width, dtype=np.float32)
    y = back[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    moved = cv2.remap(values, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
    outside = (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)
    moved[outside] = np.nan
    return np.asarray(moved)
