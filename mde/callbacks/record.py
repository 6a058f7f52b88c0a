"""The record of a run: its configuration, its randomness, its results."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import torchmetrics
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from mde import __version__
from mde.callbacks.scores import ExtraMetrics, VariantScores, as_floats
from mde.data import DepthDataModule
from mde.errors import MdeError
from mde.metrics import DepthMetrics
from mde.models import DepthModule
from mde.models.checkpoint import KEY
from mde.protocol import EvalProtocol
from mde.report import Results, metrics_table, write_results
from mde.types import Batch

__all__ = ["EpochSeed", "RunRecorder", "Throughput"]


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
    set: a network that does not beat it has learnt nothing. Variants of the prediction that a module offers are scored
    beside it, and the metrics of an `ExtraMetrics` stand there, too.

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
        self.median_depth = checkpoint.get(KEY, {}).get("train_median_depth")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        try:
            self._find_median(trainer)
        except MdeError as error:  # the training set need not be there to test
            rank_zero_info(f"No constant predictor beside the network: {error}")
        protocol = pl_module.protocol if isinstance(pl_module, DepthModule) else None
        self._variants = VariantScores()
        if self.median_depth is not None:
            self._baseline = DepthMetrics(protocol or EvalProtocol()).to(pl_module.device)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        if not isinstance(pl_module, DepthModule):
            return
        counted = pl_module.counted(batch_idx, trainer.test_dataloaders)
        self._variants.update(pl_module, batch, counted)
        if self._baseline is not None and self.median_depth is not None:
            constant = torch.full_like(batch["depth"], self.median_depth)
            self._baseline.update(constant, batch["depth"], batch["valid"], counts=counted)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, DepthModule) or pl_module.test_metrics is None:
            return
        results = self._results(trainer, pl_module, pl_module.test_metrics)  # all ranks: it sums over them
        self._last = results
        if trainer.is_global_zero:
            write_results(results, self.folder / "results.json")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._last is not None and trainer.is_global_zero:
            _show(self._last, self.folder)

    def _results(self, trainer: Trainer, module: DepthModule, metrics: DepthMetrics) -> Results:
        baseline = None if self._baseline is None else as_floats(self._baseline.compute())
        counts = metrics.counts()
        extra = [c.compute() for c in trainer.callbacks if isinstance(c, ExtraMetrics)]  # type: ignore[attr-defined]
        return Results(
            metrics=as_floats(metrics.compute()),
            baseline=baseline,
            variants=self._variants.compute(),
            extra={name: value for each in extra for name, value in each.items()},
            baseline_depth=self.median_depth,
            protocol=metrics.protocol.to_dict(),
            images=counts.images,
            skipped=counts.skipped,
            model=type(module).__name__,
            data=type(trainer.datamodule).__name__,  # type: ignore[attr-defined]
            data_facts=_facts(trainer),
            checkpoint=str(trainer.ckpt_path) if trainer.ckpt_path else None,
            versions={
                "mde": __version__,
                "torch": torch.__version__,
                "lightning": lightning.__version__,
                "torchmetrics": torchmetrics.__version__,
            },
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


def _show(results: Results, folder: Path) -> None:
    from rich.console import Console

    constant = "constant" if results.baseline_depth is None else f"constant ({results.baseline_depth:.2f} m)"
    protocol = results.protocol
    title = (
        f"test of {results.model} on {results.images} images, protocol {protocol['name']} ({protocol['fingerprint']})"
    )
    console = Console()
    table = metrics_table(
        results.metrics, results.baseline, title=title, baseline_name=constant, variants=results.variants
    )
    console.print(table)
    for name, value in results.extra.items():
        console.print(f"{name} {value:.4f}")
    if results.skipped:
        console.print(f"{results.skipped} image(s) without one pixel to score were left out.")
    console.print("Written:")
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        console.print(f"  {path}", soft_wrap=True, highlight=False)
