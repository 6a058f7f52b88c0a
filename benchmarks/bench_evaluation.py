"""What a test costs beside the network: protocol, metrics, errors of each image, gallery, results.

All callbacks that `mde test` has, on pictures and truth of 480x640 that exist already, against the network alone.
"""

from __future__ import annotations

import contextlib
import io
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from benchmarks.bench_step import dense_depth, make_loader
from benchmarks.harness import Row, parser, report
from mde.callbacks import Gallery, ImagePanels, RunRecorder, RunSummary
from mde.models import DepthModule
from mde.protocol import get_protocol

SIZE = (480, 640)


def network_alone(model: DepthModule, images: int, batch: int) -> float:
    """CPU seconds of the network and its decoding."""
    model.eval()
    start = time.process_time()
    with torch.inference_mode():
        for item in make_loader(SIZE, images // batch, batch):
            model.predict_batch(item["image"])
    return time.process_time() - start


def whole_test(model: DepthModule, images: int, batch: int, folder: Path) -> float:
    """CPU seconds of ``trainer.test`` with everything that the command line records."""
    trainer = Trainer(
        default_root_dir=folder,
        logger=False,
        callbacks=[ImagePanels(folder), Gallery(folder), RunSummary(folder, {}), RunRecorder(folder, {})],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.test(model, make_loader(SIZE, images // batch, batch), verbose=False)
    return time.process_time() - start


def main(argv: Sequence[str] | None = None) -> int:
    quick = parser(__doc__ or "").parse_args(argv).quick
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    few, many, turns, batch = (2, 4, 1, 2) if quick else (8, 40, 3, 4)
    model = dense_depth()
    model.protocol = get_protocol("nyu_eigen")
    alone, test = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(turns):  # the difference of two lengths: what a test does once is left out
            alone.append(network_alone(model, many, batch) - network_alone(model, few, batch))
            test.append(whole_test(model, many, batch, Path(folder)) - whole_test(model, few, batch, Path(folder)))
    ratio = statistics.median(test) / statistics.median(alone)
    note = f"per image, MobileNetV2 at 480x640, {1000 * statistics.median(alone) / (many - few):.0f} ms"
    return report("evaluation", [Row("a test", "the network alone", ratio, 1.5, note=note)], quick=quick)


if __name__ == "__main__":
    sys.exit(main())
