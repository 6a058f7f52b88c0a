"""The record of a run: its configuration, its randomness, its results."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import torchmetrics
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from mde import __version__
from mde.callbacks.measure import NetworkClock, parameter_counts, weights_hash
from mde.callbacks.per_image import ImageRecord, extra_per_image
from mde.callbacks.scores import Alignments, ExtraMetrics, VariantScores, as_floats
from mde.console import console, say
from mde.data import DepthDataModule, MixedDataModule
from mde.errors import MdeError
from mde.metrics import DepthMetrics
from mde.models import DepthModule
from mde.models.checkpoint import KEY
from mde.protocol import EvalProtocol
from mde.report.results import FILE, Results, add_intervals, plain_constants, write_results
from mde.report.scores import CONSTANT_FILE
from mde.report.scores import FILE as SCORES_FILE
from mde.report.tables import metrics_table, number, variants_table
from mde.types import Ambiguity, Batch

__all__ = ["EpochSeed", "RunRecorder", "Throughput"]

_BESIDE = 2  # variants that stand beside the network in a table; more get a table of their own
_LISTED = 4  # files of a folder up to which each is named


class EpochSeed(Callback):
    """Seeds torch from (seed, epoch, rank) at the start of each training epoch.

    Dropout of epoch 7 is then the same whether the run came from the start or from the checkpoint of epoch 6.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        state = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank)).generate_state(1)
        torch.manual_seed(int(state[0]))


class RunRecorder(Callback):
    """Writes ``config.yaml``, puts what a checkpoint needs into it, and writes ``results.json`` after a test.

    Beside every tested network it scores the constant predictor that knows nothing but the median depth of the training
    set: a network that does not beat it has learnt nothing. Variants of the prediction that a module or `Alignments`
    offers are scored beside it, and the metrics of an `ExtraMetrics` stand there, too. The errors of each image go to
    ``per_image.csv`` (those of the constant to ``per_image_constant.csv``), from which the intervals come.

    Args:
        folder: of the run.
        config: the settings of the command as plain data.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config
        self.median_depth: float | None = None
        self._baseline: DepthMetrics | None = None
        self._variants = VariantScores()
        self._records: dict[str, ImageRecord] = {}
        self._clock: NetworkClock | None = None
        self._last: Results | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._find_median(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        own = {"config": self.config, "train_median_depth": self.median_depth}
        checkpoint[KEY] = {**checkpoint.get(KEY, {}), **own}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not isinstance(trainer.datamodule, MixedDataModule):  # type: ignore[attr-defined]  # each part has its own
            self.median_depth = checkpoint.get(KEY, {}).get("train_median_depth")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        try:
            self._find_median(trainer)
        except MdeError as error:  # the training set need not be there to test
            rank_zero_info(f"No constant predictor beside the network: {error}")
        self._variants, self._records, self._last = VariantScores(), {}, None
        if not isinstance(pl_module, DepthModule):
            return
        files = [SCORES_FILE]
        if self.median_depth is not None:
            self._baseline = DepthMetrics(_constants_protocol(pl_module)).to(pl_module.device)
            files.append(CONSTANT_FILE)
        self._records = {name: ImageRecord(self.folder / name, trainer.global_rank) for name in files}
        self._clock = NetworkClock(pl_module)
        self._clock.start()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        if not isinstance(pl_module, DepthModule):
            return
        counted = pl_module.counted(batch_idx, trainer.test_dataloaders)
        self._variants.update(pl_module, outputs, batch, counted)
        self._record(SCORES_FILE, pl_module.test_metrics, batch, counted, extra_per_image(trainer))
        if self._baseline is not None and self.median_depth is not None:
            depth = batch["depth"]
            kind = Ambiguity.METRIC if self._baseline.protocol.alignment == "none" else pl_module.ambiguity
            constant = torch.full_like(depth, _in_unit_of(kind, self.median_depth))
            self._baseline.update(constant, depth, batch["valid"], ambiguity=kind, counts=counted)
            self._record(CONSTANT_FILE, self._baseline, batch, counted, {})

    def _record(
        self, name: str, metrics: DepthMetrics | None, batch: Batch, counted: Tensor | None, extra: dict[str, Tensor]
    ) -> None:
        if metrics is not None and metrics.last is not None:
            self._records[name].add(batch["id"], metrics.last, counted, extra)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, DepthModule) or pl_module.test_metrics is None:
            return
        rate = None if self._clock is None else self._clock.stop()
        results = self._results(trainer, pl_module, pl_module.test_metrics)  # all ranks: it sums over them
        results.images_per_second = rate
        scores = {name: record.join(trainer) for name, record in self._records.items()}
        self._last = results
        own = scores.get(SCORES_FILE)
        if trainer.is_global_zero and own is not None:
            add_intervals(results, own, scores.get(CONSTANT_FILE))
        if trainer.is_global_zero:
            write_results(results, self.folder / FILE)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._last is not None and trainer.is_global_zero:
            if trainer.progress_bar_callback is not None:  # the table would be drawn into its line
                trainer.progress_bar_callback.teardown(trainer, pl_module, "test")
            _show(self._last, self.folder)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._clock is not None:
            self._clock.stop()

    def _results(self, trainer: Trainer, module: DepthModule, metrics: DepthMetrics) -> Results:
        counts = metrics.counts()
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        extra = [callback for callback in callbacks if isinstance(callback, ExtraMetrics)]
        aligned = [callback.compute() for callback in callbacks if isinstance(callback, Alignments)]
        return Results(
            metrics=as_floats(metrics.compute()),
            baseline=None if self._baseline is None else as_floats(self._baseline.compute()),
            variants={name: found for each in (self._variants.compute(), *aligned) for name, found in each.items()},
            definitions=as_floats(metrics.other_definitions()),
            alignment_constants=plain_constants(module.alignment_constants),
            extra={name: value for each in extra for name, value in each.compute().items()},
            tables={name: table for each in extra for name, table in each.tables().items()},
            baseline_depth=self.median_depth,
            protocol=metrics.protocol.to_dict(),
            images=counts.images,
            skipped=counts.skipped,
            degenerate=counts.degenerate,
            model=type(module).__name__,
            data=_data_name(trainer),
            data_facts=_facts(trainer),
            parameters=parameter_counts(module),
            weights_hash=weights_hash(module),
            checkpoint=str(trainer.ckpt_path) if trainer.ckpt_path else None,
            versions=_versions(),
        )

    def _find_median(self, trainer: Trainer) -> None:
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if self.median_depth is None and isinstance(datamodule, DepthDataModule):
            self.median_depth = datamodule.train_median_depth()


class Throughput(Callback):
    """Logs ``train/images_per_second`` over each training epoch, validation left out."""

    def __init__(self) -> None:
        self._start = 0.0
        self._images = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start, self._images = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._images += len(batch["id"])

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module)

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._images == 0 or trainer.logger is None:
            return
        rate = self._images * trainer.world_size / (time.perf_counter() - self._start)
        trainer.logger.log_metrics({"train/images_per_second": rate}, step=trainer.global_step)
        self._images = 0


def _facts(trainer: Trainer) -> dict[str, Any]:
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    return datamodule.record() if isinstance(datamodule, DepthDataModule) else {}


def _data_name(trainer: Trainer) -> str:
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    return type(datamodule.scored if isinstance(datamodule, DepthDataModule) else datamodule).__name__


def _constants_protocol(module: DepthModule) -> EvalProtocol:
    """How the constant predictor is scored: as the network is, but a fit for a whole set is the network's alone."""
    protocol = module.scoring_protocol
    if protocol.alignment_scope == "image":
        return protocol
    return replace(protocol, alignment="none", alignment_scope="image", alignment_pooling="pixel")


def _in_unit_of(ambiguity: Ambiguity, depth: float) -> float:
    return 1 / depth if ambiguity is Ambiguity.AFFINE_DISPARITY else depth


def _versions() -> dict[str, str]:
    libraries = (torch, lightning, torchmetrics)
    return {"mde": __version__, **{library.__name__: str(library.__version__) for library in libraries}}


def _show(results: Results, folder: Path) -> None:
    constant = "constant" if results.baseline_depth is None else f"constant ({results.baseline_depth:.2f} m)"
    protocol = results.protocol
    title = (
        f"test of {results.model} on {results.images} images, protocol {protocol['name']} ({protocol['fingerprint']})"
    )
    shown = console()
    many = len(results.variants) > _BESIDE
    table = metrics_table(
        results.metrics,
        results.baseline,
        title=title,
        baseline_name=constant,
        variants=None if many else results.variants,
        intervals=results.intervals,
        ratio_intervals=results.ratio_intervals,
    )
    shown.print(table)
    if many:
        shown.print(variants_table(results.metrics, results.variants))
    if results.intervals:
        say("±: half the width of the 95 % interval over images.")
    for name, value in results.extra.items():
        say(f"{name} {number(value, results.intervals.get(name))}")
    if results.skipped:
        say(f"{results.skipped} image(s) without one pixel to score were left out.")
    if results.degenerate:
        say(f"{results.degenerate} image(s) did not determine their alignment, which fell back; they count.")
    say("Written:")
    for line in _written(folder):
        say(f"  {line}")


def _written(folder: Path) -> list[str]:
    """The files of a run, and its folders of many files by their number."""
    lines = []
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        few = len(inside) <= _LISTED
        lines += [str(each) for each in inside] if few else [f"{path}/ ({len(inside)} files)"]
    return lines
