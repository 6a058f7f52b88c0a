"""The ordinal loss of DORN at full resolution, in bands of rows (`mde.losses.banded`)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from mde.codecs import Ordinal
from mde.losses.banded import BandedLoss, banded_mean
from mde.losses.maps import LossMaps

__all__ = ["OrdinalLoss", "ordinal_loss"]


def ordinal_loss(margins: Tensor, target: Tensor, valid: Tensor, align_corners: bool = False) -> Tensor:
    """Mean over valid pixels of ``-sum_{k < l} ln P_k - sum_{k >= l} ln(1 - P_k)``, with l the class of the pixel.

    H. Fu et al., "Deep Ordinal Regression Network", CVPR 2018, equations 2 and 3. P_k is the sigmoid of the margins,
    which are enlarged bilinearly to the size of the truth first. A loss of K questions: at P_k = 1/2 it is K ln 2.

    Args:
        margins: (B,K,h,w), logits of "beyond bin k": `mde.codecs.Ordinal.margins`.
        target: int64 (B,1,H,W), class of each pixel, 0 to K-1 where valid.
        valid: bool (B,1,H,W).
        align_corners: as of ``torch.nn.functional.interpolate``.

    Returns:
        Scalar in nats, float32 (float64 for float64 margins); 0 where nothing is valid.

    Raises:
        ConfigError: the shapes do not fit, or a class is out of range.
    """
    return banded_mean(margins, target, valid, _ordinal_loss_, align_corners)


class OrdinalLoss(BandedLoss):
    """`ordinal_loss`; works on the logits and classes of `mde.codecs.Ordinal`.

    Pairs of logits become their differences before they are enlarged, which is the same and half the work.

    Args:
        align_corners: as of ``torch.nn.functional.interpolate``.
    """

    codec_type = Ordinal

    def of(self, maps: LossMaps) -> Tensor:
        self.check(maps.codec)
        raw, target, valid = maps.of(self.space)
        return self(cast(Ordinal, maps.codec).margins(raw), target, valid)

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Margins (B,K,h,w) against classes int64 (B,1,H,W), which may be larger."""
        return ordinal_loss(pred, target, valid, self.align_corners)


def _ordinal_loss_(margins: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Sum of the loss over the valid pixels of a band (R,W,K), whose margins are overwritten with the gradient."""
    passed = torch.arange(margins.shape[-1], device=margins.device) < target[..., None]
    passed = passed.to(margins.dtype)
    # -ln P = softplus(-m) = softplus(m) - m
    losses = (F.softplus(margins) - margins * passed).sum(-1)
    margins.sigmoid_().sub_(passed).mul_(valid[..., None])
    return torch.where(valid, losses, losses.new_zeros(())).sum()
