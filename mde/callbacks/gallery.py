"""Tested images kept for the report of a run: some spread evenly over the set, and the worst."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from mde.errors import ConfigError
from mde.geometry import truth_intrinsics
from mde.metrics.functional import NAMES
from mde.models import DepthModule
from mde.report.samples import (
    FOLDER,
    KeptImage,
    Sample,
    Samples,
    read_sample,
    remove_sample,
    write_sample,
    write_samples,
)
from mde.types import Batch

__all__ = ["Gallery"]

_ABS_REL = NAMES.index("abs_rel")


class Gallery(Callback):
    """Writes ``samples/`` during a test (see `mde.report.samples`), for ``mde report``.

    Memory does not grow with the set: an image is written when it is among the worst so far, and removed when it no
    longer is. Under several processes each keeps its own worst, and the first joins them; the images that a distributed
    sampler repeats are left out.

    Args:
        folder: of the run.
        images: how many are spread evenly over the set.
        worst: how many of the largest abs_rel.
        width: bound in pixels; wider maps are thinned, not averaged.

    Raises:
        ConfigError: a number is negative, or `width` is below 16.
    """

    def __init__(self, folder: Path, images: int = 12, worst: int = 20, width: int = 640) -> None:
        if images < 0 or worst < 0 or width < 16:
            hint = "give images and worst of at least 0, and a width of at least 16 pixels"
            raise ConfigError(f"images {images}, worst {worst}, width {width}", where="Gallery", next_action=hint)
        self.folder = Path(folder) / FOLDER
        self.images, self.worst, self.width = images, worst, width
        self._start(())

    def _start(self, spread: Sequence[int]) -> None:
        self._spread = frozenset(int(position) for position in spread)
        self._kept: dict[int, float] = {}  # position -> abs_rel of the spread images
        self._heap: list[tuple[float, int]] = []  # the worst, the best of them first
        self._seen = 0

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = _images_of(trainer)
        self._start(np.linspace(0, total - 1, min(self.images, total)).round().astype(int).tolist())
        self.folder.mkdir(parents=True, exist_ok=True)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        if not isinstance(pl_module, DepthModule) or pl_module.test_metrics is None:
            return
        found = pl_module.test_metrics.last
        if found is None:
            return
        errors = found.errors[:, _ABS_REL].tolist()
        counted = pl_module.counted(batch_idx, trainer.test_dataloaders)
        for row, abs_rel in enumerate(errors):
            # a distributed sampler deals the images out like cards
            position = (self._seen + row) * trainer.world_size + trainer.global_rank
            if (counted is None or counted[row]) and self._wants(position, abs_rel):
                self._write(position, pl_module, outputs["pred"], batch, row)
        self._seen += len(errors)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, DepthModule) or pl_module.test_metrics is None:
            return
        table = self.table(pl_module.device)
        # every process has written its files when all have come here
        spread, worst = self.joined(trainer.strategy.all_gather(table).reshape(trainer.world_size, *table.shape).cpu())
        if trainer.is_global_zero:
            chosen = set(heapq.nlargest(self.worst, worst, key=lambda position: (worst[position], -position)))
            images = [
                KeptImage(
                    read_sample(self.folder, position).id, position, value, position in spread, position in chosen
                )
                for position, value in sorted((worst | spread).items())
                if position in chosen or position in spread
            ]
            fingerprint = pl_module.test_metrics.protocol.fingerprint
            write_samples(Samples(self.folder, images, pl_module.ambiguity.value, fingerprint))

    def _wants(self, position: int, abs_rel: float) -> bool:
        """Note the image if it belongs to those that stay; the one that it displaces goes."""
        spread = position in self._spread
        if spread:
            self._kept[position] = abs_rel
        entry = (abs_rel, -position)
        if not math.isfinite(abs_rel) or self.worst == 0:
            return spread
        if len(self._heap) < self.worst:
            heapq.heappush(self._heap, entry)
            return True
        gone = heapq.heappushpop(self._heap, entry)
        if gone != entry and -gone[1] not in self._spread:
            remove_sample(self.folder, -gone[1])
        return spread or gone != entry

    @torch.no_grad()
    def _write(self, position: int, module: DepthModule, pred: Tensor, batch: Batch, row: int) -> None:
        """Align and clamp one prediction as the protocol does, and write it."""
        one = slice(row, row + 1)
        depth, valid = batch["depth"][one], batch["valid"][one]
        made = module.prepared(pred[one], Batch(**{**batch, "depth": depth, "valid": valid}))
        image = batch["image"][row].float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0)
        sample = Sample(
            id=batch["id"][row],
            image=image.cpu().numpy(),
            depth=depth[0, 0].float().cpu().numpy(),
            counted=made.mask[0, 0].cpu().numpy(),
            pred=made.pred[0, 0].float().cpu().numpy(),
            intrinsics=truth_intrinsics(batch)[row].double().cpu().numpy(),
        )
        write_sample(self.folder, position, sample.thinned(self.width))

    def table(self, device: torch.device) -> Tensor:
        """What this process kept, float32 (2, images + worst, 2): position and abs_rel of the spread images and of the
        worst; the rest is NaN."""
        made = torch.full((2, self.images + self.worst, 2), torch.nan)
        for number, entries in enumerate((self._kept.items(), ((-place, error) for error, place in self._heap))):
            for slot, entry in enumerate(entries):
                made[number, slot] = torch.tensor(entry)
        return made.to(device)

    @staticmethod
    def joined(tables: Tensor) -> tuple[dict[int, float], dict[int, float]]:
        """abs_rel by position of the spread images and of each process' worst.

        Args:
            tables: (P,2,N,2), the `table` of each process.
        """
        spread, worst = (tables[:, number].reshape(-1, 2).tolist() for number in (0, 1))
        named = ({int(place): error for place, error in rows if not math.isnan(place)} for rows in (spread, worst))
        return next(named), next(named)


def _images_of(trainer: Trainer) -> int:
    """How many images the test sees, over all processes."""
    loader = trainer.test_dataloaders
    if not isinstance(loader, DataLoader):
        return 0
    limit = trainer.num_test_batches[0] * int(loader.batch_size or 1) * trainer.world_size
    return int(min(len(loader.dataset), limit))  # type: ignore[arg-type]
