"""Threads, wait policy and loader workers for this machine.

torch's CPU threads busy-wait for each other. Two of them on two cores train up to twice as fast as one, but fall to a
tenth of that as soon as another process, such as a loader worker, takes a core: each waits spinning for the other,
which cannot run. Threads that sleep at once lose half of their speed on small networks, where a wait is shorter than
falling asleep and waking up. So each loader worker gets a core that the network leaves to it, and waiting threads spin
briefly and sleep then (``benchmarks/bench_threads.py``). OpenMP reads that setting once, when torch is loaded: it is
made here, before.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "Workload", "choose", "keep_freed_memory", "prepare_process", "this_machine", "usable_cores"]

# libgomp (Linux builds of torch) counts turns of a loop, some microseconds; Intel's OpenMP milliseconds
_BRIEF_WAIT = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}

# malloc.h of glibc: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
_KEEP = {-3: 1 << 30, -1: (1 << 31) - 1, -2: 64 << 20}
_MALLOC_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def prepare_process() -> bool:
    """Make waiting threads sleep after a moment, and freed memory stay. A setting of the user's stays.

    Returns:
        False when torch is loaded already, so that it comes too late for this process.
    """
    for name, value in _BRIEF_WAIT.items():
        os.environ.setdefault(name, value)
    keep_freed_memory()
    return "torch" not in sys.modules


def keep_freed_memory() -> None:
    """Reuse freed blocks instead of giving them back: a batch in fresh memory costs a page fault for every 4 kB.

    For glibc (Linux) only, elsewhere nothing happens; for this process and those that it forks. Memory once used is
    kept until the process ends.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _MALLOC_SETTINGS):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):  # mallopt of other libraries means other things
        for option, value in _KEEP.items():
            library.mallopt(option, value)


def usable_cores() -> int:
    """Cores this process may use: its affinity, and the container's quota where there is one (Linux cgroup v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return cores


@dataclass(frozen=True)
class Machine:
    """What a run has: cores for this node, processes that share them, and whether the network is on an accelerator.

    `most_threads` is what the user allows each process; None leaves it to `choose`.
    """

    cores: int
    processes: int = 1
    accelerator: bool = False
    most_threads: int | None = None


def this_machine(processes: int = 1, accelerator: bool = False) -> Machine:
    """The machine that this runs on; a number in ``OMP_NUM_THREADS`` is the user's and holds."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # a list is one number for each level of nesting
    return Machine(usable_cores(), processes, accelerator, int(first) if first.isdecimal() and int(first) > 0 else None)


@dataclass(frozen=True)
class Workload:
    """How many threads torch gets and how many loader workers run, in each process."""

    threads: int
    workers: int

    def describe(self) -> str:
        """One line for the log."""
        workers = "in the main process" if self.workers == 0 else f"{self.workers} worker process(es)"
        return f"{self.threads} CPU thread(s), data loading: {workers}"


def choose(machine: Machine, *, in_memory: bool, workers: int = -1) -> Workload:
    """Share the cores between the network and the loader.

    Args:
        machine: what there is.
        in_memory: the data set needs no decoding, so that a worker would only copy.
        workers: the user's number, or -1 to choose.

    >>> choose(Machine(cores=2), in_memory=True)
    Workload(threads=2, workers=0)
    >>> choose(Machine(cores=2), in_memory=False)
    Workload(threads=1, workers=1)
    >>> choose(Machine(cores=16, accelerator=True), in_memory=False).workers
    8
    """
    share = max(1, machine.cores // machine.processes)
    if workers < 0:
        # a CPU step takes so long that one worker keeps up; an accelerator eats what eight decode
        wanted = min(8, share - 1) if machine.accelerator else 1
        workers = 0 if in_memory or share == 1 else wanted
    threads = max(1, share - workers)
    return Workload(threads=min(threads, machine.most_threads or threads), workers=workers)
