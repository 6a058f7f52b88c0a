"""Point clouds of depth maps, for viewers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mde.geometry import unproject

__all__ = ["Cloud", "depth_cloud", "write_ply"]


class Cloud(NamedTuple):
    """Coloured points.

    Attributes:
        points: float32 (N,3), metres; x right, y up, z towards the viewer: the camera looks along -z, as viewers do.
        colours: uint8 (N,3), RGB.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8]


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
    camera_to_viewer = np.array([1, -1, -1], dtype=np.float32)
    rgb = (colours[0].clamp(0, 1) * 255).round().flatten(1).T[chosen]
    return Cloud(places[chosen].cpu().numpy() * camera_to_viewer, rgb.cpu().numpy().astype(np.uint8))


def write_ply(path: Path, cloud: Cloud) -> None:
    """Write a binary PLY file (x, y, z as float32, red, green, blue as bytes), which every viewer opens."""
    row: Any = [(name, "<f4") for name in ("x", "y", "z")] + [(name, "u1") for name in ("red", "green", "blue")]
    rows = np.empty(len(cloud.points), dtype=row)
    for number, name in enumerate(("x", "y", "z")):
        rows[name] = cloud.points[:, number]
    for number, name in enumerate(("red", "green", "blue")):
        rows[name] = cloud.colours[:, number]
    kinds = {"<f4": "float", "u1": "uchar"}
    properties = "".join(f"property {kinds[kind]} {name}\n" for name, kind in row)
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(rows)}\n{properties}end_header\n"
    path.write_bytes(head.encode() + rows.tobytes())
