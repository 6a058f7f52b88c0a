from __future__ import annotations

from itertools import pairwise
from math import erf, sqrt

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from mde.errors import DataFormatError
from mde.metrics.uncertainty import sparsification, uncertainty_scores

Vector = NDArray[np.float64]


def as_maps(*vectors: Vector) -> list[Tensor]:
    p, g, s = (torch.from_numpy(v)[None, None, None] for v in vectors)
    return [p, g, torch.ones_like(p, dtype=torch.bool), s]


def scores(*vectors: Vector) -> dict[str, float]:
    return {name: value.item() for name, value in uncertainty_scores(*as_maps(*vectors)).items()}


def made(count: int = 700, seed: int = 0) -> tuple[Vector, Vector, Vector]:
    rng = np.random.default_rng(seed)
    truth, std = rng.uniform(4, 9, count), rng.uniform(0.05, 0.8, count)
    return truth + std * rng.normal(size=count), truth, std


def reference(p: Vector, g: Vector, s: Vector) -> dict[str, float]:
    """Curves by sorting and slicing, area by trapezoids."""
    metrics = {
        "abs_rel": (lambda q, t: np.mean(np.abs(q - t) / t), np.abs(p - g) / g),
        "rmse": (lambda q, t: np.sqrt(np.mean((q - t) ** 2)), np.abs(p - g)),
        "delta1": (lambda q, t: 1 - np.mean(np.maximum(q / t, t / q) < 1.25), np.maximum(p / g, g / p)),
    }
    found = {}
    for name, (error, own) in metrics.items():
        areas = []
        for order in (s, own):
            ranked = np.argsort(order)  # the surest first
            curve = []
            for k in range(50):
                kept = ranked[: max(1, int(np.ceil(len(p) * (50 - k) / 50)))]
                curve.append(error(p[kept], g[kept]))
            curve.append(0.0)
            areas.append(sum((a + b) / 2 / 50 for a, b in pairwise(curve)))
        found[f"ause_{name}"] = areas[0] - areas[1]
    for k in (1, 2, 3):
        found[f"within_{k}_std"] = float(np.mean(np.abs(p - g) <= k * s))
    levels = [j / 20 for j in range(1, 20)]
    shares = [
        np.mean(stats.norm.interval(c, p, s)[0] <= g) - np.mean(g > stats.norm.interval(c, p, s)[1]) for c in levels
    ]
    found["calibration_error"] = float(np.mean(np.abs(np.array(shares) - levels)))
    return found


@pytest.mark.parametrize("count", [1, 7, 49, 700])
def test_equals_the_formulas(count: int) -> None:
    vectors = made(count, seed=count)
    assert scores(*vectors) == pytest.approx(reference(*vectors), abs=1e-12)


def test_a_std_that_knows_every_error_has_no_area() -> None:
    p, g, _ = made()
    assert scores(p, g, np.abs(p - g))["ause_rmse"] == pytest.approx(0, abs=1e-15)
    assert scores(p, g, np.abs(p - g) / g)["ause_abs_rel"] == pytest.approx(0, abs=1e-15)
    wrong = scores(p, g, 1 / (np.abs(p - g) + 0.1))
    assert wrong["ause_rmse"] > scores(*made())["ause_rmse"] > 0


def test_a_constant_std_is_as_good_as_none_whatever_the_order_of_pixels() -> None:
    p, g, _ = made()
    constant = np.ones_like(p)
    curve = sparsification((p - g)[None] ** 2, constant)
    np.testing.assert_allclose(curve, np.mean((p - g) ** 2))
    order = np.argsort(np.abs(p - g))
    plain, shuffled = scores(p, g, constant), scores(p[order], g[order], constant)
    assert plain == pytest.approx(shuffled, abs=1e-12)


def test_a_right_gaussian_is_calibrated_and_a_bold_one_is_not() -> None:
    p, g, s = made(100_000)
    right = scores(p, g, s)
    for k in (1, 2, 3):
        assert right[f"within_{k}_std"] == pytest.approx(erf(k / sqrt(2)), abs=0.005)
    assert right["calibration_error"] < 0.005
    bold = scores(p, g, s / 10)
    assert bold["within_1_std"] == pytest.approx(erf(0.1 / sqrt(2)), abs=0.005)
    assert bold["calibration_error"] > 0.4
    assert bold["ause_rmse"] == pytest.approx(right["ause_rmse"], abs=1e-12)  # a factor does not change the ranking


def test_bad_std_is_an_error_and_zero_is_none() -> None:
    p, g, s = made(20)
    for value in (np.nan, -0.1, np.inf):
        with pytest.raises(DataFormatError, match="std is negative or not finite"):
            scores(p, g, np.where(np.arange(20) == 3, value, s))
    sure = scores(p, g, np.zeros(20))
    assert sure["within_3_std"] == 0
    assert scores(g, g, np.zeros(20))["within_1_std"] == 1


def test_a_prediction_of_zero_is_outside_of_delta1() -> None:
    p, g, s = made(60)
    p[:5] = 0.0
    found = scores(p, g, s)
    assert all(np.isfinite(value) for value in found.values())
