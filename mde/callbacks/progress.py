"""How far a training is, where nobody watches a bar: in a log file, in a pipe, on a terminal that cannot redraw."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from mde.console import say

__all__ = ["EpochLines"]

_SHOWN = ("train/loss", "val/loss", "val/abs_rel", "val/rmse", "val/delta1")


class EpochLines(ProgressBar):
    """A line after each epoch, with its time and what was measured; within long epochs one every few minutes.

    Args:
        every: seconds between lines within an epoch.
    """

    def __init__(self, every: float = 300.0) -> None:
        super().__init__()
        self.every = every
        self._began = self._told = time.monotonic()
        self._shown = True

    def disable(self) -> None:
        """Nothing more is printed; Lightning calls it on all processes but the first."""
        self._shown = False

    def enable(self) -> None:
        """Lines are printed again."""
        self._shown = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = self._told = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now - self._told >= self.every:
            self._told = now
            self._say(trainer, f"step {batch_idx + 1} of {trainer.num_training_batches}", now - self._began)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        known = trainer.callback_metrics
        measured = [f"{name} {float(known[name]):.4g}" for name in _SHOWN if name in known]
        self._say(trainer, ", ".join(measured), time.monotonic() - self._began)

    def _say(self, trainer: Trainer, text: str, seconds: float) -> None:
        if self._shown:
            last = "" if (trainer.max_epochs or -1) < 0 else f" of {trainer.max_epochs}"
            say(f"epoch {trainer.current_epoch + 1}{last}: {text} ({seconds:.0f} s)")
