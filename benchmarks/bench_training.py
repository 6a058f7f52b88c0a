"""What the options of a training cost or give per step: memory format, bfloat16, torch.compile, averaged weights.

All variants of a method start from the same weights and take the same batch in turn; the figures are medians of CPU
time with one thread, for forward, loss, backward and optimizer.
"""

from __future__ import annotations

import copy
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from benchmarks.bench_step import make_loader
from benchmarks.harness import Row, alternate, parser, report
from mde.callbacks.speed import network_parts
from mde.models import DeepLabSID, DenseDepth, DepthModule, ResNetDepth, SmpEncoder, TorchvisionEncoder, UNet
from mde.types import Batch

SMALL, FULL = (64, 96), (160, 224)
METHODS: dict[str, Callable[[], DepthModule]] = {
    "DenseDepth": lambda: DenseDepth(TorchvisionEncoder("mobilenet_v2")),
    "UNet": lambda: UNet((16, 32, 64, 128)),  # the one that is compiled: others have too many kernels to wait for
    "ResNetDepth": lambda: ResNetDepth(TorchvisionEncoder("resnet18")),
    "DeepLabSID": lambda: DeepLabSID(SmpEncoder("resnet18", output_stride=8), bins=71, depth_range=(1.0, 80.0)),
}


class Step:
    """One training step of a copy of a model."""

    def __init__(self, model: DepthModule, batch: Batch, *, last: bool, half: bool = False, average: bool = False):
        self.model = copy.deepcopy(model).train()
        layout = torch.channels_last if last else torch.contiguous_format
        self.model.to(memory_format=layout)  # type: ignore[call-overload]
        self.batch, self.half = batch, half
        self.optimizer = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], lr=1e-6)
        # as AveragedWeights has it
        self.average = AveragedModel(self.model, avg_fn=get_ema_avg_fn(0.999), use_buffers=True) if average else None

    def compile(self) -> Step:
        """As `mde.callbacks.Compile` does it."""
        for part in network_parts(self.model):
            part.compile()
        return self

    def __call__(self) -> None:
        with torch.autocast("cpu", torch.bfloat16) if self.half else nullcontext():
            loss = self.model.training_loss(self.batch).loss
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)


def rows_of(name: str, quick: bool) -> list[Row]:
    torch.manual_seed(0)
    model = METHODS[name]()
    (batch,) = make_loader(SMALL if quick else FULL, 1)
    step = partial(Step, model, batch)
    calls: dict[str, Callable[[], object]] = {
        "f32, contiguous": step(last=False),
        "f32, channels-last": step(last=True),
        "bf16, contiguous": step(last=False, half=True),
        "bf16, channels-last": step(last=True, half=True),
    }
    notes = {}
    if name == "DenseDepth":
        calls["f32, channels-last, averaged weights"] = step(last=True, average=True)
    if name == "UNet" and not quick and shutil.which("g++"):
        for kind, half in (("f32", False), ("bf16", True)):
            key = f"{kind}, channels-last, compiled"
            calls[key] = compiled = step(last=True, half=half).compile()
            start = time.perf_counter()
            compiled()
            notes[key] = f"the first step took {time.perf_counter() - start:.0f} s"
    seconds = alternate(calls, 1 if quick else 5)
    reference = "f32, contiguous"
    return [
        Row(f"{name} step, {key}", reference, seconds[key] / seconds[reference], note=notes.get(key, ""))
        for key in calls
        if key != reference
    ]


def main(argv: Sequence[str] | None = None) -> int:
    quick = parser(__doc__ or "").parse_args(argv).quick
    torch.set_num_threads(1)
    return report("training", [row for name in METHODS for row in rows_of(name, quick)], quick=quick)


if __name__ == "__main__":
    sys.exit(main())
