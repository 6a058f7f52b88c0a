"""Sums of losses and the loss of DenseDepth."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mde.codecs import Reciprocal
from mde.errors import ConfigError
from mde.losses import (
    DenseDepthLoss,
    GradientLoss,
    GradientMatchingLoss,
    L1Loss,
    MSELoss,
    SILogLoss,
    SSIMLoss,
    SurfaceNormalLoss,
    WeightedSum,
    gradient_loss,
    l1_loss,
    ssim_loss,
)
from mde.rebuild import spec_of


def test_densedepth_is_equation_1_on_reciprocal_depth() -> None:
    codec = Reciprocal(0.1, 10.0)
    pred, target = (codec.encode(0.5 + 9 * torch.rand(2, 1, 14, 15)) for _ in range(2))
    valid = torch.rand(2, 1, 14, 15) < 0.999
    terms = (l1_loss(pred, target, valid), gradient_loss(pred, target, valid))
    expected = 0.1 * terms[0] + terms[1] + ssim_loss(pred, target, valid, data_range=100.0, padding="valid")
    assert torch.allclose(DenseDepthLoss(data_range=100.0)(pred, target, valid), expected)


def test_parts_add_up_and_keep_their_weights() -> None:
    loss = WeightedSum({"a": L1Loss(), "b": MSELoss(), "c": GradientLoss()}, {"b": 0.5, "c": 0.0})
    pred = torch.rand(1, 1, 4, 5, requires_grad=True)
    target, valid = torch.rand(1, 1, 4, 5), torch.rand(1, 1, 4, 5) < 0.8
    parts = loss.parts(pred, target, valid)
    assert list(parts) == ["a", "b", "c"]
    assert torch.allclose(sum(parts.values(), torch.zeros(())), loss(pred, target, valid))
    assert torch.equal(parts["a"], L1Loss()(pred, target, valid))
    assert torch.equal(parts["b"], 0.5 * MSELoss()(pred, target, valid))
    assert parts["c"] == 0


def test_sums_nest() -> None:
    inner = WeightedSum({"a": L1Loss()}, {"a": 2.0})
    outer = WeightedSum({"inner": inner, "b": L1Loss()})
    pred, target = torch.rand(2, 1, 1, 3, 3)
    valid = torch.ones_like(target, dtype=torch.bool)
    assert torch.allclose(outer(pred, target, valid), 3 * l1_loss(pred, target, valid))
    assert spec_of(outer)["init_args"]["terms"]["inner"]["init_args"]["weights"] == {"a": 2.0}


@pytest.mark.parametrize(
    ("terms", "found"),
    [
        ({"a": L1Loss(), "b": SILogLoss()}, r"a: network, b: metres; with a camera: none"),
        ({"a": SILogLoss(), "b": SurfaceNormalLoss()}, r"a: metres, b: metres; with a camera: b"),
        ({"a": L1Loss(), "in": WeightedSum({"b": SILogLoss()})}, r"a: network, in\.b: metres; with a camera: none"),
    ],
)
def test_maps_that_cannot_serve_all_terms_are_refused(terms: dict[str, Any], found: str) -> None:
    maps = torch.rand(1, 1, 4, 5) + 1
    with pytest.raises(ConfigError, match=rf"{found}.*WeightedSum.*Next: call loss\.of\(mde\.losses\.LossMaps"):
        WeightedSum(terms)(maps, maps, maps > 0)


def test_one_space_for_all_terms_may_be_metres() -> None:
    pred, target = torch.rand(2, 1, 1, 4, 5) + 1
    loss = WeightedSum({"a": SILogLoss(), "in": WeightedSum({"b": GradientMatchingLoss()}, {"b": 3.0})})
    expected = SILogLoss()(pred, target, target > 0) + 3 * GradientMatchingLoss()(pred, target, target > 0)
    assert torch.allclose(loss(pred, target, target > 0), expected)


def test_densedepth_is_written_down_in_plain_numbers() -> None:
    spec = spec_of(DenseDepthLoss(100.0, depth_weight=0.2))
    assert spec == {
        "class_path": "mde.losses.compound.DenseDepthLoss",
        "init_args": {"data_range": 100.0, "depth_weight": 0.2},
    }


@pytest.mark.parametrize(
    ("terms", "weights", "message"),
    [
        ({}, None, "at least one term"),
        ({"a.b": L1Loss()}, None, "cannot name a term"),
        ({"keys": L1Loss()}, None, "cannot name a term"),
        ({"a": L1Loss()}, {"b": 1.0}, r"weights for \['b'\].*terms: a"),
        ({"a": L1Loss()}, {"a": -1.0}, r"at least 0.*weights\.a"),
        ({"a": L1Loss()}, {"a": float("nan")}, "at least 0"),
    ],
)
def test_bad_sums_are_refused(terms: dict[str, Any], weights: dict[str, float] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WeightedSum(terms, weights)


def test_too_small_an_image_says_so() -> None:
    small = torch.rand(1, 1, 10, 30)
    with pytest.raises(ConfigError, match="10x30 is too small for an SSIM window of 11"):
        DenseDepthLoss(100.0)(small, small, small >= 0)
    assert SSIMLoss(1.0).window == 11
