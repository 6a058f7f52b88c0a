"""What a training step costs: the Trainer against a bare loop with the same maths, memory formats, bfloat16.

Steps are timed one by one inside both loops, from one batch to the next, so that starting a Trainer does not count; the
loops take turns, and the figures are medians over all steps of all turns.
"""

from __future__ import annotations

import copy
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.harness import Row, alternate, parser, report
from mde.codecs import DepthCodec, Linear
from mde.data.base import collate
from mde.losses import DepthLoss, L1Loss
from mde.models import DenseDepth, DepthModule, TorchvisionEncoder
from mde.types import Batch

SMALL, FULL = (64, 96), (240, 320)


class Tiny(DepthModule):
    """One 1x1 convolution, so that a step is overhead alone."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv = nn.Conv2d(3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.conv(image)
        return out

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return Linear(min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        loss: DepthLoss = L1Loss()
        return loss


class StepTimes(Callback):
    """Seconds from the start of a batch to the start of the next: step, logging and loading."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.starts.append(time.process_time())


def make_loader(size: tuple[int, int], count: int, batch_size: int = 2) -> DataLoader[Batch]:
    """Pictures that exist already: what is measured is the step."""
    generator = torch.Generator().manual_seed(0)
    item = {
        "image": torch.rand(3, *size, generator=generator),
        "depth": torch.rand(1, *size, generator=generator) * 9 + 0.5,
        "valid": torch.rand(1, *size, generator=generator) > 0.05,
        "intrinsics": torch.eye(3),
        "id": "a",
    }
    return DataLoader([item] * (count * batch_size), batch_size=batch_size, collate_fn=collate)  # type: ignore[arg-type, list-item]


def bare_steps(model: DepthModule, size: tuple[int, int], count: int) -> list[float]:
    """Seconds of each step of a plain loop."""
    model.train()
    optimizer = model.optimizer_factory(model.parameters())
    starts = []
    for batch in make_loader(size, count):
        starts.append(time.process_time())
        loss = model.training_loss(batch).loss
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return differences(starts)


def trainer_steps(model: DepthModule, size: tuple[int, int], count: int, folder: Path) -> list[float]:
    """Seconds of each step of the Trainer with a CSV logger, at its and the library's defaults."""
    times = StepTimes()
    trainer = Trainer(
        default_root_dir=folder,
        logger=CSVLogger(folder),
        callbacks=[times],
        accelerator="cpu",
        max_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(model, make_loader(size, count))
    return differences(times.starts)


def differences(starts: Sequence[float]) -> list[float]:
    """Times between marks, without the first, which warms up."""
    return [after - before for before, after in pairwise(starts)][1:]


def in_turn(loops: Mapping[str, Callable[[], list[float]]], turns: int) -> dict[str, float]:
    """Median step of each loop over all turns."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(turns):
        for name, loop in loops.items():
            times[name] += loop()
    return {name: statistics.median(values) for name, values in times.items()}


def trainer_rows(quick: bool, folder: Path) -> list[Row]:
    size, steps, turns = (SMALL, 4, 1) if quick else (FULL, 8, 6)
    model, twin, other = dense_depth(), dense_depth(), dense_depth()
    step = in_turn(
        {
            "bare": lambda: bare_steps(twin, size, steps),
            "trainer": lambda: trainer_steps(model, size, steps, folder),
            "again": lambda: bare_steps(other, size, steps),
        },
        turns,
    )
    steps, turns = (10, 1) if quick else (300, 5)
    tiny, tiny_twin = Tiny(), Tiny()
    overhead = in_turn(
        {
            "bare": lambda: bare_steps(tiny_twin, (16, 16), steps),
            "trainer": lambda: trainer_steps(tiny, (16, 16), steps, folder),
        },
        turns,
    )
    extra_ms = 1000 * (overhead["trainer"] - overhead["bare"])
    return [
        Row(
            "DenseDepth step, Trainer",
            "a bare loop",
            step["trainer"] / step["bare"],
            1.03,
            note=f"{step['bare']:.2f} s",
        ),
        Row("DenseDepth step, a second bare loop", "a bare loop", step["again"] / step["bare"], note="the noise"),
        Row(
            "Trainer over a bare loop per step",
            "1 ms",
            extra_ms,
            0.8,
            note=f"CSV logger, tiny model, bare step {1000 * overhead['bare']:.2f} ms",
        ),
    ]


def format_rows(quick: bool) -> list[Row]:
    size = SMALL if quick else FULL
    (batch,) = make_loader(size, 1)
    last = dense_depth()  # the methods lay their weights out so
    first = copy.deepcopy(last).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    variants = {"f32 channels first": (first, False), "f32": (last, False)}
    variants |= {"bf16 channels first": (first, True), "bf16": (last, True)}
    calls: dict[str, Callable[[], object]] = {}
    for name, (model, half) in variants.items():
        calls[f"step, {name}"] = partial(one_step, model, batch, half)
    for name, (model, half) in variants.items():
        calls[f"inference, {name}"] = partial(one_inference, model, batch["image"], half)
    seconds = alternate(calls, 1 if quick else 7)
    return [
        Row(name, first_of_kind, seconds[name] / seconds[first_of_kind])
        for kind in ("step", "inference")
        for name in seconds
        if name.startswith(kind) and name != (first_of_kind := f"{kind}, f32 channels first")
    ]


def dense_depth() -> DepthModule:
    torch.manual_seed(0)
    return DenseDepth(TorchvisionEncoder("mobilenet_v2"))


def one_step(model: DepthModule, batch: Batch, half: bool) -> None:
    model.train().zero_grad()
    with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        loss = model.training_loss(batch).loss
    loss.backward()  # type: ignore[no-untyped-call]


@torch.no_grad()
def one_inference(model: DepthModule, image: Tensor, half: bool) -> None:
    model.eval()
    with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        model.predict_batch(image)


def main(argv: Sequence[str] | None = None) -> int:
    quick = parser(__doc__ or "").parse_args(argv).quick
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = trainer_rows(quick, Path(folder))
    return report("step", [*rows, *format_rows(quick)], quick=quick)


if __name__ == "__main__":
    sys.exit(main())
