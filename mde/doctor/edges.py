"""Whether depth lies on its image: edges of depth are nearly always edges of the image, the other way round not.

The edges of a frame are brought to a common small size, and correlated at all small shifts. The mean over many frames
peaks at the true shift; how far each frame's curve is above its own value at no shift says how sure that is.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["MIRRORS", "RADIUS", "EdgeMaps", "correlate", "edge_maps", "mirrored_scores", "overlap"]

LONG_SIDE = 320
"""Frames are compared at this length of their longer side, in pixels (smaller ones at their own)."""

RADIUS = 8
"""Shifts of up to so many pixels of the common size are tried, in each direction."""

MIRRORS = ("left-right", "upside down", "by 180 degrees")
"""Ways in which a depth map may be turned against its image, in the order of `mirrored_scores`."""

_KNOWN = 0.5  # share of pixels with depth below which a map (such as a lidar's) has no edges to speak of
_STEP = 0.04  # ln of the depth ratio across an edge that counts in full: 4 %

Map = NDArray[np.float32]


class EdgeMaps(NamedTuple):
    """Edges of one frame, both float32 (h,w) in [0,1], and how many pixels of the frame one of theirs is."""

    image: Map
    depth: Map
    scale: float


def edge_maps(image: NDArray[np.uint8], depth: NDArray[np.float32], valid: NDArray[np.bool_]) -> EdgeMaps | None:
    """The edges of a frame, or None if its depth is too sparse to have any.

    Args:
        image: uint8 (H,W,3), RGB.
        depth: float32 (H,W), metres.
        valid: bool (H,W).
    """
    if valid.mean() < _KNOWN:
        return None
    scale = max(1.0, max(valid.shape) / LONG_SIDE)
    size = (round(valid.shape[1] / scale), round(valid.shape[0] / scale))
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST)
    known = cv2.resize(valid.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    bright = _gradient(cv2.GaussianBlur(grey, (0, 0), 0.8))
    limit = float(np.percentile(bright, 95)) + 1e-6
    inner = cv2.erode(known, np.ones((3, 3), np.uint8))
    logs = np.log(np.where(known > 0, small, 1), dtype=np.float32)
    # the second derivative is small on a slanted plane, where the first is not
    steps = np.abs(cv2.Laplacian(logs, cv2.CV_32F)) * inner
    edges = EdgeMaps(np.minimum(bright / limit, 1), np.minimum(steps / _STEP, 1), scale)
    return edges if edges.depth.mean() > 1e-3 else None


def correlate(image: Map, depth: Map, radius: int = RADIUS) -> NDArray[np.float64]:
    """Correlation coefficients at all shifts, (2r+1, 2r+1); ``[r + dy, r + dx]`` is high where the depth map has to be
    moved by (dx, dy) to lie on the image."""
    inner = depth[radius : depth.shape[0] - radius, radius : depth.shape[1] - radius]
    if min(inner.shape) < 2 or inner.std() < 1e-6:
        return np.zeros((2 * radius + 1, 2 * radius + 1))
    found = cv2.matchTemplate(image, inner, cv2.TM_CCOEFF_NORMED)
    return np.nan_to_num(found.astype(np.float64), posinf=0, neginf=0)


def mirrored_scores(edges: EdgeMaps) -> NDArray[np.float64]:
    """Best correlation over shifts of up to 3 px of the map turned in each of `MIRRORS`, minus that of the map as it
    is, (3,)."""
    depth = edges.depth
    turned = (depth[:, ::-1], depth[::-1], depth[::-1, ::-1])
    own = overlap(edges.image, depth)
    return np.array([overlap(edges.image, np.ascontiguousarray(other)) - own for other in turned])


def overlap(image: Map, depth: Map) -> float:
    """The best correlation over small shifts, for maps of the same size; 0 for others."""
    return float(correlate(image, depth, 3).max()) if image.shape == depth.shape else 0.0


def _gradient(grey: Map) -> Map:
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.asarray(cv2.magnitude(dx, dy))
