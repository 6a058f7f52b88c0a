"""Errors by range and by class are those of `depth_errors` on the pixels of the group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mde.errors import ConfigError, DataFormatError
from mde.metrics import NAMES, depth_errors
from mde.metrics.ranges import RangeErrors
from mde.metrics.semantic import ClassErrors
from mde.protocol import EvalProtocol


def maps(batch: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(batch, 1, 12, 14, generator=generator) * 12 + 0.1
    pred = truth * (0.2 * torch.randn(truth.shape, generator=generator)).exp()
    return pred, truth, torch.rand(truth.shape, generator=generator) > 0.2


def numbers(row: dict[str, Any]) -> dict[str, float]:
    return {name: value.item() for name, value in row.items()}


def numpy_errors(p: Any, g: Any) -> dict[str, float]:
    """Some of the errors by their formulas in float64."""
    p, g = np.asarray(p, np.float64), np.asarray(g, np.float64)
    d = np.log(p / g)
    return {
        "abs_rel": np.mean(np.abs(p - g) / g),
        "rmse": np.sqrt(np.mean((p - g) ** 2)),
        "silog": 100 * np.sqrt(np.mean(d**2) - np.mean(d) ** 2),
        "delta1": np.mean(np.maximum(p / g, g / p) < 1.25),
    }


@pytest.mark.parametrize("pooling", ["image", "pixel"])
def test_ranges_are_half_open_and_their_errors_those_of_the_formula(pooling: str) -> None:
    pred, truth, valid = maps()
    truth[0, 0, 0, :2], valid[0, 0, 0, :2] = 2.0, True  # on an edge: belongs to the farther range
    metric = RangeErrors((0, 2, 5, 10, 20, 40), pooling)
    metric.update(pred, truth, valid)
    table = metric.compute()
    assert list(table) == ["0-2", "2-5", "5-10", "10-20"]  # nothing is farther than 20 m
    for near, far in ((0, 2), (2, 5), (5, 10), (10, 20)):
        own = valid & (truth >= near) & (truth < far)
        row = numbers(table[f"{near}-{far}"])
        if pooling == "pixel":
            expected = numpy_errors(pred[own], truth[own])
        else:
            images = [numpy_errors(pred[i][own[i]], truth[i][own[i]]) for i in range(3)]
            expected = {name: float(np.mean([image[name] for image in images])) for name in images[0]}
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-5)
        assert (row["images"], row["pixels"]) == (3, int(own.sum()))


def test_one_range_over_all_pixels_is_the_plain_error() -> None:
    pred, truth, valid = maps(seed=1)
    metric = RangeErrors((0, 100))
    metric.update(pred, truth, valid)
    row = numbers(metric.compute()["0-100"])
    for name, values in depth_errors(pred, truth, valid).items():
        assert row[name] == pytest.approx(values.mean().item(), abs=1e-9)


def test_pixels_of_all_ranges_add_up() -> None:
    pred, truth, valid = maps(seed=2)
    metric = RangeErrors((0, 1, 3, 7, 13))
    metric.update(pred, truth, valid)
    assert sum(row["pixels"].item() for row in metric.compute().values()) == int(valid.sum())


def test_classes_have_names_and_absent_ones_no_row() -> None:
    pred, truth, valid = maps(seed=3)
    labels = torch.randint(0, 3, truth.shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8) * 4
    labels[0] = 8
    valid &= labels != 4  # a class that no pixel counts of
    metric = ClassErrors({0: "void", 4: "fence"})
    metric.update(pred, truth, valid, labels=labels)
    table = metric.compute()
    assert list(table) == ["void", "class 8"]
    assert table["void"]["images"].item() == 2  # the first image has none: it is in no mean
    own = valid & (labels == 8)
    expected = torch.stack([torch.stack(list(depth_errors(pred, truth, own).values()))]).mean((0, 2))
    assert [table["class 8"][name].item() for name in NAMES] == pytest.approx(expected.tolist(), abs=1e-9)


def test_a_prediction_of_zero_is_an_error_that_names_the_group_and_the_image() -> None:
    pred, truth, valid = maps(seed=4)
    truth[1, 0, 3, 3], pred[1, 0, 3, 3], valid[1, 0, 3, 3] = 6.0, 0.0, True
    metric = RangeErrors()
    with pytest.raises(DataFormatError, match=r"(?s)'5-10'.*image 1 of the batch"):
        metric.update(pred, truth, valid)
    assert metric.compute() == {}  # nothing of the batch was counted
    metric = RangeErrors()
    metric.update(*maps())
    metric.state[2, :10] = torch.nan  # as an accelerator would leave it, where nothing can be looked at in time
    with pytest.raises(DataFormatError, match="5-10"):
        metric.compute()


def test_the_protocol_says_what_the_errors_are() -> None:
    pred, truth, valid = maps(seed=5)
    metric, plain, swapped = RangeErrors((0, 100)), RangeErrors((0, 100)), RangeErrors((0, 100))
    metric.protocol = EvalProtocol(pooling="pixel", silog="eigen", rmse_log="si")
    swapped.protocol = EvalProtocol(swapped=True)
    for each in (metric, plain, swapped):
        each.update(pred, truth, valid)
    d = (pred[valid].double() / truth[valid].double()).log().numpy()
    row = numbers(metric.compute()["0-100"])
    assert row["silog"] == pytest.approx(np.var(d) / 2, rel=1e-5)
    assert row["rmse_log"] == pytest.approx(np.std(d), rel=1e-5)
    by_pred = [np.mean(np.abs(p[v] - g[v]) / p[v]) for p, g, v in zip(*(m.numpy() for m in maps(seed=5)), strict=True)]
    assert numbers(swapped.compute()["0-100"])["abs_rel"] == pytest.approx(np.mean(by_pred), rel=1e-5)
    assert numbers(plain.compute()["0-100"])["abs_rel"] != pytest.approx(np.mean(by_pred), rel=1e-3)


def test_settings_are_checked() -> None:
    for edges in ((), (1,), (2, 1), (0, 1, 1), (-1, 2)):
        with pytest.raises(ConfigError, match="rising metres"):
            RangeErrors(edges)
    with pytest.raises(ConfigError, match="'image' or 'pixel'"):
        ClassErrors(pooling="class")
    pred, truth, valid = maps()
    with pytest.raises(ConfigError, match="labels uint8"):
        ClassErrors().update(pred, truth, valid, labels=torch.zeros(truth.shape))
