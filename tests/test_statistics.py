"""Intervals cover what they should, pooled values are those of the metrics, and paired tests find what is planted."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.errors import ProtocolMismatchError
from mde.metrics import NAMES, DepthMetrics
from mde.protocol import EvalProtocol
from mde.report.scores import ImageScores
from mde.report.statistics import Interval, intervals, matched, paired, pooled, ratio_intervals


def scores(**values: np.ndarray) -> ImageScores:
    count = len(next(iter(values.values())))
    ids = tuple(f"image-{number}" for number in range(count))
    return ImageScores(ids, np.full(count, 50), np.zeros(count, bool), values)


def skewed(count: int, seed: int, scale: float = 0.1) -> np.ndarray:
    return scale * np.random.default_rng(seed).gamma(2.0, 0.5, count)


@pytest.mark.parametrize(("images", "least"), [(30, 0.89), (120, 0.92)])
def test_the_interval_holds_the_true_mean_as_often_as_it_says(images: int, least: float) -> None:
    sets = {f"set {number}": skewed(images, number) for number in range(600)}  # as metrics: they share their draws
    covered = np.mean([low <= 0.1 <= high for low, high in intervals(scores(**sets)).values()])
    assert least <= covered <= 0.985


def test_bca_agrees_with_scipy() -> None:
    values = skewed(80, 3)
    low, high = intervals(scores(abs_rel=values))["abs_rel"]
    reference = scipy.stats.bootstrap((values,), np.mean, method="BCa", rng=5).confidence_interval
    width = reference.high - reference.low
    assert abs(low - reference.low) < 0.05 * width
    assert abs(high - reference.high) < 0.05 * width


@pytest.mark.parametrize("pooling", ["image", "pixel", "mse", "batch16"])
def test_pooled_errors_per_image_are_the_metric_of_the_set(pooling: str) -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.empty(17, 1, 6, 8).uniform_(1, 9, generator=generator)
    pred = truth * torch.empty_like(truth).uniform_(0.6, 1.5, generator=generator)
    valid = torch.rand(truth.shape, generator=generator) > torch.linspace(0, 1, 17).view(-1, 1, 1, 1)
    metric = DepthMetrics(EvalProtocol(max_depth=20.0, pooling=pooling))
    metric.update(pred, truth, valid)
    assert metric.last is not None
    columns = dict(zip(NAMES, metric.last.errors.numpy().T, strict=True))
    ids = tuple(map(str, range(17)))
    whole = ImageScores(ids, metric.last.pixels.numpy(), metric.last.degenerate.numpy(), columns)
    found, expected = pooled(whole, pooling), metric.compute()
    assert set(NAMES) - set(found) == {"pixel": {"silog"}, "batch16": {"rmse"}}.get(pooling, set())
    for name, value in found.items():
        assert value == pytest.approx(expected[name].item(), rel=1e-8), name
    for name, (low, high) in intervals(whole, pooling).items():
        assert low <= found[name] + 1e-12
        assert found[name] <= high + 1e-12


def test_weights_of_pixels_matter_when_pixels_are_pooled() -> None:
    whole = scores(abs_rel=np.array([0.1] * 10 + [0.9] * 10), rmse=np.array([1.0] * 10 + [7.0] * 10))
    whole.pixels[10:] = 150
    assert pooled(whole, "pixel")["abs_rel"] == pytest.approx((0.1 + 3 * 0.9) / 4)
    assert pooled(whole, "pixel")["rmse"] == pytest.approx(np.sqrt((1 + 3 * 49) / 4))
    assert pooled(whole, "mse")["rmse"] == pytest.approx(5.0)


def test_few_images_have_no_interval_and_equal_ones_none_of_width() -> None:
    assert intervals(scores(abs_rel=skewed(9, 0))) == {}
    assert intervals(scores(abs_rel=np.full(20, 0.25)))["abs_rel"] == Interval(0.25, 0.25)
    missing = skewed(40, 0)
    missing[5:] = np.nan
    assert intervals(scores(abs_rel=skewed(40, 0), ssim=missing, empty=np.full(40, np.nan))).keys() == {"abs_rel"}


def test_the_interval_depends_on_nothing_but_values_and_seed() -> None:
    whole = scores(abs_rel=skewed(40, 0), rmse=skewed(40, 1))
    assert intervals(whole) == intervals(whole)
    assert intervals(whole)["abs_rel"] == intervals(scores(abs_rel=whole.values["abs_rel"]))["abs_rel"]
    assert intervals(whole, seed=1) != intervals(whole)


def test_a_ratio_is_surer_than_its_parts() -> None:
    hard = skewed(60, 0)
    network, constant = (
        scores(abs_rel=0.5 * hard * np.random.default_rng(0).uniform(0.9, 1.1, 60)),
        scores(abs_rel=hard),
    )
    low, high = ratio_intervals(network, constant)["abs_rel"]
    assert low < 0.5 < high
    assert high - low < 0.05
    assert intervals(network)["abs_rel"].half > 0.1 * 0.05


def exact_p(differences: np.ndarray) -> float:
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    return float(np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9))
def test_few_images_are_tested_exactly(values: list[tuple[float, float]]) -> None:
    first, second = np.array(values).T
    found = paired(scores(abs_rel=first), scores(abs_rel=second), ["abs_rel"])["abs_rel"]
    assert found.p == pytest.approx(exact_p(first - second))
    assert found.difference == pytest.approx(np.mean(first - second), abs=1e-12)
    assert found.interval is None
    assert found.images == len(values)


def test_many_images_agree_with_scipy() -> None:
    first, second = skewed(60, 0), 1.06 * skewed(60, 0) + 0.01 * np.random.default_rng(2).normal(size=60)
    found = paired(scores(abs_rel=first), scores(abs_rel=second), ["abs_rel"])["abs_rel"]
    reference = scipy.stats.permutation_test(
        (first, second), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=20_000, rng=1,
    )  # fmt: skip
    assert found.p == pytest.approx(reference.pvalue, abs=0.012)


@pytest.mark.parametrize("pooling", ["image", "pixel", "mse"])
def test_a_method_against_itself_and_against_a_uniformly_better_one(pooling: str) -> None:
    worse = scores(abs_rel=skewed(40, 0), rmse=skewed(40, 1))
    better = scores(**{name: 0.98 * column for name, column in worse.values.items()})
    for name, test in paired(worse, worse, ["abs_rel", "rmse", "unknown"], pooling).items():
        assert (test.difference, test.p) == (0, 1), name
        assert test.interval == Interval(0, 0)
    for test in paired(better, worse, ["abs_rel", "rmse"], pooling).values():
        assert test.p < 0.001
        assert test.interval is not None
        assert test.interval.high < 0


def test_equal_methods_are_rarely_called_different() -> None:
    rng = np.random.default_rng(0)
    hard = {f"set {number}": rng.gamma(2.0, 0.5, 25) for number in range(400)}
    first, second = (scores(**{k: v * rng.lognormal(0, 0.2, 25) for k, v in hard.items()}) for _ in range(2))
    alarms = sum(test.p < 0.05 for test in paired(first, second, list(hard)).values())
    assert 5 <= alarms <= 35  # 20 expected


def test_order_of_methods_and_of_images_does_not_matter() -> None:
    first, second = (scores(abs_rel=skewed(50, seed), rmse=skewed(50, seed + 2)) for seed in (0, 1))
    shuffled = first.take(np.random.default_rng(0).permutation(first.ids).tolist())
    one, other = paired(first, second, ["abs_rel", "rmse"]), paired(second, shuffled, ["rmse", "abs_rel"])
    for name, test in one.items():
        assert test.p == other[name].p
        assert test.difference == pytest.approx(-other[name].difference)
        assert test.interval is not None
        assert test.interval.low == pytest.approx(-other[name].interval.high)  # type: ignore[union-attr]


def test_other_images_and_other_truth_are_refused_with_their_ids() -> None:
    whole = scores(abs_rel=skewed(30, 0))
    less, other = whole.take(whole.ids[:-12]), scores(abs_rel=skewed(30, 0))
    with pytest.raises(ProtocolMismatchError, match=r"the second lacks 12 image.s., image-18, .*and 2 more.*Next: "):
        matched(whole, less)
    with pytest.raises(ProtocolMismatchError, match="the first lacks 12"):
        paired(less, whole, ["abs_rel"])
    other.pixels[3] -= 1
    with pytest.raises(ProtocolMismatchError, match=r"ground truth differs.*image-3"):
        matched(whole, other)
