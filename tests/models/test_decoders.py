from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mde.errors import ConfigError
from mde.models.decoders import DenseDepthDecoder, UNetDecoder
from mde.models.layers import BilinearUpsample, LevelHeads, TransposedUpsample
from mde.rebuild import build, spec_of

CHANNELS = (4, 6, 8, 10)


def features(height: int, width: int) -> list[torch.Tensor]:
    halved = lambda n, times: -(-n // 2**times)  # noqa: E731
    return [torch.rand(2, c, halved(height, i), halved(width, i)) for i, c in enumerate(CHANNELS)]


@settings(max_examples=15, deadline=None)
@given(height=st.integers(8, 40), width=st.integers(8, 40), learned=st.booleans(), norm=st.booleans())
def test_levels_have_the_sizes_of_the_skips(height: int, width: int, learned: bool, norm: bool) -> None:
    upsample = TransposedUpsample if learned else BilinearUpsample
    for decoder in (DenseDepthDecoder(CHANNELS, 1.0, norm, upsample), UNetDecoder(CHANNELS, norm, upsample)):
        inputs = features(height, width)
        levels = decoder(inputs)
        assert [level.shape[1] for level in levels] == list(decoder.channels)
        assert [level.shape[-2:] for level in levels] == [f.shape[-2:] for f in inputs[-2::-1]]


def test_densedepth_level_is_the_formula() -> None:
    decoder = DenseDepthDecoder((2, 4)).double()
    fine, coarse = torch.rand(1, 2, 6, 8, dtype=torch.float64), torch.rand(1, 4, 3, 4, dtype=torch.float64)
    x = F.conv2d(coarse, decoder.bottom.weight, decoder.bottom.bias)
    x = torch.cat((F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), fine), 1)
    convs = [m for m in decoder.blocks[0] if isinstance(m, torch.nn.Conv2d)]
    for conv in convs:
        x = F.leaky_relu(F.conv2d(x, conv.weight, conv.bias, padding=1), 0.2)
    assert len(convs) == 2
    torch.testing.assert_close(decoder([fine, coarse])[-1], x)


def test_norm_replaces_the_bias() -> None:
    kinds = [type(m).__name__ for m in DenseDepthDecoder(CHANNELS, norm=True).blocks[0]]
    assert kinds == ["Conv2d", "BatchNorm2d", "LeakyReLU"] * 2
    assert DenseDepthDecoder(CHANNELS, norm=True).blocks[0][0].bias is None


@pytest.mark.parametrize("wrong", [lambda: DenseDepthDecoder([8]), lambda: DenseDepthDecoder(CHANNELS, width=0)])
def test_wrong_settings(wrong: partial[DenseDepthDecoder]) -> None:
    with pytest.raises(ConfigError):
        wrong()


def test_factory_survives_being_written_down() -> None:
    spec = spec_of(partial(DenseDepthDecoder, width=0.5, upsample=TransposedUpsample))
    decoder = build(spec)(CHANNELS)
    assert decoder.channels == (2, 1, 1)
    assert isinstance(decoder.upsamples[0], TransposedUpsample)


def test_heads_stay_in_float32_under_autocast() -> None:
    heads = LevelHeads((4, 3), 2, kernel_size=3, bias=7.0)
    with torch.autocast("cpu", torch.bfloat16):
        raws = heads([torch.zeros(1, 4, 2, 2).bfloat16(), torch.zeros(1, 3, 4, 4).bfloat16()])
    assert [raw.dtype for raw in raws] == [torch.float32] * 2
    assert all(bool((raw == 7.0).all()) for raw in raws)
