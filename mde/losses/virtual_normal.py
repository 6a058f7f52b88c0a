"""The virtual normal loss: normals of large triangles between pixels that lie far apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mde.errors import ConfigError
from mde.geometry import unproject
from mde.losses.base import CameraLoss, check_shapes
from mde.masking import at_least_float32, fill

__all__ = ["VirtualNormalLoss", "virtual_normal_loss"]

_FLATTEST = 1e-3  # sine of an angle of a predicted triangle, below which it has no normal to speak of


def virtual_normal_loss(
    pred: Tensor,
    target: Tensor,
    valid: Tensor,
    intrinsics: Tensor,
    *,
    share: float = 0.15,
    min_distance: float = 0.6,
    angles: tuple[float, float] = (30.0, 120.0),
    drop: float = 0.25,
) -> Tensor:
    """Mean over random triangles of the L1 distance between their predicted and true unit normals; from 0 to 2 sqrt 3.

    Three valid pixels of an image are a triangle. It counts where its true points are at least `min_distance` apart
    and two of its true angles lie within `angles`, so that noise cannot turn it much; a predicted triangle that is
    flat, its three points in a line, has no normal and is left out. All triangles of the batch that count weigh the
    same, and of these the easiest, a share of `drop`, are left out.

    The triangles are drawn from torch's default generator of the device: other ones at each step, the same ones again
    when a run is repeated or resumed (`mde.callbacks.EpochSeed`).

    Source: Yin et al. 2019, "Enforcing geometric constraints of virtual normal for depth prediction", equations 4 to 6
    and section 3.3; the share of triangles and the quarter that is dropped are those of its code.

    Args:
        pred: (B,1,H,W), metres, above 0 where valid.
        target: (B,1,H,W), metres, above 0 where valid.
        valid: bool (B,1,H,W).
        intrinsics: (B,3,3), pixels of the maps.
        share: triangles per pixel of an image.
        min_distance: of two corners, metres.
        angles: least and largest angle at two of the corners, degrees.
        drop: share of the triangles, those of the smallest errors, that does not count; 0 keeps all.

    Raises:
        ConfigError: the three differ in shape, `valid` is not boolean, or a camera is unknown.
    """
    check_shapes(pred, target, valid)
    pred, target = (fill(at_least_float32(depth), valid, 1.0) for depth in (pred, target))
    camera = intrinsics.to(pred)
    corners, known = _random_corners(valid, max(1, round(share * valid[0].numel())))
    truth = _triangles(target, camera, corners)
    kept = known & _well_shaped(truth.detach(), min_distance, angles)
    normals, solid = _normals(_triangles(pred, camera, corners)[kept])
    errors = (normals - _normals(truth[kept])[0]).abs().sum(-1)[solid]
    hardest = errors.sort(descending=True).values[: len(errors) - int(drop * len(errors))]
    return hardest.sum() / max(1, len(hardest))


class VirtualNormalLoss(CameraLoss):
    """Error of the normals of random large triangles; works on metres and needs the camera.

    See `virtual_normal_loss`. It says nothing of the scale of small errors: it goes beside a loss on single pixels.

    Args:
        share: triangles per pixel of an image, above 0.
        min_distance: of two corners, metres; the paper's 0.6 suits rooms.
        angles: least and largest angle at two of the corners, degrees.
        drop: share of the triangles, those of the smallest errors, that does not count; below 1.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        share: float = 0.15,
        min_distance: float = 0.6,
        angles: tuple[float, float] = (30.0, 120.0),
        drop: float = 0.25,
    ) -> None:
        super().__init__()
        low, high = angles
        if not (share > 0 and min_distance >= 0 and 0 <= drop < 1 and 0 < low < high <= 180):
            what = f"got share {share}, min_distance {min_distance}, angles {low} and {high}, drop {drop}"
            hint = "share above 0, metres of at least 0, 0 < least < largest <= 180 degrees, drop from 0 to below 1"
            raise ConfigError(f"a setting is out of range: {what}", where="VirtualNormalLoss", next_action=hint)
        self.share, self.min_distance, self.drop = float(share), float(min_distance), float(drop)
        self.angles = (float(low), float(high))

    def forward(  # type: ignore[override]
        self, pred: Tensor, target: Tensor, valid: Tensor, intrinsics: Tensor
    ) -> Tensor:
        settings = {"share": self.share, "min_distance": self.min_distance, "drop": self.drop}
        return virtual_normal_loss(pred, target, valid, intrinsics, angles=self.angles, **settings)

    def extra_repr(self) -> str:
        low, high = self.angles
        size = f"min_distance={self.min_distance:g}, angles=({low:g}, {high:g})"
        return f"share={self.share:g}, {size}, drop={self.drop:g}"


def _random_corners(valid: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Numbers of valid pixels of each image, int64 (B,N,3), and whether the image has any, bool (B,N)."""
    seen = valid.flatten(1).long().cumsum(1)
    total = seen[:, -1:]
    draws = torch.rand(len(valid), 3 * count, device=valid.device, dtype=torch.float64)
    # the n-th valid pixel is where the running count first reaches n
    place = torch.searchsorted(seen, (draws * total).long() + 1).clamp(max=seen.shape[1] - 1)
    return place.view(len(valid), count, 3), (total > 0).expand(-1, count)


def _triangles(depth: Tensor, intrinsics: Tensor, corners: Tensor) -> Tensor:
    """Corners (B,N,3) as points in space, (B,N,3 corners,3), metres."""
    points = unproject(depth, intrinsics).flatten(2).mT
    image = torch.arange(len(depth), device=depth.device)[:, None, None]
    return points[image, corners]


def _well_shaped(triangles: Tensor, min_distance: float, angles: tuple[float, float]) -> Tensor:
    """Triangles (B,N,3,3) that are large, and far from a line: bool (B,N)."""
    sides = triangles.roll(-1, 2) - triangles  # from A to B, B to C, C to A
    lengths = sides.norm(dim=-1)
    # the angle at a corner lies between the side that leaves it and the one that arrives, turned round
    cosines = -F.cosine_similarity(sides, sides.roll(1, 2), dim=-1).clamp(-1, 1)
    degrees = torch.rad2deg(torch.acos(cosines[..., :2]))
    low, high = angles
    return (lengths > min_distance).all(-1) & ((degrees >= low) & (degrees <= high)).all(-1)


def _normals(triangles: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals (M,3) of triangles (M,3,3), and whether each has one, bool (M,)."""
    a, b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    product = torch.linalg.cross(a, b, dim=-1)
    solid = product.norm(dim=-1) > _FLATTEST * a.norm(dim=-1) * b.norm(dim=-1)
    # a zero vector has no direction, and its norm no gradient
    return F.normalize(torch.where(solid[:, None], product, 1.0), dim=-1), solid
