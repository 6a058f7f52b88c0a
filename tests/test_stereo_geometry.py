from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.errors import ConfigError
from mde.geometry import (
    flip_intrinsics,
    intrinsics_matrix,
    resize_intrinsics,
    shift_columns,
    stereo_disparity,
    unknown_intrinsics,
    unproject,
)
from tests.pairs import rendered

K = intrinsics_matrix(50.0, 60.0, 31.0, 22.0)[None]


@settings(max_examples=30, deadline=None)
@given(shift=st.integers(-9, 9), width=st.integers(1, 33), height=st.integers(1, 7))
def test_whole_pixels_shift_exactly(shift: int, width: int, height: int) -> None:
    maps = torch.rand(2, 3, height, width)
    found, inside = shift_columns(maps, torch.full((2, 1, height, width), float(shift)))
    columns = np.arange(width) - shift
    expected = maps[..., np.clip(columns, 0, width - 1)]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    assert inside.shape == (2, 1, height, width)
    assert torch.equal(inside, torch.from_numpy((columns >= 0) & (columns < width)).expand_as(inside))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_between_pixels_it_is_linear(seed: int) -> None:
    rng = np.random.default_rng(seed)
    row, disparity = rng.random((2, 3, 5, 17)), rng.uniform(-6, 6, (2, 1, 5, 17))
    found, inside = shift_columns(torch.tensor(row).float(), torch.tensor(disparity).float())
    place = np.arange(17) - disparity
    for b, v in np.ndindex(2, 5):
        for c in range(3):
            expected = np.interp(place[b, 0, v], np.arange(17), row[b, c, v])  # holds the end values outside
            np.testing.assert_allclose(found[b, c, v], expected, atol=2e-5)
    assert np.array_equal(inside.numpy(), (place >= 0) & (place <= 16))


def test_the_gradient_is_the_slope_of_the_picture() -> None:
    disparity = torch.full((1, 1, 2, 8), 1.5, requires_grad=True)
    ramp = 3 * torch.arange(8.0).expand(1, 1, 2, 8)
    found, inside = shift_columns(ramp, disparity)
    (gradient,) = torch.autograd.grad(found.sum(), disparity)
    torch.testing.assert_close(gradient[inside], torch.full((12,), -3.0))


def test_disparity_is_where_a_moved_camera_sees_the_point() -> None:
    depth = torch.rand(1, 1, 48, 64) * 9 + 0.5
    seen_from_right = unproject(depth, K) - torch.tensor([0.3, 0.0, 0.0]).view(1, 3, 1, 1)
    projected = torch.einsum("bij,bjhw->bihw", K, seen_from_right)
    v, u = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    disparity = stereo_disparity(depth, K, torch.tensor([0.3]))
    torch.testing.assert_close(projected[0, 0] / projected[0, 2], u - disparity[0, 0], atol=2e-4, rtol=0)
    torch.testing.assert_close(projected[0, 1] / projected[0, 2], v, atol=2e-4, rtol=0)  # rectified: the row stays


def test_disparity_follows_size_and_mirroring() -> None:
    depth, baseline = torch.rand(1, 1, 8, 8) + 1, torch.tensor([0.3])
    full = stereo_disparity(depth, K, baseline)
    torch.testing.assert_close(stereo_disparity(depth, resize_intrinsics(K, 0.5, 0.25), baseline), full / 2)
    torch.testing.assert_close(stereo_disparity(depth, flip_intrinsics(K, 64), baseline), full)
    torch.testing.assert_close(stereo_disparity(depth, K, 2 * baseline), 2 * full)


def test_each_pair_has_its_own_camera() -> None:
    depth = torch.ones(2, 1, 1, 1)
    cameras = torch.stack((K[0], resize_intrinsics(K[0], 2, 2)))
    assert stereo_disparity(depth, cameras, torch.tensor([0.1, 0.5])).flatten().tolist() == pytest.approx([5, 50])


@pytest.mark.parametrize("baseline", [0.0, -0.54, float("nan")])
def test_a_pair_without_calibration_is_refused(baseline: float) -> None:
    depth = torch.ones(1, 1, 2, 2)
    with pytest.raises(ConfigError, match=r"baseline above 0 m.*calibration"):
        stereo_disparity(depth, K, torch.tensor([baseline]))
    with pytest.raises(ConfigError, match="known intrinsics"):
        stereo_disparity(depth, unknown_intrinsics()[None], torch.tensor([0.5]))


@pytest.mark.parametrize(("world", "baseline"), [("street", 0.54), ("rooms", 0.12)])
def test_true_disparity_rebuilds_rendered_pictures(world: str, baseline: float) -> None:
    """And neither the opposite sign nor a column beside it does."""
    errors = []
    for index in range(3):
        left, right, of_left, of_right, both_see = rendered(world, index, baseline)

        def rebuilt(picture: torch.Tensor, other: torch.Tensor, columns: torch.Tensor, seen: torch.Tensor) -> float:
            return float((shift_columns(other, columns)[0] - picture).abs().mean(1, keepdim=True)[seen].mean())

        errors.append([rebuilt(left, right, of_left + wrong, both_see) for wrong in (0, 0.5, -0.5)])
        errors[-1].append(rebuilt(left, right, -of_left, both_see))
        assert float(both_see.float().mean()) > 0.4
        back, inside = shift_columns(left, -of_right)
        assert float((back - right).abs()[(inside & (of_right > 0)).expand_as(back)].mean()) < 0.05  # hidden ones, too
    true, *others = np.mean(errors, 0)
    assert true < 0.02
    assert true < 0.8 * min(others)
