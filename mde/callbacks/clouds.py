"""Point clouds of the depth maps of a batch."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from mde.geometry import unproject
from mde.inference.outputs.clouds import Cloud

__all__ = ["depth_cloud"]


def depth_cloud(image: Tensor, depth: Tensor, known: Tensor, intrinsics: Tensor, points: int) -> Cloud:
    """The points of a depth map, at most so many, evenly spread over the pixels that are known.

    Args:
        image: (3,H,W), RGB in [0,1].
        depth: (1,h,w), metres, z-depth.
        known: bool (1,h,w).
        intrinsics: (3,3), pixels of `depth`.
        points: how many at most.

    Raises:
        ConfigError: the camera is unknown.
    """
    places = unproject(depth[None].float(), intrinsics[None].float())[0].flatten(1).T
    colours = F.interpolate(image[None].float(), size=depth.shape[-2:], mode="bilinear", align_corners=False)
    chosen = known.flatten().nonzero()[:, 0]
    if len(chosen) > points:
        chosen = chosen[np.linspace(0, len(chosen) - 1, points).round().astype(np.int64)]
    rgb = (colours[0].clamp(0, 1) * 255).round().flatten(1).T[chosen]
    return Cloud(places[chosen].cpu().numpy(), rgb.cpu().numpy().astype(np.uint8))
