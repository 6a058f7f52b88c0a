"""Whether a method knows where it errs: sparsification (AUSE) and calibration of its standard deviation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from mde.errors import DataFormatError
from mde.metrics.images import ImageMetric, Mask, Values, image_values

__all__ = ["UncertaintyScores", "sparsification", "uncertainty_scores"]

_ERRORS = ("abs_rel", "rmse", "delta1")
_COLUMNS = (*(f"ause_{name}" for name in _ERRORS), "within_1_std", "within_2_std", "within_3_std", "calibration_error")
_STEPS = 50  # Poggi et al. 2020 remove 2 % at a time
_LEVELS = np.arange(1, 20) / 20  # confidence levels of the calibration error
_DELTA1 = 1.25


def uncertainty_scores(pred: Tensor, target: Tensor, valid: Tensor, std: Tensor) -> dict[str, Tensor]:
    """How well a predicted standard deviation ranks and sizes the errors of each image.

    AUSE (E. Ilg et al., "Uncertainty Estimates and Multi-Hypotheses Networks for Optical Flow", ECCV 2018; M. Poggi et
    al., "On the uncertainty of self-supervised monocular depth estimation", CVPR 2020): the pixels with the largest std
    are removed, 2 % at a time; the area between the curve of the error of those left and the curve where those of the
    largest error were removed. 0 is the best. For delta1 the error is 1 - delta1, ordered by max(p/g, g/p). Pixels of
    equal std are removed as if in random order, so that a constant std is as good as none.

    Calibration: the share of pixels within k std of the truth, for which a Gaussian has 0.683, 0.954 and 0.997; and the
    mean over confidence levels 0.05, 0.10, … 0.95 of the distance between the level and the share of pixels in the
    Gaussian interval of that level (V. Kuleshov et al., "Accurate Uncertainties for Deep Learning Using Calibrated
    Regression", ICML 2018, with central intervals and absolute distances). 0 is the best.

    Args:
        pred: (B,1,H,W), metres; anything outside `valid`.
        target: (B,1,H,W), metres, positive where valid.
        valid: bool (B,1,H,W).
        std: (B,1,H,W), metres, of `pred`; anything outside `valid`.

    Returns:
        "ause_abs_rel", "ause_rmse" (metres), "ause_delta1", "within_1_std", "within_2_std", "within_3_std" and
        "calibration_error", float64 (B,); NaN for an image without a valid pixel.

    Raises:
        ConfigError: shapes differ.
        DataFormatError: a std is negative or not finite at a valid pixel.

    >>> import torch
    >>> truth = torch.tensor([[[[2.0, 2.0, 2.0, 2.0]]]])
    >>> error = torch.tensor([[[[0.0, 0.1, 0.2, 0.4]]]])
    >>> uncertainty_scores(truth + error, truth, truth > 0, error)["ause_rmse"].item()
    0.0
    """
    return image_values(_COLUMNS, _scores, pred, target, valid, std)


def sparsification(errors: Values, order: Values) -> Values:
    """Mean of the errors that are left when the pixels with the largest `order` were removed.

    Args:
        errors: (K,N), K kinds of error of N pixels, any unit.
        order: (N,); where it is equal, pixels are removed as if in random order (their mean stands for each).

    Returns:
        (K,50): 0 %, 2 %, … 98 % removed; at least one pixel is always left.
    """
    ranks = np.argsort(order)
    ranked = order[ranks]
    # between the ends of runs of equal order the sum grows by the run's mean, hence along a line
    ends = np.concatenate(([0], np.flatnonzero(ranked[1:] != ranked[:-1]) + 1, [order.size]))
    left = _left(order.size)
    return np.stack([np.interp(left, ends, _cumulated(each[ranks])[ends]) / left for each in errors])


def _oracle(errors: Values) -> Values:
    """`sparsification` of each error by itself."""
    left = _left(errors.shape[1])
    return np.stack([_cumulated(np.sort(each))[left] / left for each in errors])


def _left(pixels: int) -> NDArray[np.int64]:
    return np.asarray(-(-pixels * np.arange(_STEPS, 0, -1) // _STEPS))  # rounded up, in integers


def _cumulated(values: Values) -> Values:
    return np.concatenate(([0.0], np.cumsum(values)))


class UncertaintyScores(ImageMetric):
    """Mean over images of `uncertainty_scores`, for methods that give a standard deviation."""

    columns = _COLUMNS
    needs = ("std",)

    def values(self, pred: Tensor, target: Tensor, valid: Tensor, **needs: Tensor) -> dict[str, Tensor]:
        return uncertainty_scores(pred, target, valid, needs["std"])


def _scores(pred: Values, truth: Values, valid: Mask, std: Values) -> tuple[float, ...]:
    p, g, sigma = (each[valid] for each in (pred, truth, std))
    if not (np.isfinite(sigma).all() and (sigma >= 0).all()):
        hint = "look at what the method gives as its standard deviation"
        raise DataFormatError("a std is negative or not finite at a pixel that counts", next_action=hint)
    error: Values = np.abs(p - g)
    # a prediction of 0 or less is wrong by any factor; a std of 0 holds for an error of 0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(p > 0, np.maximum(p / g, g / p), np.inf)
        deviation = np.where(error > 0, error / sigma, 0.0)
    errors = np.stack((error / g, error**2, np.where(ratio >= _DELTA1, 1.0, 0.0)))
    curves = np.stack((sparsification(errors, sigma), _oracle(errors)))
    curves[:, 1] **= 0.5  # rmse
    areas = [_area(difference) for difference in curves[0] - curves[1]]
    within = [float((deviation <= k).mean()) for k in (1, 2, 3)]
    shares = np.array([(deviation <= width).mean() for width in ndtri((1 + _LEVELS) / 2)])
    return *areas, *within, float(np.abs(shares - _LEVELS).mean())


def _area(difference: Values) -> float:
    """Under a curve over the share of removed pixels; with all of them removed both curves are 0."""
    closed = np.append(difference, 0.0)
    return math.fsum((closed[1:] + closed[:-1]) / 2) / _STEPS
