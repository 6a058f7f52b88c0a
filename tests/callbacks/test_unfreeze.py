"""Gradual unfreezing: what is frozen when, what moves, and that a resumed run is the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from mde.callbacks import GradualUnfreezing
from mde.errors import ConfigError
from mde.models import DeepLabSID, DenseDepth, DepthModule, ResNetDepth, SmpEncoder, TimmEncoder, UNet, WarmupCosine
from tests.models.tester import make_loader, make_trainer

STAGES = {1: 3, 2: 0}


def make(frozen_stages: int = -1, **kwargs: Any) -> DenseDepth:
    torch.manual_seed(0)
    optimizer = partial(torch.optim.AdamW, lr=1e-2)
    encoder = TimmEncoder("test_resnet", frozen_stages=frozen_stages)
    return DenseDepth(encoder, optimizer=optimizer, schedule=WarmupCosine(), encoder_lr=0.1, **kwargs)


class Watch(Callback):
    """Per epoch: frozen stages, and which parameters moved."""

    def __init__(self) -> None:
        self.frozen: list[int] = []
        self.moved: list[set[str]] = []
        self.modes: list[dict[str, bool]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.frozen.append(pl_module.encoder.frozen_stages)
            self._before = {name: p.detach().clone() for name, p in pl_module.named_parameters()}
            self.modes.append({name: m.training for name, m in pl_module.named_modules()})

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        now = pl_module.named_parameters()
        self.moved.append({name for name, p in now if not torch.equal(p, self._before[name])})


def fit(folder: Path, model: DepthModule, *callbacks: Callback, epochs: int = 3, **kwargs: Any) -> Any:
    trainer = make_trainer(folder, max_epochs=epochs, callbacks=list(callbacks), **kwargs)
    trainer.fit(model, make_loader(4), make_loader(2, seed=1), ckpt_path=kwargs.get("ckpt_path"))
    return trainer


def test_stages_join_at_their_epoch_and_in_their_group(tmp_path):
    model, watch = make(), Watch()
    trainer = fit(tmp_path, model, GradualUnfreezing(STAGES), watch)
    assert watch.frozen == [len(model.encoder.channels), 3, 0]
    first, second, third = ({n for n in moved if n.startswith("encoder.")} for moved in watch.moved)
    assert first == set()
    assert set() < second < third
    assert third == {n for n, _ in model.named_parameters() if n.startswith("encoder.")}
    expected = make(3)
    assert second == {n for n, p in expected.named_parameters() if n.startswith("encoder.") and p.requires_grad}
    assert {n: m.training for n, m in expected.train().named_modules()}.items() <= watch.modes[1].items()
    groups = trainer.optimizers[0].param_groups
    assert [group["initial_lr"] for group in groups] == pytest.approx([1e-3, 1e-2])
    assert len(groups[0]["params"]) == len(third)


def test_a_resumed_run_is_the_same(tmp_path):
    whole = make()
    fit(tmp_path / "whole", whole, GradualUnfreezing(STAGES))

    class Stop(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "part.ckpt")
                trainer.should_stop = True

    part = make()
    fit(tmp_path / "part", part, GradualUnfreezing(STAGES), Stop())
    resumed = make()
    trainer = make_trainer(tmp_path / "on", max_epochs=3, callbacks=[GradualUnfreezing(STAGES)])
    trainer.fit(resumed, make_loader(4), make_loader(2, seed=1), ckpt_path=tmp_path / "part.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert any(not torch.equal(v, part.state_dict()[n]) for n, v in whole.state_dict().items())


def test_frozen_batch_norm_of_a_method_stays_frozen():
    encoder = SmpEncoder("resnet18", output_stride=8, frozen_stages=3)
    DeepLabSID(encoder, bins=5, depth_range=(1.0, 10.0)).train()
    encoder.freeze(0)
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(p.requires_grad for norm in norms for p in norm.parameters())
    assert not any(norm.training for norm in norms)
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert all(convolution.weight.requires_grad for convolution in convolutions)
    encoder.freeze(2)
    assert 0 < sum(convolution.weight.requires_grad for convolution in convolutions) < len(convolutions)


def test_moving_statistics_of_what_is_frozen_go_on_moving(tmp_path):
    model = ResNetDepth(TimmEncoder("test_resnet", frozen_stages=-1), frozen_statistics=False)
    watch = Watch()
    fit(tmp_path, model, GradualUnfreezing({1: 2}), watch, epochs=2)
    norms = {name for name, m in model.encoder.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms
    assert all(watch.modes[1][f"encoder.{name}"] for name in norms)


@pytest.mark.parametrize("stages", [0, 2, 4, -1])
def test_freezing_again_equals_a_fresh_encoder(stages):
    encoder = TimmEncoder("test_resnet", frozen_stages=3).train()
    fresh = TimmEncoder("test_resnet", frozen_stages=stages).train()
    encoder.freeze(stages)
    assert {n: p.requires_grad for n, p in encoder.named_parameters()} == {
        n: p.requires_grad for n, p in fresh.named_parameters()
    }
    assert [m.training for m in encoder.modules()] == [m.training for m in fresh.modules()]
    assert (encoder.frozen_stages, encoder.fully_frozen) == (fresh.frozen_stages, fresh.fully_frozen)


def test_what_cannot_work_is_said_before_the_training(tmp_path):
    with pytest.raises(ConfigError, match="stages need epochs from 0 on"):
        GradualUnfreezing({})
    with pytest.raises(ConfigError, match="not frozen at the start"):
        fit(tmp_path, make(0), GradualUnfreezing(STAGES))
    with pytest.raises(ConfigError, match="UNet has no encoder of stages"):
        fit(tmp_path, UNet((4, 8)), GradualUnfreezing(STAGES))
    with pytest.raises(ConfigError, match="frozen_stages is 9"):
        fit(tmp_path, make(), GradualUnfreezing({1: 9, 2: 0}))
