from __future__ import annotations

import copy
import os
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import mde
from mde.callbacks import AveragedWeights
from mde.codecs import Log, LogMetres
from mde.errors import ConfigError
from mde.models import EigenDepth, WarmupCosine
from mde.models.base import DepthModule
from mde.models.eigen import Stage
from mde.rebuild import spec_of
from mde.resizing import resize_truth
from tests.models.tester import MethodTester, make_batch, make_loader, make_trainer


def tiny(**kwargs: Any) -> EigenDepth:
    settings: dict[str, Any] = {"widths": (4, 6, 6, 6, 8), "hidden": 16, "fine_width": 6, "dropout": 0.0, **kwargs}
    return EigenDepth(**{"input_size": (56, 64), **settings})


class TestEigenDepth(MethodTester):
    def make(self, **kwargs: Any) -> DepthModule:
        return tiny(**kwargs)


SIZES = {  # figure 1, (height, width): layers 1, 2 to 4, 5, and the output; for KITTI it counts 9 rows in place of 10
    (228, 304): [(27, 37), (13, 18), (13, 18), (13, 18), (6, 8), (55, 74)],
    (172, 576): [(20, 71), (10, 35), (10, 35), (10, 35), (4, 17), (41, 142)],  # and keeps 27 of the 41
}


@pytest.mark.parametrize("size", SIZES)
def test_maps_have_the_sizes_of_the_paper(size: tuple[int, int]) -> None:
    model = EigenDepth(size, widths=(1,) * 5, hidden=1).eval()  # sizes do not depend on the widths
    image = torch.zeros(1, 3, *size)
    with torch.no_grad():
        maps = [nn.functional.max_pool2d(model.coarse.convs[0](image), 2)]
        maps.append(nn.functional.max_pool2d(model.coarse.convs[1](maps[-1]), 2))
        for conv in model.coarse.convs[2:]:
            maps.append(conv(maps[-1]))
        maps[-1] = model.coarse.features(image)
        edges = nn.functional.max_pool2d(model.fine.conv1(image), 2)
        output = model.raw(image)
    assert [tuple(x.shape[-2:]) for x in (*maps, output)] == SIZES[size]
    assert edges.shape[1:] == (63, *SIZES[size][-1])


def test_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        model = EigenDepth()
    counts = {name: p.numel() for name, p in model.named_parameters() if name.endswith("weight")}
    assert list(counts.values()) == [
        96 * 3 * 11 * 11, 256 * 96 * 25, 384 * 256 * 9, 384 * 384 * 9, 256 * 384 * 9,
        4096 * 256 * 6 * 8, 74 * 55 * 4096,
        63 * 3 * 81, 64 * 64 * 25, 64 * 25,
    ]  # fmt: skip
    biases = 96 + 256 + 384 + 384 + 256 + 4096 + 74 * 55 + 63 + 64 + 1
    assert sum(p.numel() for p in model.parameters()) == sum(counts.values()) + biases == 70_877_171


def test_both_networks_come_to_the_same_size_for_every_input() -> None:
    for side in (*range(55, 64), 100, 101, 102, 103):
        model = EigenDepth((side, 55), widths=(1,) * 5, hidden=1, fine_width=2).eval()
        with torch.no_grad():
            assert model.raw(torch.zeros(1, 3, 40, 50)).shape[-2:] == model.coarse.size == ((side - 11) // 4 + 1, 12)


def test_the_loss_is_equation_4_on_the_logarithm_of_metres() -> None:
    model, batch = tiny(depth_range=(0.5, 12.0)).train(), make_batch()
    with torch.no_grad():
        out = model.training_loss(batch)
        x = model._input(batch["image"])
        raws = {"coarse": model.coarse(x), "fine": model.fine(x, model.coarse(x))}
    for name, raw in raws.items():
        assert raw.min() > np.log(0.5), "inside the range, where the output is ln(metres) itself"
        assert raw.max() < np.log(12)
        depth, valid = resize_truth(batch["depth"], batch["valid"], raw.shape[-2:])
        total = 0.0
        for i in range(2):
            d = (raw[i].double() - depth[i].double().log())[valid[i]].numpy()
            total += (np.mean(d**2) - 0.5 * np.mean(d) ** 2) * len(d)
        assert float(out.logs[name]) == pytest.approx(total / int(valid.sum()), rel=1e-4)
    assert float(out.loss) == pytest.approx(sum(float(v) for v in out.logs.values()), rel=1e-6)


def test_outputs_start_in_the_middle_and_any_codec_of_one_channel_works() -> None:
    for codec in (LogMetres(0.5, 12.0), Log(0.5, 12.0)):
        depth = tiny(codec=codec).eval().predict(torch.rand(3, 40, 50)).depth
        assert float(depth.median()) == pytest.approx(6.25, rel=0.25)


class Watch(Callback):
    """Copies of the weights before each step, and what learned in it."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.stages: list[tuple[Stage, float, bool]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.states.append(copy.deepcopy(pl_module.state_dict()))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        assert all(p.grad is not None for p in pl_module.parameters()), "DDP waits for every parameter"
        self.stages.append((pl_module.stage, float(pl_module.refined), pl_module.coarse.training))


def fitted(folder: Path, model: EigenDepth, watch: Watch, **kwargs: Any) -> Trainer:
    ckpt = kwargs.pop("ckpt_path", None)
    trainer = make_trainer(folder, max_epochs=4, callbacks=[watch], **kwargs)
    trainer.fit(model, make_loader(4), make_loader(2, seed=1), ckpt_path=ckpt, weights_only=False)
    return trainer


def moved(before: dict[str, Tensor], after: dict[str, Tensor], net: str) -> list[bool]:
    return [not torch.equal(before[k], after[k]) for k in before if k.startswith(net)]


def test_two_stages_in_one_fit_and_what_is_fixed_stays_to_the_bit(tmp_path: Path) -> None:
    optimizer = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1)  # momentum and decay, which move without gradient
    model, watch = tiny(optimizer=optimizer, coarse_share=0.5, dropout=0.5), Watch()
    trainer = fitted(tmp_path, model, watch, gradient_clip_val=1.0)
    assert watch.stages == [(Stage.COARSE, 0.0, True)] * 4 + [(Stage.FINE, 1.0, False)] * 4
    states = [*watch.states, model.state_dict()]
    for step, (before, after) in enumerate(pairwise(states)):
        learns, idle = ("coarse.", "fine.") if step < 4 else ("fine.", "coarse.")
        assert any(moved(before, after, learns))
        assert not any(moved(before, after, idle)), step
    assert model.stage is Stage.BOTH  # the Trainer has finished
    assert set(trainer.callback_metrics) >= {"val/abs_rel", "train/coarse", "train/fine"}


def test_a_run_that_is_resumed_goes_on_in_its_stage(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tiny(coarse_share=0.75, optimizer=partial(torch.optim.SGD, lr=1e-3, momentum=0.9))
    start, watch = copy.deepcopy(model.state_dict()), Watch()
    fitted(tmp_path / "whole", model, watch)
    for stopped in (1, 3):  # epochs of 4: in the first stage, and where the second begins
        again, first, second = tiny(coarse_share=0.75, optimizer=model.optimizer_factory), Watch(), Watch()
        again.load_state_dict(start)
        trainer = make_trainer(tmp_path, max_epochs=4, callbacks=[first, _StopAfter(stopped)])
        trainer.fit(again, make_loader(4), make_loader(2, seed=1))
        trainer.save_checkpoint(tmp_path / "half.ckpt")
        assert len(first.stages) == 2 * stopped
        fitted(tmp_path, again, second, ckpt_path=tmp_path / "half.ckpt")
        assert first.stages + second.stages == watch.stages
        assert not any(moved(model.state_dict(), again.state_dict(), ""))


class _StopAfter(Callback):
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def test_the_output_is_the_coarse_map_until_the_fine_one_learns_and_a_checkpoint_knows(tmp_path: Path) -> None:
    image = torch.rand(1, 3, 56, 64)
    model = tiny(coarse_share=0.9, depth_range=(0.1, 10.0))
    trainer = make_trainer(tmp_path, max_epochs=3, callbacks=[_StopAfter(1)])
    trainer.fit(model, make_loader(4), make_loader(2, seed=1))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = mde.load(tmp_path / "a.ckpt")
    with torch.no_grad():
        coarse = loaded.coarse(image - 0.5)
        assert torch.equal(loaded.raw(image), coarse)
        loaded.refined.fill_(1.0)
        assert torch.equal(loaded.raw(image), loaded.fine(image - 0.5, coarse))
        assert not torch.equal(loaded.raw(image), coarse)


def test_averaged_weights_say_so_too(tmp_path: Path) -> None:
    model = tiny(coarse_share=0.5)
    make_trainer(tmp_path, max_epochs=4, callbacks=[AveragedWeights(0.1)]).fit(model, make_loader(4), make_loader(2))
    assert 0.5 < float(model.refined) <= 1


def test_every_parameter_of_both_stages_takes_part_under_ddp() -> None:
    """DDP without a search for unused parameters raises in the second step where one had none in the first."""
    os.environ.setdefault("MASTER_ADDR", "localhost")
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        for stage in (Stage.COARSE, Stage.FINE):
            model = type("Staged", (EigenDepth,), {"stage": stage})((56, 64), (4, 6, 6, 6, 8), 16, 6)

            class Step(nn.Module):
                def __init__(self, inner: EigenDepth) -> None:
                    super().__init__()
                    self.inner = inner

                def forward(self, batch: Any) -> Tensor:
                    return self.inner.training_loss(batch).loss

            wrapped = DistributedDataParallel(Step(model))
            for _ in range(2):
                wrapped.zero_grad(set_to_none=True)
                wrapped(make_batch()).backward()
            idle = model.fine if stage is Stage.COARSE else model.coarse
            assert all(p.grad is not None for p in model.parameters())
            assert all(float(p.grad.abs().max()) == 0 for p in idle.parameters() if p.grad is not None)
    finally:
        torch.distributed.destroy_process_group()


def test_learning_rates_of_the_layers() -> None:
    model = tiny(optimizer=partial(torch.optim.SGD, lr=1e-3, momentum=0.9), depth_range=(0.1, 10.0))
    found = {}
    for name, parameter in model.named_parameters():
        found.setdefault(model.group_of(name, parameter).get("lr_factor", 1.0), set()).add(name.rsplit(".", 1)[0])
    assert found[100.0] == {"coarse.full6", "coarse.full7"}
    assert found[10.0] == {"fine.conv2"}
    assert found[1.0] == {f"coarse.convs.{i}" for i in range(5)} | {"fine.conv1", "fine.conv3"}
    assert len(model.parameter_groups()) == 3


def test_a_schedule_runs_once_in_each_stage_and_is_written_down_as_it_was_given(tmp_path: Path) -> None:
    schedule = WarmupCosine(warmup=0.0)
    model = tiny(schedule=schedule, coarse_share=0.75, optimizer=partial(torch.optim.SGD, lr=1e-3))
    rates = _Rates()
    make_trainer(tmp_path, max_epochs=4, callbacks=[rates]).fit(model, make_loader(4), make_loader(2, seed=1))
    wanted = [schedule.factor(step, 6) for step in range(6)] + [schedule.factor(step, 2) for step in range(2)]
    assert rates.seen == pytest.approx([1e-3 * factor for factor in wanted])
    assert model.rebuild_spec["init_args"]["schedule"] == spec_of(schedule)


class _Rates(Callback):
    """The learning rate of each step, of the group without a factor."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        self.seen.append(optimizer.param_groups[0]["lr"])


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"input_size to at least \[55, 55\]"):
        tiny(input_size=(54, 80))
    for wrong in ({"coarse_share": 1.0}, {"coarse_share": 0}, {"widths": (1, 2, 3)}, {"dropout": 1.0}):
        with pytest.raises(ConfigError):
            tiny(**wrong)
    assert EigenDepth(image_size=(60, 80), widths=(1,) * 5, hidden=1).input_size == (60, 80)
    trainer = make_trainer(tmp_path, max_epochs=-1)
    with pytest.raises(ConfigError, match=r"max_epochs or trainer\.max_steps"):
        trainer.fit(tiny(), make_loader(4), make_loader(2))
