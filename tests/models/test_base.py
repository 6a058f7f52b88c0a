from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

import mde
from mde.codecs import DepthCodec, Linear
from mde.errors import CheckpointError, NonFiniteLossError
from mde.losses import DepthLoss
from mde.losses import L1Loss as MeanError
from mde.models import DepthModule, PolyDecay
from mde.models.guard import FiniteLossGuard
from mde.protocol import EvalProtocol
from mde.resizing import resize_truth
from mde.types import Batch
from tests.models.tester import make_batch, make_loader, make_trainer


class Scale(DepthModule):
    """The smallest method: depth / max = scale * red."""

    def __init__(self, start: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = nn.Parameter(torch.tensor(start))

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1] * self.scale

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return Linear(min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        return MeanError()


@pytest.mark.parametrize("count", [5, 6, 7, 8])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_repeats_of_a_distributed_sampler_do_not_count(count: int, batch_size: int) -> None:
    module, counted = Scale(), []
    for rank in range(3):
        sampler: DistributedSampler[int] = DistributedSampler(range(count), 3, rank, shuffle=False)  # type: ignore[arg-type]
        loader = DataLoader(range(count), batch_size=batch_size, sampler=sampler)  # type: ignore[arg-type]
        for index, batch in enumerate(loader):
            mask = module.counted(index, loader)
            assert mask is not None
            counted += batch[mask].tolist()
    assert sorted(counted) == list(range(count))
    assert module.counted(0, DataLoader(range(count))) is None  # type: ignore[arg-type]


def test_trains_validates_and_logs(tmp_path: Path) -> None:
    module = Scale(protocol=EvalProtocol(max_depth=10.0), optimizer=partial(torch.optim.SGD, lr=0.1))
    logger = CSVLogger(tmp_path)
    trainer = make_trainer(tmp_path, logger=logger, log_every_n_steps=2, max_epochs=3)
    trainer.fit(module, make_loader(6), make_loader(3, seed=1))
    assert abs(float(module.scale) - 1) < 0.3  # red is depth / 10
    metrics = trainer.test(module, make_loader(3, seed=1), verbose=False)[0]
    assert metrics["test/abs_rel"] < 0.3
    with open(Path(logger.log_dir) / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["train/loss"]] == ["1", "3", "5", "7"]
    assert len([row for row in rows if row["train/loss_epoch"]]) == 3
    assert len([row for row in rows if row["val/abs_rel"] and row["val/loss"]]) == 3


def test_logged_loss_is_that_of_the_step_beside_it(tmp_path: Path) -> None:
    losses: list[float] = []

    class Recording(Scale):
        def training_loss(self, batch: Batch) -> Any:
            out = super().training_loss(batch)
            losses.append(float(out.loss.detach()))
            return out

    logger = CSVLogger(tmp_path)
    trainer = make_trainer(tmp_path, logger=logger, log_every_n_steps=3, max_epochs=2)
    trainer.fit(Recording(), make_loader(14))
    with open(Path(logger.log_dir) / "metrics.csv") as file:
        logged = {int(row["step"]): float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]}
    assert logged == pytest.approx({step: losses[step] for step in (2, 5, 8, 11)}, rel=1e-6)


def test_schedule_is_stepped_per_batch(tmp_path: Path) -> None:
    module = Scale(optimizer=partial(torch.optim.SGD, lr=1.0), schedule=PolyDecay(1.0))
    trainer = make_trainer(tmp_path, max_epochs=2)
    trainer.fit(module, make_loader(8))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0)
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 8


def test_nonfinite_loss_stops_and_keeps_the_ids(tmp_path: Path) -> None:
    module = Scale(start=float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"sample-0-0, sample-0-1.*nonfinite_batch.json"):
        make_trainer(tmp_path).fit(module, make_loader())
    kept = json.loads((tmp_path / "nonfinite_batch.json").read_text())
    assert kept == {"loss": "nan", "ids": ["sample-0-0", "sample-0-1"]}


def test_guard_looks_before_a_checkpoint_is_written(tmp_path: Path) -> None:
    guard = FiniteLossGuard(every=100)
    on_accelerator = torch.tensor(float("inf"), device="meta")  # a device whose values are not to be had yet
    guard.add(on_accelerator, ["a"], tmp_path)
    assert len(guard._recent) == 1
    module = Scale()
    module._guard._recent = [(torch.tensor(1.0), ["a"]), (torch.tensor(float("inf")), ["b"])]
    module._guard._folder = tmp_path
    checkpoint: dict[str, Any] = {}
    with pytest.raises(NonFiniteLossError, match="inf for the batch b"):
        module.on_save_checkpoint(checkpoint)
    assert checkpoint == {}


def test_guard_gives_the_mean_of_the_epoch(tmp_path: Path) -> None:
    guard = FiniteLossGuard()
    for loss in (1.0, 2.0, 6.0):
        guard.add(torch.tensor(loss), ["a"], tmp_path)
    assert float(guard.epoch_mean(tmp_path)) == 3.0
    assert float(guard.epoch_mean(tmp_path)) == 0.0


def test_optimizer_without_a_plain_form_is_left_out() -> None:
    spec = Scale(0.25, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)).rebuild_spec
    assert "optimizer" not in spec["init_args"]
    assert spec["init_args"]["start"] == 0.25
    assert spec["init_args"]["codec"]["class_path"].endswith(".Linear")
    with pytest.raises(CheckpointError, match="schedule"):
        _ = Scale(schedule=lambda step: step).rebuild_spec  # type: ignore[arg-type]


def test_load_keeps_the_protocol(tmp_path: Path) -> None:
    protocol = EvalProtocol(name="mine", max_depth=7.0, crop="kitti_garg")
    trainer = make_trainer(tmp_path)
    trainer.fit(Scale(protocol=protocol), make_loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert mde.load(tmp_path / "a.ckpt").protocol == protocol


class Foreign(LightningModule):
    def configure_optimizers(self) -> None:
        return None


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.fit(Scale(), make_loader())
    good = tmp_path / "good.ckpt"
    trainer.save_checkpoint(good)

    def refused(path: Path, message: str) -> None:
        with pytest.raises(CheckpointError, match=message) as caught:
            mde.load(path)
        assert "\n" not in str(caught.value)

    refused(tmp_path / "none.ckpt", "no such checkpoint")
    (tmp_path / "cut.ckpt").write_bytes(good.read_bytes()[:-200])
    refused(tmp_path / "cut.ckpt", "not a readable checkpoint")
    (tmp_path / "text.ckpt").write_text("this: is YAML\n")
    refused(tmp_path / "text.ckpt", "not a readable checkpoint")
    torch.save({"state_dict": Foreign().state_dict()}, tmp_path / "foreign.ckpt")
    refused(tmp_path / "foreign.ckpt", "not a checkpoint of this library")
    content = torch.load(good, weights_only=True)
    content["mde"]["format"] = 99
    torch.save(content, tmp_path / "new.ckpt")
    refused(tmp_path / "new.ckpt", "upgrade mde")
    content["mde"]["format"] = 1
    del content["state_dict"]["scale"]
    torch.save(content, tmp_path / "other.ckpt")
    refused(tmp_path / "other.ckpt", "weights do not fit")
    content["mde"]["model"]["class_path"] = "os.system"
    torch.save(content, tmp_path / "evil.ckpt")
    refused(tmp_path / "evil.ckpt", "not a class that a checkpoint may make")


def test_truth_is_resized_by_choosing_never_by_mixing() -> None:
    batch = make_batch(1, 31, 45)
    depth, valid = resize_truth(batch["depth"], batch["valid"], (16, 23))
    assert set(depth.unique().tolist()) <= set(batch["depth"].unique().tolist())
    assert torch.equal(depth > 0, valid)
    same, _ = resize_truth(batch["depth"], batch["valid"], (31, 45))
    assert same is batch["depth"]
