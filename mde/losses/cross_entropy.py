"""Cross-entropy over depth classes at full resolution, in bands of rows (`mde.losses.banded`)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mde.codecs import Discretized
from mde.losses.banded import BandedLoss, banded_mean
from mde.masking import at_least_float32

__all__ = ["ClassCrossEntropy", "class_cross_entropy"]


def class_cross_entropy(logits: Tensor, target: Tensor, valid: Tensor, align_corners: bool = False) -> Tensor:
    """Mean of -ln p(target) over valid pixels, with the logits enlarged bilinearly to the size of the truth.

    Args:
        logits: (B,K,h,w).
        target: int64 (B,1,H,W), class of each pixel, 0 to K-1 where valid.
        valid: bool (B,1,H,W).
        align_corners: as of ``torch.nn.functional.interpolate``.

    Returns:
        Scalar, float32 (float64 for float64 logits); 0 where nothing is valid.

    Raises:
        ConfigError: the shapes do not fit, or a class is out of range.
    """
    logits, steep = without_offset(logits)
    return banded_mean(logits, target, valid, partial(_softmax_loss_, steep=steep), align_corners)


class ClassCrossEntropy(BandedLoss):
    """`class_cross_entropy`; works on logits and the classes of `mde.codecs.Discretized`.

    Args:
        align_corners: as of ``torch.nn.functional.interpolate``; both are in use, False is the library's convention.
    """

    codec_type = Discretized

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Logits (B,K,h,w) against classes int64 (B,1,H,W), which may be larger."""
        return class_cross_entropy(pred, target, valid, self.align_corners)


def without_offset(logits: Tensor) -> tuple[Tensor, bool]:
    """Logits of a softmax less their maximum over the classes, and whether interpolation can make all of them small.

    Softmax knows no offset; without it nothing overflows, and interpolated logits stay at most 0.

    Args:
        logits: (B,K,h,w), any float; the result is at least float32.
    """
    logits = at_least_float32(logits)
    logits = logits - logits.detach().amax(1, keepdim=True)
    # a pixel takes at least a quarter from its nearest cell, whose best class is at 0: all is well above e^-87
    return logits, not bool(logits.detach().amin() >= -100)


def _softmax_loss_(logits: Tensor, target: Tensor, valid: Tensor, steep: bool) -> Tensor:
    """Sum of the loss over the valid pixels of a band (R,W,K), whose logits are overwritten with the gradient."""
    if steep:
        logits -= logits.amax(-1, keepdim=True)
    index = torch.where(valid, target, target.new_zeros(()))[..., None]
    chosen = logits.gather(-1, index)[..., 0]
    sums = logits.exp_().sum(-1)
    losses = torch.where(valid, sums.log() - chosen, chosen.new_zeros(()))
    logits *= (valid / sums)[..., None]
    logits.scatter_add_(-1, index, -valid[..., None].to(logits.dtype))
    return losses.sum()
