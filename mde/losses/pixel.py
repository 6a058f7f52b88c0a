"""Losses that compare pixel by pixel."""

from __future__ import annotations

from torch import Tensor

from mde.losses.base import DepthLoss, residual, safe_sqrt
from mde.masking import masked_mean

__all__ = ["L1Loss", "MSELoss", "RMSELoss", "l1_loss", "mse_loss", "rmse_loss"]


def l1_loss(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``|pred - target|`` over the valid pixels of the batch; a scalar in the unit of `pred`.

    Args:
        pred: (B,1,H,W), any space.
        target: (B,1,H,W), the space of `pred`.
        valid: bool (B,1,H,W).

    Raises:
        ConfigError: the three differ in shape, or `valid` is not boolean.

    >>> import torch
    >>> pred, target = torch.tensor([[[[1.0, 5.0]]]]), torch.tensor([[[[3.0, float("nan")]]]])
    >>> l1_loss(pred, target, target.isfinite())
    tensor(2.)
    """
    return masked_mean(residual(pred, target, valid).abs(), valid)


def mse_loss(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``(pred - target)**2`` over the valid pixels of the batch; a scalar in the squared unit of `pred`.

    Args:
        pred: (B,1,H,W), any space.
        target: (B,1,H,W), the space of `pred`.
        valid: bool (B,1,H,W).

    Raises:
        ConfigError: the three differ in shape, or `valid` is not boolean.

    >>> import torch
    >>> mse_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]]]), torch.ones(1, 1, 1, 2, dtype=torch.bool))
    tensor(5.)
    """
    return masked_mean(residual(pred, target, valid).square(), valid)


def rmse_loss(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Root of `mse_loss` over all valid pixels of the batch together (paper 1); a scalar in the unit of `pred`.

    The root is taken once for the batch, so this is no mean over images. The gradient of a perfect prediction is 0.

    >>> import torch
    >>> rmse_loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 7.0]]]]), torch.ones(1, 1, 1, 2, dtype=torch.bool))
    tensor(5.)
    """
    return safe_sqrt(mse_loss(pred, target, valid))


class L1Loss(DepthLoss):
    """Mean absolute error, in whichever space `pred` and `target` are. See `l1_loss`."""

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return l1_loss(pred, target, valid)


class MSELoss(DepthLoss):
    """Mean squared error, in whichever space `pred` and `target` are. See `mse_loss`."""

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return mse_loss(pred, target, valid)


class RMSELoss(DepthLoss):
    """Root mean squared error of the whole batch, in whichever space `pred` and `target` are. See `rmse_loss`."""

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return rmse_loss(pred, target, valid)
