"""Augmentations that change the scene or the camera, and so need to know it: what albumentations cannot express.

They stand in a list beside those of albumentations, in YAML too, and keep image, depth and camera in agreement by
themselves. `mde.data.transforms` runs them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.errors import ConfigError

__all__ = ["Augmentation", "CentreCrop", "EigenAugmentation", "SparseDepth", "View"]


class View(NamedTuple):
    """What an augmentation changes; arrays are never changed in place.

    Attributes:
        image: uint8 (H,W,3), RGB.
        depth: float32 (H,W), z-depth in metres, 0 where unknown.
        intrinsics: float64 (3,3), pixels of the image, the centre of the first pixel at (0, 0); NaN where unknown.
        mirrored: an augmentation that mirrors the view says so here: pictures of a stereo pair then change places.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    mirrored: bool = False


class Augmentation(ABC):
    """Base.

    Of a stereo pair, both views are given one after the other with equal draws.

    Attributes:
        crop: (height, width) of the result, whatever comes in: training then takes pictures of this size, a part of the
            frame at its scale. None: the size stays.
        rectified: what both cameras of a stereo pair see stays in the same row of both pictures.
    """

    crop: tuple[int, int] | None = None
    rectified: bool = True

    @abstractmethod
    def __call__(self, view: View, rng: np.random.Generator) -> View:
        """The view after one draw from `rng`, which is the only source of randomness."""


class CentreCrop(Augmentation):
    """The middle of the frame at its scale; a frame that is smaller is enlarged until it fits.

    Args:
        crop: (height, width) in pixels.

    Raises:
        ConfigError: the size is not two positive integers.
    """

    def __init__(self, crop: tuple[int, int]) -> None:
        self.crop: tuple[int, int] = _checked_crop(crop)

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        factor = _fitting(view.depth.shape, self.crop)
        free = _free(view.depth.shape, self.crop, factor)
        return _warped(view, self.crop, np.eye(2), factor, (free // 2).astype(float))


class EigenAugmentation(Augmentation):
    """Zoom, rotation, crop, colour and mirroring, in one resampling (the image linear, the depth nearest).

    Eigen, Puhrsch and Fergus, "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network", NIPS 2014,
    section 3.4; paper 2 names it (section 4). What becomes of the camera:

    - *Zoom* by s with depth / s. A pixel at offset u from the principal point shows x = u z / f. After it, the offset
      is s u and the depth z / s: with the same focal length f the same x. So K keeps its focal length, and the scene is
      pressed together along the viewing direction, as if one had gone nearer. Offsets grow about the principal point.
    - *Rotation* about the principal point is a roll of the camera: K and z stay. Where pixels are not square (fx != fy)
      it is a rotation of viewing rays, not of pixels. What is turned in from outside has no depth.
    - *Crop* moves the principal point. A frame smaller than the crop is resized first, which scales K and leaves z.

    Stereo pairs keep their rows and their baseline but under rotation: a zoom by s turns fx baseline / z into s times
    as much, as the pictures show it. So pairs need ``degrees: 0``.

    Args:
        scale: range of the zoom, from 1.
        degrees: largest rotation to either side.
        crop: (height, width) in pixels, taken anywhere in the frame; None keeps the size of the frame.
        colour: range of the factors of red, green and blue.
        flip: probability to mirror.

    Raises:
        ConfigError: a setting is out of range.

    >>> view = View(np.zeros((4, 6, 3), np.uint8), np.full((4, 6), 9.0, np.float32), np.eye(3))
    >>> zoomed = EigenAugmentation(scale=(1.5, 1.5), degrees=0, crop=(4, 4))(view, np.random.default_rng(0))
    >>> zoomed.depth.shape, float(zoomed.depth.max()), float(zoomed.intrinsics[0, 0])
    ((4, 4), 6.0, 1.0)
    """

    def __init__(
        self,
        scale: tuple[float, float] = (1.0, 1.5),
        degrees: float = 5.0,
        crop: tuple[int, int] | None = None,
        colour: tuple[float, float] = (0.8, 1.2),
        flip: float = 0.5,
    ) -> None:
        ranges = 1 <= scale[0] <= scale[1] and 0 <= colour[0] <= colour[1]
        if not (ranges and 0 <= degrees < 90 and 0 <= flip <= 1):
            what = f"got scale {scale}, degrees {degrees}, colour {colour}, flip {flip}"
            hint = "scale is a range from 1, degrees lie in [0, 90), colour is a range from 0, flip a probability"
            raise ConfigError(what, where="EigenAugmentation", next_action=hint)
        self.scale, self.colour = (float(scale[0]), float(scale[1])), (float(colour[0]), float(colour[1]))
        self.degrees, self.flip = float(degrees), float(flip)
        self.rectified = self.degrees == 0
        self.crop = None if crop is None else _checked_crop(crop)

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        zoom, angle = rng.uniform(*self.scale), np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        colour, place, mirrored = rng.uniform(*self.colour, 3), rng.random(2), rng.random() < self.flip
        crop = self.crop or (view.depth.shape[0], view.depth.shape[1])
        fit = _fitting(view.depth.shape, crop)
        corner = np.floor(place * (_free(view.depth.shape, crop, zoom * fit) + 1))  # whole pixels: nothing moves twice
        out = _warped(view, crop, _roll(view.intrinsics, angle), fit, corner, zoom)
        out = out._replace(image=_coloured(out.image, colour))
        return _mirrored(out) if mirrored else out


class SparseDepth(Augmentation):
    """Keep the depth that a lidar would have measured: of every n-th row a share of the pixels; the picture stays.

    To train on dense truth as if it were sparse. With the defaults 1/16 of the pixels keep their depth, about what
    KITTI's scanner with its 64 lines leaves in a picture.

    Args:
        rows: distance of the lines in pixels; where the first one lies is drawn.
        share: of the pixels of a line, drawn one by one, in (0, 1].

    Raises:
        ConfigError: a setting is out of range.

    >>> view = View(np.zeros((8, 6, 3), np.uint8), np.full((8, 6), 9.0, np.float32), np.eye(3))
    >>> (SparseDepth(rows=4, share=1.0)(view, np.random.default_rng(0)).depth > 0).sum(1).tolist()
    [0, 0, 0, 6, 0, 0, 0, 6]
    """

    def __init__(self, rows: int = 8, share: float = 0.5) -> None:
        if rows < 1 or int(rows) != rows or not 0 < share <= 1:
            what = f"rows is a number of pixels from 1 and share lies in (0, 1], got {rows} and {share}"
            raise ConfigError(what, where="SparseDepth", next_action="rows: 8 and share: 0.5 keep one pixel of 16")
        self.rows, self.share = int(rows), float(share)

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        first, measured = int(rng.integers(self.rows)), rng.random(view.depth.shape) < self.share
        sparse = np.zeros_like(view.depth)
        lines = slice(first, None, self.rows)
        sparse[lines] = np.where(measured, view.depth, 0)[lines]
        return view._replace(depth=sparse)


def _roll(intrinsics: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """What a roll of the camera does to offsets from the principal point; square pixels where the camera is unknown."""
    aspect = intrinsics[0, 0] / intrinsics[1, 1]
    aspect = aspect if np.isfinite(aspect) else 1.0
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin * aspect], [sin / aspect, cos]])


def _warped(
    view: View,
    crop: tuple[int, int],
    turn: NDArray[np.float64],
    fit: float,
    corner: NDArray[np.float64],
    zoom: float = 1.0,
) -> View:
    """Turn about the principal point, enlarge by fit * zoom, and cut out `crop` from `corner` (x, y) on.

    `fit` is a resize, which scales the camera; `zoom` divides the depth instead.
    """
    height, width = view.depth.shape
    centre = view.intrinsics[:2, 2]
    pivot = centre if np.isfinite(centre).all() else np.array([width - 1, height - 1]) / 2
    moved = fit * zoom * (pivot + 0.5) - 0.5 - corner  # where the pivot comes to lie
    matrix = np.empty((2, 3))
    matrix[:, :2] = fit * zoom * turn
    matrix[:, 2] = moved - matrix[:, :2] @ pivot
    size = crop[::-1]
    # the picture goes on mirrored where the frame ends, without an edge that no scene has; its depth is unknown there
    image = cv2.warpAffine(view.image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    depth = cv2.warpAffine(view.depth, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    intrinsics = view.intrinsics.copy()
    intrinsics[:2, :2] *= fit
    intrinsics[:2, 2] = moved + 0 * centre  # NaN stays NaN
    return View(np.asarray(image, np.uint8), np.asarray(depth / np.float32(zoom), np.float32), intrinsics)


def _mirrored(view: View) -> View:
    intrinsics = view.intrinsics.copy()
    intrinsics[0, 2] = view.depth.shape[1] - 1 - intrinsics[0, 2]
    image, depth = np.ascontiguousarray(view.image[:, ::-1]), np.ascontiguousarray(view.depth[:, ::-1])
    return View(image, depth, intrinsics, not view.mirrored)


def _coloured(image: NDArray[np.uint8], factors: NDArray[np.float64]) -> NDArray[np.uint8]:
    levels = np.arange(256)[:, None] * factors
    table = np.clip(levels.round(), 0, 255).astype(np.uint8)[None]
    return np.asarray(cv2.LUT(image, table), np.uint8)


def _fitting(size: Sequence[int], crop: tuple[int, int]) -> float:
    """The least enlargement of the frame in which the crop has room."""
    return float(max(1.0, crop[0] / size[0], crop[1] / size[1]))


def _free(size: Sequence[int], crop: tuple[int, int], factor: float) -> NDArray[np.int64]:
    """Pixels (x, y) by which the crop can be moved in the enlarged frame."""
    free = np.array([size[1] * factor - crop[1], size[0] * factor - crop[0]])
    return np.maximum(np.floor(free + 1e-6), 0).astype(np.int64)


def _checked_crop(crop: Sequence[int]) -> tuple[int, int]:
    if len(crop) != 2 or any(int(side) != side or side < 1 for side in crop):
        hint = "give [height, width] in pixels"
        raise ConfigError(f"a crop needs two sizes above 0, got {crop}", where="augmentations.crop", next_action=hint)
    return int(crop[0]), int(crop[1])
