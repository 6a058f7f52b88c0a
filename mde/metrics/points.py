"""Predicted and true point clouds: Chamfer distance and F-score."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from mde.errors import ConfigError
from mde.geometry import pixel_rays
from mde.metrics.images import ImageMetric, Mask, Values, image_values, require_positive

__all__ = ["PointErrors", "cloud_distances", "point_errors"]

_COLUMNS = ("chamfer", "accuracy", "completeness", "precision", "recall", "f_score", "f_score_relative")


def point_errors(
    pred: Tensor,
    target: Tensor,
    valid: Tensor,
    intrinsics: Tensor,
    *,
    threshold: float = 0.1,
    relative: float = 0.05,
    points: int = 10_000,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Distances between the point clouds of both maps, of each image.

    With a(p) the distance of a predicted point from the nearest true one and c(g) that of a true point from the nearest
    predicted one: accuracy = mean a, completeness = mean c, chamfer = their mean, all unsquared; precision = share of a
    up to the threshold, recall = share of c, f_score = their harmonic mean (A. Knapitsch et al., "Tanks and Temples",
    SIGGRAPH 2017, section 5; for depth maps E. P. Örnek et al., "From 2D to 3D: Re-thinking Benchmarking of Monocular
    Depth Prediction", 2022). The relative F-score takes `relative` times the depth of the true point of each pair.

    Both clouds hold the same pixels, drawn with `seed` anew in each image: equal maps have distance 0, and neither the
    order nor the number of images matters.

    Args:
        pred: (B,1,H,W), metres; anything outside `valid`.
        target: (B,1,H,W), metres.
        valid: bool (B,1,H,W), the pixels that become points.
        intrinsics: (B,3,3), pixels of these maps; an image whose camera is NaN is left out.
        threshold: metres.
        relative: share of the depth.
        points: at most so many of each cloud.
        seed: of the draw.

    Returns:
        "chamfer", "accuracy", "completeness" in metres, "precision", "recall", "f_score", "f_score_relative" in [0,1],
        float64 (B,); NaN for an image without a valid pixel or a camera.

    Raises:
        ConfigError: a setting is out of range, or shapes differ.

    >>> import torch
    >>> from mde.geometry import intrinsics_from_fov
    >>> wall, camera = torch.full((1, 1, 5, 5), 2.0), intrinsics_from_fov(5, 5, 60.0)[None]
    >>> point_errors(wall, wall, wall > 0, camera)["chamfer"].item()
    0.0
    """
    require_positive("point_errors", threshold=threshold, relative=relative, points=points)
    if intrinsics.shape != (len(pred), 3, 3):
        what = f"needs intrinsics ({len(pred)},3,3), got {tuple(intrinsics.shape)}"
        raise ConfigError(what, where="point_errors", next_action="give those of the truth's size")

    def errors(p: Values, g: Values, v: Mask, camera: Values) -> tuple[float, ...]:
        if not np.isfinite(camera).all():
            return (np.nan,) * len(_COLUMNS)
        pixels = np.flatnonzero(v)
        if len(pixels) > points:
            pixels = np.random.default_rng(seed).choice(pixels, points, replace=False)
        rays = pixel_rays(torch.from_numpy(camera)[None], *v.shape)[0].flatten(1).numpy()[:, pixels].T
        return _scores(rays * p.ravel()[pixels, None], rays * g.ravel()[pixels, None], threshold, relative)

    return image_values(_COLUMNS, errors, pred, target, valid, camera=intrinsics)


def cloud_distances(pred: Values, truth: Values) -> tuple[Values, Values, Values]:
    """Nearest neighbours between two clouds, (N,3) and (M,3), metres.

    Returns:
        The distance of each predicted point from the truth (N,), of each true point from the prediction (M,), and the
        number of the true point that is nearest to each predicted one (N,).
    """
    accuracy, nearest = cKDTree(truth).query(pred)
    completeness, _ = cKDTree(pred).query(truth)
    return np.asarray(accuracy), np.asarray(completeness), np.asarray(nearest)


class PointErrors(ImageMetric):
    """Mean over images of `point_errors`; its settings are explained there."""

    columns = _COLUMNS
    needs = ("intrinsics",)
    higher = frozenset({"precision", "recall", "f_score", "f_score_relative"})

    def __init__(self, threshold: float = 0.1, relative: float = 0.05, points: int = 10_000, seed: int = 0) -> None:
        require_positive("PointErrors", threshold=threshold, relative=relative, points=points)
        super().__init__()
        self.threshold, self.relative, self.points, self.seed = threshold, relative, points, seed

    def values(self, pred: Tensor, target: Tensor, valid: Tensor, **needs: Tensor) -> dict[str, Tensor]:
        return point_errors(
            pred,
            target,
            valid,
            needs["intrinsics"],
            threshold=self.threshold,
            relative=self.relative,
            points=self.points,
            seed=self.seed,
        )


def _scores(pred: Values, truth: Values, threshold: float, relative: float) -> tuple[float, ...]:
    accuracy, completeness, nearest = cloud_distances(pred, truth)
    depth = truth[:, 2]
    precision, recall = float((accuracy <= threshold).mean()), float((completeness <= threshold).mean())
    near_share = float((accuracy <= relative * depth[nearest]).mean())
    reached_share = float((completeness <= relative * depth).mean())
    means = float(accuracy.mean()), float(completeness.mean())
    f_scores = _harmonic(precision, recall), _harmonic(near_share, reached_share)
    return sum(means) / 2, *means, precision, recall, *f_scores


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0
