"""DPT's decoder against transformers' own, level by level; the light decoder against its formula."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from mde.codecs import Linear
from mde.errors import ConfigError
from mde.models import DPTDecoder, LightDecoder, LinearHead
from mde.rebuild import build, spec_of

CHANNELS = (4, 6, 8, 10)


def depth_anything(**settings: object) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="the reference is transformers' Depth Anything")
    torch.manual_seed(0)
    config = transformers.DepthAnythingConfig(**settings)
    model = transformers.DepthAnythingForDepthEstimation(config)
    for parameter in [*model.neck.parameters(), *model.head.parameters()]:
        nn.init.normal_(parameter, std=0.1)  # it starts biases at 0
    return model.eval()


def ours_by_theirs(decoder: DPTDecoder, head: LinearHead) -> dict[str, nn.Module]:
    """Our layers by the names of transformers'."""
    pairs: dict[str, nn.Module] = {}
    for i in range(4):
        pairs[f"neck.reassemble_stage.layers.{i}.projection"] = decoder.reassemble[i][0]
        pairs[f"neck.reassemble_stage.layers.{i}.resize"] = decoder.reassemble[i][1]
        pairs[f"neck.convs.{i}"] = decoder.convs[i]
        fusion = f"neck.fusion_stage.layers.{i}"
        pairs[f"{fusion}.projection"] = decoder.outs[i]
        for number, units in ((1, decoder.skips), (2, decoder.units)):
            if number == 2 or i:
                unit = units[i - (number == 1)]
                pairs[f"{fusion}.residual_layer{number}.convolution1"] = unit.conv1
                pairs[f"{fusion}.residual_layer{number}.convolution2"] = unit.conv2
    return {**pairs, "head.conv1": head.enter, "head.conv2": head.mix, "head.conv3": head.out.convs[0]}


def test_numbers_of_transformers_with_its_weights() -> None:
    theirs = depth_anything(
        reassemble_hidden_size=12, neck_hidden_sizes=[4, 6, 8, 10], fusion_hidden_size=8, head_hidden_size=5,
        backbone_config={"model_type": "dinov2", "hidden_size": 12, "num_hidden_layers": 4, "num_attention_heads": 2,
                         "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False},
    )  # fmt: skip
    decoder = DPTDecoder((12,) * 4, widths=CHANNELS, fusion=8)
    head = LinearHead(decoder.channels, Linear(0.1, 10.0), hidden=5)
    pairs = ours_by_theirs(decoder, head)
    for name, layer in pairs.items():
        layer.load_state_dict(theirs.get_submodule(name).state_dict())
    used = {f"{name}.{key}" for name, layer in pairs.items() for key in layer.state_dict()}
    unused = {k for k in theirs.state_dict() if k.startswith(("neck.", "head."))} - used
    assert all("fusion_stage.layers.0.residual_layer1" in key for key in unused)

    tokens = [torch.randn(2, 1 + 3 * 5, 12) for _ in range(4)]
    maps = [each[:, 1:].transpose(1, 2).reshape(2, 12, 3, 5) for each in tokens]
    with torch.no_grad():
        expected = theirs.neck(tokens, 3, 5)
        levels = decoder(maps)
        for level, other in zip(levels, expected, strict=True):
            torch.testing.assert_close(level, other, rtol=1e-5, atol=1e-5)
        patch = theirs.config.patch_size
        depth = F.relu(head(levels, (3 * patch, 5 * patch)))[:, 0]
        assert float(depth.std()) > 0
        torch.testing.assert_close(depth, theirs.head(expected, 3, 5), rtol=1e-5, atol=1e-5)


def test_parameters_of_depth_anything_v2_small() -> None:
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        theirs = transformers.DepthAnythingForDepthEstimation(transformers.DepthAnythingConfig())  # the small model
        decoder = DPTDecoder((384,) * 4)
    head = LinearHead(decoder.channels, Linear(0.1, 10.0), hidden=32)
    count = lambda *modules: sum(p.numel() for m in modules for p in m.parameters())  # noqa: E731
    unused = count(theirs.neck.fusion_stage.layers[0].residual_layer1)
    assert count(decoder, head) == count(theirs.neck, theirs.head) - unused == 2_654_657


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9))
def test_levels_of_a_plain_transformer(height: int, width: int) -> None:
    decoder = DPTDecoder((6,) * 4, widths=CHANNELS, fusion=4)
    levels = decoder([torch.rand(2, 6, height, width) for _ in range(4)])
    assert [tuple(level.shape) for level in levels] == [(2, 4, k * height, k * width) for k in (1, 2, 4, 8)]
    assert decoder.channels == (4,) * 4


def test_every_feature_and_parameter_counts() -> None:
    features = [torch.rand(1, 6, 3, 4, requires_grad=True) for _ in range(4)]
    decoder = DPTDecoder((6,) * 4, widths=CHANNELS, fusion=4)
    decoder(features)[-1].square().sum().backward()
    assert all(float(feature.grad.abs().sum()) > 0 for feature in features)
    assert [name for name, p in decoder.named_parameters() if p.grad is None] == []


@settings(max_examples=15, deadline=None)
@given(height=st.integers(8, 40), width=st.integers(8, 40))
def test_light_levels_have_the_sizes_of_the_features(height: int, width: int) -> None:
    features = [torch.rand(2, c, -(-height // 2**i), -(-width // 2**i)) for i, c in enumerate(CHANNELS)]
    decoder = LightDecoder(CHANNELS, width=8, least=3)
    levels = decoder(features)
    assert [level.shape[1] for level in levels] == list(decoder.channels) == [8, 4, 3, 3]
    assert [level.shape[-2:] for level in levels] == [feature.shape[-2:] for feature in reversed(features)]


def test_light_level_is_the_formula() -> None:
    decoder = LightDecoder((2, 4), width=4, least=1).double().eval()
    fine, coarse = torch.rand(1, 2, 6, 8, dtype=torch.float64), torch.rand(1, 4, 3, 4, dtype=torch.float64)

    def mixed(x: Tensor, block: nn.Sequential) -> Tensor:
        before, _, depthwise, pointwise, after, _ = block
        unit = lambda norm, y: F.relu(y * norm.weight[:, None, None] / (1 + norm.eps) ** 0.5)  # noqa: E731
        y = F.conv2d(unit(before, x), depthwise.weight, padding=1, groups=x.shape[1])
        return unit(after, F.conv2d(y, pointwise.weight))

    low = mixed(decoder.laterals[0](coarse), decoder.blocks[0])
    up = F.interpolate(decoder.narrow[0](low), size=(6, 8), mode="bilinear", align_corners=False)
    expected = mixed(decoder.laterals[1](fine) + up, decoder.blocks[1])
    torch.testing.assert_close(decoder([fine, coarse])[-1], expected)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="needs four features"):
        DPTDecoder((8, 8, 8))
    with pytest.raises(ConfigError, match=r"2 sizes.*LightDecoder"):
        DPTDecoder((6,) * 4, CHANNELS, 4)([torch.rand(1, 6, 4, 4)] * 3 + [torch.rand(1, 6, 2, 2)])
    with pytest.raises(ConfigError, match="single feature"):
        LightDecoder((8,))


def test_factories_survive_being_written_down() -> None:
    assert build(spec_of(partial(LightDecoder, width=16, least=8)))((3, 5, 7)).channels == (16, 8, 8)
    assert build(spec_of(partial(DPTDecoder, fusion=8)))((3,) * 4).channels == (8,) * 4
