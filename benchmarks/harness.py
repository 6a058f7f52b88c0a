"""Timing shared by all benchmarks: candidates take turns in one process, the figure is the ratio of medians.

Absolute times on a shared machine mean nothing; a ratio measured turn by turn does. CPU time of the process is used
where a candidate runs in this process alone, wall time where it starts workers.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """One measured ratio: `name` against `reference`, with the goal to stay below (or above, for a throughput)."""

    name: str
    reference: str
    ratio: float
    goal: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def ok(self) -> bool | None:
        if self.goal is None:
            return None
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal


def alternate(
    candidates: Mapping[str, Callable[[], object]], repeats: int, *, warmup: int = 1, wall: bool = False
) -> dict[str, float]:
    """Median seconds of each candidate; they run in turn, A B C A B C, so that drift hits all alike."""
    clock = time.perf_counter if wall else time.process_time
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(warmup + repeats):
        for name, call in candidates.items():
            start = clock()
            call()
            if turn >= warmup:
                times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true", help="one tiny repeat, to see that it runs; ratios mean nothing")
    return made


def report(area: str, rows: Sequence[Row], *, quick: bool) -> int:
    """Print the table; keep it as results/<area>.json unless quick. Returns how many goals were missed (0 if quick)."""
    width = max(len(row.name) for row in rows)
    for row in rows:
        sign = ">=" if row.at_least else "<="
        goal = "" if row.goal is None else f"  goal {sign} {row.goal:g}  {'ok' if row.ok else 'MISSED'}"
        note = f"  ({row.note})" if row.note else ""
        print(f"{row.name:<{width}}  {row.ratio:8.4f} x {row.reference}{goal}{note}", flush=True)
    if quick:
        return 0
    import torch

    RESULTS.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    content = {"area": area, "machine": machine, "rows": [{**asdict(row), "ok": row.ok} for row in rows]}
    (RESULTS / f"{area}.json").write_text(json.dumps(content, indent=1) + "\n")
    return sum(row.ok is False for row in rows)
