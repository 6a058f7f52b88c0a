"""Loss curves at the end of a training."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from mde.report import curve_figure, read_curves

__all__ = ["LossCurves"]


class LossCurves(Callback):
    """Writes ``curves.png`` beside the ``metrics.csv`` of the run; a run without a CSV logger has none.

    Args:
        metric: validation metric beside the losses.
    """

    def __init__(self, metric: str = "val/abs_rel") -> None:
        self.metric = metric

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        logger = next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)
        if logger is None or not trainer.is_global_zero:
            return
        logger.save()  # what it still holds back
        file = Path(logger.log_dir) / "metrics.csv"
        if file.is_file():
            curve_figure({"": read_curves(file)}, self.metric).savefig(file.with_name("curves.png"), dpi=120)
