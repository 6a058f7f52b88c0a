"""The loss on depth edges: forward differences of the prediction against those of the truth."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mde.losses.base import DepthLoss, residual
from mde.masking import masked_sum

__all__ = ["GradientLoss", "edge_sum", "gradient_loss"]


def gradient_loss(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid pixels of ``|dx e| + |dy e|`` with ``e = pred - target``; a scalar in the unit of `pred`.

    ``dx e`` is the forward difference ``e[.., j+1] - e[.., j]``, and 0 in the last column; ``dy e`` likewise in the
    last row. Where the right (or lower) neighbour is invalid the difference is 0 too: the edge of the mask is an edge
    of the image. The divisor is the number of valid pixels. Hence a fully valid map gives the formula of DenseDepth,
    the mean over *all* pixels with the zeros of the last row and column counted, and a valid rectangle gives the loss
    of the picture cropped to it.

    Differences are linear, so that those of the error equal the error of the differences, in half the work.

    Source: Alhashim and Wonka 2018 (DenseDepth), equation 3, whose Keras code has the last row and column at zero
    (`tf.image.image_gradients`).

    Args:
        pred: (B,1,H,W), any space.
        target: (B,1,H,W), the space of `pred`.
        valid: bool (B,1,H,W).

    Raises:
        ConfigError: the three differ in shape, or `valid` is not boolean.

    >>> import torch
    >>> pred = torch.tensor([[[[0.0, 1.0, 1.0, 4.0]]]])
    >>> gradient_loss(pred, torch.zeros_like(pred), torch.ones_like(pred, dtype=torch.bool))  # (1 + 0 + 3 + 0) / 4
    tensor(1.)
    """
    error = residual(pred, target, valid)
    return edge_sum(error, valid) / valid.sum().clamp(min=1)


def edge_sum(error: Tensor, valid: Tensor, steps: Sequence[int] = (1,)) -> Tensor:
    """Sum over the steps of all absolute differences, across and down, whose two ends are valid; a scalar.

    Args:
        error: (B,1,H,W), finite outside the mask too.
        valid: bool (B,1,H,W).
        steps: distances in pixels; those that reach over the map do not count.
    """
    total = error.new_zeros(())
    for step in steps:
        across = masked_sum((error[..., step:] - error[..., :-step]).abs(), valid[..., step:] & valid[..., :-step])
        down = masked_sum(
            (error[..., step:, :] - error[..., :-step, :]).abs(), valid[..., step:, :] & valid[..., :-step, :]
        )
        total = total + across + down
    return total


class GradientLoss(DepthLoss):
    """Mean absolute difference of spatial gradients, in the space of `pred` and `target`. See `gradient_loss`."""

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return gradient_loss(pred, target, valid)
