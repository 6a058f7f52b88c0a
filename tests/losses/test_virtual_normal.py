"""Virtual normals: the mean over all triangles of a small picture by brute force, planes, and what is left out."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from mde.errors import ConfigError
from mde.geometry import intrinsics_matrix, pixel_rays, unproject
from mde.losses import VirtualNormalLoss, virtual_normal_loss

CAMERA = intrinsics_matrix(3.0, 4.0, 1.2, 1.4)[None].double()
Points = NDArray[np.float64]


def maps(seed: int = 0, height: int = 3, width: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    pred, target = (1 + 3 * torch.rand(1, 1, height, width, generator=rng, dtype=torch.float64) for _ in range(2))
    valid = torch.ones(1, 1, height, width, dtype=torch.bool)
    valid[0, 0, 1, 1:3] = False
    return pred, target, valid


def points(depth: Tensor, valid: Tensor) -> Points:
    return np.asarray(unproject(depth, CAMERA)[0].numpy()[:, valid[0, 0].numpy()].T)


def angle(corner: Points, one: Points, other: Points) -> float:
    a, b = one - corner, other - corner
    return float(np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))


def unit_normal(a: Points, b: Points, c: Points) -> Points:
    normal = np.cross(b - a, c - a)
    return np.asarray(normal / np.linalg.norm(normal))


def every_triangle(pred: Tensor, target: Tensor, valid: Tensor, least: float, low: float, high: float) -> list[float]:
    """Errors of all ordered triples that count, by the definition."""
    guess, truth = points(pred, valid), points(target, valid)
    errors = []
    for i, j, k in permutations(range(len(truth)), 3):
        a, b, c = truth[i], truth[j], truth[k]
        sides = [np.linalg.norm(a - b), np.linalg.norm(b - c), np.linalg.norm(c - a)]
        if min(sides) > least and low <= angle(a, b, c) <= high and low <= angle(b, a, c) <= high:
            errors.append(float(np.abs(unit_normal(guess[i], guess[j], guess[k]) - unit_normal(a, b, c)).sum()))
    return errors


@pytest.mark.parametrize("drop", [0.0, 0.25, 0.9])
@pytest.mark.parametrize("shape", [(0.6, 30.0, 120.0), (1.5, 40.0, 100.0)])
def test_many_draws_approach_the_mean_over_all_triangles(drop: float, shape: tuple[float, float, float]) -> None:
    pred, target, valid = maps()
    least, low, high = shape
    errors = sorted(every_triangle(pred, target, valid, least, low, high))
    assert len(errors) > 50
    expected = np.mean(errors[int(drop * len(errors)) :])
    torch.manual_seed(0)
    loss = VirtualNormalLoss(share=3000, min_distance=least, angles=(low, high), drop=drop)
    assert float(loss(pred, target, valid, CAMERA)) == pytest.approx(expected, rel=0.02)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), factor=st.floats(0.01, 100))
def test_a_factor_changes_nothing(seed: int, factor: float) -> None:
    """Normals have no scale; which triangles count depends on the truth alone."""
    pred, target, valid = maps(seed, 6, 7)
    values = []
    for each in (pred, factor * pred, factor * target):
        torch.manual_seed(seed)
        values.append(float(VirtualNormalLoss(share=3.0)(each, target, valid, CAMERA)))
    assert values[0] > 0.1
    assert values[1] == pytest.approx(values[0], rel=1e-9)
    assert values[2] == pytest.approx(0, abs=1e-9)


def test_two_planes_give_the_distance_of_their_normals() -> None:
    """All triangles on a plane have its normal, up to the sense of rotation, which both share."""
    rays = pixel_rays(CAMERA, 6, 7)
    flat, tilted = torch.tensor([0.0, 0.0, -1.0]).double(), torch.tensor([0.2, -0.1, -0.97]).double()
    tilted = tilted / tilted.norm()
    target, pred = (-2.0 / (rays * normal.view(1, 3, 1, 1)).sum(1, keepdim=True) for normal in (flat, tilted))
    assert (pred > 0).all()
    value = virtual_normal_loss(pred, target, target > 0, CAMERA, share=3.0)
    assert float(value) == pytest.approx(float((flat - tilted).abs().sum()), rel=1e-9)


@pytest.mark.parametrize("settings_", [{"min_distance": 100.0}, {"angles": (91.0, 180.0)}])
def test_where_no_triangle_counts_the_loss_is_a_connected_zero(settings_: dict[str, Any]) -> None:
    """All points too near, or two angles wanted that no triangle has."""
    pred, target, valid = maps()
    pred.requires_grad_()
    value = VirtualNormalLoss(**settings_)(pred, target, valid, CAMERA)
    assert float(value.detach()) == 0
    assert torch.equal(torch.autograd.grad(value, pred)[0], torch.zeros_like(pred))


def test_flat_predicted_triangles_are_left_out() -> None:
    """One row of pixels: predicted as a wall its points lie in a line, and their cross products are rounding noise."""
    target = torch.tensor([1.0, 4.0, 1.5, 6.0, 1.0, 5.0]).view(1, 1, 1, 6)
    pred = torch.full_like(target, 2.0).requires_grad_()
    value = VirtualNormalLoss(share=50.0)(pred, target, target > 0, CAMERA)
    (gradient,) = torch.autograd.grad(value, pred)
    assert float(value.detach()) == 0
    assert torch.equal(gradient, torch.zeros_like(pred))


@pytest.mark.parametrize("depth", [1e-3, 0.1, 80.0])
@pytest.mark.parametrize("known", [1, 3, 42])
def test_gradients_are_finite_at_every_depth(depth: float, known: int) -> None:
    _, target, _ = maps(0, 6, 7)
    valid = (torch.arange(42) < known).view(1, 1, 6, 7)
    for pred in (torch.full((1, 1, 6, 7), depth), target.float(), torch.where(target > 2, depth, 0.1).float()):
        given = pred.clone().requires_grad_()
        value = VirtualNormalLoss(share=5.0)(given, target.float(), valid, CAMERA)
        assert 0 <= float(value.detach()) <= 2 * np.sqrt(3)
        assert torch.autograd.grad(value, given)[0].isfinite().all()


def test_only_valid_pixels_are_drawn_and_an_invalid_image_none() -> None:
    pred, target, valid = (t.expand(3, -1, -1, -1).clone() for t in maps(0, 6, 7))
    valid[1] = False
    pred[~valid] = float("nan")
    pred.requires_grad_()
    (gradient,) = torch.autograd.grad(VirtualNormalLoss(share=20.0)(pred, target, valid, CAMERA.expand(3, 3, 3)), pred)
    assert gradient.isfinite().all()
    assert (gradient[~valid] == 0).all()
    assert (gradient[valid] != 0).all()  # of so many triangles each valid pixel is in one


def test_draws_differ_from_step_to_step_and_repeat_with_the_seed() -> None:
    pred, target, valid = maps(0, 6, 7)
    loss, values = VirtualNormalLoss(share=3.0), []
    for seed in (1, None, 1):
        if seed is not None:
            torch.manual_seed(seed)
        values.append(float(loss(pred, target, valid, CAMERA)))
    assert values[0] == values[2] != values[1]


@pytest.mark.parametrize(
    "wrong",
    [{"share": 0.0}, {"min_distance": -1.0}, {"drop": 1.0}, {"angles": (0.0, 120.0)}, {"angles": (120.0, 30.0)}],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"out of range.*VirtualNormalLoss.*Next: share above 0"):
        VirtualNormalLoss(**wrong)
