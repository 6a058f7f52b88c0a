from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mde.codecs import Discretized, Log, Ordinal
from mde.crf import DenseCRF
from mde.errors import ConfigError
from mde.losses import ClassCrossEntropy, OrdinalLoss
from mde.models import DeepLabSID, PolyDecay, SmpEncoder
from mde.models.base import DepthModule
from tests.models.tester import MethodTester, make_batch, make_loader, make_trainer


def tiny(**kwargs: Any) -> DeepLabSID:
    settings: dict[str, Any] = {"bins": 12, "rates": (1, 2), **kwargs}
    return DeepLabSID(SmpEncoder("resnet18", output_stride=8), **settings)


class TestDeepLabSID(MethodTester):
    overfit_factor = 0.5  # statistics of an untrained network stay frozen

    def make(self, **kwargs: Any) -> DepthModule:
        return tiny(**kwargs)


class TestDepthUpsampledManyScales(MethodTester):
    overfit_factor = 0.6

    def make(self, **kwargs: Any) -> DepthModule:
        return tiny(upsample="depth", scales=(1.0, 0.5), frozen_norm=False, **kwargs)


class TestOrdinalRegression(MethodTester):
    overfit_factor = 0.5

    def make(self, **kwargs: Any) -> DepthModule:
        return tiny(codec=Ordinal("sid", 12, *kwargs.pop("depth_range", (0.1, 10.0))), **kwargs)


def test_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        model = DeepLabSID()
    assert sum(p.numel() for p in model.head.parameters()) == 5_234_972
    assert sum(p.numel() for p in model.encoder.parameters()) == 42_500_160
    dilations = [m.dilation[0] for m in model.encoder.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert dilations == [1] * 7 + [2] * 23 + [4] * 3
    assert model.encoder.reductions[-1] == 8


def test_the_crop_of_the_paper_gives_maps_of_an_eighth() -> None:
    model = tiny().eval()
    with torch.no_grad():
        assert model.logits(torch.zeros(1, 3, 420, 800)).shape[-2:] == (53, 100)


def test_the_head_sums_its_rates() -> None:
    head = tiny().head
    x = torch.randn(1, 512, 9, 11)
    expected = sum(F.conv2d(x, c.weight, c.bias, padding=c.dilation, dilation=c.dilation) for c in head.convs)
    torch.testing.assert_close(head(x), expected)


def test_training_loss_is_the_cross_entropy_of_enlarged_logits_within_the_range() -> None:
    model, batch = tiny(depth_range=(1.0, 6.0)).train(), make_batch(far=10.0)
    logits = F.interpolate(model.logits(batch["image"]), size=(32, 48), mode="bilinear", align_corners=False)
    counted = batch["valid"] & (batch["depth"] <= 6)
    assert counted.sum() < batch["valid"].sum()
    target = torch.where(counted, model.codec.encode(batch["depth"]), -100)
    expected = F.cross_entropy(logits, target[:, 0], ignore_index=-100)
    torch.testing.assert_close(model.training_loss(batch).loss, expected, rtol=1e-5, atol=0)


def test_scales_are_joined_by_their_maximum_and_all_supervised() -> None:
    model, batch = tiny(scales=(1.0, 0.5)).eval(), make_batch()
    with torch.no_grad():
        maps = model._pyramid(batch["image"])
        assert torch.equal(model.logits(batch["image"]), torch.maximum(*maps))
        single = [float(model.output_loss(each, batch)) for each in [*maps, torch.maximum(*maps)]]
        assert float(model.training_loss(batch).loss) == pytest.approx(sum(single), rel=1e-5)


def test_learning_rates_of_deeplab_under_a_schedule(tmp_path: Path) -> None:
    optimizer = partial(torch.optim.SGD, lr=2.5e-4, momentum=0.9, weight_decay=5e-4)
    model = tiny(optimizer=optimizer, schedule=PolyDecay(1.0))
    trainer = make_trainer(tmp_path, max_steps=2)
    trainer.fit(model, make_loader(8), make_loader())
    groups = trainer.optimizers[0].param_groups
    assert [g["lr"] for g in groups] == [0, 0, 0]  # at the end of the decay
    assert [g["initial_lr"] for g in groups] == pytest.approx([2.5e-4, 2.5e-3, 5e-3])
    assert [g["weight_decay"] for g in groups] == [5e-4, 5e-4, 0]
    assert sum(len(g["params"]) for g in groups) == sum(p.requires_grad for p in model.parameters())


def test_frozen_norm_keeps_its_statistics() -> None:
    model = tiny().train()
    before = [m.running_mean.clone() for m in model.encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    model.training_loss(make_batch()).loss.backward()
    after = [m.running_mean for m in model.encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(map(torch.equal, before, after))


def test_uncertainty_has_the_size_of_the_picture() -> None:
    std, entropy = tiny().eval().uncertainty(torch.rand(2, 3, 33, 47))
    assert std.shape == entropy.shape == (2, 1, 33, 47)
    assert float(std.min()) > 0
    assert float(entropy.max()) <= torch.log(torch.tensor(12.0)) + 1e-5


def test_settings_that_cannot_be() -> None:
    for wrong in ({"codec": Log(1, 80)}, {"upsample": "both"}, {"scales": (0.5,)}):
        with pytest.raises(ConfigError):
            tiny(**wrong)
    assert tiny(codec=Discretized("uniform", 9, 1, 50)).head.convs[0].out_channels == 9


def test_the_field_refines_what_is_scored_and_predicted_and_nothing_else() -> None:
    torch.manual_seed(0)
    plain = tiny(upsample="depth").eval()
    with_field = tiny(upsample="depth", crf=DenseCRF(2)).eval()
    with_field.load_state_dict(plain.state_dict())
    batch = make_batch()
    with torch.no_grad():
        posterior = DenseCRF(2)(plain.logits(batch["image"]), batch["image"])
        torch.testing.assert_close(with_field.raw(batch["image"]).exp(), posterior.clamp(min=1e-5))
        assert torch.equal(with_field.training_loss(batch).loss, plain.training_loss(batch).loss)
        refined, rough = with_field.predict_batch(batch["image"]), plain.predict_batch(batch["image"])
    assert refined.shape == rough.shape
    assert not torch.equal(refined, rough)


@pytest.mark.parametrize("upsample", ["logits", "depth"])
def test_without_the_field_is_offered_beside_it(upsample: str) -> None:
    plain, image = tiny(upsample=upsample).eval(), make_batch()["image"]
    with_field = tiny(upsample=upsample, crf=DenseCRF(2)).eval()
    with_field.load_state_dict(plain.state_dict())
    with torch.no_grad():
        raws = with_field.raws(image)
        assert torch.equal(raws.pop("without crf"), plain.raw(image))
        assert torch.equal(raws.pop(""), with_field.raw(image))
        assert raws == {}
        assert list(plain.raws(image)) == [""]


def test_the_encoder_looks_once_at_a_picture_that_is_scored_in_two_ways() -> None:
    model, image = tiny(crf=DenseCRF(2)).eval(), make_batch()["image"]
    seen: list[tuple[int, ...]] = []
    model.encoder.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    with torch.no_grad():
        assert len(model.raws(image)) == 2
    assert seen == [tuple(image.shape)]


@pytest.mark.parametrize("pairs", [True, False])
def test_the_codec_alone_makes_it_ordinal_regression(pairs: bool) -> None:
    codec = Ordinal("sid", 12, 1.0, 10.0, pairs=pairs)
    model, batch = tiny(codec=codec).train(), make_batch()
    assert isinstance(model.loss, OrdinalLoss)
    assert model.head.convs[0].out_channels == (24 if pairs else 12)
    margins = codec.margins(model.logits(batch["image"]))
    large = F.interpolate(margins, size=(32, 48), mode="bilinear", align_corners=False)
    passed = (torch.arange(12).view(1, -1, 1, 1) < codec.encode(batch["depth"])).float()
    each = F.binary_cross_entropy_with_logits(large, passed, reduction="none").sum(1, keepdim=True)
    torch.testing.assert_close(model.training_loss(batch).loss, each[batch["valid"]].mean(), rtol=1e-5, atol=0)


def test_the_field_and_uncertainty_take_ordinal_answers_as_bins() -> None:
    model, image = tiny(codec=Ordinal("sid", 12), upsample="depth", crf=DenseCRF(2)).eval(), make_batch()["image"]
    with torch.no_grad():
        posterior = DenseCRF(2)(model.codec.log_posterior(model.logits(image)), image)
        torch.testing.assert_close(model.codec.log_posterior(model.raw(image)).exp(), posterior, rtol=0, atol=3e-5)
    std, entropy = model.uncertainty(image)
    assert std.shape == entropy.shape == (2, 1, 32, 48)
    assert float(std.min()) > 0


def test_what_ordinal_regression_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"set model\.codec to mde\.codecs\.Discretized"):
        tiny(codec=Ordinal(), loss=ClassCrossEntropy())
    with pytest.raises(ConfigError, match=r"set model\.codec to mde\.codecs\.Ordinal"):
        tiny(loss=OrdinalLoss())
    with pytest.raises(ConfigError, match="pairs: true"):
        tiny(codec=Ordinal(pairs=False), scales=(1.0, 0.5))
    assert tiny(codec=Ordinal(), scales=(1.0, 0.5)).head.convs[0].out_channels == 142
