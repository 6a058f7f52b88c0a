"""Normals in space: exact on planes, those of the metric, and the loss by its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mde.errors import ConfigError
from mde.geometry import flip_intrinsics, intrinsics_matrix, pixel_rays, unknown_intrinsics, unproject
from mde.losses import SurfaceNormalLoss, surface_normal_loss, surface_normals
from mde.metrics.normals import surface_normals as normals_of_the_metric

CAMERA = intrinsics_matrix(9.0, 7.0, 4.2, 2.7)[None].double()  # no square pixels, no central axis


def plane(normal: Tensor, distance: float, height: int = 7, width: int = 9) -> Tensor:
    """z-depth of the plane of all points X with ``normal . X = -distance``, (1,1,H,W)."""
    rays = pixel_rays(CAMERA, height, width)
    return -distance / (rays * normal.view(1, 3, 1, 1)).sum(1, keepdim=True)


def maps(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    pred, target = (0.3 + 9 * torch.rand(1, 1, 7, 9, generator=rng, dtype=torch.float64) for _ in range(2))
    return pred, target, torch.rand(1, 1, 7, 9, generator=rng) < 0.9


@settings(max_examples=20, deadline=None)
@given(
    tilt=st.floats(0, 0.6),
    turn=st.floats(0, 2 * np.pi),
    distance=st.floats(1e-3, 1e3),
    factor=st.floats(1e-3, 1e3),
)
def test_a_plane_has_its_normal_at_any_scale(tilt: float, turn: float, distance: float, factor: float) -> None:
    normal = torch.tensor([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), -np.cos(tilt)])
    depth = plane(normal, distance)
    assert (depth > 0).all()
    for each in (depth, factor * depth):
        found = surface_normals(each, CAMERA)
        torch.testing.assert_close(found, normal.view(1, 3, 1, 1).expand_as(found), atol=1e-9, rtol=0)
    assert float(surface_normal_loss(factor * depth, depth, depth > 0, CAMERA)) == pytest.approx(0, abs=1e-18)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_normals_are_cross_products_of_points_and_those_of_the_metric(seed: int) -> None:
    """However rough the map is."""
    depth, _, _ = maps(seed)
    found = surface_normals(depth, CAMERA)[0].numpy()
    points = unproject(depth, CAMERA)[0].numpy()
    down, across = points[:, 2:, 1:-1] - points[:, :-2, 1:-1], points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    product = np.cross(down, across, axis=0)
    np.testing.assert_allclose(found, product / np.linalg.norm(product, axis=0), atol=1e-12)
    metric = normals_of_the_metric(depth[0, 0].numpy(), CAMERA[0].numpy())[:, 1:-1, 1:-1]
    np.testing.assert_allclose(found, metric, atol=1e-12)
    rays = pixel_rays(CAMERA, 7, 9)[0, :, 1:-1, 1:-1].numpy()
    assert ((found * rays).sum(0) < 0).all()  # towards the camera


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_the_loss_is_1_minus_the_cosine_over_whole_neighbourhoods(seed: int) -> None:
    pred, target, valid = maps(seed)
    known, total, count = valid[0, 0].numpy(), 0.0, 0
    normals = [normals_of_the_metric(each[0, 0].numpy(), CAMERA[0].numpy()) for each in (pred, target)]
    for i in range(1, 6):
        for j in range(1, 8):
            if known[i, j] and known[i - 1, j] and known[i + 1, j] and known[i, j - 1] and known[i, j + 1]:
                total += 1 - float(normals[0][:, i, j] @ normals[1][:, i, j])
                count += 1
    assert float(surface_normal_loss(pred, target, valid, CAMERA)) == pytest.approx(total / max(count, 1), rel=1e-8)


def test_a_mirrored_picture_with_its_mirrored_camera_has_the_same_loss() -> None:
    pred, target, valid = maps(3)
    mirrored = surface_normal_loss(pred.flip(-1), target.flip(-1), valid.flip(-1), flip_intrinsics(CAMERA, 9))
    assert float(mirrored) == pytest.approx(float(surface_normal_loss(pred, target, valid, CAMERA)), rel=1e-10)


def test_each_image_has_its_own_camera() -> None:
    (pred, target, valid), camera = maps(4), CAMERA.clone()
    camera[:, 0, 0] *= 3
    both = surface_normal_loss(*(t.expand(2, -1, -1, -1) for t in (pred, target, valid)), torch.cat((CAMERA, camera)))
    single = [float(surface_normal_loss(pred, target, valid, each)) for each in (CAMERA, camera)]
    assert single[0] != pytest.approx(single[1], rel=1e-3)
    assert float(both) == pytest.approx(np.mean(single))


@pytest.mark.parametrize("depths", [(0.001, 0.001), (0.1, 80.0), (80.0, 0.1), (80.0, 80.0), (1e-3, 1e4)])
@pytest.mark.parametrize("known", [1, 25, 63])
def test_gradients_are_finite_at_every_depth(depths: tuple[float, float], known: int) -> None:
    """Constant maps, and a chessboard of the two ends of a range, in float32."""
    board = torch.where((torch.arange(7)[:, None] + torch.arange(9)) % 2 == 0, *map(torch.tensor, depths))
    pred = board.view(1, 1, 7, 9).requires_grad_()
    valid = (torch.arange(63) < known).view(1, 1, 7, 9)
    for target in (torch.full((1, 1, 7, 9), depths[1]), pred.detach(), pred.detach().flip(-1)):
        value = SurfaceNormalLoss()(pred, target, valid, CAMERA)
        assert 0 <= float(value.detach()) <= 2
        assert torch.autograd.grad(value, pred)[0].isfinite().all()


def test_what_has_no_normals_is_refused() -> None:
    small = torch.ones(1, 1, 2, 9)
    with pytest.raises(ConfigError, match=r"2x9 has no pixel with four neighbours.*Next: use larger"):
        surface_normal_loss(small, small, small > 0, CAMERA)
    pred, target, valid = maps(0)
    with pytest.raises(ConfigError, match=r"intrinsics are unknown.*Next"):
        surface_normal_loss(pred, target, valid, unknown_intrinsics()[None])
