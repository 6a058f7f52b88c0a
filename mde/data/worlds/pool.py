"""Render many pictures at once, on all cores, straight into shared memory."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mde.console import counting

__all__ = ["fill_in_parallel", "shared_array", "usable_cores"]

_SHARE = 16  # items that make a further process worth its start (a fork costs some tens of milliseconds)
_PATIENCE = 60.0  # seconds without a finished item, after which the processes are given up and their rest is done here
_QUIET = 1.0  # seconds before a progress bar is shown


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros in memory that forked processes share. Pickling copies the values."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), dtype, count=int(np.prod(shape))).reshape(shape)


def fill_in_parallel(make: Callable[[int], None], count: int, label: str, processes: int | None = None) -> None:
    """Call ``make(0) ... make(count - 1)``, each of which writes its result into a `shared_array`.

    Other processes only take work off this one: what a process that died or got stuck left undone is done here, so the
    result never depends on them and an error of `make` is raised here. Without ``fork``, and within a daemon (which may
    not have children, such as a loader's worker), everything is done here.

    Args:
        make: must depend on its argument alone.
        count: of the items.
        label: for the progress bar, which is shown when this takes longer than a second.
        processes: this one included; default is one per usable core, and no more than the work is worth.
    """
    done = shared_array((count,), np.uint8)
    wanted = min(usable_cores(), count // _SHARE) if processes is None else processes
    forks = sys.platform == "linux" and not multiprocessing.current_process().daemon
    helpers = _start(make, done, max(wanted, 1) if forks else 1)
    try:
        with _progress(done, label) as tick:
            _work(make, done, range(0, count, len(helpers) + 1), tick)
            _wait(helpers, done, tick)
            for helper in helpers:
                helper.terminate()
                helper.join()  # before the rest is done here, so that nobody writes to the same place
            _work(make, done, range(count), tick)
    finally:
        for helper in helpers:
            helper.terminate()


def _start(make: Callable[[int], None], done: NDArray[np.uint8], processes: int) -> list[BaseProcess]:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    helpers: list[BaseProcess] = []
    for first in range(1, processes):
        share = range(first, len(done), processes)
        helper = context.Process(target=_work, args=(make, done, share, _nothing), daemon=True)  # type: ignore[attr-defined]
        helper.start()
        helpers.append(helper)
    return helpers


def _work(make: Callable[[int], None], done: NDArray[np.uint8], share: range, tick: Callable[[], None]) -> None:
    for index in share:
        if not done[index]:
            make(index)
            done[index] = 1
            tick()


def _wait(helpers: list[BaseProcess], done: NDArray[np.uint8], tick: Callable[[], None]) -> None:
    """Until all helpers have ended, or none has finished an item for too long."""
    before, since = -1, time.monotonic()
    while any(helper.is_alive() for helper in helpers):
        now = int(np.count_nonzero(done))
        if now > before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > _PATIENCE:
            return
        time.sleep(0.01)
        tick()


def _nothing() -> None:
    """A helper shows no progress."""


@contextmanager
def _progress(done: NDArray[np.uint8], label: str) -> Iterator[Callable[[], None]]:
    """A function to call often; it shows a bar once the work takes longer than a second."""
    start = time.monotonic()
    with counting() as show:

        def tick() -> None:
            if time.monotonic() - start > _QUIET:
                show(label, int(np.count_nonzero(done)), len(done))

        yield tick
