"""The loss between two pictures of one place: how well a picture, warped by a predicted disparity, matches another.

It keeps the contract of `DepthLoss`, and can be a method's `loss` where the network space lies in [0, 1]; what it is
made for are colours.
"""

from __future__ import annotations

from torch import Tensor

from mde.errors import ConfigError
from mde.losses.base import DepthLoss
from mde.losses.pixel import l1_loss
from mde.losses.ssim import ssim_loss

__all__ = ["PhotometricLoss", "photometric_loss"]

_WINDOW = 3  # pixels; Godard et al. 2017, section 3.3: a box filter instead of a Gaussian


def photometric_loss(pred: Tensor, target: Tensor, valid: Tensor, *, ssim: float = 0.85) -> Tensor:
    """``ssim * (1 - SSIM) / 2 + (1 - ssim) * |pred - target|``, each a mean; a scalar in [0, 1].

    SSIM has a box window of 3x3 that stays inside the picture and counts where it touches no invalid pixel.

    Source: Godard, Mac Aodha and Brostow, "Unsupervised Monocular Depth Estimation with Left-Right Consistency", CVPR
    2017, equation 2.

    Args:
        pred: (B,C,H,W), a picture with values in [0,1].
        target: (B,C,H,W), likewise.
        valid: bool (B,1,H,W) or (B,C,H,W), the pixels that both show.
        ssim: weight of the structural part, the paper's alpha, in [0, 1].

    Raises:
        ConfigError: the shapes do not fit, `valid` is not boolean, or the pictures are smaller than 3x3.

    >>> import torch
    >>> picture = torch.rand(1, 3, 8, 8)
    >>> seen = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    >>> round(float(photometric_loss(picture, picture, seen)), 6)
    0.0
    """
    if valid.shape == target[:, :1].shape:
        valid = valid.expand_as(target)
    structure = ssim_loss(pred, target, valid, data_range=1.0, window=_WINDOW, window_type="box")
    return ssim * structure + (1 - ssim) * l1_loss(pred, target, valid)


class PhotometricLoss(DepthLoss):
    """How much a warped picture differs from another, values in [0, 1]. See `photometric_loss`.

    Args:
        ssim: weight of the structural part, in [0, 1].

    Raises:
        ConfigError: the weight is out of range.
    """

    def __init__(self, ssim: float = 0.85) -> None:
        super().__init__()
        if not 0 <= ssim <= 1:
            raise ConfigError(f"ssim must lie in [0, 1], got {ssim}", where="PhotometricLoss", next_action="use 0.85")
        self.ssim = float(ssim)

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return photometric_loss(pred, target, valid, ssim=self.ssim)

    def extra_repr(self) -> str:
        return f"ssim={self.ssim:g}"
