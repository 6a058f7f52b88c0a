"""How long the command line takes to answer, as ratios of CPU seconds of fresh processes.

Run: python -m benchmarks.bench_startup
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.harness import Row, parser, report


def cpu_seconds(words: Sequence[str], repeats: int) -> float:
    """Median CPU seconds of a child process."""
    times = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "120"}
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return sorted(times)[len(times) // 2]


def main(argv: Sequence[str] | None = None) -> int:
    quick = parser(__doc__ or "").parse_args(argv).quick
    repeats = 1 if quick else 5
    lightning = cpu_seconds(["-c", "import lightning.pytorch.cli"], repeats)
    torch = cpu_seconds(["-c", "import torch"], repeats)
    library = cpu_seconds(["-c", "import mde"], repeats)
    overview = cpu_seconds(["-m", "mde.cli", "--help"], repeats)
    rows = [
        Row("import mde", "import torch", library / torch, goal=0.05),
        Row("mde --help", "import lightning.pytorch.cli", overview / lightning, goal=0.02),
    ]
    if not quick:
        fit = cpu_seconds(["-m", "mde.cli", "fit", "--help"], 3)
        rows.append(
            Row("mde fit --help", "import lightning.pytorch.cli", fit / lightning, note="all methods and data sets")
        )
    return report("startup", rows, quick=quick)


if __name__ == "__main__":
    sys.exit(main())
