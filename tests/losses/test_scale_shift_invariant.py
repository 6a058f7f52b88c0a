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


def fitted(pred: Map, target: Map, mask: NDArray[np.bool_]) -> Map:
    """What a least-squares line from prediction to truth leaves."""
    rows = np.stack([pred[mask], np.ones(mask.sum())], axis=1)
    scale, shift = np.linalg.lstsq(rows, target[mask], rcond=None)[0]
    return np.asarray(scale * pred + shift - target)


def edges(error: Map, mask: NDArray[np.bool_]) -> float:
    total = 0.0
    for step in (1, 2, 4, 8):
        total += np.abs(error[step:] - error[:-step])[mask[step:] & mask[:-step]].sum()
        total += np.abs(error[:, step:] - error[:, :-step])[mask[:, step:] & mask[:, :-step]].sum()
    return total


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


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), weight=st.sampled_from([0.0, 0.5]))
def test_trimmed_and_mse_are_their_formulas(seed: int, weight: float) -> None:
    pred, target, valid = maps(seed)
    p, t, mask = pred[0, 0].numpy(), target[0, 0].numpy(), valid[0, 0].numpy()
    count = int(mask.sum())
    left = fitted(p, t, mask)
    mse = ((left[mask] ** 2).sum() + weight * edges(left, mask)) / count
    left = normalised(p, mask) - normalised(t, mask)
    kept = np.sort(np.abs(left[mask]))[: int(np.ceil(0.8 * count))]
    trimmed = (kept.sum() + weight * edges(left, mask)) / count
    assert float(scale_shift_invariant_loss(pred, target, valid, weight, form="mse")) == pytest.approx(mse, rel=1e-8)
    ours = scale_shift_invariant_loss(pred, target, valid, weight, form="trimmed")
    assert float(ours) == pytest.approx(trimmed, rel=1e-9)


def test_a_fifth_of_outliers_costs_nothing_when_trimmed() -> None:
    """Noise on a fifth of the truth, which changes neither median nor much of the spread of a perfect prediction."""
    target = torch.linspace(0, 1, 100, dtype=torch.float64).view(1, 1, 10, 10)
    spoilt = target.clone()
    spoilt[0, 0, 9, 5:] += 0.5  # beyond the median: the order of the rest stays
    valid = torch.ones_like(target, dtype=torch.bool)
    losses = {form: ScaleShiftInvariantLoss(0.0, form=form)(target, spoilt, valid) for form in ("mae", "trimmed")}
    assert float(losses["trimmed"]) < 0.6 * float(losses["mae"])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    scale=st.floats(0.01, 100),
    shift=st.floats(-50, 50),
    form=st.sampled_from(["mse", "trimmed"]),
)
def test_no_form_knows_scale_or_shift(seed: int, scale: float, shift: float, form: str) -> None:
    pred, target, valid = maps(seed, batch=2)
    loss = ScaleShiftInvariantLoss(form=form)
    assert float(loss(scale * pred + shift, target, valid)) == pytest.approx(float(loss(pred, target, valid)), rel=1e-6)
    assert float(loss(scale * target + shift, target, valid)) < 1e-6
    backwards = float(loss(-scale * target + shift, target, valid))
    assert backwards < 1e-6 if form == "mse" else backwards > 0.5


def test_each_image_has_its_own_line() -> None:
    pred, target, valid = maps(1, batch=2)
    moved = pred * torch.tensor([0.1, 7.0]).view(2, 1, 1, 1) + torch.tensor([3.0, -4.0]).view(2, 1, 1, 1)
    for form in ("mae", "trimmed", "mse"):
        loss = ScaleShiftInvariantLoss(form=form)
        assert float(loss(moved, target, valid)) == pytest.approx(float(loss(pred, target, valid)), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_scale_and_shift_do_not_matter_but_the_sign_does(seed: int, scale: float, shift: float) -> None:
    pred, target, valid = maps(seed, batch=2)
    loss = ScaleShiftInvariantLoss()
    assert float(loss(scale * pred + shift, target, valid)) == pytest.approx(float(loss(pred, target, valid)), rel=1e-6)
    assert float(loss(scale * target + shift, target, valid)) < 1e-6
    assert float(loss(-scale * target + shift, target, valid)) > 0.5


@pytest.mark.parametrize("known", [0, 1, 50])
@pytest.mark.parametrize("constant", [0.0, 3.1, 1e6])
@pytest.mark.parametrize("form", ["mae", "trimmed", "mse"])
def test_constant_maps_have_small_gradients(known: int, constant: float, form: str) -> None:
    """A dead head, or a truth of one pixel: nothing explodes where there is no spread to divide by."""
    pred = torch.full((1, 1, 9, 12), constant, requires_grad=True)
    target = torch.rand(1, 1, 9, 12, generator=torch.Generator().manual_seed(0))
    valid = (torch.arange(108) < known).view(1, 1, 9, 12)
    value = ScaleShiftInvariantLoss(form=form)(pred, target, valid)
    value.backward()
    assert torch.isfinite(value)
    assert pred.grad is not None
    assert float(pred.grad.abs().max()) <= 10


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), form=st.sampled_from(["mae", "trimmed", "mse"]), missing=st.booleans())
def test_images_count_alike_or_by_their_pixels(seed: int, form: str, missing: bool) -> None:
    """A dense image, a sparse one and, in some batches, one without truth."""
    pred, target, _ = maps(seed, batch=3)
    share = torch.tensor([1.0, 0.2, 0.0 if missing else 0.5]).view(3, 1, 1, 1)
    valid = torch.rand(pred.shape, generator=torch.Generator().manual_seed(seed)) < share
    valid[1, 0, :2, :2] = True  # some at least
    single = np.array([one_image(*(t[i, 0].numpy() for t in (pred, target, valid)), form) for i in range(3)])
    count = valid.flatten(1).sum(1).numpy()
    images, pixels = (
        float(scale_shift_invariant_loss(pred, target, valid, form=form, average=average))
        for average in ("images", "pixels")
    )
    assert images == pytest.approx(single[count > 0].mean(), rel=1e-8)
    assert pixels == pytest.approx((single * count).sum() / count.sum(), rel=1e-8)


def one_image(pred: Map, target: Map, mask: NDArray[np.bool_], form: str) -> float:
    count = int(mask.sum())
    if count == 0:
        return 0.0
    if form == "mse":
        error = fitted(pred, target, mask)
        return float(((error[mask] ** 2).sum() + 0.5 * edges(error, mask)) / count)
    error = normalised(pred, mask) - normalised(target, mask)
    kept = np.sort(np.abs(error[mask]))[: int(np.ceil(0.8 * count)) if form == "trimmed" else count]
    return float((kept.sum() + 0.5 * edges(error, mask)) / count)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown average 'batch'.*Next: use one of images, pixels"):
        ScaleShiftInvariantLoss(average="batch")
    with pytest.raises(ConfigError, match=r"at least 0 and steps at least 1.*Next"):
        ScaleShiftInvariantLoss(gradient_weight=-1.0)
    with pytest.raises(ConfigError, match="steps"):
        ScaleShiftInvariantLoss(steps=(0,))
    with pytest.raises(ConfigError, match=r"unknown form 'l1'.*Next: use one of mae, trimmed, mse"):
        ScaleShiftInvariantLoss(form="l1")


@pytest.mark.parametrize("constant", [0.0, 0.3, 7.7, 123.4, 1e6])
def test_a_large_constant_map_is_level_despite_rounding(constant: float) -> None:
    """The mean of a third of a million equal numbers is not that number: no line may be fitted to the difference."""
    pred = torch.full((1, 1, 480, 640), constant, requires_grad=True)
    target = torch.rand(1, 1, 480, 640, generator=torch.Generator().manual_seed(0))
    valid = torch.ones_like(target, dtype=torch.bool)
    value = scale_shift_invariant_loss(pred, target, valid, form="mse")
    left = target.mean() - target  # of the truth itself
    expected = left.square().mean() + 0.5 * edges(left[0, 0].double().numpy(), valid[0, 0].numpy()) / left.numel()
    assert float(value.detach()) == pytest.approx(float(expected), rel=1e-3)
    assert torch.equal(torch.autograd.grad(value, pred)[0], torch.zeros_like(pred))
