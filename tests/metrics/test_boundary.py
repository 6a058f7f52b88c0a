from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from mde.errors import ConfigError
from mde.metrics.boundary import boundary_f1, depth_edges, edge_distances, edge_errors

Map = NDArray[np.float64]


def maps(seed: int, size: tuple[int, int] = (9, 11)) -> tuple[Map, Map, NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    truth = np.exp(rng.normal(0, 0.15, size))
    return truth * np.exp(rng.normal(0, 0.08, size)), truth, rng.random(size) > 0.1


def tensors(*arrays: NDArray[np.generic]) -> list[Tensor]:
    return [torch.from_numpy(a)[None, None] for a in arrays]


def occlusions(depth: Map, valid: NDArray[np.bool_], t: float) -> list[set[tuple[int, int]]]:
    """Pixels that occlude their neighbour, by direction, pair by pair."""
    found = []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        own = set()
        for y, x in np.ndindex(depth.shape):
            ny, nx = y + dy, x + dx
            if 0 <= ny < depth.shape[0] and 0 <= nx < depth.shape[1] and valid[y, x] and valid[ny, nx]:  # noqa: SIM102
                if depth[ny, nx] / depth[y, x] > t:
                    own.add((y, x))
        found.append(own)
    return found


def reference(pred: Map, truth: Map, valid: NDArray[np.bool_], convention: str) -> list[float]:
    """F1, precision and recall from the written formula."""
    total, weights = np.zeros(3), 0.0
    for t in np.linspace(1.05, 1.25, 10):
        p, g = occlusions(pred, valid, t), occlusions(truth, valid, t)
        both, n_p, n_g = ([len(s) for s in sets] for sets in ([a & b for a, b in zip(p, g, strict=True)], p, g))
        if convention == "pooled":
            if sum(n_g) == 0:
                continue
            both, n_p, n_g = [sum(both)], [sum(n_p)], [sum(n_g)]
        precision = np.mean([b / max(n, 1) for b, n in zip(both, n_p, strict=True)])
        recall = np.mean([b / max(n, 1) for b, n in zip(both, n_g, strict=True)])
        f1 = 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
        total, weights = total + t * np.array([f1, precision, recall]), weights + t
    return list(total / weights)


@pytest.mark.parametrize("convention", ["pooled", "authors"])
@pytest.mark.parametrize("seed", range(3))
def test_f1_is_the_formula(convention: str, seed: int) -> None:
    pred, truth, valid = maps(seed)
    found = boundary_f1(*tensors(pred, truth, valid), convention=convention)
    values = [found[name].item() for name in ("f1", "precision", "recall")]
    assert values == pytest.approx(reference(pred, truth, valid, convention), abs=1e-12)
    assert 0.1 < values[0] < 0.95


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), power=st.integers(-6, 6))
def test_f1_does_not_know_scale_and_swaps_with_its_arguments(seed: int, power: int) -> None:
    pred, truth, valid = maps(seed)
    plain, scaled, swapped = (
        boundary_f1(*tensors(a, b, valid), convention="authors")
        for a, b in ((pred, truth), (pred * 2.0**power, truth), (truth, pred))
    )
    assert all(torch.equal(plain[name], scaled[name]) for name in plain)
    assert plain["precision"].item() == pytest.approx(swapped["recall"].item(), abs=1e-12)
    assert plain["f1"].item() == pytest.approx(swapped["f1"].item(), abs=1e-12)


def test_a_perfect_prediction_of_a_vertical_edge_by_both_conventions() -> None:
    step = np.ones((6, 8))
    step[:, 4:] = 1.15  # an edge in one direction of four, at half the thresholds
    ones = step > 0
    assert boundary_f1(*tensors(step, step, ones))["f1"].item() == pytest.approx(1)
    levels = np.linspace(1.05, 1.25, 10)
    expected = (levels * (levels < 1.15)).sum() / levels.sum() / 4
    assert boundary_f1(*tensors(step, step, ones), convention="authors")["f1"].item() == pytest.approx(expected)


def test_without_an_edge_in_the_truth_there_is_no_f1() -> None:
    flat, step = np.ones((6, 8)), np.ones((6, 8))
    step[:, 4:] = 2.0
    assert boundary_f1(*tensors(step, flat, flat > 0))["f1"].isnan().all()
    missed = boundary_f1(*tensors(flat, step, flat > 0))
    assert [missed[name].item() for name in ("f1", "precision", "recall")] == [0, 0, 0]


def test_zero_and_negative_predictions_are_edges_or_nothing_but_no_failure() -> None:
    pred, truth, valid = maps(4)
    pred[2:5, 2:5], pred[6, 6] = 0.0, -3.0
    values = torch.stack(list(boundary_f1(*tensors(pred, truth, valid)).values()))
    assert values.isfinite().all()
    assert ((values >= 0) & (values <= 1)).all()


def test_settings_are_checked() -> None:
    args = tensors(*maps(0))
    for wrong in ({"thresholds": (0.9, 1.2)}, {"thresholds": (1.2, 1.1)}, {"steps": 0}, {"convention": "mine"}):
        with pytest.raises(ConfigError, match="use"):
            boundary_f1(*args, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_distance must be above 0"):
        edge_errors(*args, max_distance=0.0)


# ---- depth boundary errors -------------------------------------------------------------------------------------------


def brute_force(pred: NDArray[np.bool_], truth: NDArray[np.bool_], theta: float) -> list[float]:
    p, g = (np.argwhere(m).astype(float) for m in (pred, truth))
    apart = np.linalg.norm(p[:, None] - g[None], axis=2)
    a, c = apart.min(1), apart.min(0)
    near = a[a < theta]
    cut = np.minimum(np.concatenate((a, c)), theta)
    return [near.mean() if len(near) else theta, np.minimum(c, theta).mean(), cut.mean()]


@pytest.mark.parametrize("theta", [2.0, 5.0, 10.0])
def test_distances_are_those_of_all_pairs(theta: float) -> None:
    rng = np.random.default_rng(0)
    pred, truth = rng.random((20, 30)) > 0.97, rng.random((20, 30)) > 0.98
    assert edge_distances(pred, truth, theta) == pytest.approx(brute_force(pred, truth, theta), abs=1e-12)


def test_distances_without_edges() -> None:
    none, some = np.zeros((8, 9), bool), np.zeros((8, 9), bool)
    some[3] = True
    assert edge_distances(none, some) == (10, 10, 10)
    assert np.isnan(edge_distances(some, none)).all()


def stepped(column: int, size: tuple[int, int] = (40, 60)) -> Map:
    depth = np.full(size, 2.0)
    depth[:, column:] = 5.0
    return depth


def test_a_step_is_one_line_where_it_is() -> None:
    found = depth_edges(stepped(30), np.ones((40, 60), bool))
    assert set(np.flatnonzero(found.any(0))) <= {29, 30}
    assert found.any(1)[2:-2].all()


@pytest.mark.parametrize("shift", [0, 3, 7])
def test_a_shifted_step_is_off_by_its_shift(shift: int) -> None:
    valid = np.ones((40, 60), bool)
    found = edge_errors(*tensors(3 * stepped(30 + shift) + 1, stepped(30), valid))
    for name in ("accuracy", "completeness", "symmetric"):
        assert found[name].item() == pytest.approx(shift, abs=0.15)


def test_neither_a_slanted_plane_nor_a_hole_nor_a_crop_is_an_edge() -> None:
    v, u = np.mgrid[:40, :60]
    depth = 2 + 0.01 * v + 0.02 * u
    valid = np.ones((40, 60), bool)
    valid[10:15, 20:30] = False
    valid[:, :5] = valid[:3] = False
    assert not depth_edges(np.where(valid, depth, np.nan), valid).any()
    assert not depth_edges(np.full((40, 60), 3.0), valid).any()
    assert not depth_edges(depth, np.zeros_like(valid)).any()


def test_a_flat_prediction_takes_the_largest_distance_and_a_lidar_map_is_left_out() -> None:
    valid = np.ones((40, 60), bool)
    flat = edge_errors(*tensors(np.full((40, 60), 3.0), stepped(30), valid))
    assert [value.item() for value in flat.values()] == [10, 10, 10]
    sparse = np.random.default_rng(0).random((40, 60)) < 0.2
    assert edge_errors(*tensors(stepped(30), stepped(30), sparse))["accuracy"].isnan().all()
