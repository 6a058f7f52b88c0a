"""Training on a CPU beside loader workers: the library's thread settings against torch's defaults.

Each candidate is a fresh process, because OpenMP reads its wait policy when torch is loaded. Wall time is what counts
here.

Run: python -m benchmarks.bench_threads
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.harness import Row, parser, report

# a ResNet-18, trained while as many other processes as loader workers keep a core busy
_SCRIPT = """
import sys, time, multiprocessing as mp
library, company, steps, threads = sys.argv[1] == "library", int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
if library:
    from mde.cli.environment import prepare_process
    assert prepare_process()
def busy(stop):
    import numpy as np
    work = np.random.rand(256, 256)
    while not stop.is_set():
        np.sort(work, axis=0)
stop = mp.Event()
others = [mp.Process(target=busy, args=(stop,), daemon=True) for _ in range(company)]
[p.start() for p in others]
import torch
torch.set_num_threads(threads)
from torchvision.models import resnet18
net = resnet18()
opt = torch.optim.SGD(net.parameters(), 1e-3)
image = torch.rand(16, 3, 96, 128)
def step():
    opt.zero_grad(); net(image).square().mean().backward(); opt.step()
step()
start = time.perf_counter()
for _ in range(steps):
    step()
rate = steps * 16 / (time.perf_counter() - start)
stop.set()
print(rate)
"""


def rate(settings: str, company: int, steps: int, threads: int) -> float:
    """Images per second of one fresh process."""
    clean = {
        k: v
        for k, v in os.environ.items()
        if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "KMP_BLOCKTIME")
    }
    words = [sys.executable, "-c", _SCRIPT, settings, str(company), str(steps), str(threads)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=clean)
    return float(done.stdout.split()[-1])


def main(argv: Sequence[str] | None = None) -> int:
    from mde.cli.environment import usable_cores

    quick = parser(__doc__ or "").parse_args(argv).quick
    steps, repeats = (1, 1) if quick else (12, 3)
    cores = usable_cores()
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats):
        for settings in ("library", "default"):
            for company in (0, 1):
                found.setdefault((settings, company), []).append(
                    rate(settings, company, steps, max(1, cores - company) if settings == "library" else cores)
                )
    median = {key: sorted(values)[len(values) // 2] for key, values in found.items()}
    rows = [
        Row(
            "images/s beside one busy process, library settings",
            "torch's defaults",
            median["library", 1] / median["default", 1],
            goal=1.5,
            at_least=True,
        ),
        Row(
            "images/s beside one busy process",
            "alone (library settings)",
            median["library", 1] / median["library", 0],
            goal=0.4,
            at_least=True,
        ),
        Row(
            "images/s alone, library settings",
            "torch's defaults",
            median["library", 0] / median["default", 0],
            goal=0.75,
            at_least=True,
        ),
    ]
    return report("threads", rows, quick=quick)


if __name__ == "__main__":
    sys.exit(main())
