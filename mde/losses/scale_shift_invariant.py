"""The loss of networks that predict up to scale and shift: both maps normalised, their values and edges compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mde.errors import ConfigError
from mde.losses.base import DepthLoss, check_shapes
from mde.masking import at_least_float32, fill, masked_mean, masked_sum

__all__ = ["ScaleShiftInvariantLoss", "scale_shift_invariant_loss"]

_EDGE_STEPS = (1, 2, 4, 8)  # the four scales of MiDaS


def scale_shift_invariant_loss(
    pred: Tensor, target: Tensor, valid: Tensor, gradient_weight: float = 0.5, steps: Sequence[int] = _EDGE_STEPS
) -> Tensor:
    """``mean |e| + gradient_weight * sum over steps of mean (|dx e| + |dy e|)``, a scalar without unit.

    ``e`` is the difference of the two maps, each normalised per image: its median subtracted, divided by the mean
    absolute distance from it. Any ``a * pred + b`` with a > 0 therefore has the same loss; a negative a has not, so a
    network cannot learn to say near for far, as it could under a least-squares fit.

    Sources: Ranftl et al. 2020 (MiDaS), equations 5 to 7 and the gradient matching of equation 11 with its weight of
    0.5; Yang et al. 2024 (Depth Anything), equations 2 and 3. Deviates: differences of 2, 4 and 8 pixels are taken at
    every pixel instead of on every second, fourth and eighth one, so that a mirrored picture has the same loss. The
    divisor of the edges is the number of valid pixels, as in `mde.losses.gradient_loss`.

    Args:
        pred: (B,1,H,W), disparity or depth up to scale and shift.
        target: (B,1,H,W), the truth in the same space: 1/m for disparity, m for depth.
        valid: bool (B,1,H,W).
        gradient_weight: of the edges.
        steps: distances in pixels of the differences; those that reach over the map do not count.

    Raises:
        ConfigError: the three differ in shape, or `valid` is not boolean.

    >>> target = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    >>> scale_shift_invariant_loss(5 * target + 7, target, target > 0)
    tensor(0.)
    """
    check_shapes(pred, target, valid)
    error = fill(_normalised(pred, valid) - _normalised(target, valid), valid)
    loss = masked_mean(error.abs(), valid)
    if gradient_weight == 0:
        return loss
    return loss + gradient_weight * _edges(error, valid, steps) / valid.sum().clamp(min=1)


class ScaleShiftInvariantLoss(DepthLoss):
    """Error up to scale and shift, on disparity or depth, whichever the network gives.

    See `scale_shift_invariant_loss`.

    Args:
        gradient_weight: of the edges; 0 leaves them out.
        steps: distances in pixels of the differences.

    Raises:
        ConfigError: the weight is negative or not finite, or a step is below 1.
    """

    def __init__(self, gradient_weight: float = 0.5, steps: Sequence[int] = _EDGE_STEPS) -> None:
        super().__init__()
        if not 0 <= gradient_weight < math.inf or any(step < 1 for step in steps):
            raise ConfigError(
                f"gradient_weight must be at least 0 and steps at least 1, got {gradient_weight} and {tuple(steps)}",
                where="ScaleShiftInvariantLoss",
                next_action="0.5 and (1, 2, 4, 8) are usual",
            )
        self.gradient_weight = float(gradient_weight)
        self.steps = tuple(int(step) for step in steps)

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return scale_shift_invariant_loss(pred, target, valid, self.gradient_weight, self.steps)

    def extra_repr(self) -> str:
        return f"gradient_weight={self.gradient_weight:g}, steps={self.steps}"


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


def _edges(error: Tensor, valid: Tensor, steps: Sequence[int]) -> Tensor:
    """Sum over the steps of all absolute differences whose two ends are valid."""
    total = error.new_zeros(())
    for step in steps:
        across = masked_sum((error[..., step:] - error[..., :-step]).abs(), valid[..., step:] & valid[..., :-step])
        down = masked_sum(
            (error[..., step:, :] - error[..., :-step, :]).abs(), valid[..., step:, :] & valid[..., :-step, :]
        )
        total = total + across + down
    return total
