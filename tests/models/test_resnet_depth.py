from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mde.codecs import Log
from mde.losses import L1Loss, rmse_loss, ssim_map
from mde.models import ResNetDepth, TorchvisionEncoder
from mde.models.base import DepthModule
from tests.models.tester import MethodTester, make_batch


class TestResNetDepth(MethodTester):
    def make(self, **kwargs: Any) -> DepthModule:
        return ResNetDepth(TorchvisionEncoder("resnet18"), **kwargs)


class TestFrozenOnLogDepth(MethodTester):
    overfit_factor = 0.6

    def make(self, **kwargs: Any) -> DepthModule:
        codec = Log(*kwargs.pop("depth_range", (0.1, 10.0)))
        return ResNetDepth(TorchvisionEncoder("resnet18", frozen_stages=4), codec=codec, loss=L1Loss(), **kwargs)


def test_parameters_of_the_paper() -> None:
    model = ResNetDepth(TorchvisionEncoder("resnet50", frozen_stages=4))
    count = {name: sum(p.numel() for p in module.parameters()) for name, module in model.named_children()}
    assert count["encoder"] == 23_508_032
    assert count["decoder"] + count["head"] == 19_533_633
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 34_498_369
    with torch.no_grad():
        features = model.encoder(torch.zeros(1, 3, 224, 224))
        levels = model.decoder(features)
    assert [tuple(level.shape[1:]) for level in levels] == [(512, 14, 14), (256, 28, 28), (128, 56, 56), (64, 112, 112)]
    assert model.head(levels[-1]).shape[-2:] == (224, 224)


def test_loss_of_the_paper_in_metres() -> None:
    model = ResNetDepth(TorchvisionEncoder("resnet18"), depth_range=(0.1, 20.0))
    batch = make_batch(far=20.0)
    batch["valid"][:] = True
    pred = model(batch["image"])
    truth = batch["depth"].clamp(0.1, 20)
    similarity = ssim_map(pred, truth, data_range=1.0, padding="zero").mean()
    expected = 0.6 * rmse_loss(pred, truth, batch["valid"]) + 0.4 * (1 - similarity)
    torch.testing.assert_close(model.output_loss(pred, batch), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kept", [True, False])
def test_statistics_of_frozen_stages(kept: bool) -> None:
    torch.manual_seed(0)
    model = ResNetDepth(TorchvisionEncoder("resnet18", frozen_stages=4), frozen_statistics=kept).train()
    first = next(m for m in model.encoder.modules() if isinstance(m, nn.BatchNorm2d))
    before, weight = first.running_mean.clone(), first.weight.clone()  # type: ignore[union-attr]
    model.training_loss(make_batch()).loss.backward()
    assert torch.equal(first.running_mean, before) is kept  # type: ignore[arg-type]
    assert first.weight.grad is None
    assert torch.equal(first.weight, weight)
    assert not model.eval().encoder.training
