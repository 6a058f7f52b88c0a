"""The loss of networks that predict up to scale and shift: both maps normalised, their values and edges compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mde.errors import ConfigError
from mde.losses.base import DepthLoss, check_shapes
from mde.losses.gradient import edge_sum
from mde.masking import at_least_float32, fill, masked_mean_per_image, masked_sum

__all__ = ["ScaleShiftInvariantLoss", "scale_shift_invariant_loss"]

_EDGE_STEPS = (1, 2, 4, 8)  # the four scales of MiDaS
_FORMS = ("mae", "trimmed", "mse")
_AVERAGES = ("images", "pixels")
_TRIM = 0.2  # MiDaS, equation 7: of the pixels of an image


def scale_shift_invariant_loss(
    pred: Tensor,
    target: Tensor,
    valid: Tensor,
    gradient_weight: float = 0.5,
    steps: Sequence[int] = _EDGE_STEPS,
    form: str = "mae",
    average: str = "images",
) -> Tensor:
    """``mean rho(e) + gradient_weight * sum over steps of mean (|dx e| + |dy e|)``, up to scale and shift of `pred`.

    * "mae": ``rho(e) = |e|``, and ``e`` is the difference of the two maps, each normalised per image: its median
      subtracted, divided by the mean absolute distance from it. Any ``a * pred + b`` with a > 0 therefore has the same
      loss; a negative a has not, so a network cannot learn to say near for far. A scalar without unit, and neither
      scale nor shift of the truth matter.
    * "trimmed": as "mae", but the largest fifth of the ``|e|`` of each image counts as 0: for truths with outliers.
    * "mse": ``rho(e) = e^2``, and ``e`` is what a least-squares fit of each image leaves, ``s * pred + t - target``,
      in the unit of `target` (its square, for the values): images of larger values weigh more. Any a but 0 has the same
      loss, a negative one too. The gradient passes through s and t.

    Sources: Ranftl et al. 2020 (MiDaS), equation 4 ("mse"), equations 5 to 7 ("mae", "trimmed") and the gradient
    matching of equation 11 with its weight of 0.5; Yang et al. 2024 (Depth Anything), equations 2 and 3. Deviates: the
    mean of rho is not halved as in MiDaS, so that its proportion of values to edges is ``gradient_weight=1``; and
    differences of 2, 4 and 8 pixels are taken at every pixel instead of on every second, fourth and eighth one, so that
    a mirrored picture has the same loss. The divisor of the edges is the number of valid pixels, as in
    `mde.losses.gradient_loss`.

    The equations divide by the valid pixels of each image, and the training averages images: an image with a lidar's
    points weighs as much as a dense one, which is what a mixture of data sets needs. That is ``average="images"``;
    ``average="pixels"`` divides by the valid pixels of the batch, so that dense images outweigh sparse ones.

    Args:
        pred: (B,1,H,W), disparity or depth up to scale and shift.
        target: (B,1,H,W), the truth in the same space: 1/m for disparity, m for depth.
        valid: bool (B,1,H,W).
        gradient_weight: of the edges.
        steps: distances in pixels of the differences; those that reach over the map do not count.
        form: "mae", "trimmed" or "mse".
        average: over "images", each with a valid pixel the same weight, or over the "pixels" of the batch.

    Raises:
        ConfigError: the three differ in shape, `valid` is not boolean, or the form or the average is unknown.

    >>> target = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    >>> scale_shift_invariant_loss(5 * target + 7, target, target > 0)
    tensor(0.)
    """
    _known(form, _FORMS, "form")
    _known(average, _AVERAGES, "average")
    check_shapes(pred, target, valid)
    error = _fitted_error(pred, target, valid) if form == "mse" else _normalised_error(pred, target, valid)
    weights = _weights(error, valid, average)
    loss = _values(error, valid, weights, form)
    return loss if gradient_weight == 0 else loss + gradient_weight * edge_sum(error * weights, valid, steps)


class ScaleShiftInvariantLoss(DepthLoss):
    """Error up to scale and shift, on disparity or depth, whichever the network gives.

    See `scale_shift_invariant_loss`.

    Args:
        gradient_weight: of the edges; 0 leaves them out.
        steps: distances in pixels of the differences.
        form: "mae", "trimmed" or "mse".
        average: "images" or "pixels".

    Raises:
        ConfigError: the weight is negative or not finite, a step is below 1, or the form or the average is unknown.
    """

    def __init__(
        self,
        gradient_weight: float = 0.5,
        steps: Sequence[int] = _EDGE_STEPS,
        form: str = "mae",
        average: str = "images",
    ) -> None:
        super().__init__()
        if not 0 <= gradient_weight < math.inf or any(step < 1 for step in steps):
            raise ConfigError(
                f"gradient_weight must be at least 0 and steps at least 1, got {gradient_weight} and {tuple(steps)}",
                where="ScaleShiftInvariantLoss",
                next_action="0.5 and (1, 2, 4, 8) are usual",
            )
        self.gradient_weight = float(gradient_weight)
        self.steps = tuple(int(step) for step in steps)
        self.form, self.average = _known(form, _FORMS, "form"), _known(average, _AVERAGES, "average")

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        settings = (self.gradient_weight, self.steps, self.form, self.average)
        return scale_shift_invariant_loss(pred, target, valid, *settings)

    def extra_repr(self) -> str:
        form = f"form={self.form}, average={self.average}"
        return f"gradient_weight={self.gradient_weight:g}, steps={self.steps}, {form}"


def _known(value: str, names: Sequence[str], what: str) -> str:
    if value not in names:
        hint = f"use one of {', '.join(names)}"
        raise ConfigError(f"unknown {what} {value!r}", where="scale_shift_invariant_loss", next_action=hint)
    return value


def _weights(error: Tensor, valid: Tensor, average: str) -> Tensor:
    """What a pixel of each image counts, (B,1,1,1) or (1,1,1,1): over all valid pixels it comes to 1."""
    if average == "pixels":
        return error.new_ones(1, 1, 1, 1) / valid.sum().clamp(min=1)
    count = valid.sum((1, 2, 3), keepdim=True)
    return error.new_ones(()) / (count.clamp(min=1) * (count > 0).sum().clamp(min=1))


def _normalised_error(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    return fill(_normalised(pred, valid) - _normalised(target, valid), valid)


def _fitted_error(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """What is left of each image when a line from prediction to truth is fitted by least squares; 0 elsewhere."""
    (pred, level), (target, _) = (_centred(each, valid) for each in (pred, target))
    covariance, variance = ((pred * each).sum((1, 2, 3), keepdim=True) for each in (target, pred))
    # a constant map has no spread but rounding noise: the best line through it is level
    count = valid.sum((1, 2, 3), keepdim=True)
    usable = variance > count * (16 * torch.finfo(torch.float32).eps * level).square()
    return torch.where(usable, covariance / torch.where(usable, variance, 1), 0) * pred - target


def _centred(values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Values less their mean over each image, 0 elsewhere; and the size of the largest, (B,1,1,1)."""
    values = fill(at_least_float32(values), valid)
    mean = masked_mean_per_image(values, valid)[:, None, None, None]
    return fill(values - mean, valid), values.detach().abs().amax((1, 2, 3), keepdim=True)


def _values(error: Tensor, valid: Tensor, weights: Tensor, form: str) -> Tensor:
    if form == "trimmed":
        return _trimmed_mean(error, valid, weights)
    return masked_sum((error.square() if form == "mse" else error.abs()) * weights, valid)


def _trimmed_mean(error: Tensor, valid: Tensor, weights: Tensor) -> Tensor:
    """Mean of ``|e|`` over the valid pixels, of which the largest fifth of each image counts as 0."""
    ordered = torch.where(valid, error.abs(), math.inf).flatten(1).sort(1).values
    count = valid.flatten(1).sum(1, keepdim=True)
    kept = torch.arange(ordered.shape[1], device=ordered.device) < torch.ceil(count * (1 - _TRIM))
    return masked_sum(ordered * weights.flatten(1), kept)


def _normalised(values: Tensor, valid: Tensor) -> Tensor:
    """(d - median) / mean |d - median| over the valid pixels of each image; 0 elsewhere."""
    values = fill(at_least_float32(values), valid)
    centred = fill(values - _median(values.flatten(1), valid.flatten(1))[:, None, None, None], valid)
    count = valid.sum((1, 2, 3), keepdim=True).clamp(min=1)
    spread = centred.abs().sum((1, 2, 3), keepdim=True) / count
    size = values.detach().abs().amax((1, 2, 3), keepdim=True)
    # a constant map has no spread but rounding noise: it is left as it is, and its gradient stays of the order of 1
    usable = spread > torch.finfo(torch.float32).eps * size
    return centred / torch.where(usable, spread, 1)


def _median(values: Tensor, valid: Tensor) -> Tensor:
    """The lower median of each row, (B,); 0 where nothing is valid."""
    ordered = torch.where(valid, values, math.inf).sort(1).values
    count = valid.sum(1, keepdim=True)
    middle = ordered.gather(1, ((count - 1) // 2).clamp(min=0))
    return torch.where(count > 0, middle, 0)[:, 0]
