"""Surfaces: the angle between predicted and true normals, and how flat and how well turned planes come out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.errors import ConfigError
from mde.geometry import pixel_rays
from mde.metrics.images import ImageMetric, Mask, Values, image_values, require_positive

__all__ = [
    "NormalErrors",
    "PlaneErrors",
    "find_planes",
    "normal_errors",
    "plane_errors",
    "surface_normals",
]

_Labels = NDArray[np.int64]

_ANGLES = (11.25, 22.5, 30.0)  # degrees; Fouhey et al., "Data-Driven 3D Primitives", ICCV 2013, section 5
_NORMALS = ("mean", "median", *(f"below_{angle:g}" for angle in _ANGLES))
_PLANES = ("flatness", "orientation")
_BEND = 0.05  # relative second difference of the inverse depth, above which a surface breaks there
_CELLS = (6, 8)  # rows and columns of the grid in which planes are looked for
_FLAT = 0.005  # relative rms residual of the inverse depth, up to which a cell is a plane
_KNOWN = 0.6  # share of a cell's pixels that must be valid
_LEAST = 16  # pixels of a plane


def normal_errors(
    pred: Tensor, target: Tensor, valid: Tensor, intrinsics: Tensor, *, max_bend: float = _BEND
) -> dict[str, Tensor]:
    """Angles between the surface normals of both maps, of each image.

    Normals are cross products of central differences of the points (`surface_normals`). A pixel counts where it and its
    four neighbours are valid, and where the truth does not break: on a plane the inverse depth is affine, so its second
    differences are 0 however slanted the plane is, and above `max_bend` times the inverse depth there is an edge, where
    a normal means nothing. Neither a factor on the prediction nor one on the truth changes the angles.

    Args:
        pred: (B,1,H,W), metres; anything outside `valid`.
        target: (B,1,H,W), metres, positive where valid.
        valid: bool (B,1,H,W).
        intrinsics: (B,3,3), pixels of these maps; an image whose camera is NaN is left out.
        max_bend: see above.

    Returns:
        "mean" and "median" in degrees, and the shares "below_11.25", "below_22.5" and "below_30", float64 (B,); NaN for
        an image without such a pixel.

    Raises:
        ConfigError: shapes differ, or a setting is out of range.

    >>> import torch
    >>> from mde.geometry import intrinsics_from_fov
    >>> wall, camera = torch.full((1, 1, 5, 5), 2.0), intrinsics_from_fov(5, 5, 60.0)[None]
    >>> normal_errors(3 * wall, wall, wall > 0, camera)["mean"].item()
    0.0
    """
    require_positive("normal_errors", max_bend=max_bend)
    _require_cameras(intrinsics, len(pred))

    def errors(p: Values, g: Values, v: Mask, camera: Values) -> tuple[float, ...]:
        kept = _inner(v) & ~_breaks(np.where(v, g, 1.0), max_bend)
        if not np.isfinite(camera).all() or not kept.any():
            return (np.nan,) * len(_NORMALS)
        rays = _rays(camera, v.shape)
        angles = _angle(*(_normals(rays * np.where(v, depth, 1.0)) for depth in (p, g)))[kept[1:-1, 1:-1]]
        shares = [float((angles < angle).mean()) for angle in _ANGLES]
        return float(angles.mean()), float(np.median(angles)), *shares

    return image_values(_NORMALS, errors, pred, target, valid, camera=intrinsics)


def plane_errors(
    pred: Tensor, target: Tensor, valid: Tensor, intrinsics: Tensor, *, planes: Tensor | None = None
) -> dict[str, Tensor]:
    """Planarity errors of each image, averaged over its planes.

    T. Koch et al., "Evaluation of CNN-based Single-Image Depth Estimation Methods", ECCV workshops 2018, section 4.3:
    a plane is fitted to the predicted points of each plane of the truth. "flatness" is the standard deviation of the
    points' distances from it, "orientation" the angle between it and the plane fitted to the true points.

    iBims-1 has masks of walls, floors and tables. Without masks the planes of the truth are found by `find_planes`,
    which takes pieces of a fixed grid: the same for every method and every run, but smaller than walls, so that numbers
    do not compare with iBims-1's table.

    Args:
        pred: (B,1,H,W), metres; anything outside `valid`.
        target: (B,1,H,W), metres, positive where valid.
        valid: bool (B,1,H,W).
        intrinsics: (B,3,3), pixels of these maps; an image whose camera is NaN is left out.
        planes: integers (B,1,H,W), the number of the plane of each pixel, 0 where there is none; None finds them.

    Returns:
        "flatness" in metres, "orientation" in degrees, float64 (B,); NaN for an image without a plane.

    Raises:
        ConfigError: shapes differ.
    """
    _require_cameras(intrinsics, len(pred))

    def errors(p: Values, g: Values, v: Mask, *given: Values, camera: Values) -> tuple[float, float]:
        labels = np.asarray(np.where(v, given[0], 0), np.int64) if given else find_planes(g, v)
        if not np.isfinite(camera).all():
            return np.nan, np.nan
        if not labels.any():
            return np.nan, np.nan
        rays, number = _rays(camera, v.shape)[:, labels > 0], labels[labels > 0] - 1
        if given:  # numbers of planes as they come, with gaps
            number = np.unique(number, return_inverse=True)[1]
        (flatness, normals), (_, true_normals) = (_fitted(rays * depth[labels > 0], number) for depth in (p, g))
        angles = _angle(normals, true_normals)
        return float(flatness.mean()), float(np.minimum(angles, 180 - angles).mean())  # a plane has two sides

    maps = (pred, target, valid) if planes is None else (pred, target, valid, planes)
    return image_values(_PLANES, errors, *maps, camera=intrinsics)


def surface_normals(depth: Values, intrinsics: Values) -> Values:
    """Unit normals, towards the camera, from central differences of the points; exact on planes.

    Args:
        depth: (H,W), metres.
        intrinsics: (3,3), pixels of `depth`.

    Returns:
        (3,H,W): x right, y down, z forward; NaN at the border of one pixel, 0 where there is no surface (depth 0).
    """
    found = _normals(_rays(intrinsics, depth.shape) * depth)
    normals = np.full((3, *depth.shape), np.nan)
    normals[:, 1:-1, 1:-1] = found / np.maximum(np.linalg.norm(found, axis=0), np.finfo(np.float64).tiny)
    return normals


def find_planes(depth: Values, valid: Mask) -> _Labels:
    """Cells of a grid of 6x8 in which the depth is a plane: 1/z is affine in the pixel there, up to 0.5 % (rms).

    Least squares, and hence no draw of random samples; no camera enters.

    Args:
        depth: (H,W), metres, positive where valid.
        valid: bool (H,W); at least 60 % of a cell.

    Returns:
        int64 (H,W), the number of the plane from 1 on, 0 where there is none or outside `valid`.
    """
    labels: _Labels = np.zeros(depth.shape, np.int64)
    rows, columns = (
        np.linspace(0, side, cells + 1).astype(int) for side, cells in zip(depth.shape, _CELLS, strict=True)
    )
    count = 0
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            cell = np.s_[top:bottom, left:right]
            known = valid[cell]
            if known.sum() >= max(_LEAST, _KNOWN * known.size) and _is_plane(depth[cell], known):
                count += 1
                labels[cell][known] = count
    return labels


class NormalErrors(ImageMetric):
    """Mean over images of `normal_errors`, which explains `max_bend`."""

    columns = _NORMALS
    needs = ("intrinsics",)
    higher = frozenset(_NORMALS[2:])

    def __init__(self, max_bend: float = _BEND) -> None:
        require_positive("NormalErrors", max_bend=max_bend)
        super().__init__()
        self.max_bend = max_bend

    def values(self, pred: Tensor, target: Tensor, valid: Tensor, **needs: Tensor) -> dict[str, Tensor]:
        return normal_errors(pred, target, valid, needs["intrinsics"], max_bend=self.max_bend)


class PlaneErrors(ImageMetric):
    """Mean over images of `plane_errors` on the planes that `find_planes` finds in the truth."""

    columns = _PLANES
    needs = ("intrinsics",)

    def values(self, pred: Tensor, target: Tensor, valid: Tensor, **needs: Tensor) -> dict[str, Tensor]:
        return plane_errors(pred, target, valid, needs["intrinsics"])


def _require_cameras(intrinsics: Tensor, batch: int) -> None:
    if intrinsics.shape != (batch, 3, 3):
        what = f"needs intrinsics ({batch},3,3), got {tuple(intrinsics.shape)}"
        raise ConfigError(what, where="normals", next_action="give those of the truth's size")


def _rays(intrinsics: Values, size: tuple[int, ...]) -> Values:
    """Rays of all pixels with z = 1, (3,H,W); times the depth they are points, metres."""
    return np.asarray(pixel_rays(torch.from_numpy(intrinsics)[None], *size)[0].numpy())


def _normals(points: Values) -> Values:
    """Normals, not of unit length, of the inner pixels: (3,H,W) to (3,H-2,W-2)."""
    return _cross(points[:, 2:, 1:-1] - points[:, :-2, 1:-1], points[:, 1:-1, 2:] - points[:, 1:-1, :-2])


def _cross(a: Values, b: Values) -> Values:
    """Cross product of (3,...); that of NumPy takes five times as long along the first axis."""
    return np.stack([a[i] * b[j] - a[j] * b[i] for i, j in ((1, 2), (2, 0), (0, 1))])


def _inner(valid: Mask) -> Mask:
    """Pixels that are valid with their four neighbours."""
    inner = np.zeros_like(valid)
    inner[1:-1, 1:-1] = valid[1:-1, 1:-1] & valid[:-2, 1:-1] & valid[2:, 1:-1] & valid[1:-1, :-2] & valid[1:-1, 2:]
    return inner


def _breaks(depth: Values, max_bend: float) -> Mask:
    """Where the second difference of the inverse depth is large, in either direction."""
    inverse = 1 / depth
    middle = inverse[1:-1, 1:-1]
    bends = [
        np.abs(before + after - 2 * middle)
        for before, after in ((inverse[1:-1, :-2], inverse[1:-1, 2:]), (inverse[:-2, 1:-1], inverse[2:, 1:-1]))
    ]
    broken = np.zeros(depth.shape, bool)
    broken[1:-1, 1:-1] = np.maximum(*bends) > max_bend * middle
    return broken


def _angle(first: Values, second: Values) -> Values:
    """Degrees between vectors (3,...) of any length; 180 where one has none and hence no direction."""
    # by both products, as the arc cosine is blind to small angles
    sine, cosine = np.sqrt((_cross(first, second) ** 2).sum(0)), (first * second).sum(0)
    return np.where((sine == 0) & (cosine == 0), 180.0, np.degrees(np.arctan2(sine, cosine)))


def _is_plane(depth: Values, known: Mask) -> bool:
    places = np.stack(np.nonzero(known)) * 1.0
    inverse = 1 / depth[known]
    mean = inverse.mean()
    # centred, the normal equations of a line in two variables are well conditioned
    places -= places.mean(1, keepdims=True)
    slopes = np.linalg.lstsq(places @ places.T, places @ (inverse - mean), rcond=None)[0]
    residual = np.sqrt(np.mean((slopes @ places + mean - inverse) ** 2))
    return bool(residual <= _FLAT * mean)


def _fitted(points: Values, number: NDArray[np.intp]) -> tuple[Values, Values]:
    """Total least squares planes.

    Args:
        points: (3,P), metres.
        number: (P,), the plane of each point, from 0.

    Returns:
        The standard deviation of the distances of each plane (N,), and its normal (3,N).
    """
    counts = np.bincount(number)
    means = np.stack([np.bincount(number, axis) / counts for axis in points])
    centred = points - means[:, number]
    spreads = np.empty((len(counts), 3, 3))
    for i in range(3):
        for j in range(i + 1):
            spreads[:, i, j] = spreads[:, j, i] = np.bincount(number, centred[i] * centred[j]) / counts
    variances, axes = np.linalg.eigh(spreads)
    return np.sqrt(variances[:, 0].clip(min=0)), axes[:, :, 0].T
