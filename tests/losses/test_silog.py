"""The scale-invariant loss against its three public formulas in NumPy, its invariances, its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from mde.codecs import Linear, Log, Reciprocal
from mde.errors import ConfigError
from mde.losses import LossMaps, SILogLoss, silog_loss

EIGEN: dict[str, Any] = {"lambda_": 0.5, "scale": 1.0, "root": False, "pooling": "image"}
DEPTH_ANYTHING: dict[str, Any] = {"lambda_": 0.5, "scale": 1.0}


def maps(seed: int, share: float = 0.7, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    pred, target = np.exp(rng.uniform(-2, 4, (2, batch, 1, 5, 6)))
    valid = rng.random((batch, 1, 5, 6)) < share
    valid[:, 0, 0, :2] = True
    return torch.from_numpy(pred), torch.from_numpy(target), torch.from_numpy(valid)


def difference(pred: Tensor, target: Tensor, valid: Tensor) -> NDArray[np.float64]:
    return np.asarray(np.log(pred[valid].numpy()) - np.log(target[valid].numpy()))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), share=st.sampled_from([0.0, 0.3, 1.0]))
def test_public_definitions(seed: int, share: float) -> None:
    pred, target, valid = maps(seed, share)
    g = difference(pred, target, valid)
    bts = 10 * np.sqrt((g**2).mean() - 0.85 * g.mean() ** 2)
    adabins = 10 * np.sqrt(np.var(g, ddof=1) + 0.15 * g.mean() ** 2)
    anything = np.sqrt((g**2).mean() - 0.5 * g.mean() ** 2)
    assert float(SILogLoss()(pred, target, valid)) == pytest.approx(bts, rel=1e-9)
    assert float(SILogLoss(unbiased=True)(pred, target, valid)) == pytest.approx(adabins, rel=1e-9)
    assert float(SILogLoss(**DEPTH_ANYTHING)(pred, target, valid)) == pytest.approx(anything, rel=1e-9)
    of_images, sizes = [], []
    for p, t, v in zip(pred, target, valid, strict=True):
        d = difference(p, t, v)
        of_images.append((d**2).sum() / len(d) - 0.5 * d.sum() ** 2 / len(d) ** 2)  # equation 4, letter by letter
        sizes.append(len(d))
    eigen = np.average(of_images, weights=sizes)
    assert float(SILogLoss(**EIGEN)(pred, target, valid)) == pytest.approx(eigen, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), factor=st.floats(1e-2, 1e2), root=st.booleans(), unbiased=st.booleans())
def test_lambda_1_knows_no_scale_and_others_do(seed: int, factor: float, root: bool, unbiased: bool) -> None:
    pred, target, valid = maps(seed)
    for pooling in ("batch", "image"):
        whole = SILogLoss(1.0, root=root, unbiased=unbiased, pooling=pooling)
        value = float(whole(pred, target, valid))
        assert float(whole(factor * pred, target, valid)) == pytest.approx(value, rel=1e-9)
        assert float(whole(factor * target, target, valid)) == pytest.approx(0, abs=1e-12)
    offset = abs(np.log(factor))
    assert float(silog_loss(factor * target, target, valid)) == pytest.approx(10 * np.sqrt(0.15) * offset, abs=1e-9)
    # equation 4 is the same with both sides swapped
    swapped = silog_loss(target, pred, valid, **EIGEN)
    assert float(silog_loss(pred, target, valid, **EIGEN)) == pytest.approx(float(swapped), rel=1e-9)


def test_each_image_may_have_its_own_scale_only_by_image() -> None:
    target = torch.rand(2, 1, 4, 5, dtype=torch.float64) + 1
    pred = target * torch.tensor([0.5, 3.0], dtype=torch.float64).view(2, 1, 1, 1)
    valid = torch.ones_like(target, dtype=torch.bool)
    assert float(silog_loss(pred, target, valid, 1.0, pooling="image")) == pytest.approx(0, abs=1e-6)
    assert float(silog_loss(pred, target, valid, 1.0, 1.0)) == pytest.approx(np.log(6) / 2)  # half the offset


@pytest.mark.parametrize("loss", [SILogLoss(), SILogLoss(1.0), SILogLoss(unbiased=True), SILogLoss(**EIGEN)], ids=repr)
@pytest.mark.parametrize("codec", [Linear(0.1, 80.0), Log(0.1, 80.0), Reciprocal(0.1, 80.0)], ids=repr)
@pytest.mark.parametrize("known", [1, 2, 20])
def test_gradients_are_finite_at_every_depth(loss: SILogLoss, codec: Any, known: int) -> None:
    """Ends of the range, outputs beyond it, equal maps, constant maps, one pixel: in float32, through the codec."""
    valid = (torch.arange(20) < known).view(1, 1, 4, 5)
    low, high = sorted(codec.encoded_range)
    for raw in (low, high, (low + high) / 2, low - 5.0, high + 5.0):
        for depth in (0.1, 80.0, 3.0):
            output = torch.full((1, 1, 4, 5), raw, requires_grad=True)
            value = loss.of(LossMaps(output, torch.full((1, 1, 4, 5), depth), valid, codec))
            (gradient,) = torch.autograd.grad(value, output)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()
    same = (codec.encode(torch.linspace(0.1, 80.0, 20)).view(1, 1, 4, 5)).requires_grad_()
    value = loss.of(LossMaps(same, codec.decode(same.detach()), valid, codec))
    assert float(value.detach()) < 1e-5
    assert torch.autograd.grad(value, same)[0].isfinite().all()


def test_rounding_never_makes_it_negative() -> None:
    """mean g^2 - (mean g)^2 of a large common factor cancels to noise in float32, which a root would turn to NaN."""
    target = 1 + torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    pred = (1e4 * target).requires_grad_()
    value = silog_loss(pred, target, target > 0, 1.0)
    value.backward()
    assert 0 <= float(value.detach()) < 1e-4  # 10 times the rounding of a logarithm near 9
    assert pred.grad is not None
    assert pred.grad.isfinite().all()


def test_an_output_beyond_the_range_is_brought_back() -> None:
    """The step against the gradient leads towards the truth from both sides, behind the clamp of the codec."""
    codec, valid = Linear(0.1, 10.0), torch.ones(1, 1, 1, 1, dtype=torch.bool)
    for raw, truth, sign in ((-3.0, 5.0, -1), (7.0, 5.0, 1)):
        output = torch.full((1, 1, 1, 1), raw, requires_grad=True)
        value = SILogLoss().of(LossMaps(output, torch.full((1, 1, 1, 1), truth), valid, codec))
        (gradient,) = torch.autograd.grad(value, output)
        assert np.sign(float(gradient)) == sign


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"lambda_": 1.5}, r"lambda_ must be from 0 to 1.*Next: 0\.85"),
        ({"lambda_": -0.1}, "lambda_ must be from 0 to 1"),
        ({"scale": 0.0}, "scale above 0"),
        ({"pooling": "pixel"}, r"unknown pooling 'pixel'.*Next: use one of batch, image"),
    ],
)
def test_wrong_settings_are_refused(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SILogLoss(**settings_)
