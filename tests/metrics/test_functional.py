from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.errors import ConfigError
from mde.metrics import sums as module
from mde.metrics.functional import NAMES, SUMS, depth_errors, errors_from_sums, pixel_sums
from mde.metrics.sums import _dense_sums

ORACLE = Path(__file__).parents[2] / "../shared/facts/metric_oracle.json"
ORACLE_NAMES = {"d1": "delta1", "d2": "delta2", "d3": "delta3", "silog_x100": "silog"} | {
    name: name for name in ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10")
}


def maps(seed: int, share: float, shape: tuple[int, ...] = (3, 1, 37, 53)) -> tuple[torch.Tensor, ...]:
    """Prediction, truth and mask; NaN, zeros and infinity where nothing was measured."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(shape, generator=generator) * 9.5 + 0.5
    pred = truth * (0.3 * torch.randn(shape, generator=generator)).exp()
    valid = torch.rand(shape, generator=generator) < share
    junk = torch.tensor([float("nan"), 0.0, float("inf"), -1.0])[torch.randint(4, shape, generator=generator)]
    return torch.where(valid, pred, junk), torch.where(valid, truth, 0.0), valid


def reference(p: np.ndarray, g: np.ndarray) -> dict[str, float]:
    """The definitions, term by term, in float64."""
    p, g = p.astype(np.float64), g.astype(np.float64)
    d = np.log(p) - np.log(g)
    ratio = np.maximum(p / g, g / p)
    return {
        "abs_rel": np.mean(np.abs(p - g) / g),
        "sq_rel": np.mean((p - g) ** 2 / g),
        "rmse": np.sqrt(np.mean((p - g) ** 2)),
        "rmse_log": np.sqrt(np.mean(d**2)),
        "log10": np.mean(np.abs(np.log10(p) - np.log10(g))),
        "silog": 100 * np.std(d),
        "irmse": np.sqrt(np.mean((1 / p - 1 / g) ** 2)),
        **{f"delta{k}": np.mean(ratio < 1.25**k) for k in (1, 2, 3)},
    }


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.02, 0.07, 0.3, 0.9, 1.0]), double=st.booleans())
@settings(max_examples=30, deadline=None)
def test_equals_the_definitions(seed: int, share: float, double: bool) -> None:
    pred, truth, valid = maps(seed, share)
    if double:
        pred, truth = pred.double(), truth.double()
    errors = depth_errors(pred, truth, valid)
    assert tuple(errors) == NAMES
    for i in range(3):
        p, g = (t[i][valid[i]].numpy() for t in (pred, truth))
        for name, value in reference(p, g).items():
            assert errors[name].dtype == torch.float64
            assert errors[name][i].item() == pytest.approx(value, rel=1e-12 if double else 1e-6), name


@pytest.mark.parametrize("share", [0.03, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_an_accelerator_equal_those_of_the_cpu(share: float, dtype: torch.dtype) -> None:
    pred, truth, valid = maps(1, share)
    pred, truth = pred.to(dtype), truth.to(dtype)
    valid[1] = False
    sparse, dense = pixel_sums(pred, truth, valid), _dense_sums(pred, truth, valid)
    torch.testing.assert_close(sparse, dense, rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=1e-9)
    assert torch.equal(sparse[:, [0, 8, 9, 10]], dense[:, [0, 8, 9, 10]])  # counts are exact


def test_many_blocks_give_the_sums_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pred, truth, valid = maps(2, 0.9)
    whole = pixel_sums(pred, truth, valid)
    monkeypatch.setattr(module, "_ROWS", 1)
    torch.testing.assert_close(pixel_sums(pred, truth, valid), whole, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [((3, 20), (7, 31)), ((0, 1), (0, 1)), ((36, 37), (0, 53))])
def test_a_fully_measured_crop_needs_no_gather(rows: tuple[int, int], columns: tuple[int, int]) -> None:
    pred, truth, _ = maps(3, 1.0, (1, 1, 37, 53))
    valid = torch.zeros_like(truth, dtype=torch.bool)
    valid[..., slice(*rows), slice(*columns)] = True
    errors = depth_errors(pred, truth, valid)
    for name, value in reference(pred[valid].numpy(), truth[valid].numpy()).items():
        assert errors[name].item() == pytest.approx(value, rel=1e-6, abs=1e-7), name


def test_known_numbers() -> None:
    # two pictures of six pixels, calculated for this project: the truth counts strictly within 0.001 and 80 m
    truth = torch.tensor([[1.0, 2, 4, 8, 0, 90], [5, 10, 20, 40, 60, 79]], dtype=torch.float64).view(2, 1, 1, 6)
    pred = torch.tensor([[1.1, 2.6, 3, 8.5, 3, 70], [4, 11, 22, 55, 95, 0]], dtype=torch.float64).view(2, 1, 1, 6)
    errors = depth_errors(pred.clamp(1e-3, 80), truth, (truth > 1e-3) & (truth < 80))
    assert errors["abs_rel"].tolist() == pytest.approx([0.178125, 0.35138677918424754], rel=1e-9)
    assert errors["rmse"].tolist() == pytest.approx([0.6363961030678927, 33.84238467021298], rel=1e-9)
    assert errors["silog"].tolist() == pytest.approx([20.0056340481738, 424.91758088100477], rel=1e-9)
    assert errors["delta1"].tolist() == pytest.approx([0.5, 1 / 3])


def test_oracle_file_agrees() -> None:
    if not ORACLE.exists():
        pytest.skip("no shared folder with the oracle beside the repository")
    known = json.loads(ORACLE.read_text())
    truth, pred = (torch.tensor(known[k], dtype=torch.float32).view(2, 1, 2, 3) for k in ("gt", "pred"))
    valid = (truth > 1e-3) & (truth < 80)
    pred = pred.clamp(1e-3, 80)
    errors = depth_errors(pred, truth, valid)
    for theirs, ours in ORACLE_NAMES.items():
        assert errors[ours].tolist() == pytest.approx([image[theirs] for image in known["per_image"]], rel=1e-6)
    pooled = dict(zip(NAMES, errors_from_sums(pixel_sums(pred, truth, valid).sum(0)).tolist(), strict=True))
    for theirs, ours in ORACLE_NAMES.items():
        assert pooled[ours] == pytest.approx(known["pooled"][theirs], rel=1e-6)


def test_silog_is_the_root_of_the_invariant_error_of_eigen() -> None:
    # Eigen et al. 2014, eq. 1: D = 1/(2n) sum (d + alpha)^2 with alpha = mean(-d); silog = 100 sqrt(2 D)
    pred, truth, valid = maps(4, 1.0, (1, 1, 20, 20))
    d = (pred.double().log() - truth.double().log())[valid]
    invariant = ((d - d.mean()) ** 2).mean() / 2
    assert depth_errors(pred, truth, valid)["silog"].item() == pytest.approx(100 * math.sqrt(2 * invariant), rel=1e-6)


@given(seed=st.integers(0, 10**6), factor=st.floats(0.01, 50))
@settings(max_examples=20, deadline=None)
def test_silog_does_not_see_a_factor(seed: int, factor: float) -> None:
    pred, truth, valid = maps(seed, 0.5)
    plain, scaled = depth_errors(pred, truth, valid), depth_errors(pred * factor, truth, valid)
    torch.testing.assert_close(scaled["silog"], plain["silog"], rtol=2e-6, atol=1e-5)


def test_a_prediction_off_by_a_factor_keeps_its_precision() -> None:
    pred, truth, valid = maps(9, 1.0, (1, 1, 200, 200))
    p, g = pred / 60, truth  # mean^2 of the log difference is 190 times its variance
    exact = reference(p[valid].numpy(), g[valid].numpy())
    for name, value in depth_errors(p, g, valid).items():
        assert value.item() == pytest.approx(exact[name], rel=1e-6), name
    alike = depth_errors(g * 3, g, valid)  # nothing but a factor
    assert alike["silog"].item() < 1e-4


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.05, 1.0]))
@settings(max_examples=20, deadline=None)
def test_order_of_deltas_and_of_pixels(seed: int, share: float) -> None:
    pred, truth, valid = maps(seed, share)
    errors = depth_errors(pred, truth, valid)
    assert (errors["delta1"] <= errors["delta2"]).all()
    assert (errors["delta2"] <= errors["delta3"]).all()
    order = torch.randperm(37 * 53, generator=torch.Generator().manual_seed(seed))
    shuffled = depth_errors(*(t.flatten(2)[:, :, order].view_as(t) for t in (pred, truth, valid)))
    for name in NAMES:
        torch.testing.assert_close(shuffled[name], errors[name], rtol=1e-6, atol=1e-9)


def test_a_perfect_prediction_has_no_error() -> None:
    _, truth, valid = maps(5, 0.4)
    errors = depth_errors(truth, truth, valid)
    for name in NAMES:
        assert errors[name].tolist() == [1.0 if name.startswith("delta") else 0.0] * 3


def test_thresholds_are_strict_and_symmetric() -> None:
    truth = torch.full((1, 1, 1, 6), 4.0)
    pred = torch.tensor([5.0, 3.2, 6.25, 2.56, 4.99, 4.0]).view(1, 1, 1, 6)  # 1.25 and 1.25^2, both ways
    errors = depth_errors(pred, truth, truth > 0)
    assert errors["delta1"].item() == pytest.approx(2 / 6)
    assert errors["delta2"].item() == pytest.approx(4 / 6)
    assert errors["delta3"].item() == 1.0


def test_a_variance_below_zero_by_rounding_is_zero() -> None:
    sums = torch.zeros(len(SUMS), dtype=torch.float64)
    sums[0], sums[4], sums[6] = 2.0, 2.0 - 1e-12, 2.0  # mean of squares just below the square of the mean
    silog = errors_from_sums(sums)[NAMES.index("silog")]
    assert silog.item() == 0.0


def test_an_image_without_a_pixel_is_nan() -> None:
    pred, truth, valid = maps(6, 0.5)
    valid[1] = False
    for values in depth_errors(pred, truth, valid).values():
        assert values.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), -float("inf")])
def test_a_pixel_without_a_logarithm_is_refused(bad: float) -> None:
    pred, truth, valid = maps(7, 0.5)
    valid[2, 0, 5, 5] = True
    truth[2, 0, 5, 5], pred[2, 0, 5, 5] = 1.0, bad
    with pytest.raises(ConfigError, match=r"image 2 of the batch.*protocol"):
        depth_errors(pred, truth, valid)
    for sums in (pixel_sums(pred, truth, valid), _dense_sums(pred, truth, valid)):
        assert sums[:, 1:].isnan().all(1).tolist() == [False, False, True]
        assert torch.equal(sums[:, 0], valid.flatten(1).sum(1).double())


def test_two_negative_numbers_are_refused_too() -> None:
    minus = torch.full((1, 1, 2, 2), -2.0)
    with pytest.raises(ConfigError, match="positive"):
        depth_errors(minus, minus, minus < 0)
    assert _dense_sums(minus, minus, minus < 0)[0, 1:].isnan().all()


def test_inputs_stay_and_layout_does_not_matter() -> None:
    pred, truth, valid = maps(8, 0.5)
    before = [t.clone() for t in (pred, truth, valid)]
    strided = (t.mT.contiguous().mT for t in (pred, truth, valid))
    for name, values in depth_errors(*strided).items():
        torch.testing.assert_close(values, depth_errors(pred.requires_grad_(), truth, valid)[name], rtol=1e-7, atol=0)
    for now, then in zip((pred, truth, valid), before, strict=True):
        torch.testing.assert_close(now.detach(), then, rtol=0, atol=0, equal_nan=True)


def test_shapes_and_masks_that_do_not_fit_are_refused() -> None:
    truth = torch.ones(2, 1, 4, 4)
    with pytest.raises(ConfigError, match="equal shapes"):
        depth_errors(truth[:1], truth, truth > 0)
    with pytest.raises(ConfigError, match="bool"):
        depth_errors(truth, truth, truth)


def test_a_row_may_be_longer_than_a_block() -> None:
    pred, truth, valid = maps(10, 1.0, (1, 1, 2, 140_000))
    for name, value in depth_errors(pred, truth, valid).items():
        exact = reference(pred[valid].numpy(), truth[valid].numpy())[name]
        assert value.item() == pytest.approx(exact, rel=1e-6), name


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_predictions_are_clamped_in_copies(share: float) -> None:
    pred, truth, valid = maps(11, share)
    before = pred.clone()
    made = pixel_sums(pred, truth, valid, (1.0, 3.0))
    torch.testing.assert_close(made, pixel_sums(pred.clamp(1.0, 3.0), truth, valid), rtol=0, atol=0)
    torch.testing.assert_close(pred, before, rtol=0, atol=0, equal_nan=True)
