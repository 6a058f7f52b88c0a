from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mde.errors import ConfigError
from mde.geometry import (
    crop_intrinsics,
    flip_intrinsics,
    intrinsics_from_fov,
    intrinsics_matrix,
    pixel_rays,
    ray_to_z,
    resize_intrinsics,
    unknown_intrinsics,
    unproject,
    z_to_ray,
)

K = intrinsics_matrix(50.0, 60.0, 31.0, 22.0)[None]


def test_unproject_agrees_with_the_pinhole_formula():
    depth = torch.rand(1, 1, 48, 64) + 0.5
    points = unproject(depth, K).numpy()
    for v, u in ((0, 0), (47, 63), (20, 31)):
        z = depth[0, 0, v, u].item()
        np.testing.assert_allclose(points[0, :, v, u], [(u - 31) / 50 * z, (v - 22) / 60 * z, z], rtol=1e-5, atol=1e-6)


def test_projecting_back_gives_the_pixels():
    depth = torch.rand(1, 1, 48, 64) + 0.5
    projected = torch.einsum("bij,bjhw->bihw", K, unproject(depth, K))
    pixels = projected[:, :2] / projected[:, 2:]
    v, u = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    torch.testing.assert_close(pixels[0], torch.stack((u, v)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_resizing_moves_intrinsics_as_bilinear_interpolation_moves_pixels(scale):
    rays = pixel_rays(K, 48, 64)
    resized = F.interpolate(rays, scale_factor=scale, mode="bilinear", align_corners=False)
    expected = pixel_rays(resize_intrinsics(K, scale, scale), *resized.shape[-2:])
    # rays are linear in the pixel, so bilinear interpolation is exact away from the border
    torch.testing.assert_close(resized[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-5, rtol=0)


def test_cropping_and_flipping_move_intrinsics_with_the_pixels():
    rays = pixel_rays(K, 48, 64)
    torch.testing.assert_close(pixel_rays(crop_intrinsics(K, 7, 5), 40, 50), rays[..., 5:45, 7:57])
    mirrored = pixel_rays(flip_intrinsics(K, 64), 48, 64)
    flipped = rays.flip(-1)
    torch.testing.assert_close(mirrored, torch.cat((-flipped[:, :1], flipped[:, 1:]), 1))
    assert flip_intrinsics(K, 64)[0, 0, 0] > 0


def test_flip_twice_and_resize_back_are_the_identity():
    torch.testing.assert_close(flip_intrinsics(flip_intrinsics(K, 64), 64), K)
    torch.testing.assert_close(resize_intrinsics(resize_intrinsics(K, 0.3, 0.7), 1 / 0.3, 1 / 0.7), K)


def test_ray_and_z_are_inverse_and_equal_on_the_axis():
    depth = torch.rand(1, 1, 48, 64) + 0.5
    ray = z_to_ray(depth, K)
    torch.testing.assert_close(ray_to_z(ray, K), depth)
    assert (ray >= depth).all()
    assert ray[0, 0, 22, 31] == depth[0, 0, 22, 31]
    u, v, z = 10, 40, depth[0, 0, 40, 10].item()
    assert ray[0, 0, v, u].item() == pytest.approx(
        z * np.sqrt(((u - 31) / 50) ** 2 + ((v - 22) / 60) ** 2 + 1), rel=1e-6
    )


def test_field_of_view_spans_the_outer_pixel_edges():
    matrix = intrinsics_from_fov(100, 200, 90.0)
    left_edge = (-0.5 - matrix[0, 2]) / matrix[0, 0]
    assert left_edge.item() == pytest.approx(-1.0, rel=1e-6)


def test_an_unknown_camera_is_refused():
    with pytest.raises(ConfigError, match=r"unknown.*field of view"):
        unproject(torch.ones(1, 1, 4, 4), unknown_intrinsics()[None])


def test_inputs_are_not_changed():
    before = K.clone()
    resize_intrinsics(K, 2, 2)
    crop_intrinsics(K, 1, 1)
    flip_intrinsics(K, 64)
    assert torch.equal(K, before)
