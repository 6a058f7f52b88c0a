from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mde.codecs import Disparity, Linear, Log, Reciprocal
from mde.errors import ConfigError
from mde.rebuild import build, spec_of

CODECS = [Linear, Log, Reciprocal, Disparity]
A, B = 0.5, 80.0
FORMULAS = {
    Linear: lambda d: d / B,
    Log: lambda d: np.log(d / A) / np.log(B / A),
    Reciprocal: lambda d: B / d,
    Disparity: lambda d: (1 / d - 1 / B) / (1 / A - 1 / B),
}


@pytest.fixture(params=CODECS, ids=lambda c: c.__name__)
def codec(request):
    return request.param(A, B)


def test_encode_follows_the_formula(codec):
    depth = np.geomspace(A, B, 50)
    expected = FORMULAS[type(codec)](depth)
    np.testing.assert_allclose(codec.encode(torch.from_numpy(depth)).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_round_trip_on_the_whole_range(codec):
    depth = torch.from_numpy(np.geomspace(A, B, 500)).float().reshape(2, 1, 10, 25)
    torch.testing.assert_close(codec.decode(codec.encode(depth)), depth, rtol=2e-5, atol=0)


def test_monotone(codec):
    steps = codec.encode(torch.from_numpy(np.geomspace(A, B, 500))).diff()
    assert (steps > 0).all() or (steps < 0).all()


def test_what_lies_outside_is_clamped_both_ways(codec):
    depth = torch.tensor([0.0, -3.0, A / 2, 2 * B, 1e9])
    encoded = codec.encode(depth)
    low, high = sorted(codec.encoded_range)
    assert torch.isfinite(encoded).all()
    assert (encoded >= low - 1e-6).all()
    assert (encoded <= high + 1e-4).all()
    decoded = codec.decode(torch.tensor([-1e9, -1.0, 0.0, 1e9, math.inf, -math.inf]))
    assert ((decoded >= A) & (decoded <= B)).all()
    assert torch.isnan(codec.decode(torch.tensor(math.nan)))


def test_gradients_are_finite_at_both_ends(codec):
    depth = torch.tensor([A, math.sqrt(A * B), B], dtype=torch.float64, requires_grad=True)
    codec.encode(depth).sum().backward()
    raw = codec.encode(depth.detach()).requires_grad_()
    codec.decode(raw).sum().backward()
    assert torch.isfinite(depth.grad).all()
    assert torch.isfinite(raw.grad).all()
    assert raw.grad[1] != 0


def test_full_precision_under_autocast(codec):
    with torch.autocast("cpu", torch.bfloat16):
        encoded = codec.encode(torch.tensor([1.2345678]))
        decoded = codec.decode(encoded.to(torch.bfloat16))
    assert encoded.dtype == decoded.dtype == torch.float32
    assert encoded.item() == pytest.approx(float(FORMULAS[type(codec)](1.2345678)), rel=1e-6)


def test_spec_round_trip(codec):
    again = build(spec_of(codec))
    assert type(again) is type(codec)
    assert (again.min_depth, again.max_depth) == (A, B)
    assert not list(codec.state_dict())  # nothing to store: the settings are in the spec


@pytest.mark.parametrize(("low", "high"), [(0.0, 10.0), (5.0, 5.0), (10.0, 1.0), (-1.0, 2.0), (1.0, math.inf)])
def test_a_range_that_cannot_be_is_refused(low, high):
    with pytest.raises(ConfigError, match="0 < min_depth < max_depth"):
        Reciprocal(low, high)
