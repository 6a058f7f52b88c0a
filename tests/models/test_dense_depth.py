from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import mde
from mde.codecs import Log
from mde.errors import ConfigError
from mde.losses import L1Loss
from mde.models import BilinearUpsample, DenseDepth, DenseDepthDecoder, TimmEncoder, TransposedUpsample
from mde.models.base import DepthModule
from tests.models.tester import MethodTester, make_batch, make_loader, make_trainer

SMALL = partial(DenseDepthDecoder, width=0.5)


class TestDenseDepth(MethodTester):
    def make(self, **kwargs: Any) -> DepthModule:
        return DenseDepth(TimmEncoder("test_resnet"), SMALL, **kwargs)


class TestDenseDepthVariations(MethodTester):
    """Frozen encoder, batch norm in the decoder, learned upsampling, deep supervision, another codec."""

    def make(self, **kwargs: Any) -> DepthModule:
        decoder = partial(DenseDepthDecoder, norm=True, upsample=TransposedUpsample)
        codec = Log(*kwargs.pop("depth_range", (0.1, 10.0)))
        encoder = TimmEncoder("test_resnet", frozen_stages=-1)
        return DenseDepth(encoder, decoder, supervision=(0.25, 0.5, 1.0), codec=codec, **kwargs)


class TestDenseDepthOnTransformer(MethodTester):
    def make(self, **kwargs: Any) -> DepthModule:
        # its finest map is 2x3, too small for the window of SSIM
        return DenseDepth(TimmEncoder("test_vit", frozen_stages=1), loss=L1Loss(), **kwargs)


@pytest.mark.parametrize(("width", "count"), [(1.0, 42_657_689), (0.5, 21_365_405)])
def test_parameters_of_the_paper(width: float, count: int) -> None:
    with torch.device("meta"):
        model = DenseDepth(decoder=partial(DenseDepthDecoder, width=width))
    assert sum(p.numel() for p in model.parameters()) == count


def test_weights_are_laid_out_channels_last() -> None:
    weight = DenseDepth(TimmEncoder("test_resnet"), SMALL).decoder.blocks[0][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_first_prediction_is_in_the_middle_of_the_range() -> None:
    model = DenseDepth(TimmEncoder("test_resnet"), SMALL, depth_range=(0.1, 10.0)).eval()
    for head in model.heads.convs:
        torch.nn.init.zeros_(head.weight)
    torch.testing.assert_close(model.predict(torch.rand(3, 32, 32)).depth, torch.full((1, 1, 32, 32), 5.05))


def test_loss_is_the_weighted_sum_of_its_levels_at_half_resolution() -> None:
    model, batch = DenseDepth(TimmEncoder("test_resnet"), SMALL, supervision=(0.25, 0.5, 1.0)).eval(), make_batch()
    out = model.training_loss(batch)
    levels = model.decoder(model.encoder(batch["image"]))
    assert levels[-1].shape[-2:] == (16, 24)
    half = torch.nn.functional.interpolate
    depth, valid = (half(batch[key].float(), (16, 24), mode="nearest-exact") for key in ("depth", "valid"))
    total = torch.zeros(())
    for weight, level, head in zip((0.25, 0.5, 1.0), levels[-3:], model.heads.convs, strict=True):
        raw = half(head(level), (16, 24), mode="bilinear", align_corners=False)
        total = total + weight * model.loss(raw, 10.0 / depth.clamp(0.1, 10.0), valid > 0)
    torch.testing.assert_close(out.loss, total)
    assert set(out.logs) == {"level_1", "level_2", "level_3", "depth", "gradient", "ssim"}
    torch.testing.assert_close(out.logs["depth"] + out.logs["gradient"] + out.logs["ssim"], out.logs["level_1"])
    torch.testing.assert_close(0.25 * out.logs["level_3"] + 0.5 * out.logs["level_2"] + out.logs["level_1"], out.loss)


def test_nonpositive_output_is_the_far_end_and_still_learns() -> None:
    model = DenseDepth(TimmEncoder("test_resnet"), SMALL)
    torch.nn.init.constant_(model.heads.convs[-1].bias, -50.0)
    depth = model.predict(torch.rand(3, 32, 48)).depth
    assert float(depth.min()) == pytest.approx(10.0)
    model.training_loss(make_batch()).loss.backward()
    assert float(model.heads.convs[-1].bias.grad) < 0  # pushes up


def test_frozen_encoder_stays_as_it_was(tmp_path: Path) -> None:
    model = DenseDepth(TimmEncoder("test_resnet", frozen_stages=2), SMALL)
    before = {k: v.clone() for k, v in model.encoder.state_dict().items()}
    make_trainer(tmp_path, max_epochs=2).fit(model, make_loader())
    after = model.encoder.state_dict()
    changed = {k for k in after if not torch.equal(before[k], after[k])}
    assert {"net.layer4.0.bn1.running_mean", "net.layer2.0.conv1.weight"} <= changed
    assert not any(k.startswith(("net.conv1", "net.bn1", "net.layer1")) for k in changed)


def test_checkpoint_needs_no_weights_file(tmp_path: Path) -> None:
    file = tmp_path / "encoder.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), file)
    model = DenseDepth(TimmEncoder("test_resnet", weights=str(file)), SMALL)
    trainer = make_trainer(tmp_path, max_steps=1)
    trainer.fit(model, make_loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    file.unlink()
    loaded = mde.load(tmp_path / "a.ckpt")
    picture = torch.rand(3, 32, 32)
    torch.testing.assert_close(loaded.predict(picture).depth, model.predict(picture).depth, rtol=0, atol=0)
    assert loaded.rebuild_spec["init_args"]["encoder"]["init_args"]["weights"] == str(file)


@pytest.mark.parametrize("supervision", [(), (1.0, 0.0), (-1.0, 1.0), (1.0,) * 5])
def test_supervision_is_checked(supervision: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="supervis"):
        DenseDepth(TimmEncoder("test_resnet"), SMALL, supervision=supervision)


def test_upsampling_is_injected() -> None:
    encoder = TimmEncoder("test_resnet")
    learned = DenseDepth(encoder, partial(DenseDepthDecoder, upsample=TransposedUpsample))
    assert isinstance(learned.decoder.upsamples[0], TransposedUpsample)
    assert isinstance(DenseDepth(encoder).decoder.upsamples[0], BilinearUpsample)
