from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.geometry import intrinsics_from_fov
from mde.metrics.normals import find_planes, normal_errors, plane_errors, surface_normals

SIZE = (36, 48)
CAMERA = intrinsics_from_fov(*SIZE, 70.0).double().numpy()


def rays(size: tuple[int, int] = SIZE) -> NDArray[np.float64]:
    v, u = np.mgrid[: size[0], : size[1]].astype(float)
    return np.stack(((u - CAMERA[0, 2]) / CAMERA[0, 0], (v - CAMERA[1, 2]) / CAMERA[1, 1], np.ones(size)))


def plane(normal: tuple[float, float, float], distance: float = 3.0) -> NDArray[np.float64]:
    """z-depth of the plane n·P = -distance, n a vector towards the camera."""
    n = np.array(normal) / np.linalg.norm(normal)
    return -distance / np.einsum("c,chw->hw", n, rays())


def tensors(*arrays: NDArray[np.generic]) -> list[Tensor]:
    return [torch.from_numpy(np.asarray(a))[None, None] for a in arrays]


def camera(batch: int = 1) -> Tensor:
    return torch.from_numpy(CAMERA).expand(batch, 3, 3)


def angle(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    a, b = np.array(first), np.array(second)
    return float(np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))


NORMALS = ((0.0, 0.0, -1.0), (0.3, 0.1, -1.0), (-0.5, 0.4, -1.0))
ONES = np.ones(SIZE, bool)


@pytest.mark.parametrize("normal", NORMALS)
def test_the_normal_of_a_plane_is_exact_and_looks_at_the_camera(normal: tuple[float, float, float]) -> None:
    found = surface_normals(plane(normal), CAMERA)[:, 1:-1, 1:-1]
    expected = np.array(normal) / np.linalg.norm(normal)
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None, None], found.shape), atol=1e-9)
    assert np.isnan(surface_normals(plane(normal), CAMERA)[:, 0]).all()


@pytest.mark.parametrize("other", NORMALS[1:])
def test_the_error_is_the_angle_between_two_planes(other: tuple[float, float, float]) -> None:
    found = normal_errors(*tensors(plane(other), plane(NORMALS[0]), ONES), camera())
    expected = angle(other, NORMALS[0])
    assert found["mean"].item() == pytest.approx(expected, abs=1e-6)
    assert found["median"].item() == pytest.approx(expected, abs=1e-6)
    for bound in (11.25, 22.5, 30):
        assert found[f"below_{bound:g}"].item() == float(expected < bound)


def test_equals_an_independent_loop_over_pixels() -> None:
    rng = np.random.default_rng(0)
    truth = plane(NORMALS[1]) * (1 + 0.002 * rng.normal(size=SIZE))
    pred = plane(NORMALS[2]) * (1 + 0.01 * rng.normal(size=SIZE))
    valid = rng.random(SIZE) > 0.05
    found = normal_errors(*tensors(pred, truth, valid), camera())
    angles = []
    points = [rays() * depth for depth in (pred, truth)]
    for y in range(1, SIZE[0] - 1):
        for x in range(1, SIZE[1] - 1):
            cross = [(y, x), (y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            inverse = [1 / truth[at] for at in cross]
            bends = [abs(inverse[i] + inverse[i + 1] - 2 * inverse[0]) for i in (1, 3)]
            if not all(valid[at] for at in cross) or max(bends) > 0.05 * inverse[0]:
                continue
            pair = [np.cross(p[:, y + 1, x] - p[:, y - 1, x], p[:, y, x + 1] - p[:, y, x - 1]) for p in points]
            angles.append(angle(tuple(pair[0]), tuple(pair[1])))
    assert found["mean"].item() == pytest.approx(np.mean(angles), abs=1e-9)
    assert found["median"].item() == pytest.approx(np.median(angles), abs=1e-9)
    assert found["below_22.5"].item() == pytest.approx(np.mean(np.array(angles) < 22.5))
    assert 0 < found["below_22.5"].item() < 1


@pytest.mark.parametrize("factor", [0.25, 7.3])
def test_a_factor_on_the_depth_changes_no_angle(factor: float) -> None:
    rng = np.random.default_rng(1)
    pred, truth = (plane(n) * (1 + 0.003 * rng.normal(size=SIZE)) for n in NORMALS[:2])
    plain = normal_errors(*tensors(pred, truth, ONES), camera())
    for args in ((factor * pred, truth, ONES), (pred, factor * truth, ONES)):
        scaled = normal_errors(*tensors(*args), camera())
        assert all(scaled[name].item() == pytest.approx(plain[name].item(), abs=1e-9) for name in plain)


def test_pixels_across_an_edge_of_the_truth_do_not_count() -> None:
    truth = plane(NORMALS[0], 3.0)
    truth[:, 24:] = plane(NORMALS[1], 6.0)[:, 24:]
    pred = truth.copy()
    pred[:, 24:] *= 1.5  # every surface keeps its normal, only what spans the gap between the two turns
    assert normal_errors(*tensors(pred, truth, ONES), camera())["mean"].item() == pytest.approx(0, abs=1e-6)
    assert normal_errors(*tensors(pred, truth, ONES), camera(), max_bend=1e9)["mean"].item() > 0.01


def test_a_prediction_without_a_surface_is_no_perfect_one() -> None:
    found = normal_errors(*tensors(np.zeros(SIZE), plane(NORMALS[0]), ONES), camera())
    assert found["mean"].item() == 180


# ---- planes ----------------------------------------------------------------------------------------------------------


def test_a_rotated_plane_is_flat_and_turned() -> None:
    found = plane_errors(*tensors(plane(NORMALS[2]), plane(NORMALS[1]), ONES), camera())
    assert found["flatness"].item() == pytest.approx(0, abs=1e-7)
    assert found["orientation"].item() == pytest.approx(angle(NORMALS[2], NORMALS[1]), abs=1e-5)


def test_ripples_are_unevenness_in_metres() -> None:
    """A checkerboard of ±2 cm along z on a wall seen head-on: the standard deviation of the distances is 2 cm."""
    wall = plane(NORMALS[0])
    ripples = 0.02 * (-1.0) ** np.add(*np.mgrid[: SIZE[0], : SIZE[1]])
    found = plane_errors(*tensors(wall + ripples, wall, ONES), camera())
    assert found["flatness"].item() == pytest.approx(0.02, rel=1e-2)
    assert found["orientation"].item() < 0.5


def test_given_masks_equal_a_fit_by_singular_values() -> None:
    rng = np.random.default_rng(2)
    truth = plane(NORMALS[1])
    pred = plane(NORMALS[2]) * (1 + 0.01 * rng.normal(size=SIZE))
    masks = np.zeros(SIZE, np.int64)
    masks[2:30, 3:20], masks[5:35, 22:46] = 1, 2
    valid = rng.random(SIZE) > 0.2
    found = plane_errors(*tensors(pred, truth, valid), camera(), planes=tensors(masks)[0])
    flatness, angles = [], []
    for number in (1, 2):
        own = (masks == number) & valid
        normals = []
        for depth in (pred, truth):
            points = (rays() * depth)[:, own].T
            centred = points - points.mean(0)
            _, _, axes = np.linalg.svd(centred, full_matrices=False)
            normals.append(axes[2])
            if depth is pred:
                flatness.append(np.std(centred @ axes[2]))
        turned = angle(tuple(normals[0]), tuple(normals[1]))
        angles.append(min(turned, 180 - turned))
    assert found["flatness"].item() == pytest.approx(np.mean(flatness), rel=1e-9)
    assert found["orientation"].item() == pytest.approx(np.mean(angles), rel=1e-6)


def test_planes_are_found_where_the_truth_is_plane() -> None:
    depth = plane(NORMALS[1])
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    sphere = 2 + 0.5 * np.sin(u / 3) * np.cos(v / 3)
    depth[:, 24:] = sphere[:, 24:]
    valid = ONES.copy()
    valid[:6, :6] = False  # one cell of the grid of 6x8
    found = find_planes(depth, valid)
    assert (found[:, 24:] == 0).all()
    assert sorted(np.unique(found)) == list(range(6 * 4))  # 0 and 23 cells
    assert (found[:6, :6] == 0).all()
    curved = plane_errors(*tensors(sphere, sphere, ONES), camera())
    assert curved["flatness"].isnan().all()
