"""The reverse Huber loss: absolute for small errors, squared for large ones."""

from __future__ import annotations

import torch
from torch import Tensor

from mde.errors import ConfigError
from mde.losses.base import DepthLoss, residual
from mde.masking import masked_mean

__all__ = ["BerHuLoss", "berhu_loss"]


def berhu_loss(pred: Tensor, target: Tensor, valid: Tensor, fraction: float = 0.2) -> Tensor:
    """Mean of ``|e|`` where ``|e| <= c``, else ``(e^2 + c^2) / 2c``, with ``c = fraction * max |e|``.

    A scalar in the unit of `pred`. The two branches meet at c in value and slope. c is one number for the batch, from
    its valid pixels, and a constant for the gradient: no gradient passes through the largest error.

    Source: Laina et al. 2016, "Deeper Depth Prediction with Fully Convolutional Residual Networks", section 3.2,
    equation 1, on metres there.

    Args:
        pred: (B,1,H,W), any space.
        target: (B,1,H,W), the space of `pred`.
        valid: bool (B,1,H,W).
        fraction: of the largest error, 0 to 1.

    Raises:
        ConfigError: the three differ in shape, or `valid` is not boolean.

    >>> pred = torch.tensor([[[[0.1, 1.0]]]])  # c = 0.2: 0.1, and (1 + 0.04) / 0.4 = 2.6
    >>> berhu_loss(pred, torch.zeros_like(pred), torch.ones_like(pred, dtype=torch.bool))
    tensor(1.3500)
    """
    error = residual(pred, target, valid).abs()
    limit = fraction * error.detach().amax()
    limit = torch.where(limit > 0, limit, 1)  # no error at all: all are on the branch of |e|
    # e (e / c) and not e^2 / c, which overflows first
    return masked_mean(torch.where(error <= limit, error, 0.5 * (error * (error / limit) + limit)), valid)


class BerHuLoss(DepthLoss):
    """Reverse Huber loss, in whichever space `pred` and `target` are. See `berhu_loss`.

    Args:
        fraction: where the squared branch begins, as a part of the largest error of the batch, above 0, at most 1.

    Raises:
        ConfigError: the fraction is out of range.
    """

    def __init__(self, fraction: float = 0.2) -> None:
        super().__init__()
        if not 0 < fraction <= 1:
            hint = "0.2 is the paper's; 1 is mde.losses.L1Loss"
            raise ConfigError(f"must be above 0 and at most 1, got {fraction}", where="fraction", next_action=hint)
        self.fraction = float(fraction)

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return berhu_loss(pred, target, valid, self.fraction)

    def extra_repr(self) -> str:
        return f"fraction={self.fraction:g}"
