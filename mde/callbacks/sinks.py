"""Where pictures, point clouds and tables of a run go: W&B, TensorBoard, or files where there is neither."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from mde.inference.outputs.clouds import Cloud, ply_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FolderSink", "Sink", "TensorBoardSink", "WandbSink", "logger_sinks", "sinks"]


class Sink(Protocol):
    """One place that takes what a number is too little for. Names are paths such as "test/panel"."""

    def settings(self, values: Mapping[str, Any]) -> None:
        """What runs are grouped and filtered by, as plain data."""

    def summary(self, values: Mapping[str, float | str], step: int) -> None:
        """The results of the run, one value a name."""

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """One value a name, of this step."""

    def picture(self, name: str, figure: Figure, step: int) -> None:
        """A matplotlib figure."""

    def cloud(self, name: str, cloud: Cloud, step: int) -> None:
        """Coloured points."""

    def table(self, name: str, head: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        """Cells under a head."""

    def histogram(self, name: str, values: np.ndarray[Any, Any], step: int) -> None:
        """The distribution of (N,) finite values."""


@dataclass(frozen=True)
class WandbSink:
    """Weights & Biases, on line or off."""

    logger: WandbLogger

    def settings(self, values: Mapping[str, Any]) -> None:
        self.logger.log_hyperparams(dict(values))

    def summary(self, values: Mapping[str, float | str], step: int) -> None:
        self.logger.experiment.summary.update(dict(values))

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        self.logger.log_metrics(values, step=step)

    def picture(self, name: str, figure: Figure, step: int) -> None:
        self.logger.log_image(name, [_pixels(figure)], step=step)

    def cloud(self, name: str, cloud: Cloud, step: int) -> None:
        import wandb

        # it travels as text: millimetres are three digits, float32 as it is would be seventeen
        points = np.concatenate((cloud.in_viewer.astype(np.float64).round(3), cloud.colours), axis=1)
        self._log({name: wandb.Object3D(points)}, step)

    def table(self, name: str, head: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        self.logger.log_table(name, columns=list(head), data=[list(row) for row in rows], step=step)

    def histogram(self, name: str, values: np.ndarray[Any, Any], step: int) -> None:
        import wandb

        self._log({name: wandb.Histogram(values.tolist())}, step)

    def _log(self, media: dict[str, Any], step: int) -> None:
        self.logger.log_metrics(media, step=step)


@dataclass(frozen=True)
class TensorBoardSink:
    """TensorBoard. Settings stand in its HPARAMS tab once the run has results."""

    logger: TensorBoardLogger

    def settings(self, values: Mapping[str, Any]) -> None:
        self.logger.log_hyperparams(dict(values), {})

    def summary(self, values: Mapping[str, float | str], step: int) -> None:
        numbers = {name: value for name, value in values.items() if not isinstance(value, str)}
        self.logger.log_hyperparams(dict(self.logger.hparams), numbers, step)
        for name, value in values.items():
            if isinstance(value, str):
                self.logger.experiment.add_text(name, value, step)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        self.logger.log_metrics(dict(values), step)

    def picture(self, name: str, figure: Figure, step: int) -> None:
        self.logger.experiment.add_image(name, _pixels(figure), step, dataformats="HWC")

    def cloud(self, name: str, cloud: Cloud, step: int) -> None:
        self.logger.experiment.add_mesh(name, cloud.in_viewer[None], cloud.colours[None], global_step=step)

    def table(self, name: str, head: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        lines = [head, ["---"] * len(head), *rows]
        text = "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)
        self.logger.experiment.add_text(name, text, step)

    def histogram(self, name: str, values: np.ndarray[Any, Any], step: int) -> None:
        self.logger.experiment.add_histogram(name, values, step)


@dataclass(frozen=True)
class FolderSink:
    """Files below a folder, for a run that has nothing but numbers in a CSV. The newest replaces the one before.

    Settings, results and errors per image are files of every run already.
    """

    folder: Path

    def settings(self, values: Mapping[str, Any]) -> None:
        """config.yaml has them."""

    def summary(self, values: Mapping[str, float | str], step: int) -> None:
        """results.json has them."""

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """They stand in a table, too."""

    def histogram(self, name: str, values: np.ndarray[Any, Any], step: int) -> None:
        """per_image.csv has the values."""

    def picture(self, name: str, figure: Figure, step: int) -> None:
        figure.savefig(self._file(name, ".png"), dpi=90)

    def cloud(self, name: str, cloud: Cloud, step: int) -> None:
        self._file(name, ".ply").write_bytes(ply_bytes(cloud))

    def table(self, name: str, head: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        with self._file(name, ".csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([head, *rows])

    def _file(self, name: str, suffix: str) -> Path:
        path = self.folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def logger_sinks(trainer: Trainer) -> list[Sink]:
    """The loggers of a run that take more than numbers; none on other processes than the first."""
    if not trainer.is_global_zero:
        return []
    made: list[Sink] = []
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            made.append(WandbSink(logger))
        elif isinstance(logger, TensorBoardLogger):
            made.append(TensorBoardSink(logger))
    return made


def sinks(trainer: Trainer, folder: Path) -> list[Sink]:
    """As `logger_sinks`, or a folder where there is no such logger."""
    return logger_sinks(trainer) or ([FolderSink(folder)] if trainer.is_global_zero else [])


def _pixels(figure: Figure) -> np.ndarray[Any, Any]:
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
