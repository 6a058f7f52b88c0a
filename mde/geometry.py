"""Camera geometry: intrinsics under resize, crop and flip; back-projection; ray distance and z-depth.

Pixel convention of the whole library (that of OpenCV): the centre of the top-left pixel is (0, 0), its outer corner
(-0.5, -0.5). Resizing by a factor ``s`` therefore maps ``u`` to ``s * (u + 0.5) - 0.5``.

Functions of intrinsics take and return tensors of shape (..., 3, 3) and never change their input.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from mde.errors import ConfigError
from mde.types import Batch

__all__ = [
    "crop_intrinsics",
    "flip_intrinsics",
    "intrinsics_at",
    "intrinsics_from_fov",
    "intrinsics_matrix",
    "pixel_rays",
    "ray_to_z",
    "resize_intrinsics",
    "shift_columns",
    "stereo_disparity",
    "truth_intrinsics",
    "unknown_intrinsics",
    "unproject",
    "z_to_ray",
]


def intrinsics_matrix(fx: float, fy: float, cx: float, cy: float) -> Tensor:
    """The 3x3 camera matrix from focal lengths and principal point, all in pixels."""
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=torch.float32)


def intrinsics_from_fov(height: int, width: int, horizontal_fov_deg: float) -> Tensor:
    """Camera matrix of square pixels and a central principal point from the horizontal field of view in degrees.

    >>> intrinsics_from_fov(480, 640, 90.0)[0]
    tensor([320.0000,   0.0000, 319.5000])
    """
    half_angle = torch.deg2rad(torch.tensor(horizontal_fov_deg / 2, dtype=torch.float64))
    focal_px = float(width / 2 / torch.tan(half_angle))
    return intrinsics_matrix(focal_px, focal_px, (width - 1) / 2, (height - 1) / 2)


def unknown_intrinsics() -> Tensor:
    """The matrix of a camera that nobody measured: NaN, so that any use of it shows."""
    nan = float("nan")
    return intrinsics_matrix(nan, nan, nan, nan)


def resize_intrinsics(intrinsics: Tensor, scale_x: float, scale_y: float) -> Tensor:
    """Intrinsics after the image was resized; the scales are new size / old size."""
    out = intrinsics.clone()
    out[..., 0, :] *= scale_x
    out[..., 1, :] *= scale_y
    out[..., 0, 2] += 0.5 * scale_x - 0.5
    out[..., 1, 2] += 0.5 * scale_y - 0.5
    return out


def intrinsics_at(batch: Batch, size: Iterable[int]) -> Tensor:
    """Intrinsics of a batch, (B,3,3), in pixels of maps of another size (height, width) than its images."""
    (height, width), (rows, columns) = batch["image"].shape[-2:], size
    return resize_intrinsics(batch["intrinsics"], columns / width, rows / height)


def truth_intrinsics(batch: Batch) -> Tensor:
    """Intrinsics in pixels of a batch's truth, (B,3,3), whose size in evaluation is not that of the image."""
    return intrinsics_at(batch, batch["depth"].shape[-2:])


def crop_intrinsics(intrinsics: Tensor, left: float, top: float) -> Tensor:
    """Intrinsics after `left` columns and `top` rows were cut off (negative: padded)."""
    out = intrinsics.clone()
    out[..., 0, 2] -= left
    out[..., 1, 2] -= top
    return out


def flip_intrinsics(intrinsics: Tensor, width: int) -> Tensor:
    """Intrinsics of a horizontally mirrored image of `width` pixels. The focal length stays positive."""
    out = intrinsics.clone()
    out[..., 0, 2] = (width - 1) - out[..., 0, 2]
    return out


def pixel_rays(intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Viewing rays of all pixel centres with z = 1.

    Args:
        intrinsics: (B,3,3), pixels.

    Returns:
        (B,3,H,W): x to the right, y down, z forward, in the camera frame.

    Raises:
        ConfigError: the camera is unknown.
    """
    if not torch.isfinite(intrinsics).all():
        raise ConfigError(
            "the camera's intrinsics are unknown", next_action="give fx, fy, cx, cy or the field of view of the camera"
        )
    kwargs = {"device": intrinsics.device, "dtype": intrinsics.dtype}
    v, u = torch.meshgrid(torch.arange(height, **kwargs), torch.arange(width, **kwargs), indexing="ij")  # type: ignore[call-overload]
    fx, fy = intrinsics[:, 0, 0, None, None], intrinsics[:, 1, 1, None, None]
    cx, cy = intrinsics[:, 0, 2, None, None], intrinsics[:, 1, 2, None, None]
    x, y = (u - cx) / fx, (v - cy) / fy
    return torch.stack((x, y, torch.ones_like(x)), dim=1)


def unproject(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Points in the camera frame from z-depth.

    Args:
        depth: (B,1,H,W), metres.
        intrinsics: (B,3,3), pixels of `depth`.

    Returns:
        (B,3,H,W), metres: x right, y down, z forward.
    """
    return pixel_rays(intrinsics, *depth.shape[-2:]) * depth


def ray_to_z(distance: Tensor, intrinsics: Tensor) -> Tensor:
    """Turn distances along the viewing ray into z-depth; both (B,1,H,W), metres."""
    return distance / pixel_rays(intrinsics, *distance.shape[-2:]).norm(dim=1, keepdim=True)


def z_to_ray(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Turn z-depth into distance along the viewing ray; both (B,1,H,W), metres."""
    return depth * pixel_rays(intrinsics, *depth.shape[-2:]).norm(dim=1, keepdim=True)


def stereo_disparity(depth: Tensor, intrinsics: Tensor, baseline: Tensor) -> Tensor:
    """By how many columns the other picture of a rectified pair shows a point elsewhere: fx * baseline / z.

    What the left picture shows at column u, the right one shows at u - disparity; seen from the right it is the other
    way round, at u + disparity.

    Args:
        depth: (B,1,H,W), z-depth in metres, above 0.
        intrinsics: (B,3,3), pixels of `depth`; both cameras have the same.
        baseline: (B,), metres from the left camera to the right one.

    Returns:
        (B,1,H,W), pixels, above 0.

    Raises:
        ConfigError: a camera is unknown, or a baseline is not above 0.
    """
    reach = intrinsics[:, 0, 0] * baseline
    if not (torch.isfinite(reach) & (reach > 0)).all():
        raise ConfigError(
            f"a stereo pair needs known intrinsics and a baseline above 0 m, got {baseline.tolist()}",
            where="batch",
            next_action="give the data set the calibration of both cameras",
        )
    return reach.view(-1, 1, 1, 1) / depth


def shift_columns(maps: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Read each pixel (u, v) of the result at (u - disparity, v), linearly between pixel centres.

    With the right picture of a rectified pair and the disparity of the left one this is the left picture, and with the
    left picture and minus the disparity of the right one the right picture, wherever nothing is hidden.

    Args:
        maps: float32 (B,C,H,W), any unit.
        disparity: float32 (B,1,H,W), pixels.

    Returns:
        float32 (B,C,H,W), the border's value where one would have to look beyond it; and bool (B,1,H,W), where the
        place lies between the centres of the first and the last column.

    >>> row = torch.arange(4.0).view(1, 1, 1, 4)
    >>> shifted, inside = shift_columns(row, torch.full((1, 1, 1, 4), 1.5))
    >>> shifted.flatten().tolist(), inside.flatten().tolist()
    ([0.0, 0.0, 0.5, 1.5], [False, False, True, True])
    """
    height, width = maps.shape[-2:]
    kwargs = {"device": maps.device, "dtype": disparity.dtype}
    column = torch.arange(width, **kwargs) - disparity[:, 0]  # type: ignore[call-overload]
    row = torch.arange(height, **kwargs)[:, None].expand_as(column)  # type: ignore[call-overload]
    # grid_sample without align_corners has -1 and 1 at the outer edges of the picture, half a pixel beyond the centres
    grid = torch.stack(((2 * column + 1) / width - 1, (2 * row + 1) / height - 1), dim=-1)
    shifted = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return shifted, ((column >= 0) & (column <= width - 1))[:, None]
