"""The scale-invariant logarithmic loss, in its three public definitions."""

from __future__ import annotations

import math

from torch import Tensor

from mde.errors import ConfigError
from mde.losses.base import DepthLoss, log_ratio, safe_sqrt
from mde.losses.maps import Space
from mde.masking import fill, masked_mean_per_image

__all__ = ["SILogLoss", "silog_loss"]

_POOLINGS = ("batch", "image")


def silog_loss(
    pred: Tensor,
    target: Tensor,
    valid: Tensor,
    lambda_: float = 0.85,
    scale: float = 10.0,
    root: bool = True,
    *,
    pooling: str = "batch",
    unbiased: bool = False,
) -> Tensor:
    """``scale * sqrt(mean g^2 - lambda (mean g)^2)`` with ``g = ln pred - ln target``; a scalar without unit.

    It is computed as ``var g + (1 - lambda) (mean g)^2``, which cannot fall below 0 by rounding. With `lambda_` 1 a
    factor on the prediction changes nothing, with 0 it is the squared (or root mean squared) error of the logarithm.
    The root has a gradient of 0 where its argument is 0.

    What each public definition writes, and how it is written here:

    * Eigen et al. 2014, equation 4, of one image each: ``lambda_=0.5, scale=1, root=False, pooling="image"``.
    * BTS (Lee et al. 2019, section 3.4), over all valid pixels of the batch: the defaults, 0.85, 10 and a root.
    * AdaBins (Bhat et al. 2021, equation 4, as coded) and ZoeDepth: ``10 sqrt(var g + 0.15 (mean g)^2)`` with the
      unbiased variance, over the batch: ``unbiased=True``; against BTS the variance is n / (n - 1) times as large.
    * Depth Anything V2's metric fine-tuning: ``lambda_=0.5, scale=1``, over the batch.

    Over a batch, the mean of g is that of all its images: an offset that one image has alone is then no offset.

    Args:
        pred: (B,1,H,W), metres, above 0 where valid.
        target: (B,1,H,W), metres, above 0 where valid.
        valid: bool (B,1,H,W).
        lambda_: share of the mean that is taken off, 0 to 1.
        scale: factor of the whole.
        root: take the root.
        pooling: "batch" takes the means over the valid pixels of the batch; "image" over those of each image, and then
            the mean of the images, weighted by their valid pixels.
        unbiased: divide the variance by n - 1.

    Raises:
        ConfigError: the three differ in shape, or `valid` is not boolean.

    >>> import torch
    >>> target = torch.tensor([[[[1.0, 2.0, 4.0]]]])
    >>> silog_loss(3 * target, target, target > 0, lambda_=1.0)
    tensor(0.)
    """
    ratio = log_ratio(pred, target, valid)
    ratio, valid = (ratio, valid) if pooling == "image" else (ratio.flatten()[None], valid.flatten()[None])
    ratio, valid = ratio.flatten(1), valid.flatten(1)
    count = valid.sum(1)
    mean = masked_mean_per_image(ratio, valid)
    variance = masked_mean_per_image(fill(ratio - mean[:, None], valid).square(), valid)
    if unbiased:
        variance = variance * count / (count - 1).clamp(min=1)
    value = variance + (1 - lambda_) * mean.square()
    value = safe_sqrt(value) if root else value
    return scale * (value * count).sum() / count.sum().clamp(min=1)


class SILogLoss(DepthLoss):
    """Scale-invariant logarithmic error; works on metres, which every codec's decoding keeps above 0.

    See `silog_loss`, which says how each public definition is set.

    Args:
        lambda_: share of the mean that is taken off, 0 to 1.
        scale: factor of the whole.
        root: take the root.
        pooling: "batch" or "image".
        unbiased: divide the variance by n - 1.

    Raises:
        ConfigError: a setting is out of range.
    """

    space = Space.METRES

    def __init__(
        self,
        lambda_: float = 0.85,
        scale: float = 10.0,
        root: bool = True,
        pooling: str = "batch",
        unbiased: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= lambda_ <= 1 or not 0 < scale < math.inf:
            what = f"lambda_ must be from 0 to 1 and scale above 0, got {lambda_} and {scale}"
            raise ConfigError(what, where="SILogLoss", next_action="0.85 and 10 are usual, 0.5 and 1 Eigen's")
        if pooling not in _POOLINGS:
            hint = f"use one of {', '.join(_POOLINGS)}"
            raise ConfigError(f"unknown pooling {pooling!r}", where="SILogLoss.pooling", next_action=hint)
        self.lambda_, self.scale, self.root = float(lambda_), float(scale), root
        self.pooling, self.unbiased = pooling, unbiased

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        settings = (self.lambda_, self.scale, self.root)
        return silog_loss(pred, target, valid, *settings, pooling=self.pooling, unbiased=self.unbiased)

    def extra_repr(self) -> str:
        form = f"lambda_={self.lambda_:g}, scale={self.scale:g}, root={self.root}"
        return f"{form}, pooling={self.pooling}, unbiased={self.unbiased}"
