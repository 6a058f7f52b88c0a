"""The reverse Huber loss against its formula, and its threshold as a constant of the gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mde.errors import ConfigError
from mde.losses import BerHuLoss, berhu_loss, l1_loss


def maps(seed: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    pred, target = rng.uniform(0, 80, (2, 2, 1, 5, 6))
    valid = rng.random((2, 1, 5, 6)) < share
    valid[0, 0, 0, 0] = True
    return torch.from_numpy(pred).requires_grad_(), torch.from_numpy(target), torch.from_numpy(valid)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), share=st.sampled_from([0.0, 0.4, 1.0]), fraction=st.sampled_from([0.05, 0.2, 1.0]))
def test_value_and_gradient_are_those_of_the_formula(seed: int, share: float, fraction: float) -> None:
    pred, target, valid = maps(seed, share)
    error = (pred.detach() - target).numpy()
    c = fraction * np.abs(error[valid.numpy()]).max()
    each = np.where(np.abs(error) <= c, np.abs(error), (error**2 + c**2) / (2 * c))
    slope = np.where(np.abs(error) <= c, np.sign(error), error / c)  # c is a constant
    value = berhu_loss(pred, target, valid, fraction)
    (gradient,) = torch.autograd.grad(value, pred)
    assert float(value.detach()) == pytest.approx(each[valid.numpy()].mean(), rel=1e-10)
    expected = np.where(valid.numpy(), slope, 0) / int(valid.sum())
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-10)
    np.testing.assert_array_less(np.abs(gradient.numpy()) * int(valid.sum()), 1 / fraction + 1e-9)


def test_one_threshold_for_the_batch_and_invalid_pixels_do_not_set_it() -> None:
    target = torch.zeros(2, 1, 1, 2)
    pred = torch.tensor([[0.1, 10.0], [1.0, 1e6]]).view(2, 1, 1, 2)
    valid = torch.tensor([[True, True], [True, False]]).view(2, 1, 1, 2)
    # c = 2: two of the three errors are below it
    assert float(berhu_loss(pred, target, valid)) == pytest.approx((0.1 + 1.0 + (100 + 4) / 4) / 3)


def test_fraction_1_is_the_absolute_error() -> None:
    pred, target, valid = maps(0, 0.8)
    assert torch.equal(BerHuLoss(1.0)(pred, target, valid), l1_loss(pred, target, valid))


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-6, 80.0, 1e30])
@pytest.mark.parametrize("known", [1, 6])
def test_gradients_are_finite_for_every_error(size: float, known: int) -> None:
    target = torch.full((1, 1, 2, 3), 5.0 if size < 1e20 else 0.0)
    pred = (target + size * torch.arange(6).view(1, 1, 2, 3)).requires_grad_()
    valid = (torch.arange(6) < known).view(1, 1, 2, 3)
    value = BerHuLoss()(pred, target, valid)
    (gradient,) = torch.autograd.grad(value, pred)
    assert torch.isfinite(value)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.5, float("nan")])
def test_wrong_fractions_are_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match=r"fraction.*Next: 0\.2 is the paper's"):
        BerHuLoss(fraction)
