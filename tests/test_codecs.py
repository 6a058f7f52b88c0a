from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mde.codecs import Discretized, Disparity, Linear, Log, Metres, Reciprocal
from mde.errors import ConfigError
from mde.rebuild import build, spec_of

CODECS = [Metres, Linear, Log, Reciprocal, Disparity]
A, B = 0.5, 80.0
FORMULAS = {
    Metres: lambda d: d,
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


# ---- classes


def formula_edges(kind, bins, alpha, beta, shift):
    i = np.arange(bins + 1)
    if kind == "uniform":
        return alpha + (beta - alpha) * i / bins
    low, high = alpha + shift, beta + shift
    return np.exp(np.log(low) + np.log(high / low) * i / bins) - shift


CLASSES = [
    ("sid", 71, 1.0, 80.0, 0.0),
    ("sid", 71, 0.001, 80.0, 0.0),
    ("sid", 80, 0.001, 80.0, 0.999),
    ("uniform", 71, 1.0, 80.0, 0.0),
    ("sid", 4, 1.0, 16.0, 0.0),
]


@pytest.mark.parametrize("settings", CLASSES)
def test_edges_and_classes_follow_the_formula(settings):
    kind, bins, alpha, beta, shift = settings
    codec = Discretized(kind, bins, alpha, beta, shift)
    edges = formula_edges(*settings)
    np.testing.assert_allclose(codec.edges.numpy(), edges, rtol=1e-12)
    # every 16-bit value in steps of 1/256 m, the edges themselves, and their float32 neighbours
    stored = (np.arange(65536) / 256).astype(np.float32)
    near = codec.edges.float().numpy()
    depth = np.concatenate([stored, near, np.nextafter(near, 0), np.nextafter(near, 999)])
    expected = np.clip(np.searchsorted(codec.edges.numpy(), depth.astype(np.float64), side="right") - 1, 0, bins - 1)
    assert np.array_equal(codec.encode(torch.from_numpy(depth)).numpy(), expected)


def test_the_published_ratios_of_paper_2():
    wide, narrow = Discretized("sid", 71, 0.001, 80.0), Discretized("sid", 71, 1.0, 80.0)
    assert float(wide.edges[11] / wide.edges[10]) == pytest.approx(1.172, abs=1e-3)
    assert float(narrow.edges[11] / narrow.edges[10]) == pytest.approx(1.0637, abs=1e-4)
    assert int((wide.edges[:-1] >= 2).sum()) == 23  # the 24th begins below 2 m
    depth = torch.from_numpy(np.geomspace(1.0, 80.0, 200_001))
    for codec, floor in ((wide, 0.040), (narrow, 0.015)):
        logits = torch.nn.functional.one_hot(codec.encode(depth), 71).float().T[None, :, None] * 50
        error = (codec.decode(logits)[0, 0, 0] - depth).abs() / depth
        assert float(error.mean()) == pytest.approx(floor, abs=0.001)


@pytest.mark.parametrize("how", ["midpoint", "geometric", "mean", "log_mean"])
@pytest.mark.parametrize("settings", CLASSES)
def test_decode_follows_the_formula(settings, how):
    shift = settings[-1]
    codec = Discretized(*settings, how=how)
    logits = np.random.default_rng(0).normal(0, 3, (2, settings[1], 3, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    e = formula_edges(*settings)
    middle = (e[1:] + e[:-1]) / 2
    geometric = np.sqrt((e[1:] + shift) * (e[:-1] + shift)) - shift
    best = logits.argmax(1)
    expected = {
        "midpoint": middle[best],
        "geometric": geometric[best],
        "mean": np.einsum("bkhw,k->bhw", p, middle),
        "log_mean": np.exp(np.einsum("bkhw,k->bhw", p, np.log(geometric + shift))) - shift,
    }[how]
    np.testing.assert_allclose(codec.decode(torch.from_numpy(logits))[:, 0].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("how", ["midpoint", "geometric", "mean", "log_mean"])
def test_a_class_round_trip_ends_in_the_bin(how):
    codec = Discretized("sid", 20, 0.5, 60.0, how=how)
    depth = torch.from_numpy(np.geomspace(0.5, 60.0, 400))
    logits = torch.nn.functional.one_hot(codec.encode(depth), 20).float().T[None, :, None] * 80
    again = codec.decode(logits)[0, 0, 0].double()
    assert torch.equal(codec.encode(again), codec.encode(depth))
    assert codec.encode(torch.tensor([math.inf, 0.0, 61.0])).tolist() == [19, 0, 19]


def test_uncertainty_of_a_sure_and_of_an_unsure_posterior():
    codec = Discretized("uniform", 8, 1.0, 9.0)
    sure = torch.full((1, 8, 1, 1), -60.0)
    sure[:, 3] = 60
    std, entropy = codec.uncertainty(torch.cat((sure, torch.zeros(1, 8, 1, 1))))
    centres = np.arange(8) + 1.5
    torch.testing.assert_close(std.flatten(), torch.tensor([0.0, float(centres.std())]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy.flatten(), torch.tensor([0.0, math.log(8)]), atol=1e-5, rtol=1e-5)


def test_classes_are_rebuilt_kept_exact_and_checked():
    codec = Discretized("sid", 71, 0.001, 80.0, 0.999, "log_mean")
    again = build(spec_of(codec.half()))
    assert torch.equal(again.edges, Discretized("sid", 71, 0.001, 80.0, 0.999).edges)
    assert (again.how, again.bins, again.encoded_range) == ("log_mean", 71, (0.0, 70.0))
    assert not list(codec.state_dict())
    nan = torch.zeros(1, 71, 1, 2)
    nan[0, 5, 0, 0] = math.nan
    assert torch.isnan(again.decode(nan)).flatten().tolist() == [True, False]
    assert torch.isnan(again.decode(nan, "midpoint")).flatten().tolist() == [True, False]
    for wrong in ({"kind": "log"}, {"bins": 1}, {"alpha": 0.5, "shift": -0.5}, {"how": "median"}, {"beta": 0.5}):
        with pytest.raises(ConfigError):
            Discretized(**wrong)
    with pytest.raises(ConfigError, match=r"logits \(B,71,H,W\), got \(1, 70, 2, 2\)"):
        again.decode(torch.zeros(1, 70, 2, 2))
