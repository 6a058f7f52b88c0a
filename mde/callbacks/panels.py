"""What makes runs of different methods line up: settings to filter by, results under stable names, errors by range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from mde.callbacks.measure import parameter_counts
from mde.callbacks.pictures import Pace, protocol_of
from mde.callbacks.sinks import sinks
from mde.data import DepthDataModule
from mde.metrics.ranges import RangeErrors
from mde.models import DepthModule
from mde.report import Results, read_results
from mde.report.scores import FILE as SCORES_FILE
from mde.report.scores import ImageScores
from mde.types import Batch

__all__ = ["RunSummary", "summary_of"]

_EDGES = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
_RANGE_COLUMNS = ("abs_rel", "rmse", "delta1", "images", "pixels")


class RunSummary(Callback):
    """Sends what runs are compared by to W&B or TensorBoard, or into files of the folder where neither logs.

    At the start: method, data set, protocol and its fingerprint, parameters and the whole configuration. At a
    validation and a test: the errors by range of the true depth as the table "test/error_by_range" and as numbers such
    as "test/range/0-2/abs_rel". After a test: all of ``results.json`` under stable names (`summary_of`), and how
    abs_rel is distributed over the images.

    Args:
        folder: of the run; its `RunRecorder` writes the results there.
        config: the settings of the command as plain data.
        interval: least time in seconds between two validations that are broken down by range.
        edges: of the ranges, metres, rising; those beyond the protocol's range are left out.

    Raises:
        ConfigError: `interval` is negative, or the edges do not rise.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], interval: float = 60.0, edges: Sequence[float] = _EDGES
    ) -> None:
        RangeErrors(edges)  # says what is wrong with them now, and not after the training
        self.folder = Path(folder)
        self.config = dict(config)
        self.edges = tuple(edges)
        self._pace = Pace(interval)
        self._ranges: RangeErrors | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._describe(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._open(pl_module, self._pace.due(trainer))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._describe(trainer, pl_module)
        self._open(pl_module, True)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        loaders = trainer.val_dataloaders
        if dataloader_idx == 0:  # of several sets the first
            first = loaders[0] if isinstance(loaders, list) else loaders
            self._add(pl_module, outputs, batch, batch_idx, first)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        self._add(pl_module, outputs, batch, batch_idx, trainer.test_dataloaders)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._send_ranges(trainer, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._send_ranges(trainer, "test")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """By now the recorder has written what was found."""
        path = self.folder / "results.json"
        if not trainer.is_global_zero or not path.is_file():
            return
        results, step, scores = read_results(path), trainer.global_step, self.folder / SCORES_FILE
        errors = ImageScores.read(scores).values["abs_rel"] if scores.is_file() else np.zeros(0)
        for sink in sinks(trainer, self.folder):
            sink.summary(summary_of(results), step)
            if np.isfinite(errors).any():
                sink.histogram("test/abs_rel_of_images", errors[np.isfinite(errors)], step)

    def _describe(self, trainer: Trainer, module: LightningModule) -> None:
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        facts = datamodule.record() if isinstance(datamodule, DepthDataModule) else {}
        protocol = protocol_of(module)
        settings = {
            "method": type(module).__name__,
            "data": data_name(type(datamodule).__name__, facts),
            "protocol": protocol.name,
            "fingerprint": protocol.fingerprint,
            "parameters": parameter_counts(module)["total"],
            "config": self.config,
        }
        for sink in sinks(trainer, self.folder):
            sink.settings(settings)

    # ---- errors by range ---------------------------------------------------------------------------------------------

    def _open(self, module: LightningModule, wanted: bool) -> None:
        self._ranges = None
        if wanted and isinstance(module, DepthModule):
            far = protocol_of(module).max_depth
            edges = [edge for edge in self.edges if edge < far]
            last = [far] if edges and self.edges[-1] >= far else []
            self._ranges = RangeErrors([*edges, *last]).to(module.device) if len(edges) + len(last) > 1 else None

    def _add(self, module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, loader: object) -> None:
        if self._ranges is None or not isinstance(module, DepthModule) or not isinstance(outputs, dict):
            return
        made = module.prepared(outputs["pred"], batch)
        self._ranges.update(made.pred, batch["depth"], made.mask, module.counted(batch_idx, loader))

    def _send_ranges(self, trainer: Trainer, stage: str) -> None:
        ranges, self._ranges = self._ranges, None
        table = ranges.compute() if ranges is not None and ranges.update_called else None  # it sums over all processes
        if not table:
            return
        rows = [[name, *(float(row[column]) for column in _RANGE_COLUMNS)] for name, row in table.items()]
        numbers = {f"{stage}/range/{name}/abs_rel": float(row["abs_rel"]) for name, row in table.items()}
        for sink in sinks(trainer, self.folder):
            sink.table(f"{stage}/error_by_range", ["range (m)", *_RANGE_COLUMNS], rows, trainer.global_step)
            sink.numbers(numbers, trainer.global_step)


def data_name(data: str, facts: Mapping[str, Any]) -> str:
    """What a data set is called in comparisons: its layout or procedural world, else its data module.

    >>> data_name("NYUDepthV2DataModule", {"layout": "nyu/bts"}), data_name("ProceduralDataModule", {"world": "rooms"})
    ('nyu/bts', 'rooms')
    """
    return str(facts.get("layout") or facts.get("world") or data)


def summary_of(results: Results) -> dict[str, float | str]:
    """Results under the names by which runs are compared, in W&B, TensorBoard and anywhere else.

    "method", "parameters", "data/name", "data/images", "data/skipped", "data/degenerate", "protocol/name",
    "protocol/fingerprint", "weights"; each metric as "test/abs_rel", with the ends of its interval as
    "test/abs_rel/low" and "test/abs_rel/high"; "constant/abs_rel" of the constant predictor; "variant/<name>/abs_rel";
    "extra/<name>". Values that are not finite are left out.
    """
    about: dict[str, float | str] = {
        "method": results.model,
        "data/name": data_name(results.data, results.data_facts),
        "data/images": results.images,
        "data/skipped": results.skipped,
        "data/degenerate": results.degenerate,
        "protocol/name": str(results.protocol["name"]),
        "protocol/fingerprint": str(results.protocol["fingerprint"]),
    }
    if results.parameters:
        about["parameters"] = results.parameters["total"]
    if results.weights_hash is not None:
        about["weights"] = results.weights_hash
    if results.images_per_second is not None:
        about["test/images_per_second"] = results.images_per_second
    return {**about, **{name: value for name, value in _numbers(results).items() if math.isfinite(value)}}


def _numbers(results: Results) -> dict[str, float]:
    made = {f"test/{name}": value for name, value in results.metrics.items()}
    for name, interval in results.intervals.items():
        made |= {f"test/{name}/low": interval.low, f"test/{name}/high": interval.high}
    made |= {f"constant/{name}": value for name, value in (results.baseline or {}).items()}
    for variant, values in results.variants.items():
        made |= {f"variant/{variant}/{name}": value for name, value in values.items()}
    return made | {f"extra/{name}": value for name, value in results.extra.items()}
