"""Edge-aware smoothness: a prediction may change where its picture does.

A prior and no comparison with a truth: it takes a prediction and a picture, and no mask.
"""

from __future__ import annotations

from torch import Tensor, nn

from mde.errors import ConfigError
from mde.masking import at_least_float32
from mde.rebuild import Rebuildable

__all__ = ["SmoothnessLoss", "smoothness_loss"]


def smoothness_loss(disparity: Tensor, image: Tensor, *, edges: float = 1.0) -> Tensor:
    """``mean |dx d| exp(-edges |dx I|) + mean |dy d| exp(-edges |dy I|)``; a scalar in the unit of `disparity`.

    ``|dx I|`` is the mean over the colours; computed by kornia. The differences are those between neighbouring pixels.

    Source: Godard, Mac Aodha and Brostow, "Unsupervised Monocular Depth Estimation with Left-Right Consistency", CVPR
    2017, equation 3.

    Args:
        disparity: (B,1,H,W), any unit, finite.
        image: (B,3,H,W), values in [0,1]; the picture that the disparity belongs to.
        edges: how much an edge of the picture excuses one of the disparity; 1 is the paper.

    Raises:
        ConfigError: the shapes do not fit.

    >>> import torch
    >>> step = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 1, 2, 4)
    >>> grey = torch.full((1, 3, 2, 4), 0.5)
    >>> [round(float(smoothness_loss(step, image)), 3) for image in (grey, step.expand(1, 3, 2, 4))]
    [0.333, 0.123]
    """
    fits = disparity.ndim == image.ndim == 4 and disparity.shape[1] == 1 and disparity.shape[0] == image.shape[0]
    if not fits or disparity.shape[-2:] != image.shape[-2:]:
        what = f"needs (B,1,H,W) and a picture (B,3,H,W), got {tuple(disparity.shape)} and {tuple(image.shape)}"
        hint = "give the disparity first, and both at one size"
        raise ConfigError(what, where="smoothness_loss", next_action=hint)
    # its package costs seconds to import
    from kornia.losses import inverse_depth_smoothness_loss

    disparity = at_least_float32(disparity)
    loss: Tensor = inverse_depth_smoothness_loss(disparity, edges * image.to(disparity.dtype))
    return loss


class SmoothnessLoss(Rebuildable, nn.Module):
    """Smoothness of a disparity except at the edges of its picture. See `smoothness_loss`.

    Args:
        edges: how much an edge of the picture excuses one of the disparity; 1 is Godard et al.

    Raises:
        ConfigError: `edges` is negative.
    """

    def __init__(self, edges: float = 1.0) -> None:
        super().__init__()
        if edges < 0:
            raise ConfigError(f"edges must be at least 0, got {edges}", where="SmoothnessLoss", next_action="use 1")
        self.edges = float(edges)

    def forward(self, disparity: Tensor, image: Tensor) -> Tensor:
        return smoothness_loss(disparity, image, edges=self.edges)

    def extra_repr(self) -> str:
        return f"edges={self.edges:g}"
