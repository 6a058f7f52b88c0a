from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from mde.codecs import Disparity
from mde.errors import ConfigError
from mde.geometry import intrinsics_matrix, shift_columns, stereo_disparity
from mde.losses import PhotometricLoss, photometric_loss
from tests.pairs import rendered, wall

FACTORS = (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25)


def by_formula(pred: np.ndarray, target: np.ndarray, valid: np.ndarray, weight: float) -> float:
    """Equation 2 in float64: SSIM of all 3x3 windows without an invalid pixel, with C1 = 0.01^2 and C2 = 0.03^2."""
    windows = [sliding_window_view(each, (3, 3), axis=(-2, -1)).astype(np.float64) for each in (pred, target)]
    (m, n), (p, q) = ([each.mean((-2, -1)) for each in windows], [each.var((-2, -1)) for each in windows])
    covariance = (windows[0] * windows[1]).mean((-2, -1)) - m * n
    ssim = (2 * m * n + 1e-4) * (2 * covariance + 9e-4) / ((m**2 + n**2 + 1e-4) * (p + q + 9e-4))
    whole = np.broadcast_to(sliding_window_view(valid, (3, 3), axis=(-2, -1)).all((-2, -1)), ssim.shape)
    difference = np.abs(pred.astype(np.float64) - target)[np.broadcast_to(valid, pred.shape)]
    return float(weight * ((1 - ssim) / 2)[whole].mean() + (1 - weight) * difference.mean())


@pytest.mark.parametrize("weight", [0.0, 0.85, 1.0])
def test_equals_the_formula(weight: float) -> None:
    rng = np.random.default_rng(0)
    pred, target = rng.random((2, 2, 3, 9, 12)).astype(np.float32)
    valid = np.ones((2, 1, 9, 12), bool)
    valid[0, 0, 3, 4:7] = False
    found = PhotometricLoss(weight)(*map(torch.from_numpy, (pred, target, valid)))
    assert float(found) == pytest.approx(by_formula(pred, target, valid, weight), rel=1e-5)


def at(factor: float, left: torch.Tensor, right: torch.Tensor, disparity: torch.Tensor, seen: torch.Tensor) -> float:
    rebuilt, inside = shift_columns(right, factor * disparity)
    return float(photometric_loss(rebuilt, left, inside & seen))


def test_zero_at_the_true_disparity_of_a_wall_and_there_alone() -> None:
    left, right = wall(shift=6)
    disparity = torch.full((1, 1, 24, 48), 6.0)
    values = [at(factor, left, right, disparity, disparity > 0) for factor in FACTORS]
    assert values[3] < 1e-5
    assert values[:4] == sorted(values[:4], reverse=True)
    assert values[3:] == sorted(values[3:])
    assert min(values[2], values[4]) > 1e-3
    assert at(-1, left, right, disparity, disparity > 0) > 0.05  # the other direction


@pytest.mark.parametrize(("world", "baseline"), [("street", 0.54), ("rooms", 0.12)])
def test_least_at_the_true_disparity_of_rendered_pairs(world: str, baseline: float) -> None:
    values = []
    for index in range(4):
        left, right, disparity, _, both_see = rendered(world, index, baseline)
        values.append([at(factor, left, right, disparity, both_see) for factor in FACTORS])
    mean = np.mean(values, 0)
    assert mean.argmin() == 3, mean
    assert mean[3] < 0.9 * min(mean[0], mean[-1]), mean


def test_gradient_is_finite_at_every_depth() -> None:
    """Through the codec, whose ends are 0.5 m and 80 m, and beyond them."""
    left, right = wall(shift=4)
    codec, camera = Disparity(0.5, 80.0), intrinsics_matrix(40.0, 40.0, 23.5, 11.5)[None]
    for raw_value in (-0.5, 0.0, 1e-6, 0.01, 0.3, 1.0, 2.0):
        raw = torch.full((1, 1, 24, 48), raw_value, requires_grad=True)
        disparity = stereo_disparity(codec.decode_through(raw), camera, torch.tensor([0.2]))
        rebuilt, inside = shift_columns(right, disparity)
        photometric_loss(rebuilt, left, inside).backward()
        assert raw.grad is not None
        assert raw.grad.isfinite().all()
        assert raw.grad.abs().sum() > 0


def test_a_mask_of_one_channel_is_that_of_all_colours() -> None:
    pred, target = torch.rand(2, 2, 3, 8, 8)
    valid = torch.rand(2, 1, 8, 8) < 0.9
    assert photometric_loss(pred, target, valid) == photometric_loss(pred, target, valid.expand(2, 3, 8, 8))


def test_what_does_not_fit_is_refused() -> None:
    picture, seen = torch.rand(1, 3, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
    with pytest.raises(ConfigError, match="one shape"):
        photometric_loss(picture, picture, seen[..., 1:])
    with pytest.raises(ConfigError, match="too small"):
        photometric_loss(picture[..., :2], picture[..., :2], seen[..., :2])
    with pytest.raises(ConfigError, match=r"\[0, 1\].*0\.85"):
        PhotometricLoss(1.2)
