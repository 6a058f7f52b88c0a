"""Cross-entropy against labels that spread over the neighbouring bins: a near miss costs less than a far one."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from mde.codecs import Discretized
from mde.errors import ConfigError
from mde.losses.banded import BandedLoss, banded_mean
from mde.losses.cross_entropy import without_offset

__all__ = ["SoftBinCrossEntropy", "soft_bin_cross_entropy", "soft_labels"]


def soft_labels(bins: int, width: float) -> Tensor:
    """The label of each true class as a distribution over classes: ``exp(-(i - j)^2 / (2 width^2))``, normalised.

    Source: Diaz and Marathe 2019, "Soft Labels for Ordinal Regression", equation 2, with the squared distance of the
    class numbers as phi. Bins of equal relative width make that the squared distance of the logarithms, their choice
    for depth (section 4.2), and with ``2 width^2 = 1 / alpha`` the information gain of Cao et al. 2017 ("Estimating
    Depth from Monocular Images as Classification", equation 3), which they leave without the normalisation.

    Args:
        bins: number of classes K.
        width: standard deviation in bins, above 0.

    Returns:
        float32 (K,K), a row per true class, each with the sum 1.

    >>> soft_labels(3, 0.01)
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    place = torch.arange(bins, dtype=torch.float64) / width
    return (-0.5 * (place[:, None] - place).square()).softmax(1).float()


def soft_bin_cross_entropy(
    logits: Tensor, target: Tensor, valid: Tensor, labels: Tensor, align_corners: bool = False
) -> Tensor:
    """Mean of ``-sum_k labels[target, k] ln p(k)`` over valid pixels, with the logits enlarged to the truth's size.

    Its least value is the mean entropy of the labels and not 0. Like `mde.losses.class_cross_entropy`, which it equals
    where `labels` is the unit matrix, it never holds full-resolution maps of all classes.

    Args:
        logits: (B,K,h,w).
        target: int64 (B,1,H,W), class of each pixel, 0 to K-1 where valid.
        valid: bool (B,1,H,W).
        labels: (K,K), a distribution for each true class, such as `soft_labels`; a constant.
        align_corners: as of ``torch.nn.functional.interpolate``.

    Returns:
        Scalar in nats, float32 (float64 for float64 logits); 0 where nothing is valid.

    Raises:
        ConfigError: the shapes do not fit, or a class is out of range.
    """
    if labels.shape != (logits.shape[1], logits.shape[1]):
        what = f"{logits.shape[1]} logits need labels {(logits.shape[1],) * 2}, got {tuple(labels.shape)}"
        raise ConfigError(what, where="soft_bin_cross_entropy", next_action="use mde.losses.soft_labels")
    logits, steep = without_offset(logits)
    step = partial(_soft_loss_, labels=labels.detach().to(logits), steep=steep)
    return banded_mean(logits, target, valid, step, align_corners)


class SoftBinCrossEntropy(BandedLoss):
    """Cross-entropy with soft neighbouring bins; works on logits and the classes of `mde.codecs.Discretized`.

    See `soft_labels` and `soft_bin_cross_entropy`.

    Args:
        width: standard deviation of the labels in bins.
        align_corners: as of ``torch.nn.functional.interpolate``.

    Raises:
        ConfigError: the width is not above 0.
    """

    codec_type = Discretized

    def __init__(self, width: float = 1.0, align_corners: bool = False) -> None:
        super().__init__(align_corners)
        if not 0 < width < math.inf:
            hint = "1 is usual; for one class a pixel use mde.losses.ClassCrossEntropy"
            raise ConfigError(f"must be above 0, got {width}", where="SoftBinCrossEntropy.width", next_action=hint)
        self.width = float(width)

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Logits (B,K,h,w) against classes int64 (B,1,H,W), which may be larger."""
        return soft_bin_cross_entropy(pred, target, valid, soft_labels(pred.shape[1], self.width), self.align_corners)

    def extra_repr(self) -> str:
        return f"width={self.width:g}, align_corners={self.align_corners}"


def _soft_loss_(logits: Tensor, target: Tensor, valid: Tensor, labels: Tensor, steep: bool) -> Tensor:
    """Sum of the loss over the valid pixels of a band (R,W,K), whose logits are overwritten with the gradient."""
    if steep:
        logits -= logits.amax(-1, keepdim=True)
    wanted = labels[torch.where(valid, target, target.new_zeros(()))]
    expected = (wanted * logits).sum(-1)
    sums = logits.exp_().sum(-1)
    losses = torch.where(valid, sums.log() - expected, expected.new_zeros(()))
    logits *= (valid / sums)[..., None]
    logits -= wanted.mul_(valid[..., None])
    return losses.sum()
