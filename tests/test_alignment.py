from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.alignment import FITTING, MODES, Alignment, Fit, GlobalFit, align, apply_fit, fit, require_mode
from mde.alignment.fitting import _medians, _medians_by_sort
from mde.errors import ConfigError
from mde.types import Ambiguity

ORACLE = Path(__file__).parents[1] / "../shared/facts/metric_oracle.json"
FITTED = [mode for mode in MODES if mode != "none"]


def scene(seed: int, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Truth in metres (B,1,6,7) and a mask with holes."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand((batch, 1, 6, 7), generator=generator) * 9 + 1
    return truth, torch.rand(truth.shape, generator=generator) < 0.7


def distorted(truth: torch.Tensor, mode: str, a: float, b: float) -> torch.Tensor:
    """A prediction that `mode` can undo exactly."""
    if mode.endswith("disparity_scale_shift"):
        return (1 / truth.double() - b) / a
    if mode == "log_affine":
        return ((truth.double().log() - b) / a).exp()
    return (truth.double() - (b if mode.endswith("scale_shift") else 0)) / a


@pytest.mark.parametrize("mode", FITTED)
@given(seed=st.integers(0, 10**6), a=st.floats(0.1, 20), b=st.floats(-3, 3))
@settings(max_examples=20, deadline=None)
def test_recovers_a_prediction_that_differs_by_what_is_fitted(mode: str, seed: int, a: float, b: float) -> None:
    truth, valid = scene(seed)
    pred = torch.where(valid, distorted(truth, mode, a, b), torch.nan)
    aligned = align(pred, truth, valid, mode)
    torch.testing.assert_close(aligned[valid], truth.double()[valid], rtol=1e-6, atol=1e-6)
    assert not fit(pred, truth, valid, mode).degenerate.any()


@pytest.mark.parametrize("mode", ["scale", "scale_shift", "disparity_scale_shift", "log_affine"])
def test_least_squares_agree_with_numpy(mode: str) -> None:
    truth, valid = scene(1)
    pred = truth * 0.3 + torch.rand(truth.shape) + 0.1
    made = fit(pred, truth, valid, mode)
    for i in range(len(truth)):
        x, y = (t[i][valid[i]].double().numpy() for t in (pred, truth))
        if mode == "disparity_scale_shift":
            y = 1 / y
        if mode == "log_affine":
            x, y = np.log(x), np.log(y)
        columns = [x] if mode == "scale" else [x, np.ones_like(x)]
        expected = np.linalg.lstsq(np.stack(columns, axis=1), y, rcond=None)[0]
        np.testing.assert_allclose([made.scale[i], made.shift[i]][: len(columns)], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 5, 6, 41])
def test_median_is_numpys_for_even_and_odd_counts(count: int) -> None:
    rng = np.random.default_rng(count)
    pred, truth = rng.uniform(1, 9, (2, 1, 6, 7)).astype(np.float32), rng.uniform(1, 9, (2, 1, 6, 7)).astype(np.float32)
    valid = np.zeros((2, 42), dtype=bool)
    for row in valid:
        row[rng.choice(42, count, replace=False)] = True
    valid = valid.reshape(2, 1, 6, 7)
    scale = fit(torch.from_numpy(pred), torch.from_numpy(truth), torch.from_numpy(valid), "median").scale
    expected = [
        np.median(g[v].astype(np.float64)) / np.median(p[v].astype(np.float64))
        for p, g, v in zip(pred, truth, valid, strict=True)
    ]
    np.testing.assert_allclose(scale.numpy(), expected, rtol=1e-12)


def test_median_of_an_accelerator_equals_that_of_the_cpu() -> None:
    values, valid = (t.flatten(1) for t in scene(3))
    valid[1] = False
    valid[2, 0] = ~valid[2, 0]  # one odd, one even count
    torch.testing.assert_close(_medians(values, valid), _medians_by_sort(values, valid), equal_nan=True)
    assert _medians(values, valid).isnan().tolist() == [False, True, False]


def test_disparity_fit_of_the_oracle() -> None:
    # computed by hand for this project: s, t of 1/g = s p + t, and 1 / (s p + t)
    pred = torch.tensor([1.0, 2, 3, 4, 6]).view(1, 1, 1, 5)
    depth = torch.tensor([10.0, 6, 4, 3.2, 2], dtype=torch.float64).view(1, 1, 1, 5)
    made = fit(pred, depth, depth > 0, "disparity_scale_shift")
    assert made.scale.item() == pytest.approx(0.07972972972972978, rel=1e-12)
    assert made.shift.item() == pytest.approx(0.010698198198198396, rel=1e-12)
    aligned = align(pred.double(), depth, depth > 0, "disparity_scale_shift").flatten().tolist()
    assert aligned[0] == pytest.approx(11.058530510585275, rel=1e-9)
    assert aligned[4] == pytest.approx(2.0446695832373916, rel=1e-9)


def test_oracle_file_agrees() -> None:
    if not ORACLE.exists():
        pytest.skip("no shared folder with the oracle beside the repository")
    known = json.loads(ORACLE.read_text())["disparity_lsq"]
    pred, depth = (torch.tensor(known[k], dtype=torch.float64).view(1, 1, 1, -1) for k in ("pred", "gt_depth"))
    aligned = align(pred, depth, depth > 0, "disparity_scale_shift")
    np.testing.assert_allclose(aligned.flatten().numpy(), known["aligned_depth"], rtol=1e-9)


@pytest.mark.parametrize("mode", list(MODES))
def test_images_are_fitted_one_by_one_and_inputs_stay(mode: str) -> None:
    truth, valid = scene(5)
    pred = truth * torch.tensor([0.5, 2.0, 7.0]).view(3, 1, 1, 1) + torch.rand(truth.shape)
    before = pred.clone(), truth.clone(), valid.clone()
    together = align(pred, truth, valid, mode)
    apart = torch.cat([align(pred[i : i + 1], truth[i : i + 1], valid[i : i + 1], mode) for i in range(3)])
    torch.testing.assert_close(together, apart, rtol=1e-6, atol=0)
    assert together.dtype == torch.float32
    for now, then in zip((pred, truth, valid), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("mode", FITTED)
def test_an_image_without_pixels_keeps_its_numbers_and_is_reported(mode: str) -> None:
    truth, valid = scene(6)
    valid[1] = False
    made = fit(truth * 2, truth, valid, mode)
    assert made.degenerate.tolist() == [False, True, False]
    assert (made.scale[1].item(), made.shift[1].item()) == (1.0, 0.0)
    assert torch.isfinite(align(truth * 2, truth, valid, mode)).all()


@pytest.mark.parametrize("mode", ["scale_shift", "disparity_scale_shift", "log_affine"])
def test_a_constant_prediction_becomes_the_best_constant(mode: str) -> None:
    truth, valid = scene(7)
    pred = torch.full_like(truth, 3.7)
    assert fit(pred, truth, valid, mode).degenerate.all()
    aligned = align(pred.double(), truth, valid, mode)
    for i in range(3):
        g = truth[i][valid[i]].double()
        best = {
            "scale_shift": g.mean(),
            "disparity_scale_shift": 1 / (1 / g).mean(),
            "log_affine": g.log().mean().exp(),
        }
        torch.testing.assert_close(aligned[i], torch.full_like(aligned[i], best[mode].item()))


@pytest.mark.parametrize("mode", ["median", "scale"])
@pytest.mark.parametrize("value", [0.0, -2.0])
def test_a_factor_that_is_not_positive_is_refused_and_reported(mode: str, value: float) -> None:
    truth, valid = scene(8)
    pred = torch.full_like(truth, value)
    assert fit(pred, truth, valid, mode).degenerate.all()
    assert torch.equal(align(pred, truth, valid, mode), pred)


@pytest.mark.parametrize("mode", FITTED)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_nan_stays_at_its_pixel(mode: str, poison: float) -> None:
    truth, valid = scene(9)
    valid[0, 0, 0, 0] = True
    pred = truth * 2
    pred[0, 0, 0, 0] = poison
    aligned = align(pred, truth, valid, mode)
    assert aligned.isnan().sum() == (1 if np.isnan(poison) else 0)
    if mode != "median":  # a median is not moved by one infinity
        assert fit(pred, truth, valid, mode).degenerate.tolist() == [True, False, False]


def test_disparity_that_is_not_positive_after_the_fit_is_far_and_finite() -> None:
    depth = torch.tensor([1.0, 2.0, 100.0, 50.0]).view(1, 1, 1, 4)
    pred = torch.tensor([1.0, 0.5, 0.01, -0.4]).view(1, 1, 1, 4)
    aligned = align(pred, depth, pred > 0, "disparity_scale_shift")
    assert aligned.flatten()[3] == pytest.approx(1e6)


def test_log_fit_leaves_out_what_has_no_logarithm() -> None:
    truth, _ = scene(10, batch=1)
    pred = truth**2
    pred[0, 0, 0] = 0.0
    aligned = align(pred, truth, truth > 0, "log_affine")
    torch.testing.assert_close(aligned[0, 0, 1:], truth[0, 0, 1:])
    assert torch.isfinite(aligned).all()


def test_constants_of_one_image_serve_all() -> None:
    truth, _ = scene(11)
    one = Fit(*(torch.tensor([v], dtype=torch.float64) for v in (2.0, 0.5)), torch.tensor([False]))
    torch.testing.assert_close(apply_fit(truth, one, "scale_shift"), 2 * truth + 0.5)


@pytest.mark.parametrize("ambiguity", list(Ambiguity))
@pytest.mark.parametrize("mode", list(MODES))
def test_a_mode_that_does_not_fit_the_meaning_is_refused(mode: str, ambiguity: Ambiguity) -> None:
    truth, valid = scene(12)
    if mode in FITTING[ambiguity]:
        assert align(truth, truth, valid, mode, ambiguity=ambiguity).shape == truth.shape
        return
    with pytest.raises(ConfigError, match=FITTING[ambiguity][0]):
        align(truth, truth, valid, mode, ambiguity=ambiguity)


def test_wrong_names_and_shapes_are_refused() -> None:
    truth, valid = scene(13)
    with pytest.raises(ConfigError, match="nearest: median"):
        fit(truth, truth, valid, "medain")
    with pytest.raises(ConfigError, match="nearest: median"):
        require_mode("medain", Ambiguity.METRIC)
    with pytest.raises(ConfigError, match="equal shapes"):
        align(truth[:, :, :3], truth, valid, "median")
    with pytest.raises(ConfigError, match="bool"):
        align(truth, truth, valid.float(), "median")


ROBUST = ["robust_scale", "robust_scale_shift", "robust_disparity_scale_shift"]


@pytest.mark.parametrize("mode", ROBUST)
@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 0.3), kind=st.sampled_from(["far", "near", "random", "zero"]))
@settings(max_examples=15, deadline=None)
def test_a_third_of_the_prediction_may_be_wrong(mode: str, seed: int, share: float, kind: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand((1, 1, 20, 30), generator=generator, dtype=torch.float64) * 9 + 1
    pred = distorted(truth, mode, 2.0, 0.0 if mode == "robust_scale" else 0.1)
    wrong = torch.rand(truth.shape, generator=generator) < share
    junk = {
        "far": pred * 100,
        "near": pred / 100,
        "random": pred.amax() * torch.rand(truth.shape, generator=generator, dtype=torch.float64),
        "zero": 0 * pred,
    }[kind]
    given_pred = torch.where(wrong, junk, pred)
    aligned = align(given_pred, truth, truth > 0, mode)
    torch.testing.assert_close(aligned[~wrong], truth[~wrong], rtol=1e-6, atol=1e-6)
    if kind == "far":
        plain = align(given_pred, truth, truth > 0, mode.removeprefix("robust_"))
        assert (plain - truth)[~wrong].abs().mean() > 0.1


def test_robust_fits_are_nearly_least_squares_under_normal_noise() -> None:
    generator = torch.Generator().manual_seed(4)
    truth = torch.rand((1, 1, 60, 80), generator=generator, dtype=torch.float64) * 9 + 1
    pred = (truth + 0.05 * torch.randn(truth.shape, generator=generator, dtype=torch.float64) - 0.3) / 2
    plain, robust = (fit(pred, truth, truth > 0, mode) for mode in ("scale_shift", "robust_scale_shift"))
    assert robust.scale.item() == pytest.approx(plain.scale.item(), rel=2e-3)
    assert robust.shift.item() == pytest.approx(plain.shift.item(), abs=5e-3)


def test_an_alignment_is_an_enum_and_a_string() -> None:
    truth, valid = scene(14)
    assert set(MODES) == {mode.value for mode in Alignment}
    for mode in Alignment:
        assert torch.equal(align(truth, truth, valid, mode), align(truth, truth, valid, str(mode)))
    with pytest.raises(ConfigError, match="nearest: median"):
        align(truth, truth, valid, "medain")


def moved(seed: int, mode: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    truth, valid = scene(seed, batch=7)
    noise = 1 + 0.1 * torch.rand(truth.shape, generator=torch.Generator().manual_seed(seed))
    return distorted(truth, mode, 2.0, 0.05) * noise, truth, valid


@pytest.mark.parametrize("mode", ["scale", "scale_shift", "disparity_scale_shift", "log_affine"])
def test_one_fit_of_all_pixels_is_least_squares_over_all_pixels(mode: str) -> None:
    pred, truth, valid = moved(20, mode)
    whole = GlobalFit(mode)
    whole.update(pred, truth, valid)
    made = whole.compute()
    tall = [t.reshape(1, 1, -1, 7) for t in (pred, truth, valid)]
    expected = fit(tall[0], tall[1], tall[2], mode)
    assert made.scale.item() == pytest.approx(expected.scale.item(), rel=1e-10)
    assert made.shift.item() == pytest.approx(expected.shift.item(), rel=1e-9, abs=1e-12)
    assert whole.images == 7


@pytest.mark.parametrize("mode", ["median", "disparity_scale_shift", "robust_scale_shift"])
def test_one_fit_may_be_the_mean_of_those_of_the_images(mode: str) -> None:
    pred, truth, valid = moved(21, mode)
    whole = GlobalFit(mode, "image")
    whole.update(pred, truth, valid)
    each = fit(pred, truth, valid, mode)
    assert whole.compute().scale.item() == pytest.approx(each.scale.mean().item(), rel=1e-10)
    assert whole.compute().shift.item() == pytest.approx(each.shift.mean().item(), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("mode", "pooling"), [("scale_shift", "pixel"), ("disparity_scale_shift", "image")])
@given(order=st.permutations(range(7)), cut=st.integers(0, 7))
@settings(max_examples=10, deadline=None)
def test_neither_order_nor_processes_change_a_bit_of_it(mode: str, pooling: str, order: list[int], cut: int) -> None:
    data = moved(22, mode)
    alone = GlobalFit(mode, pooling)
    alone.update(*data)
    first, second = GlobalFit(mode, pooling), GlobalFit(mode, pooling)
    first.update(*(t[order[:cut]] for t in data))
    padded = [*order[cut:], order[0]]  # a distributed sampler repeats one
    second.update(*(t[padded] for t in data), counts=torch.arange(len(padded)) < 7 - cut)
    second.merge(first)
    assert [c.item() for c in second.compute()] == [c.item() for c in alone.compute()]
    assert second.images == 7


@pytest.mark.parametrize("pooling", ["pixel", "image"])
def test_images_that_say_nothing_are_left_out_and_counted(pooling: str) -> None:
    pred, truth, valid = moved(23, "scale_shift")
    whole = GlobalFit("scale_shift", pooling)
    whole.update(pred[:3], truth[:3], valid[:3])
    before = whole.compute()
    broken = pred[3:5].clone()
    broken[0] = torch.nan
    whole.update(broken, truth[3:5], valid[3:5] & torch.tensor([True, False]).view(2, 1, 1, 1))
    assert (whole.images, whole.degenerate) == (3, 2)
    assert whole.compute() == before
    empty = GlobalFit("scale_shift", pooling).compute()
    assert (empty.scale.item(), empty.shift.item(), empty.degenerate.item()) == (1.0, 0.0, True)


def test_fits_that_a_set_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match="alignment_pooling 'image'"):
        GlobalFit("median")
    with pytest.raises(ConfigError, match="use scale"):
        GlobalFit("none", "image")
    with pytest.raises(ConfigError, match="pixel or image"):
        GlobalFit("scale", "both")
