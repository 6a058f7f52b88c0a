from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm.optim
import torch

from mde.callbacks.scores import OffersUncertainty
from mde.codecs import Discretized, Linear, Log, Ordinal
from mde.errors import ConfigError
from mde.losses import ClassCrossEntropy, OrdinalLoss, SILogLoss
from mde.models import (
    BinsHead,
    DepthNet,
    DPTDecoder,
    LightDecoder,
    LinearHead,
    SigmoidHead,
    TimmEncoder,
    UNetDecoder,
    VitEncoder,
)  # fmt: skip
from mde.models.base import DepthModule
from tests.models.tester import MethodTester, make_batch, make_trainer

SMALL = {"embed_dim": 24, "depth": 4, "num_heads": 2, "patch_size": 8}
DPT = partial(DPTDecoder, widths=(4, 6, 8, 8), fusion=8)
LIGHT = partial(LightDecoder, width=16, least=8)


def vit(**kwargs: Any) -> VitEncoder:
    return VitEncoder("vit_tiny_patch16_224", options=SMALL, **kwargs)


class TestDPT(MethodTester):
    def make(self, **kwargs: Any) -> DepthModule:
        return DepthNet(vit(), DPT, partial(SigmoidHead, hidden=4), **kwargs)


class TestAdaptiveBinsOnAdaptedTransformer(MethodTester):
    overfit_factor = 0.5  # the transformer is random and stays so but for its corrections

    def make(self, **kwargs: Any) -> DepthModule:
        return DepthNet(vit(lora_rank=2), DPT, partial(BinsHead, bins=8), **kwargs)


class TestLightLinear(MethodTester):
    def make(self, **kwargs: Any) -> DepthModule:
        return DepthNet(TimmEncoder("test_resnet"), LIGHT, LinearHead, **kwargs)


class TestLightClasses(MethodTester):
    overfit_factor = 0.6  # of the logarithm of the number of classes

    def make(self, **kwargs: Any) -> DepthModule:
        codec = Discretized("sid", 9, *kwargs.pop("depth_range", (0.1, 10.0)))
        return DepthNet(TimmEncoder("test_resnet"), LIGHT, LinearHead, codec=codec, **kwargs)


def tiny(head: Any = SigmoidHead, **kwargs: Any) -> DepthNet:
    return DepthNet(TimmEncoder("test_resnet"), LIGHT, head, **kwargs)


def test_default_is_depth_anythings_network_in_metres() -> None:
    with torch.device("meta"):
        model = DepthNet(VitEncoder("vit_small_patch14_dinov2"), head=partial(SigmoidHead, hidden=32))
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(model.encoder) == 22_055_424 + 768  # timm's, and the norm that all features go through
    assert count(model.decoder) + count(model.head) == 2_654_657
    assert isinstance(model.codec, Log)


def test_the_loss_belongs_to_the_codec() -> None:
    assert isinstance(tiny().loss, SILogLoss)
    assert isinstance(tiny(LinearHead, codec=Discretized("sid", 5, 1, 9)).loss, ClassCrossEntropy)
    ordinal = tiny(LinearHead, codec=Ordinal("sid", 5, 1, 9))
    assert isinstance(ordinal.loss, OrdinalLoss)
    assert ordinal(torch.rand(1, 3, 32, 48)).shape == (1, 10, 32, 48)
    assert bool(torch.isfinite(ordinal.training_loss(make_batch()).loss))


def test_a_metric_sigmoid_is_linear_in_metres() -> None:
    model = tiny(codec=Linear(0.5, 8.0)).eval()
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(model.predict_batch(image), 8 * model(image))


def test_uncertainty_where_there_is_a_posterior_and_nowhere_else() -> None:
    image = torch.rand(2, 3, 33, 47)
    for model in (tiny(BinsHead), tiny(LinearHead, codec=Discretized("sid", 64, 0.1, 10))):
        assert isinstance(model, OffersUncertainty)
        std, entropy = model.eval().uncertainty(image)
        assert std.shape == entropy.shape == (2, 1, 33, 47)
        assert 0 < float(std.min()) <= float(std.max()) < 10
        assert float(entropy.max()) <= torch.log(torch.tensor(64.0)) + 1e-4
        assert not std.requires_grad
    for head in (SigmoidHead, LinearHead):
        assert not isinstance(tiny(head), OffersUncertainty)


def test_a_copy_says_its_own_uncertainty() -> None:
    """Averaged weights are a deep copy of the module."""
    model, image = tiny(BinsHead).eval(), torch.rand(1, 3, 32, 48)
    copied = copy.deepcopy(model)
    torch.nn.init.normal_(copied.head.out.convs[0].weight)
    assert not torch.equal(copied.uncertainty(image)[0], model.uncertainty(image)[0])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "samvit_base_patch16"])
def test_layer_decay_is_timms(name: str) -> None:
    options = {"embed_dim": 24, "depth": 4, "num_heads": 2}
    encoder = VitEncoder(name, options=options)
    model = DepthNet(encoder, DPT, layer_decay=0.5, encoder_lr=0.1)
    # theirs skips the one-dimensional parameters' decay; only the factors are compared
    theirs: dict[int, float] = {}
    for group in timm.optim.param_groups_layer_decay(encoder.net, layer_decay=0.5):
        theirs.update({id(p): group["lr_scale"] for p in group["params"]})
    for parameter_name, parameter in model.named_parameters():
        factor = model.group_of(parameter_name, parameter).get("lr_factor", 1.0)
        expected = 0.1 * theirs[id(parameter)] if parameter_name.startswith("encoder.") else 1.0
        assert factor == pytest.approx(expected), parameter_name
    block = dict(model.named_parameters())["encoder.net.blocks.1.attn.proj.weight"]
    last = dict(model.named_parameters())["encoder.net.blocks.3.attn.proj.weight"]
    assert theirs[id(block)] == pytest.approx(0.25 * theirs[id(last)])


def test_layer_decay_reaches_the_optimizer() -> None:
    model = DepthNet(vit(), DPT, layer_decay=0.5, decay_norm=False, optimizer=partial(torch.optim.AdamW, lr=1.0))
    model.trainer = make_trainer(Path("unused"))
    groups = model.configure_optimizers().param_groups
    assert sorted({group["lr"] for group in groups}) == pytest.approx([0.0625, 0.125, 0.25, 0.5, 1.0])
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"\(0, 1\], got 0"):
        tiny(layer_decay=0.0)
    with pytest.raises(ConfigError, match=r"TimmEncoder does not tell them.*encoder_lr"):
        tiny(layer_decay=0.8)
    with pytest.raises(ConfigError, match=r"needs four features.*LightDecoder"):
        DepthNet(TimmEncoder("test_resnet"))
    assert DepthNet(TimmEncoder("test_resnet"), UNetDecoder).decoder.channels
