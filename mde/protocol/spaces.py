"""How predictions are mixed with their neighbours and with one another: by which rule, and in which space."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.nn import functional as F

from mde.types import Ambiguity

__all__ = ["RESIZES", "SPACES", "resize", "turned"]

RESIZES: dict[str, str] = {
    "bilinear": "half-pixel centres: OpenCV, PIL, torch's default (monodepth2, Marigold)",
    "bilinear_corners": "the corners of both maps lie on each other: torch's align_corners=True (ZoeDepth, DA V2)",
    "bicubic": "half-pixel centres, a = -0.75 (Depth Anything in transformers)",
    "nearest": "the nearest pixel, half-pixel centres",
}

SPACES: dict[str, str] = {
    "given": "as the network gives its numbers",
    "disparity": "a depth is mixed as 1/depth (monodepth, monodepth2)",
}

_NEAREST = 1e-6  # m: no prediction is nearer, so that a disparity stays finite


def resize(maps: Tensor, size: Iterable[int], how: str = "bilinear") -> Tensor:
    """Bring maps to another size without smoothing; maps of that size come back as they are.

    Args:
        maps: (B,C,h,w), any unit.
        size: (height, width).
        how: key of `RESIZES`.

    >>> import torch
    >>> resize(torch.tensor([[[[0.0, 3.0]]]]), (1, 4), "bilinear_corners")
    tensor([[[[0., 1., 2., 3.]]]])
    """
    size = tuple(size)
    if tuple(maps.shape[-2:]) == size:
        return maps
    if how == "nearest":
        return F.interpolate(maps, size=size, mode="nearest-exact")
    mode = "bicubic" if how == "bicubic" else "bilinear"
    return F.interpolate(maps, size=size, mode=mode, align_corners=how == "bilinear_corners")


def turned(maps: Tensor, space: str, ambiguity: Ambiguity) -> Tensor:
    """Into the space where maps are mixed, and by the same call out of it again.

    Args:
        maps: (B,1,h,w), in the unit of `ambiguity`, or in `space`.
        space: key of `SPACES`.
        ambiguity: what the numbers mean outside of `space`; a disparity is one already.

    >>> import torch
    >>> turned(turned(torch.tensor([4.0]), "disparity", Ambiguity.METRIC), "disparity", Ambiguity.METRIC)
    tensor([4.])
    """
    if space == "given" or ambiguity is Ambiguity.AFFINE_DISPARITY:
        return maps
    return maps.clamp(_NEAREST, 1 / _NEAREST).reciprocal()
