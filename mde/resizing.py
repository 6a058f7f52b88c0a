"""Resizes with half-pixel centres: of pictures (numbers or bytes), smoothed where they shrink; of ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["axis_by_axis", "bytes_resized", "resize_truth", "resized", "smoothed"]


def resized(images: Tensor, size: Iterable[int]) -> Tensor:
    """Bilinear, smoothed where an axis shrinks; images of that size come back as they are.

    Args:
        images: float (B,C,h,w).
        size: (height, width).

    >>> resized(torch.tensor([[[[0.0, 4.0]]]]), (1, 1))
    tensor([[[[2.]]]])
    """
    height, width = size
    if tuple(images.shape[-2:]) == (height, width):
        return images
    if height < images.shape[-2] or width < images.shape[-1]:
        return smoothed(images, (height, width))
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)


def smoothed(images: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Resize by a kernel that widens as an axis shrinks, as Pillow does.

    Args:
        images: float (B,C,h,w).
        size: (height, width).
        mode: "bilinear", or "bicubic", which overshoots at edges.
    """
    if size[1] == 1:  # torch 2.15 on the CPU gives each row of a map one pixel wide the value of the first
        return axis_by_axis(images, size, mode)
    return F.interpolate(images, size=size, mode=mode, align_corners=False, antialias=True)


def axis_by_axis(
    images: Tensor,
    size: tuple[int, int],
    mode: str = "bilinear",
    after: Callable[[Tensor], Tensor] = lambda values: values,
) -> Tensor:
    """As `smoothed`, the width first and then the height; right for every size without asking for it.

    Args:
        images: float (B,C,h,w).
        size: (height, width).
        mode: see `smoothed`.
        after: what is done to the values after each axis.
    """
    across = after(_across(images, size[1], mode))
    return after(_across(across.mT.contiguous(), size[0], mode)).mT.contiguous()


def bytes_resized(images: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """As `smoothed` with the values rounded to bytes after each axis, as Pillow and torchvision resize photographs.

    On the CPU by torch's own kernel for bytes, whose weights have 16 bits; some values differ by one from those that
    exact weights round to, which an accelerator and a graph that is being exported get.

    Args:
        images: uint8 (B,C,h,w).
        size: (height, width).
        mode: see `smoothed`.

    Returns:
        uint8 (B,C,height,width).
    """
    # torch 2.15 fails on maps of one pixel
    if images.device.type == "cpu" and max(size) > 1 and not torch.compiler.is_compiling():
        return F.interpolate(images, size=size, mode=mode, align_corners=False, antialias=True)
    return axis_by_axis(images.float(), size, mode, _rounded).to(torch.uint8)


def resize_truth(depth: Tensor, valid: Tensor, size: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Bring ground truth to another size by nearest neighbour: a bilinear resize would mix zeros and edges in.

    Args:
        depth: (B,1,h,w), metres.
        valid: bool (B,1,h,w).
        size: (height, width).
    """
    size = tuple(size)
    if depth.shape[-2:] == size:
        return depth, valid
    small = F.interpolate(torch.cat((depth, valid.to(depth.dtype)), 1), size=size, mode="nearest-exact")
    return small[:, :1], small[:, 1:] > 0.5


def _rounded(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0, 255)


def _across(images: Tensor, width: int, mode: str) -> Tensor:
    size = (images.shape[-2], width)
    return F.interpolate(images, size=size, mode=mode, align_corners=False, antialias=True)
