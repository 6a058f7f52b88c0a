"""How well depth edges are met: boundary F1 of Depth Pro, and the depth boundary errors of iBims-1."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from mde.errors import ConfigError
from mde.metrics.images import ImageMetric, Mask, Values, image_values, require_positive

__all__ = ["BoundaryF1", "EdgeErrors", "boundary_f1", "depth_edges", "edge_distances", "edge_errors"]

_F1 = ("f1", "precision", "recall")
_DISTANCES = ("accuracy", "completeness", "symmetric")

# Koch et al. 2018, evaluation toolbox: Canny on depth normalised to [0,1], thresholds of the Sobel response
_SIGMA = 2**0.5
_LOW, _HIGH = 0.15, 0.3
_MAX_DISTANCE = 10.0  # px; ibid., theta of equation 4
_FIXED_POINT = 4096  # a full step gives a Sobel response of 4, which 16 bits then hold
_DENSE = 0.5  # share of the pixels within the extent of the mask; a sparser map has no edges to speak of


def boundary_f1(
    pred: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    thresholds: tuple[float, float] = (1.05, 1.25),
    steps: int = 10,
    convention: str = "pooled",
) -> dict[str, Tensor]:
    """Scale-invariant boundary precision, recall and F1 of each image.

    A. Bochkovskii et al., "Depth Pro: Sharp Monocular Metric Depth in Less Than a Second", 2024 (arXiv 2410.02073),
    "Evaluation metrics for sharp boundaries": a pixel occludes its neighbour when the ratio of their depths exceeds t.
    Precision is the share of predicted occlusions that are true, recall the share of true ones that are predicted, both
    over horizontal and vertical neighbours, and the score is the mean over thresholds t, weighted by t.

    Args:
        pred: (B,1,H,W), depth up to scale; anything outside `valid`.
        target: (B,1,H,W), metres.
        valid: bool (B,1,H,W); both pixels of a pair must be valid.
        thresholds: first and last ratio.
        steps: how many, evenly spaced.
        convention: "pooled" counts the four directions together as the paper's equation does, and leaves out thresholds
            at which the truth has no edge: a perfect prediction scores 1. "authors" takes the mean of four ratios as
            the published code does, with 0 for a direction without edges: use it to meet published numbers.

    Returns:
        "f1", "precision", "recall" in [0,1], float64 (B,); pooled, NaN for an image whose truth has no edge at the
        first threshold.

    Raises:
        ConfigError: a setting is out of range, or shapes differ.

    >>> import torch
    >>> step = torch.ones(1, 1, 4, 4)
    >>> step[..., 2:] = 2.0
    >>> round(boundary_f1(3 * step, step, step > 0)["f1"].item(), 6)
    1.0
    """
    _require_settings(thresholds, steps, convention)
    levels = np.linspace(*thresholds, steps)
    return image_values(_F1, lambda p, g, v: _f1(p, g, v, levels, convention), pred, target, valid)


def edge_errors(
    pred: Tensor, target: Tensor, valid: Tensor, *, max_distance: float = _MAX_DISTANCE
) -> dict[str, Tensor]:
    """Depth boundary errors of each image, in pixels, between the edges of both maps (see `depth_edges`).

    T. Koch et al., "Evaluation of CNN-based Single-Image Depth Estimation Methods", ECCV workshops 2018, section 4.3.
    iBims-1 has edges that people drew; here those of the truth come from its depth, as those of the prediction do, so
    that numbers do not compare with its table. For edges of one's own there is `edge_distances`.

    Args:
        pred: (B,1,H,W), depth; anything outside `valid`.
        target: (B,1,H,W), metres.
        valid: bool (B,1,H,W).
        max_distance: pixels; distances are cut there.

    Returns:
        "accuracy", "completeness" and "symmetric", float64 (B,); NaN for an image without an edge in its truth, or
        whose mask covers less than half of its own extent, as that of a lidar does.

    Raises:
        ConfigError: a setting is out of range, or shapes differ.
    """
    require_positive("edge_errors", max_distance=max_distance)

    def distances(p: Values, g: Values, v: Mask) -> tuple[float, ...]:
        if not _is_dense(v):
            return (np.nan,) * 3
        return edge_distances(depth_edges(p, v), depth_edges(g, v), max_distance)

    return image_values(_DISTANCES, distances, pred, target, valid)


def depth_edges(depth: Values, valid: Mask) -> Mask:
    """Edges of a depth map by Canny, with the settings of iBims-1's toolbox: sigma sqrt(2), thresholds 0.15 and 0.3.

    Depth is normalised to [0,1] over the valid pixels, so that neither scale nor shift matters. A hole takes the depth
    of the nearest valid pixel, so that its rim is no edge.

    Args:
        depth: (H,W), any unit.
        valid: bool (H,W).

    Returns:
        bool (H,W), False outside `valid`.
    """
    if not valid.any():
        return np.zeros_like(valid)
    if not valid.all():
        nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
        depth = depth[tuple(nearest)]
    low, high = depth.min(), depth.max()
    # float32 has no range to spare for a map that is flat but for its rounding
    if high - low <= 1e-6 * max(abs(high), abs(low)):
        return np.zeros_like(valid)
    smooth = cv2.GaussianBlur(((depth - low) / (high - low)).astype(np.float32), (0, 0), _SIGMA)
    slopes = [
        np.round(cv2.Sobel(smooth, cv2.CV_32F, *axis) * _FIXED_POINT).astype(np.int16) for axis in ((1, 0), (0, 1))
    ]
    dx, dy = slopes
    found = cv2.Canny(dx, dy, _LOW * _FIXED_POINT, _HIGH * _FIXED_POINT, L2gradient=True)
    return np.asarray((found > 0) & valid)


def edge_distances(pred: Mask, truth: Mask, max_distance: float = _MAX_DISTANCE) -> tuple[float, float, float]:
    """How far the edges of two maps are apart, in pixels.

    Args:
        pred: bool (H,W), predicted edges.
        truth: bool (H,W), true edges.
        max_distance: theta.

    Returns:
        (accuracy, completeness, symmetric), all NaN without a true edge:

        * accuracy: mean distance to the truth of the predicted edges that are nearer than theta (Koch et al., equation
          4); theta where there is none.
        * completeness: mean distance to the prediction of the true edges, cut at theta (equation 5).
        * symmetric: mean over both sets of edges of the distance to the other, cut at theta: what the published toolbox
          prints as completeness.
    """
    if not truth.any():
        return np.nan, np.nan, np.nan
    from_pred = ndimage.distance_transform_edt(~truth)[pred]
    # without a zero the transform has no meaning: every true edge is then beyond reach
    from_truth = (
        ndimage.distance_transform_edt(~pred)[truth] if pred.any() else np.full(np.count_nonzero(truth), np.inf)
    )
    near = from_pred[from_pred < max_distance]
    cut = [np.minimum(distances, max_distance) for distances in (from_pred, from_truth)]
    accuracy = near.mean() if near.size else max_distance
    return float(accuracy), float(cut[1].mean()), float(np.concatenate(cut).mean())


class BoundaryF1(ImageMetric):
    """Mean over images of `boundary_f1`; its settings are explained there.

    >>> import torch
    >>> step = torch.ones(1, 1, 4, 4)
    >>> step[..., 2:] = 2.0
    >>> metric = BoundaryF1()
    >>> metric.update(step, step, step > 0)
    >>> round(metric.compute()["f1"].item(), 6)
    1.0
    """

    columns = _F1
    higher = frozenset(_F1)

    def __init__(
        self, thresholds: tuple[float, float] = (1.05, 1.25), steps: int = 10, convention: str = "pooled"
    ) -> None:
        _require_settings(thresholds, steps, convention)
        super().__init__()
        self.thresholds, self.steps, self.convention = thresholds, steps, convention

    def values(self, pred: Tensor, target: Tensor, valid: Tensor, **needs: Tensor) -> dict[str, Tensor]:
        return boundary_f1(
            pred, target, valid, thresholds=self.thresholds, steps=self.steps, convention=self.convention
        )


class EdgeErrors(ImageMetric):
    """Mean over images of `edge_errors`, in pixels.

    Args:
        max_distance: pixels; distances are cut there.
    """

    columns = _DISTANCES

    def __init__(self, max_distance: float = _MAX_DISTANCE) -> None:
        require_positive("EdgeErrors", max_distance=max_distance)
        super().__init__()
        self.max_distance = max_distance

    def values(self, pred: Tensor, target: Tensor, valid: Tensor, **needs: Tensor) -> dict[str, Tensor]:
        return edge_errors(pred, target, valid, max_distance=self.max_distance)


def _is_dense(valid: Mask) -> bool:
    """Whether the mask covers enough of its own extent for neighbours to be neighbours."""
    rows, columns = np.flatnonzero(valid.any(1)), np.flatnonzero(valid.any(0))
    extent = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return bool(np.count_nonzero(valid) >= _DENSE * extent)


def _require_settings(thresholds: tuple[float, float], steps: int, convention: str) -> None:
    first, last = thresholds
    if not 1 < first <= last or steps < 1:
        what = f"boundary F1 needs thresholds 1 < first <= last and at least one step, got {first}, {last} and {steps}"
        raise ConfigError(what, where="boundary_f1", next_action="use (1.05, 1.25) and 10, as Depth Pro does")
    if convention not in ("pooled", "authors"):
        hint = "use 'pooled' or 'authors'"
        raise ConfigError(f"unknown convention {convention!r}", where="boundary_f1", next_action=hint)


def _f1(pred: Values, truth: Values, valid: Mask, levels: Values, convention: str) -> tuple[float, float, float]:
    """F1, precision and recall of one picture, weighted over the thresholds."""
    # (direction, threshold): edges of both maps, of the prediction, of the truth
    counts = np.array([_count(*pair, levels) for pair in _directions(pred, truth, valid, levels[0])]).transpose(1, 0, 2)
    weights = levels
    if convention == "pooled":
        if not counts[2, :, 0].any():
            return np.nan, np.nan, np.nan
        weights = np.where(counts[2].sum(0) > 0, levels, 0.0)
        counts = counts.sum(1, keepdims=True)
    both, predicted, true = counts
    precision = (both / np.maximum(predicted, 1)).mean(0)
    recall = (both / np.maximum(true, 1)).mean(0)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    average = [float(np.average(each, weights=weights)) for each in (f1, precision, recall)]
    return average[0], average[1], average[2]


def _directions(pred: Values, truth: Values, valid: Mask, least: float) -> Iterator[tuple[Values, Values]]:
    """Ratios of the depths of valid neighbours in both maps, flat, for each of the four directions; only of pairs that
    exceed `least` in one of the maps, which are few."""
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        pairs = valid[first] & valid[second]
        for near, far in ((first, second), (second, first)):
            # garbage outside the mask; and an unclamped prediction may be 0, which is an edge to all but 0
            with np.errstate(all="ignore"):
                ratios = pred[far] / pred[near], truth[far] / truth[near]
            chosen = np.flatnonzero(pairs & ((ratios[0] > least) | (ratios[1] > least)))
            yield ratios[0].ravel().take(chosen), ratios[1].ravel().take(chosen)


def _count(pred: Values, truth: Values, levels: Values) -> Values:
    """How many pairs exceed each threshold in both, the first and the second of two vectors, (3, thresholds)."""
    reached = [np.searchsorted(levels, np.nan_to_num(ratios, nan=0.0), side="left") for ratios in (pred, truth)]
    return np.array([_exceeding(each, len(levels)) for each in (np.minimum(*reached), *reached)])


def _exceeding(reached: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """From how many thresholds each pair exceeds to how many pairs exceed each threshold."""
    histogram = np.bincount(reached, minlength=size + 1)
    return np.asarray(histogram[::-1].cumsum()[::-1][1:])
