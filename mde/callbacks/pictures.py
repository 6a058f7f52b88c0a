"""Pictures of a run: RGB | truth | prediction | error, and point clouds, for a few images spread over the set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mde.callbacks.clouds import depth_cloud
from mde.callbacks.sinks import logger_sinks, sinks
from mde.errors import ConfigError
from mde.geometry import truth_intrinsics
from mde.models import DepthModule
from mde.protocol import EvalProtocol
from mde.report import depth_figure
from mde.types import Batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ImagePanels", "Pace", "protocol_of"]


class Pace:
    """Lets something through once in so many seconds: what a validation shows must not slow down the training.

    Args:
        seconds: between two times.

    Raises:
        ConfigError: `seconds` is negative.
    """

    def __init__(self, seconds: float) -> None:
        if seconds < 0:
            hint = "give the least time in seconds between two pictures of the validation"
            raise ConfigError(f"interval must be at least 0, got {seconds}", where="callbacks", next_action=hint)
        self.seconds = seconds
        self._next: float | None = None

    def due(self, trainer: Trainer) -> bool:
        """Whether this validation is shown; the same on all processes (each of them has to call this).

        The first one is where a logger takes pictures. Files alone wait: a run that is over by then has those of its
        test.
        """
        if trainer.sanity_checking:
            return False
        now = time.monotonic()
        if self._next is None:
            self._next = now if logger_sinks(trainer) else now + self.seconds
        due = bool(trainer.strategy.broadcast(now >= self._next))
        if due:
            self._next = now + self.seconds
        return due


class _Shown(NamedTuple):
    """One image on the CPU: maps (1,h,w) of the truth's size in metres, a picture (3,H,W), and the maps' camera."""

    id: str
    image: Tensor
    depth: Tensor
    valid: Tensor
    pred: Tensor
    intrinsics: Tensor


class ImagePanels(Callback):
    """Shows a few images as "val/panel" and "test/panel", and one as the point clouds of its prediction and its truth.

    They go to W&B or TensorBoard, or into files of the folder where neither logs; ``panel.png`` is written after each
    test. Predictions are shown as they are scored: at the truth's size, aligned as the protocol says (the title names
    the alignment) and clamped. Truth and prediction share one scale of colours. A camera that nobody measured gives no
    point cloud.

    Args:
        folder: of the run.
        images: how many rows.
        interval: least time in seconds between two validations that are shown.
        points: of a point cloud, at most.

    Raises:
        ConfigError: `interval` is negative.
    """

    def __init__(self, folder: Path, images: int = 4, interval: float = 60.0, points: int = 10_000) -> None:
        self.folder = Path(folder)
        self.images, self.points = images, points
        self._pace = Pace(interval)
        self._open = False
        self._shown: list[_Shown] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shown, self._open = [], self._pace.due(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shown, self._open = [], True

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if dataloader_idx == 0:  # of several sets the first
            self._take(trainer, pl_module, outputs, batch, batch_idx, int(trainer.num_val_batches[0]))

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        self._take(trainer, pl_module, outputs, batch, batch_idx, int(trainer.num_test_batches[0]))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._shown:
            figure = self._figure(pl_module)
            for sink in sinks(trainer, self.folder):
                sink.picture("val/panel", figure, trainer.global_step)
            self._send_clouds(trainer, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._shown:
            figure = self._figure(pl_module)
            figure.savefig(self.folder / "panel.png", dpi=90)
            for sink in logger_sinks(trainer):
                sink.picture("test/panel", figure, trainer.global_step)
            self._send_clouds(trainer, "test")

    def _take(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, batches: int
    ) -> None:
        """Keep the first images of a few batches that are spread evenly over the set."""
        chosen = np.linspace(0, batches - 1, min(self.images, batches)).round().astype(int)
        wanted = self._open and trainer.is_global_zero and batch_idx in chosen
        if not wanted or not isinstance(module, DepthModule):
            return
        count = 1 if batches >= self.images else -(-self.images // batches)
        depth, valid = batch["depth"][:count], batch["valid"][:count]
        pred = outputs["pred"][:count]
        metres = module.prepared(pred, Batch(**{**batch, "depth": depth, "valid": valid})).pred
        cameras = truth_intrinsics(batch)[:count]
        for row in range(min(len(metres), self.images - len(self._shown))):
            maps = (batch["image"][row], depth[row], valid[row], metres[row], cameras[row])
            self._shown.append(_Shown(batch["id"][row], *(each.detach().cpu() for each in maps)))

    def _figure(self, module: LightningModule) -> Figure:
        protocol = protocol_of(module)
        aligned = "" if protocol.alignment == "none" else f", predictions aligned by {protocol.alignment}"
        title = f"protocol {protocol.name} ({protocol.fingerprint}){aligned}"
        names, images, depths, valids, preds, _ = zip(*self._shown, strict=True)
        image, depth, valid, pred = (torch.stack(each) for each in (images, depths, valids, preds))
        return depth_figure(image, depth, valid, pred, names=names, title=title)

    def _send_clouds(self, trainer: Trainer, stage: str) -> None:
        first = next((each for each in self._shown if each.intrinsics.isfinite().all()), None)
        if first is None:
            return
        for name, depth in (("prediction", first.pred), ("truth", first.depth)):
            cloud = depth_cloud(first.image, depth, first.valid, first.intrinsics, self.points)
            for sink in sinks(trainer, self.folder):
                sink.cloud(f"{stage}/cloud/{name}", cloud, trainer.global_step)


def protocol_of(module: LightningModule) -> EvalProtocol:
    """How a module is scored; the plain protocol for one that does not say."""
    return module.scoring_protocol if isinstance(module, DepthModule) else EvalProtocol()
