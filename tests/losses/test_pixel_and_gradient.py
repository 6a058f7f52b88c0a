"""L1, MSE and the gradient loss against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mde.losses import gradient_loss, l1_loss, mse_loss


def gradient_by_loops(error: NDArray[np.float64], valid: NDArray[np.bool_]) -> float:
    """The definition, pixel by pixel, of one picture (H,W)."""
    height, width = error.shape
    total = 0.0
    for i in range(height):
        for j in range(width):
            for k, l in ((i, j + 1), (i + 1, j)):
                if k < height and l < width and valid[i, j] and valid[k, l]:
                    total += abs(error[k, l] - error[i, j])
    return total / max(int(valid.sum()), 1)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    share=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_losses_equal_numpy(shape: tuple[int, int, int], share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch, height, width = shape
    pred, target = rng.uniform(0, 80, (2, batch, 1, height, width))
    valid = rng.random((batch, 1, height, width)) < share
    inputs = torch.from_numpy(pred).float(), torch.from_numpy(target).float(), torch.from_numpy(valid)
    error = inputs[0].numpy().astype(np.float64) - inputs[1].numpy()
    count = max(int(valid.sum()), 1)
    assert float(l1_loss(*inputs)) == pytest.approx(np.abs(error[valid]).sum() / count, rel=1e-5)
    assert float(mse_loss(*inputs)) == pytest.approx((error[valid] ** 2).sum() / count, rel=1e-5)
    pictures = zip(error[:, 0], valid[:, 0], strict=True)
    total = sum(gradient_by_loops(e, v) * max(int(v.sum()), 1) for e, v in pictures)
    assert float(gradient_loss(*inputs)) == pytest.approx(total / count, rel=1e-4, abs=1e-6)


def test_full_mask_gives_the_formula_of_densedepth() -> None:
    """tf.image.image_gradients of both maps, zero in the last row and column, and a mean over all pixels."""
    pred, target = torch.rand(2, 2, 1, 7, 9, dtype=torch.float64)

    def gradients(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        down, across = np.zeros_like(values), np.zeros_like(values)
        down[:, :, :-1] = values[:, :, 1:] - values[:, :, :-1]
        across[..., :-1] = values[..., 1:] - values[..., :-1]
        return down, across

    (down_p, across_p), (down_t, across_t) = gradients(pred.numpy()), gradients(target.numpy())
    expected = np.mean(np.abs(down_p - down_t) + np.abs(across_p - across_t))
    valid = torch.ones_like(target, dtype=torch.bool)
    assert float(gradient_loss(pred, target, valid)) == pytest.approx(expected, rel=1e-12)


def test_gradient_loss_ignores_a_constant_offset() -> None:
    target = torch.rand(1, 1, 5, 6, dtype=torch.float64)
    valid = torch.rand(1, 1, 5, 6) < 0.7
    assert float(gradient_loss(target + 3, target, valid)) == pytest.approx(0, abs=1e-14)


def test_a_pair_counts_only_when_both_pixels_are_valid() -> None:
    pred = torch.tensor([[[[0.0, 10.0, 0.0, 1.0]]]])
    valid = torch.tensor([[[[True, False, True, True]]]])
    assert gradient_loss(pred, torch.zeros_like(pred), valid) == pytest.approx(1 / 3)
