"""The loss on surface normals: how surfaces are turned, whatever their distance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mde.errors import ConfigError
from mde.geometry import pixel_rays
from mde.losses.base import CameraLoss, check_shapes
from mde.masking import at_least_float32, fill, masked_mean

__all__ = ["SurfaceNormalLoss", "surface_normal_loss", "surface_normals"]


def surface_normals(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Unit normals, towards the camera, of all pixels but those at the border.

    The normal is the cross product of the central differences of the points, down times across. Divided by what it has
    in common it is ``(p, q, -1 - x p - y q)`` with the ray (x, y, 1), ``p = fx (right - left) / (right + left)`` and
    ``q = fy (below - above) / (below + above)`` of the depths: ratios alone enter, so that it is exact on planes,
    independent of the scale, and, as its product with the ray is -1, never of length 0.

    Args:
        depth: (B,1,H,W), metres, above 0.
        intrinsics: (B,3,3), pixels of `depth`.

    Returns:
        (B,3,H-2,W-2): x right, y down, z forward.

    Raises:
        ConfigError: the camera is unknown, or the map is smaller than 3x3.
    """
    height, width = depth.shape[-2:]
    if height < 3 or width < 3:
        hint = "use larger pictures, or a loss without normals"
        raise ConfigError(f"a map of {height}x{width} has no pixel with four neighbours", next_action=hint)
    camera = intrinsics.to(depth)
    rays = pixel_rays(camera, height, width)[..., 1:-1, 1:-1]
    x, y = rays[:, :1], rays[:, 1:2]
    left, right = depth[..., 1:-1, :-2], depth[..., 1:-1, 2:]
    above, below = depth[..., :-2, 1:-1], depth[..., 2:, 1:-1]
    fx, fy = camera[:, 0, 0].view(-1, 1, 1, 1), camera[:, 1, 1].view(-1, 1, 1, 1)
    p, q = fx * (right - left) / (right + left), fy * (below - above) / (below + above)
    return F.normalize(torch.cat((p, q, -1 - x * p - y * q), dim=1), dim=1)


def surface_normal_loss(pred: Tensor, target: Tensor, valid: Tensor, intrinsics: Tensor) -> Tensor:
    """Mean of ``1 - cos`` of the angle between predicted and true normals; a scalar in [0, 2].

    A pixel counts where it and its four neighbours are valid. A factor on the prediction changes nothing, so this goes
    beside a loss that fixes it. At edges of depth the normals are those of the surface that the differences bridge, in
    both maps alike.

    Source: Hu et al. 2019, "Revisiting Single Image Depth Estimation", equation 5. Deviates: theirs are normals of the
    graph of the depth map, in pixels and metres; these are normals in space, as `mde.metrics.normal_errors` scores.

    Args:
        pred: (B,1,H,W), metres, above 0 where valid.
        target: (B,1,H,W), metres, above 0 where valid.
        valid: bool (B,1,H,W).
        intrinsics: (B,3,3), pixels of the maps.

    Raises:
        ConfigError: the three differ in shape, `valid` is not boolean, or as of `surface_normals`.

    >>> from mde.geometry import intrinsics_from_fov
    >>> wall, camera = torch.full((1, 1, 5, 5), 2.0), intrinsics_from_fov(5, 5, 60.0)[None]
    >>> surface_normal_loss(3 * wall, wall, wall > 0, camera)
    tensor(0.)
    """
    check_shapes(pred, target, valid)
    pred, target = (fill(at_least_float32(depth), valid, 1.0) for depth in (pred, target))
    # half the squared distance of unit vectors is 1 - cos, without its rounding near 0
    apart = (surface_normals(pred, intrinsics) - surface_normals(target, intrinsics)).square().sum(1, keepdim=True)
    return masked_mean(apart / 2, _inner(valid))


class SurfaceNormalLoss(CameraLoss):
    """Mean of ``1 - cos`` between normals in space; works on metres and needs the camera. See `surface_normal_loss`."""

    def forward(  # type: ignore[override]
        self, pred: Tensor, target: Tensor, valid: Tensor, intrinsics: Tensor
    ) -> Tensor:
        return surface_normal_loss(pred, target, valid, intrinsics)


def _inner(valid: Tensor) -> Tensor:
    """Pixels that are valid with their four neighbours, without the border: (B,1,H-2,W-2)."""
    across = valid[..., 1:-1, :-2] & valid[..., 1:-1, 1:-1] & valid[..., 1:-1, 2:]
    return across & valid[..., :-2, 1:-1] & valid[..., 2:, 1:-1]
