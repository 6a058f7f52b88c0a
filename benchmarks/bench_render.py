"""Rendering the procedural worlds: pictures per second and core, scene building included.

There is no peer to divide by, so the goals are absolute and the figures are the rates themselves, from the median CPU
time of one process with one thread. The last row is the parallel rendering at setup, by wall time.

Run: python -m benchmarks.bench_render
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from benchmarks.harness import Row, alternate, parser, report
from mde.data.procedural import ProceduralDataset
from mde.data.transforms import EvalTransform
from mde.data.worlds import WORLDS
from mde.data.worlds.pool import usable_cores

GOALS = {(120, 160): 40.0, (480, 640): 4.0}
"""Pictures per second and core at (height, width): a quickstart of minutes must not spend them on its data."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and keep the table; returns the number of missed goals."""
    quick: bool = parser(__doc__ or "").parse_args(argv).quick
    count, repeats = (1, 1) if quick else (12, 5)
    datasets = {
        f"{world} {height}x{width}": ProceduralDataset(
            world, "train", max(1, count * 120 // height), height, width, EvalTransform((height, width))
        )
        for height, width in GOALS
        for world in WORLDS
    }
    seconds = alternate({name: partial(_read_all, dataset) for name, dataset in datasets.items()}, repeats)
    rows = [
        Row(name, "picture/s", len(dataset) / seconds[name], GOALS[dataset.size], at_least=True)
        for name, dataset in datasets.items()
    ]
    return report("render", [*rows, _preload_row(8 if quick else 400)], quick=quick)


def _read_all(dataset: ProceduralDataset) -> None:
    for index in range(len(dataset)):
        dataset.read(index)


def _preload_row(count: int) -> Row:
    dataset = ProceduralDataset("rooms", "train", count, 96, 128, EvalTransform((96, 128)))
    spent = alternate({"preload": dataset.preload}, repeats=1, warmup=0, wall=True)["preload"]
    return Row("preload rooms 96x128", "picture/s", count / spent, note=f"{usable_cores()} cores, wall time")


if __name__ == "__main__":
    sys.exit(main())
