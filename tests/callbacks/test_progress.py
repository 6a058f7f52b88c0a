"""A log file gets a line an epoch, and no bar."""

from __future__ import annotations

import re

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mde.callbacks import EpochLines


class Line(LightningModule):
    """Fits a line."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        loss = self.net(batch[0]).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.log("val/abs_rel", torch.tensor(0.25))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(lines: EpochLines, **settings: int) -> None:
    data = DataLoader(TensorDataset(torch.ones(6, 1)), batch_size=2)
    trainer = Trainer(
        callbacks=[lines], logger=False, accelerator="cpu", enable_checkpointing=False, enable_model_summary=False,
        num_sanity_val_steps=0, log_every_n_steps=1, **settings,
    )  # fmt: skip
    trainer.fit(Line(), data, data)


def test_a_line_after_each_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    fit(EpochLines(), max_epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines, start=1):
        assert re.fullmatch(rf"epoch {number} of 2: train/loss [\d.e-]+, val/abs_rel 0\.25 \(\d+ s\)", line)


def test_lines_within_a_long_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    fit(EpochLines(every=0), max_epochs=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" (")[0] for line in lines[:3]] == [f"epoch 1 of 1: step {n} of 3" for n in (1, 2, 3)]
    assert len(lines) == 4


def test_no_number_of_epochs_and_silence(capsys: pytest.CaptureFixture[str]) -> None:
    fit(EpochLines(), max_epochs=-1, max_steps=3)
    assert capsys.readouterr().out.startswith("epoch 1: train/loss")
    silent = EpochLines()
    silent.disable()
    fit(silent, max_epochs=1)
    assert capsys.readouterr().out == ""
