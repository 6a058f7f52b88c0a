"""Gradient matching: the edges of the logarithm of depth, over several distances."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mde.errors import ConfigError
from mde.losses.base import DepthLoss, log_ratio
from mde.losses.gradient import edge_sum
from mde.losses.maps import Space

__all__ = ["GradientMatchingLoss", "gradient_matching_loss"]

_STEPS = (1, 2, 4, 8)


def gradient_matching_loss(pred: Tensor, target: Tensor, valid: Tensor, steps: Sequence[int] = _STEPS) -> Tensor:
    """Sum over the steps of ``mean (|dx g| + |dy g|)`` with ``g = ln pred - ln target``; a scalar without unit.

    ``dx g`` is the difference of two pixels that lie `step` columns apart, and counts where both are valid; the divisor
    is the number of valid pixels. A factor on the prediction changes nothing, so this goes beside a loss that fixes it.

    Source: Li and Snavely 2018, "MegaDepth", section 4.3, equation 4, with four scales. Deviates: differences of 2, 4
    and 8 pixels are taken at every pixel, not on a picture thinned to every second, fourth and eighth one, as in
    `mde.losses.scale_shift_invariant_loss`, which has the same term up to scale and shift.

    Args:
        pred: (B,1,H,W), metres, above 0 where valid.
        target: (B,1,H,W), metres, above 0 where valid.
        valid: bool (B,1,H,W).
        steps: distances in pixels; those that reach over the map do not count.

    Raises:
        ConfigError: the three differ in shape, or `valid` is not boolean.

    >>> import torch
    >>> target = torch.tensor([[[[1.0, 1.0, 1.0]]]])
    >>> pred = torch.tensor([[[[1.0, 1.0, 2.0]]]])  # steps 1 and 2 each see ln 2 once
    >>> gradient_matching_loss(pred, target, target > 0)  # 2 ln 2 / 3
    tensor(0.4621)
    """
    ratio = log_ratio(pred, target, valid)
    return edge_sum(ratio, valid, steps) / valid.sum().clamp(min=1)


class GradientMatchingLoss(DepthLoss):
    """Error of the edges of log depth at several distances; works on metres. See `gradient_matching_loss`.

    Args:
        steps: distances in pixels of the differences.

    Raises:
        ConfigError: there is no step, or one is below 1.
    """

    space = Space.METRES

    def __init__(self, steps: Sequence[int] = _STEPS) -> None:
        super().__init__()
        if not steps or min(steps) < 1:
            what = f"needs steps of at least 1, got {tuple(steps)}"
            raise ConfigError(what, where="GradientMatchingLoss", next_action="(1, 2, 4, 8) is usual")
        self.steps = tuple(int(step) for step in steps)

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return gradient_matching_loss(pred, target, valid, self.steps)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"
