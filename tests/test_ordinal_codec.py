from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mde.codecs import Discretized, Ordinal
from mde.errors import ConfigError
from mde.rebuild import build, spec_of

DORN = {"kind": "sid", "bins": 71, "alpha": 0.001, "beta": 80.0, "shift": 0.999}


@pytest.fixture(params=[True, False], ids=["pairs", "single"])
def pairs(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def logits(codec: Ordinal, seed: int = 0, scale: float = 3.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(2, codec.channels, 3, 4, generator=rng)


def probabilities(raw: Tensor, codec: Ordinal) -> np.ndarray:
    """P_k in float64 from the definition, (B,K,H,W): the softmax over each pair, or the sigmoid."""
    x = raw.double().numpy()
    if not codec.pairs:
        return 1 / (1 + np.exp(-x))
    x = np.exp(x.reshape(x.shape[0], codec.bins, 2, *x.shape[2:]))
    return x[:, :, 1] / x.sum(2)


@pytest.mark.parametrize("kind", ["sid", "uniform"])
def test_edges_classes_and_centres_are_those_of_the_classes(kind: str) -> None:
    ordinal, classes = Ordinal(kind, 30, 0.5, 60.0, 0.25), Discretized(kind, 30, 0.5, 60.0, 0.25)
    depth = torch.from_numpy(np.geomspace(0.1, 100, 999))
    assert torch.equal(ordinal.encode(depth), classes.encode(depth))
    assert torch.equal(ordinal.edges, classes.edges)
    assert torch.equal(ordinal.centres("geometric"), classes.centres("geometric"))
    assert (ordinal.channels, classes.channels, Ordinal(bins=30, pairs=False).channels) == (60, 30, 30)


def test_the_range_of_dorn() -> None:
    edges = Ordinal(**DORN).edges.numpy()
    np.testing.assert_allclose(np.log(edges + 0.999), np.linspace(0, math.log(80.999), 72), atol=1e-12)


@pytest.mark.parametrize("how", ["midpoint", "geometric"])
def test_counts_the_probabilities_of_at_least_a_half(pairs: bool, how: str) -> None:
    codec = Ordinal("sid", 9, 1.0, 50.0, 0.5, how, pairs)
    raw = logits(codec)
    count = np.minimum((probabilities(raw, codec) >= 0.5).sum(1), 8)
    assert len(np.unique(count)) > 3
    near, far = codec.edges.numpy()[count], codec.edges.numpy()[count + 1]
    middle = (near + far) / 2 if how == "midpoint" else np.sqrt((near + 0.5) * (far + 0.5)) - 0.5
    # the last question is beyond the range: it does not count, where the others say less than all
    without_last = np.minimum((probabilities(raw, codec)[:, :-1] >= 0.5).sum(1), 8)
    near, far = codec.edges.numpy()[without_last], codec.edges.numpy()[without_last + 1]
    expected = (near + far) / 2 if how == "midpoint" else np.sqrt((near + 0.5) * (far + 0.5)) - 0.5
    np.testing.assert_allclose(codec.decode(raw)[:, 0].numpy(), expected, rtol=1e-6)
    same = probabilities(raw, codec)[:, -1] < 0.5
    np.testing.assert_allclose(codec.decode(raw)[:, 0].numpy()[same], middle[same], rtol=1e-6)


@pytest.mark.parametrize("how", ["mean", "log_mean"])
def test_expectation_over_the_bins(pairs: bool, how: str) -> None:
    codec = Ordinal("sid", 9, 1.0, 50.0, 0.5, how, pairs)
    raw = logits(codec)
    above = probabilities(raw, codec)[:, :-1]
    shape = np.ones_like(above[:, :1])
    bins = np.concatenate((shape, above), 1) - np.concatenate((above, 0 * shape), 1)  # some are negative here
    assert bins.min() < 0
    near, far = codec.edges.numpy()[:-1], codec.edges.numpy()[1:]
    if how == "mean":
        expected = np.einsum("bkhw,k->bhw", bins, (near + far) / 2)
    else:
        geometric = np.sqrt((near + 0.5) * (far + 0.5))
        expected = np.exp(np.einsum("bkhw,k->bhw", bins, np.log(geometric))) - 0.5
    np.testing.assert_allclose(codec.decode(raw)[:, 0].numpy(), expected, rtol=1e-5)
    wild = codec.decode(logits(codec, 1, 50.0))
    assert ((wild >= codec.min_depth) & (wild <= codec.max_depth)).all()


@pytest.mark.parametrize("how", ["midpoint", "geometric", "mean", "log_mean"])
def test_sure_answers_end_in_the_bin(pairs: bool, how: str) -> None:
    codec = Ordinal("sid", 20, 0.5, 60.0, how=how, pairs=pairs)
    depth = torch.from_numpy(np.geomspace(0.5, 60.0, 400))
    label = codec.encode(depth)
    margins = torch.where(torch.arange(20)[:, None] < label, 30.0, -30.0)
    raw = torch.stack((-margins / 2, margins / 2), 1).flatten(0, 1) if pairs else margins
    again = codec.decode(raw[None, :, None])[0, 0, 0].double()
    assert torch.equal(codec.encode(again), label)


def test_the_posterior_keeps_the_count_sums_to_one_and_comes_back(pairs: bool) -> None:
    codec = Ordinal("sid", 9, 1.0, 50.0, pairs=pairs)
    raw = logits(codec)
    posterior = codec.log_posterior(raw).exp()
    torch.testing.assert_close(posterior.sum(1), torch.ones(2, 3, 4))
    assert (posterior >= 0).all()
    rest = 1 - posterior.cumsum(1)[:, :-1]  # P(class > k) of the posterior falls with k ...
    assert torch.equal(
        codec.decode(raw), codec.centres("midpoint")[(rest >= 0.5).sum(1, keepdim=True)]
    )  # ... same count
    again = codec.log_posterior(codec.of_posterior(posterior)).exp()
    torch.testing.assert_close(again, posterior, rtol=0, atol=3e-5)
    assert codec.of_posterior(posterior).shape == raw.shape


def test_classes_come_back_from_a_posterior_too() -> None:
    codec = Discretized("sid", 9)
    posterior = torch.randn(2, 9, 3, 4).softmax(1)
    torch.testing.assert_close(codec.log_posterior(codec.of_posterior(posterior)).exp(), posterior, rtol=0, atol=1e-4)


def test_uncertainty_of_sure_and_of_unsure_answers(pairs: bool) -> None:
    codec = Ordinal("uniform", 8, 1.0, 9.0, pairs=pairs)
    uniform = torch.full((1, 8, 1, 1), 1 / 8)
    sure = torch.zeros(1, 8, 1, 1)
    sure[:, 3] = 1
    std, entropy = codec.uncertainty(codec.of_posterior(torch.cat((sure, uniform))))
    centres = np.arange(8) + 1.5
    torch.testing.assert_close(std.flatten(), torch.tensor([0.0, float(centres.std())]), atol=0.02, rtol=1e-4)
    torch.testing.assert_close(entropy.flatten(), torch.tensor([0.0, math.log(8)]), atol=3e-4, rtol=1e-4)


def test_a_gradient_on_metres_reaches_every_question_that_counts() -> None:
    codec = Ordinal("sid", 9, 1.0, 50.0)
    raw = logits(codec, scale=0.5).requires_grad_()
    codec.decode_through(raw).sum().backward()
    assert raw.grad is not None
    assert (raw.grad[:, 1:-2:2] > 0).all()  # yes is farther
    assert (raw.grad[:, 0:-2:2] < 0).all()
    assert (raw.grad[:, -2:] == 0).all()


def test_rebuilt_nan_and_refused() -> None:
    codec = Ordinal(**DORN, how="log_mean", pairs=False)
    again = build(spec_of(codec))
    assert (again.pairs, again.bins, again.how, again.shift) == (False, 71, "log_mean", 0.999)
    assert torch.equal(again.edges, codec.edges)
    nan = torch.zeros(1, 71, 1, 2)
    nan[0, 5, 0, 0] = math.nan
    for how in ("midpoint", "mean"):
        assert torch.isnan(again.decode(nan, how)).flatten().tolist() == [True, False]
    with pytest.raises(ConfigError, match=r"Ordinal of 71 bins takes logits \(B,142,H,W\), got \(1, 71, 1, 2\)"):
        Ordinal(**DORN).decode(nan)
    with pytest.raises(ConfigError, match="at least 2 bins"):
        Ordinal(bins=1)


@pytest.mark.parametrize("how", ["midpoint", "geometric", "mean", "log_mean"])
def test_full_precision_under_autocast(how: str) -> None:
    for codec in (Ordinal("sid", 9, how=how), Discretized("sid", 9, how=how)):
        raw = torch.randn(2, codec.channels, 3, 4).bfloat16()
        expected = codec.decode(raw.float()), *codec.uncertainty(raw.float())
        with torch.autocast("cpu", torch.bfloat16):
            found = codec.decode(raw), *codec.uncertainty(raw)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
