"""Every parameter in exactly one group, with the settings that its method gives it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mde.errors import ConfigError
from mde.models import DeepLabSID, DenseDepth, DepthModule, ResNetDepth, SmpEncoder, TimmEncoder, UNet, WarmupCosine
from mde.models.parameter_groups import make_groups
from tests.models.test_base import Scale
from tests.models.tester import make_batch, make_loader, make_trainer


def dense_depth(**kwargs: Any) -> DepthModule:
    return DenseDepth(TimmEncoder("test_resnet"), **kwargs)


def deeplab(frozen_stages: int = 0, **kwargs: Any) -> DepthModule:
    encoder = SmpEncoder("resnet18", output_stride=8, frozen_stages=frozen_stages)
    return DeepLabSID(encoder, bins=5, depth_range=(1.0, 10.0), **kwargs)


METHODS: dict[str, Callable[..., DepthModule]] = {
    "DenseDepth": dense_depth,
    "UNet": partial(UNet, (4, 8)),
    "ResNetDepth": lambda **kwargs: ResNetDepth(TimmEncoder("test_resnet"), **kwargs),
    "DeepLabSID": deeplab,
}
DECAY = 0.01


def settings_of(model: DepthModule) -> dict[str, tuple[float, float]]:
    """Parameter name -> learning rate and decay in the optimizer."""
    model.trainer = make_trainer(Path("unused"))
    optimizer = model.configure_optimizers()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, tuple[float, float]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    return found


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS.keys())
@pytest.mark.parametrize("decay_norm", [True, False])
def test_any_method_has_its_encoder_slower_and_its_norms_without_decay(make, decay_norm):
    optimizer = partial(torch.optim.AdamW, lr=1.0, weight_decay=DECAY)
    model = make(optimizer=optimizer, encoder_lr=0.1, decay_norm=decay_norm)
    found = settings_of(model)
    assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or (name.startswith("head.") and isinstance(model, DeepLabSID)):
            continue
        rate, decay = found[name]
        assert rate == pytest.approx(0.1 if name.startswith("encoder.") else 1.0), name
        assert decay == (DECAY if decay_norm or parameter.ndim > 1 else 0.0), name


def test_deeplab_keeps_its_own_factors_beside_them():
    model = deeplab(optimizer=partial(torch.optim.SGD, lr=1.0, weight_decay=DECAY), encoder_lr=0.5, decay_norm=False)
    found = settings_of(model)
    head = {name: values for name, values in found.items() if name.startswith("head.")}
    assert len(head) == 8
    for name, values in head.items():
        assert values == ((20.0, 0.0) if name.endswith("bias") else (10.0, DECAY))
    assert {values for name, values in found.items() if name.startswith("encoder.")} == {(0.5, DECAY)}  # norms frozen
    assert set(settings_of(deeplab(frozen_stages=-1))) == set(head)


def test_a_factory_that_knows_no_groups_gets_plain_parameters():
    given: list[Any] = []

    def factory(parameters: Any) -> torch.optim.Optimizer:
        given.extend(parameters)
        return torch.optim.SGD(given, lr=0.1)

    settings_of(UNet((4, 8), optimizer=lambda p: torch.optim.SGD(list(p), lr=0.1, weight_decay=0)))
    make_trainer(Path("unused"))
    model = UNet((4, 8), optimizer=factory)
    model.trainer = make_trainer(Path("unused"))
    model.configure_optimizers()
    assert all(isinstance(parameter, nn.Parameter) for parameter in given)


def test_groups_keep_the_order_of_their_first_parameter():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight.requires_grad_(False)
    groups = make_groups(net.named_parameters(), lambda name, _: {"lr_factor": 3.0 if name[0] == "1" else 1.0})
    assert [len(group["params"]) for group in groups] == [2, 1]
    assert [group.get("lr_factor") for group in groups] == [None, 3.0]


def test_the_schedule_scales_every_group_alike(tmp_path):
    optimizer = partial(torch.optim.AdamW, lr=1.0)
    model = UNet((4, 8), optimizer=optimizer, schedule=WarmupCosine(warmup=0.5), encoder_lr=0.1, image_size=(32, 48))
    trainer = make_trainer(tmp_path, max_steps=2)
    trainer.fit(model, make_loader(8), make_loader())
    groups = trainer.optimizers[0].param_groups
    assert groups[0]["lr"] == pytest.approx(0.1 * groups[1]["lr"])
    assert groups[1]["initial_lr"] == 1.0


def test_wrong_settings_are_named():
    with pytest.raises(ConfigError, match=r"encoder_lr must be above 0.*frozen_stages -1"):
        UNet((4, 8), encoder_lr=0.0)
    with pytest.raises(ConfigError, match="Scale has no encoder"):
        settings_of(Scale(encoder_lr=0.1))
    frozen = Scale()
    frozen.requires_grad_(False)
    with pytest.raises(ConfigError, match="every parameter of the network is frozen"):
        settings_of(frozen)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped_by_the_trainers_own_flags(tmp_path, algorithm):
    model = UNet((4, 8), optimizer=partial(torch.optim.SGD, lr=1.0), encoder_lr=0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    clip = {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": algorithm}
    make_trainer(tmp_path, max_steps=1, limit_val_batches=0, **clip).fit(model, make_loader(2))
    moves = {
        n: (p.detach() - before[n]) / (0.5 if n.startswith("encoder.") else 1.0) for n, p in model.named_parameters()
    }
    whole = torch.cat([move.flatten() for move in moves.values()])
    size = whole.norm() if algorithm == "norm" else whole.abs().max()
    assert float(size) == pytest.approx(1e-3, rel=1e-2)
    free = UNet((4, 8))
    free.training_loss(make_batch()).loss.backward()
    assert float(torch.cat([p.grad.flatten() for p in free.parameters()]).norm()) > 0.1  # there was something to clip
