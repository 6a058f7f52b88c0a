"""Predictions on disk: one file a sample, with what its numbers mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from mde.protocol import resize
from mde.types import Batch, Prediction

__all__ = ["PredictionWriter"]


class PredictionWriter(BasePredictionWriter):
    """Writes ``<folder>/predictions/<id>.npz`` with `values` (H,W) float32 at the truth's size, `ambiguity` and `unit`.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder / "predictions"

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Prediction,
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        maps = resize(prediction.values, batch["depth"].shape[-2:])
        about: dict[str, Any] = {"ambiguity": prediction.ambiguity.value, "unit": prediction.unit}
        for name, values in zip(batch["id"], maps, strict=True):
            np.savez_compressed(
                self.folder / f"{_file_name(name)}.npz", values=values[0].float().cpu().numpy(), id=name, **about
            )


def _file_name(sample_id: str) -> str:
    """A sample id as one file name: folders become underscores."""
    return re.sub(r"[^\w.-]+", "_", sample_id).strip("_") or "sample"
