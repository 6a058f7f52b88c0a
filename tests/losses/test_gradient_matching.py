"""Gradient matching on log depth against the definition, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from mde.errors import ConfigError
from mde.losses import GradientMatchingLoss, gradient_matching_loss


def by_loops(ratio: NDArray[np.float64], valid: NDArray[np.bool_], steps: tuple[int, ...]) -> float:
    """One picture (H,W)."""
    height, width = ratio.shape
    total = 0.0
    for i, j in np.argwhere(valid):
        for step in steps:
            for k, l in ((i, j + step), (i + step, j)):
                if k < height and l < width and valid[k, l]:
                    total += abs(ratio[k, l] - ratio[i, j])
    return total / max(int(valid.sum()), 1)


def maps(seed: int, share: float = 0.7) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    pred, target = np.exp(rng.uniform(-2, 4, (2, 1, 1, 9, 11)))
    return torch.from_numpy(pred), torch.from_numpy(target), torch.from_numpy(rng.random((1, 1, 9, 11)) < share)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    share=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    steps=st.sampled_from([(1,), (1, 2, 4, 8), (3, 20)]),
)
def test_is_the_formula(seed: int, share: float, steps: tuple[int, ...]) -> None:
    pred, target, valid = maps(seed, share)
    ratio = np.log(pred.numpy()) - np.log(target.numpy())
    expected = by_loops(ratio[0, 0], valid[0, 0].numpy(), steps)
    assert float(GradientMatchingLoss(steps)(pred, target, valid)) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), factor=st.floats(1e-2, 1e2), power=st.sampled_from([0.5, 2.0]))
def test_knows_no_scale_but_contrast(seed: int, factor: float, power: float) -> None:
    pred, target, valid = maps(seed)
    value = float(gradient_matching_loss(pred, target, valid))
    assert float(gradient_matching_loss(factor * pred, target, valid)) == pytest.approx(value, rel=1e-9)
    assert float(gradient_matching_loss(factor * target, target, valid)) == pytest.approx(0, abs=1e-12)
    assert float(gradient_matching_loss(target**power, target, valid)) > 0.1
    assert float(gradient_matching_loss(target + 1, target, valid)) > 0.1  # a shift of depth is none of its logarithm


@pytest.mark.parametrize("depth", [1e-3, 0.1, 80.0])
@pytest.mark.parametrize("known", [1, 6])
def test_gradients_are_finite_at_the_ends_and_for_constant_maps(depth: float, known: int) -> None:
    pred = torch.full((1, 1, 2, 3), depth, requires_grad=True)
    valid = (torch.arange(6) < known).view(1, 1, 2, 3)
    for target in (torch.full_like(pred, depth), torch.tensor([0.1, 80.0, 0.1, 80.0, 0.1, 3.0]).view(1, 1, 2, 3)):
        (gradient,) = torch.autograd.grad(GradientMatchingLoss()(pred, target.detach(), valid), pred)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("steps", [(), (0,), (2, -1)])
def test_wrong_steps_are_refused(steps: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"steps of at least 1.*Next: \(1, 2, 4, 8\)"):
        GradientMatchingLoss(steps)
