from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.errors import ConfigError
from mde.geometry import crop_intrinsics, intrinsics_from_fov, resize_intrinsics, unproject
from mde.metrics.points import point_errors

SIZE = (20, 26)
CAMERA = intrinsics_from_fov(*SIZE, 60.0)[None]


def maps(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(1, 4, SIZE)
    both = [torch.from_numpy(m)[None, None] for m in (truth * np.exp(rng.normal(0, 0.1, SIZE)), truth)]
    return both[0], both[1], torch.from_numpy(rng.random(SIZE) > 0.2)[None, None]


def cloud(depth: Tensor, valid: Tensor) -> NDArray[np.float64]:
    """x = (u - cx) z / f, y = (v - cy) z / f, pixel by pixel."""
    camera = CAMERA[0].double().numpy()
    z = depth[0, 0].numpy()
    return np.array(
        [
            ((u - camera[0, 2]) * z[v, u] / camera[0, 0], (v - camera[1, 2]) * z[v, u] / camera[1, 1], z[v, u])
            for v, u in np.argwhere(valid[0, 0].numpy())
        ]
    )


def test_equals_all_pairs() -> None:
    pred, truth, valid = maps()
    found = point_errors(pred, truth, valid, CAMERA, threshold=0.08, relative=0.03)
    p, g = cloud(pred, valid), cloud(truth, valid)
    apart = np.linalg.norm(p[:, None] - g[None], axis=2)
    a, c = apart.min(1), apart.min(0)
    precision, recall = (a <= 0.08).mean(), (c <= 0.08).mean()
    near, reached = (a <= 0.03 * g[apart.argmin(1), 2]).mean(), (c <= 0.03 * g[:, 2]).mean()
    expected = {
        "chamfer": (a.mean() + c.mean()) / 2,
        "accuracy": a.mean(),
        "completeness": c.mean(),
        "precision": precision,
        "recall": recall,
        "f_score": 2 * precision * recall / (precision + recall),
        "f_score_relative": 2 * near * reached / (near + reached),
    }
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, abs=1e-12)
    assert 0 < expected["f_score"] < 1


@pytest.mark.parametrize("points", [50, 10_000])
def test_equal_clouds_are_at_distance_0_also_when_drawn(points: int) -> None:
    _, truth, valid = maps(1)
    found = point_errors(truth, truth, valid, CAMERA, points=points)
    assert found["chamfer"].item() == 0
    assert found["f_score"].item() == found["f_score_relative"].item() == 1


def test_a_wall_that_is_moved_has_the_distance_of_its_shift() -> None:
    """Both clouds of a wall seen head-on are grids; near the axis a point of one has its own pixel as its nearest, at
    the shift divided by the cosine, which is 1 on the axis: mean over pixels of delta·|ray| as long as no other is
    nearer, which holds while the spacing z/f is larger than twice the sideways move."""
    wall = torch.full((1, 1, *SIZE), 2.0, dtype=torch.float64)
    valid = torch.ones_like(wall, dtype=torch.bool)
    delta = 0.05
    rays = (unproject(wall, CAMERA.double()) / wall)[0].flatten(1).norm(dim=0)
    found = point_errors(wall + delta, wall, valid, CAMERA, threshold=delta, points=10**6)
    assert found["accuracy"].item() == pytest.approx(float((delta * rays).mean()), rel=1e-6)
    assert found["recall"].item() < 1  # only the axis itself is nearer than delta, and no pixel lies on it
    loose = point_errors(wall + delta, wall, valid, CAMERA, threshold=1.3 * delta)
    assert loose["f_score"].item() == 1


def test_the_metric_unit_and_the_camera_matter() -> None:
    pred, truth, valid = maps(2)
    plain = point_errors(pred, truth, valid, CAMERA)["chamfer"].item()
    assert point_errors(3 * pred, 3 * truth, valid, CAMERA)["chamfer"].item() == pytest.approx(3 * plain)
    moved = crop_intrinsics(CAMERA, 0.0, 0.0)
    moved[:, :2, :2] *= 2  # twice the focal length: half as wide
    assert point_errors(pred, truth, valid, moved)["chamfer"].item() < plain


def test_a_truth_of_twice_the_size_has_a_camera_of_twice_the_size() -> None:
    """What a callback does: the camera of the picture, brought to the truth's size, gives the same wall."""
    small = torch.full((1, 1, *SIZE), 2.0, dtype=torch.float64)
    large = small.repeat_interleave(2, -1).repeat_interleave(2, -2)
    corners = [
        unproject(depth, camera.double()).flatten(2).abs().amax(2)
        for depth, camera in ((small, CAMERA), (large, resize_intrinsics(CAMERA, 2.0, 2.0)))
    ]
    assert corners[1][0, 0] == pytest.approx(float(corners[0][0, 0]) + 2 / float(CAMERA[0, 0, 0]) / 4, rel=1e-5)


def test_the_draw_depends_on_the_seed_alone() -> None:
    pred, truth, valid = maps(3)
    args = [torch.cat((m, m)) for m in (pred, truth, valid)]
    found = point_errors(*args, CAMERA.expand(2, 3, 3), points=60)["chamfer"]
    assert found[0] == found[1]
    assert found[0] == point_errors(pred, truth, valid, CAMERA, points=60)["chamfer"][0]
    assert found[0] != point_errors(pred, truth, valid, CAMERA, points=60, seed=1)["chamfer"][0]


def test_settings_are_checked() -> None:
    for name in ("threshold", "relative", "points"):
        with pytest.raises(ConfigError, match=f"{name} must be above 0"):
            point_errors(*maps(), CAMERA, **{name: 0})
