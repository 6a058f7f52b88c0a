"""The record of each image of a test, streamed to disk by every process and joined at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from mde.metrics import NAMES, BatchErrors
from mde.report.scores import ImageScores, ScoresWriter, join_parts

__all__ = ["ImageRecord", "ScoresImages", "extra_per_image"]

_BATCHES = 16  # kept on the device before they are written: fetching them makes it wait


@runtime_checkable
class ScoresImages(Protocol):
    """A callback with more values of each image, such as `mde.callbacks.scores.ExtraMetrics`."""

    def last_per_image(self) -> dict[str, Tensor]:
        """Of the last batch, (B,) by name; the same names for every batch."""


def extra_per_image(trainer: Trainer) -> dict[str, Tensor]:
    """What the callbacks of a run say of each image of the last batch."""
    found: dict[str, Tensor] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ScoresImages):
            found |= callback.last_per_image()
    return found


class ImageRecord:
    """One file of errors per image. Memory does not grow with the test, and images that pad a rank are left out.

    Args:
        path: of the joined file; the parts are hidden files beside it.
        rank: of this process.
    """

    def __init__(self, path: Path, rank: int) -> None:
        self._path = path
        self._writer = ScoresWriter(self._part(rank))
        self._waiting: list[tuple[list[str], BatchErrors, Tensor | None, dict[str, Tensor]]] = []

    def add(self, ids: list[str], found: BatchErrors, counted: Tensor | None, extra: dict[str, Tensor]) -> None:
        """Add a batch.

        Args:
            ids: B.
            found: of the batch.
            counted: bool (B,), False leaves an image out.
            extra: (B,) by name.
        """
        self._waiting.append((ids, found, counted, extra))
        if len(self._waiting) >= _BATCHES:
            self._write()

    def join(self, trainer: Trainer) -> ImageScores | None:
        """Write what waits and join the parts of all processes, each of which has to call this; the first gets it."""
        self._write()
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return None
        join_parts([self._part(rank) for rank in range(trainer.world_size)], self._path)
        return ImageScores.read(self._path)

    def _part(self, rank: int) -> Path:
        return self._path.with_name(f".{self._path.stem}.{rank}.csv")

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for ids, found, counted, extra in waiting:
            columns = dict(zip(NAMES, found.errors.unbind(1), strict=True)) | extra
            kept = torch.ones(len(ids), dtype=torch.bool) if counted is None else counted.cpu()
            rows = kept.nonzero().flatten()
            values = {name: column.detach().cpu().double()[rows].tolist() for name, column in columns.items()}
            pixels, degenerate = found.pixels.cpu()[rows].tolist(), found.degenerate.cpu()[rows].tolist()
            self._writer.add([ids[row] for row in rows.tolist()], pixels, degenerate, values)
