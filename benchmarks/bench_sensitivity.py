"""`mde sensitivity` against the loop that evaluates every convention alone, reading every image for each.

The matrix is that of a user who looks for the origin of a published KITTI number: crops, caps, alignments, resizes and
poolings, on predictions of half the truth's size in 16-bit PNG files.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Row, alternate, parser, report
from mde.data.io import write_depth
from mde.metrics import DepthMetrics
from mde.protocol import EvalProtocol, get_protocol
from mde.report.pairs import PairedFolder, TruthFolder
from mde.report.predictions import PredictionFolder
from mde.report.sensitivity import combinations, sensitivity, with_reference

SIZE = (375, 1242)
SMALL = (188, 621)
AXES: dict[str, tuple[Any, ...]] = {
    "crop": ("kitti_garg", "kitti_eigen", "none"),
    "max_depth": (80.0, 50.0),
    "alignment": ("none", "median"),
    "resize": ("bilinear", "bilinear_corners"),
    "swapped": (False, True),
    "pooling": ("image", "pixel", "mse"),
}
GOAL = 0.2


def write_images(folder: Path, count: int) -> None:
    """Truth at 17 % of the pixels and predictions of half its size."""
    rng = np.random.default_rng(0)
    for number in range(count):
        depth = rng.uniform(2, 90, SIZE).astype(np.float32)
        measured = np.where(rng.random(SIZE) < 0.17, depth, 0).astype(np.float32)
        pred = (depth[::2, ::2] * np.exp(0.2 * rng.standard_normal(SMALL))).astype(np.float32)
        write_depth(folder / "truth" / f"{number}.png", measured, "kitti", np.uint16)
        write_depth(folder / "pred" / f"{number}.png", pred, "kitti", np.uint16)


def one_by_one(pairs: PairedFolder, protocols: Sequence[EvalProtocol]) -> list[dict[str, float]]:
    """Each convention by an evaluation of its own."""
    found = []
    for protocol in protocols:
        metric = DepthMetrics(protocol)
        for case in pairs:
            metric.update(case.prediction, *case.target)
        found.append({name: float(value) for name, value in metric.compute().items()})
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; returns the number of missed goals."""
    args = parser(__doc__ or "").parse_args(argv)
    torch.set_num_threads(1)
    reference = get_protocol("kitti_eigen_garg_80")
    axes = with_reference(reference, AXES if not args.quick else {"crop": ("none",), "swapped": (False, True)})
    protocols = combinations(reference, axes)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), 1 if args.quick else 3)
        pairs = PairedFolder(
            PredictionFolder(Path(folder) / "pred", encoding="kitti"), TruthFolder(Path(folder) / "truth", "kitti")
        )
        matrix = [each.metrics for each in sensitivity(pairs, reference, axes).conventions]
        for ours, theirs in zip(matrix, one_by_one(pairs, protocols), strict=True):
            if any(abs(ours[name] - value) > 1e-9 * max(1.0, abs(value)) for name, value in theirs.items()):
                raise SystemExit(f"the matrix differs: {ours} against {theirs}")
        times = alternate(
            {"pass": lambda: sensitivity(pairs, reference, axes), "loop": lambda: one_by_one(pairs, protocols)},
            1 if args.quick else 3,
        )
    note = f"{len(protocols)} conventions, KITTI size, half-size predictions in PNG"
    row = Row("one pass", "one evaluation each", times["pass"] / times["loop"], GOAL, note=note)
    return report("sensitivity", [row], quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
