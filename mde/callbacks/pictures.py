"""Pictures of a run: RGB | truth | prediction | error, for a few images spread over the set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor
from torch.nn import functional as F

from mde.models import DepthModule
from mde.report import depth_figure
from mde.types import Ambiguity, Batch

__all__ = ["ImagePanels", "picture_loggers", "send_picture"]


class ImagePanels(Callback):
    """Writes ``panel.png`` after a test, and sends the same picture to TensorBoard or W&B after each validation.

    Args:
        folder: of the run.
        images: how many rows.
    """

    def __init__(self, folder: Path, images: int = 4) -> None:
        self.folder = folder
        self.images = images
        self._rows: list[dict[str, Any]] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._rows = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._rows = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        self._take(trainer, pl_module, batch, batch_idx, int(trainer.num_test_batches[0]))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        if not trainer.sanity_checking and picture_loggers(trainer):
            self._take(trainer, pl_module, batch, batch_idx, int(trainer.num_val_batches[0]))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._rows and trainer.is_global_zero:
            self._figure().savefig(self.folder / "panel.png", dpi=90)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loggers = picture_loggers(trainer)
        if self._rows and trainer.is_global_zero and loggers:
            figure = self._figure()
            for logger in loggers:
                send_picture(logger, figure, "val/panel", trainer.global_step)

    def _take(self, trainer: Trainer, module: LightningModule, batch: Batch, batch_idx: int, batches: int) -> None:
        """Keep the first image of a few batches that are spread evenly over the set."""
        chosen = np.linspace(0, batches - 1, min(self.images, batches)).round().astype(int)
        count = 1 if batches >= self.images else -(-self.images // batches)
        if not isinstance(module, DepthModule) or module.ambiguity is not Ambiguity.METRIC or batch_idx not in chosen:
            return
        with torch.no_grad():
            pred = module.predict_batch(batch["image"][:count])
        pred = F.interpolate(pred, size=batch["depth"].shape[-2:], mode="bilinear", align_corners=False)
        for row in range(len(pred)):
            self._rows.append({"pred": _cpu(pred[row]), "id": batch["id"][row], **_truth(batch, row)})

    def _figure(self) -> Any:
        rows = self._rows[: self.images]
        names = [row["id"] for row in rows]
        maps = {key: torch.stack([row[key] for row in rows]) for key in ("image", "depth", "valid", "pred")}
        return depth_figure(maps["image"], maps["depth"], maps["valid"], maps["pred"], names=names)


def _truth(batch: Batch, row: int) -> dict[str, Tensor]:
    return {"image": _cpu(batch["image"][row]), "depth": _cpu(batch["depth"][row]), "valid": _cpu(batch["valid"][row])}


def _cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu()


def picture_loggers(trainer: Trainer) -> list[Logger]:
    """The loggers of a run that take pictures."""
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger | WandbLogger)]


def send_picture(logger: Logger, figure: Any, name: str, step: int) -> None:
    """Hand a matplotlib figure to one of `picture_loggers`."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_figure(name, figure, global_step=step)
    elif isinstance(logger, WandbLogger):
        canvas = figure.canvas
        canvas.draw()
        logger.log_image(name, [np.asarray(canvas.buffer_rgba())[..., :3]], step=step)
