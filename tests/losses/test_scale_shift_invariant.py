"""The loss up to scale and shift against its formula in NumPy; what every loss promises is in test_contract.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from mde.errors import ConfigError
from mde.losses.scale_shift_invariant import ScaleShiftInvariantLoss, scale_shift_invariant_loss

Map = NDArray[np.float64]


def normalised(values: Map, mask: NDArray[np.bool_]) -> Map:
    known = np.sort(values[mask])
    middle = known[(len(known) - 1) // 2]
    return np.asarray((values - middle) / np.abs(known - middle).mean())


def by_the_formula(pred: Map, target: Map, mask: NDArray[np.bool_], weight: float) -> float:
    """Pixel by pixel, one image."""
    error = normalised(pred, mask) - normalised(target, mask)
    height, width = error.shape
    values, edges = 0.0, 0.0
    for i in range(height):
        for j in range(width):
            if not mask[i, j]:
                continue
            values += abs(error[i, j])
            for step in (1, 2, 4, 8):
                if i + step < height and mask[i + step, j]:
                    edges += abs(error[i + step, j] - error[i, j])
                if j + step < width and mask[i, j + step]:
                    edges += abs(error[i, j + step] - error[i, j])
    return float((values + weight * edges) / mask.sum())


def maps(seed: int, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pred, target = (torch.rand(batch, 1, 9, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    return pred, target, torch.rand(batch, 1, 9, 12, generator=generator) > 0.3


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), weight=st.sampled_from([0.0, 0.5, 2.0]))
def test_is_the_formula(seed: int, weight: float) -> None:
    pred, target, valid = maps(seed)
    expected = by_the_formula(pred[0, 0].numpy(), target[0, 0].numpy(), valid[0, 0].numpy(), weight)
    assert float(scale_shift_invariant_loss(pred, target, valid, weight)) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_scale_and_shift_do_not_matter_but_the_sign_does(seed: int, scale: float, shift: float) -> None:
    pred, target, valid = maps(seed, batch=2)
    loss = ScaleShiftInvariantLoss()
    assert float(loss(scale * pred + shift, target, valid)) == pytest.approx(float(loss(pred, target, valid)), rel=1e-6)
    assert float(loss(scale * target + shift, target, valid)) < 1e-6
    assert float(loss(-scale * target + shift, target, valid)) > 0.5


@pytest.mark.parametrize("known", [0, 1, 50])
@pytest.mark.parametrize("constant", [0.0, 3.0, 1e6])
def test_constant_maps_have_small_gradients(known: int, constant: float) -> None:
    """A dead head, or a truth of one pixel: nothing explodes where there is no spread to divide by."""
    pred = torch.full((1, 1, 9, 12), constant, requires_grad=True)
    target = torch.rand(1, 1, 9, 12, generator=torch.Generator().manual_seed(0))
    valid = (torch.arange(108) < known).view(1, 1, 9, 12)
    value = ScaleShiftInvariantLoss()(pred, target, valid)
    value.backward()
    assert torch.isfinite(value)
    assert pred.grad is not None
    assert float(pred.grad.abs().max()) <= 10


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least 0 and steps at least 1.*Next"):
        ScaleShiftInvariantLoss(gradient_weight=-1.0)
    with pytest.raises(ConfigError, match="steps"):
        ScaleShiftInvariantLoss(steps=(0,))
