"""Heads against NumPy: ranges, bins, expectations, spreads."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mde.codecs import DepthCodec, Discretized, Disparity, Linear, Log, Metres, Reciprocal
from mde.errors import ConfigError
from mde.models import BinsHead, Head, LinearHead, SigmoidHead
from mde.rebuild import build, spec_of

SIZE = (12, 16)
CODECS = [kind(0.5, 8.0) for kind in (Linear, Log, Disparity, Reciprocal, Metres)]
every_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
HEADS: list[type[Head]] = [LinearHead, SigmoidHead, BinsHead]


def levels(scale: float = 1.0, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        scale * torch.randn(2, c, h, 2 * h, generator=generator) for c, h in ((6, 2), (5, 4), (4, 6))
    ]  # fmt: skip


def shaken(head: Head, scale: float = 1.0) -> Head:
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=scale)
    return head


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("hidden", [0, 3])
@every_codec
def test_one_value_a_pixel_in_float32(kind: type[Head], hidden: int, codec: DepthCodec) -> None:
    head = kind((6, 5, 4), codec, hidden=hidden)  # type: ignore[call-arg]
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            raw = head(levels(), SIZE)
        assert raw.dtype == torch.float32
        assert raw.shape == (2, 1, *(SIZE if hidden else (6, 12)))


@pytest.mark.parametrize("kind", [SigmoidHead, BinsHead])
@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0, 1e4), seed=st.integers(0, 99))
def test_no_output_leaves_the_range(kind: type[Head], scale: float, seed: int) -> None:
    for codec in CODECS:
        low, high = sorted(codec.encoded_range)
        raw = shaken(kind((6, 5, 4), codec))(levels(scale, seed), SIZE).detach()
        assert float(raw.min()) >= low - 1e-5 * high
        assert float(raw.max()) <= high * (1 + 1e-5)
        depth = codec.decode(raw)
        assert float(depth.min()) >= 0.5
        assert float(depth.max()) <= 8.0


@pytest.mark.parametrize("kind", [LinearHead, SigmoidHead])
@every_codec
def test_values_start_in_the_middle_of_the_range(kind: type[Head], codec: DepthCodec) -> None:
    depth = codec.decode(kind((6, 5, 4), codec)(levels(0.0), SIZE))
    torch.testing.assert_close(depth, torch.full_like(depth, 4.25), rtol=1e-4, atol=0)


def test_sigmoid_is_the_formula() -> None:
    head = shaken(SigmoidHead((6, 5, 4), Reciprocal(0.5, 8.0)))  # from 1 at 8 m to 16 at 0.5 m
    x = head.convolved(levels()[-1], SIZE).detach().double().numpy()
    np.testing.assert_allclose(head(levels(), SIZE).detach(), 1 + 15 / (1 + np.exp(-x)), rtol=1e-5)


@pytest.mark.parametrize("codec", [Linear(0.5, 8.0), Log(0.5, 8.0)])
def test_widths_are_positive_and_sum_to_the_range(codec: DepthCodec) -> None:
    low, high = codec.encoded_range
    head = BinsHead((6, 5, 4), codec, bins=7)
    even = head.widths(levels())
    torch.testing.assert_close(even, torch.full((2, 7), (high - low) / 7), rtol=1e-5, atol=0)
    widths = shaken(head).widths(levels(3.0))
    assert bool((widths > 0).all())
    torch.testing.assert_close(widths.sum(1), torch.full((2,), high - low), rtol=1e-5, atol=0)
    assert not torch.allclose(widths[0], widths[1])  # each picture has its own


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_bins_are_the_formulas_of_adabins() -> None:
    codec = Linear(0.5, 8.0)
    low, high = 0.5 / 8, 1.0
    head = shaken(BinsHead((6, 5, 4), codec, bins=7), 0.5)
    assert isinstance(head, BinsHead)
    inputs = levels()
    pooled = inputs[0].double().numpy().mean((2, 3))
    first, _, last = head.divide
    weight, bias = (lambda m: m.weight.detach().double().numpy()), (lambda m: m.bias.detach().double().numpy())
    inner = np.maximum(pooled @ weight(first).T + bias(first), 0)
    widths = (high - low) * softmax(inner @ weight(last).T + bias(last), 1)
    centres = np.stack([low + widths[:, :i].sum(1) + widths[:, i] / 2 for i in range(7)], 1)  # equation 2
    weights = softmax(head.convolved(inputs[-1], SIZE).detach().double().numpy(), 1)
    expected = np.einsum("bkhw,bk->bhw", weights, centres)[:, None]  # equation 3
    np.testing.assert_allclose(head(inputs, SIZE).detach(), expected, rtol=1e-5)

    depths = 8 * centres
    mean = np.einsum("bkhw,bk->bhw", weights, depths)[:, None]
    variance = (weights * (depths[:, :, None, None] - mean) ** 2).sum(1, keepdims=True)
    std, entropy = head.uncertainty(inputs, SIZE, codec)
    np.testing.assert_allclose(std.detach(), np.sqrt(variance), rtol=1e-4)
    np.testing.assert_allclose(entropy.detach(), -(weights * np.log(weights)).sum(1, keepdims=True), rtol=1e-4)


def test_classes_get_a_logit_each_and_the_spread_of_their_codec() -> None:
    codec = Discretized("sid", 9, 0.5, 8.0)
    head = shaken(LinearHead((6, 5, 4), codec))
    raw = head(levels(), SIZE)
    assert raw.shape == (2, 9, 6, 12)
    for own, expected in zip(head.uncertainty(levels(), SIZE, codec), codec.uncertainty(raw), strict=True):
        torch.testing.assert_close(own, expected)


def test_who_has_a_posterior() -> None:
    values, classes = Log(0.5, 8.0), Discretized("sid", 9, 0.5, 8.0)
    assert [kind.has_posterior(values) for kind in HEADS] == [False, False, True]
    assert LinearHead.has_posterior(classes)
    for kind in (LinearHead, SigmoidHead):
        with pytest.raises(ConfigError, match="has no posterior"):
            kind((6, 5, 4), values).uncertainty(levels(), SIZE, values)


def test_wrong_settings_are_named() -> None:
    classes = Discretized("sid", 9, 0.5, 8.0)
    for kind in (SigmoidHead, BinsHead):
        with pytest.raises(ConfigError, match=r"9 channels.*LinearHead"):
            kind((6, 5, 4), classes)
    with pytest.raises(ConfigError, match="at least 2 bins"):
        BinsHead((6, 5, 4), CODECS[0], bins=1)
    with pytest.raises(ConfigError, match="hidden is -1"):
        LinearHead((6, 5, 4), CODECS[0], hidden=-1)


def test_factories_survive_being_written_down() -> None:
    made = build(spec_of(partial(BinsHead, bins=5, hidden=3)))((6, 5, 4), CODECS[1])
    assert isinstance(made, BinsHead)
    assert made.out.convs[0].weight.shape == (5, 3, 1, 1)
