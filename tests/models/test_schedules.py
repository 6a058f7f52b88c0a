from __future__ import annotations

from functools import partial

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mde.data import ProceduralDataModule
from mde.errors import ConfigError
from mde.losses import L1Loss
from mde.models import Cyclic, Milestones, OneCycle, PolyDecay, UNet, WarmupCosine


class Rates(Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(
    "schedule",
    [
        PolyDecay(0.9),
        WarmupCosine(warmup=0.4, final=0.1),
        Cyclic(10, 2),
        Cyclic(5, 1, "triangular"),
        OneCycle(0.4),
        Milestones((0.5, 0.9), 0.1),
    ],
)
def test_a_schedule_steps_with_every_batch_over_the_whole_run(schedule, tmp_path):
    """Stepped per epoch, as LightningCLI would by itself, six steps would see two rates only."""
    rates = Rates()
    data = ProceduralDataModule(train_scenes=6, val_scenes=1, test_scenes=1, image_size=(16, 16), batch_size=2)
    model = UNet(widths=(2, 4), optimizer=partial(torch.optim.SGD, lr=0.5), schedule=schedule, loss=L1Loss())
    trainer = Trainer(
        default_root_dir=tmp_path,
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[rates],
    )
    trainer.fit(model, datamodule=data)
    assert rates.seen == pytest.approx([0.5 * schedule.factor(step, 6) for step in range(6)])


def test_poly_decay_is_deeplabs_formula():
    assert PolyDecay(0.9).factor(30, 100) == pytest.approx(0.7**0.9)
    assert PolyDecay(0.9).factor(100, 100) == PolyDecay(0.9).factor(150, 100) == 0


def test_a_warm_up_outside_the_run_is_refused():
    with pytest.raises(ConfigError, match="warmup"):
        WarmupCosine(warmup=1.0)


@pytest.mark.parametrize("wrong", [{"at": (30, 40)}, {"at": (0.0, 0.5)}, {"by": 0.0}])
def test_milestones_are_shares_of_the_run(wrong):
    with pytest.raises(ConfigError, match=r"shares of the run.*30 and 40 of 50"):
        Milestones(**wrong)


def test_cyclic_is_the_formula_of_paper_1_and_moves_beta1():
    """lr(t) = low + (high - low) max(0, 1 - x), x = |t/s - 2 cycle + 1|, over three cycles of Adam."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([parameter], lr=1e-3)
    scheduler = Cyclic(10, 4, "triangular").build(optimizer, 10**5)
    for step in range(24):
        x = abs(step / 4 - 2 * (1 + step // 8) + 1)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 + 9e-3 * max(0, 1 - x))
        assert optimizer.param_groups[0]["betas"][0] == pytest.approx(0.9 - 0.1 * max(0, 1 - x))
        optimizer.step()
        scheduler.step()


def test_cycles_keep_the_ratio_of_groups_and_work_without_momentum():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.Adagrad([{"params": parameters[:1], "lr": 1e-3}, {"params": parameters[1:], "lr": 1e-2}])
    for schedule in (Cyclic(10, 3), OneCycle()):
        scheduler = schedule.build(optimizer, 50)
        optimizer.step()
        scheduler.step()
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second == pytest.approx(10 * first)


@pytest.mark.parametrize("make", [lambda: Cyclic(1.0), lambda: Cyclic(mode="exp"), lambda: OneCycle(rise=1.0)])
def test_cycles_that_cannot_be(make):
    with pytest.raises(ConfigError):
        make()
