"""Work on all cores, with the results in order, and no more in flight than the processes need."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

import cv2
import torch

from mde.errors import DataFormatError

__all__ = ["in_order"]

Job = TypeVar("Job")
Result = TypeVar("Result")

_AHEAD = 4  # jobs in flight for each process
_work: Callable[[Any], Any] | None = None


def in_order(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """``map(work, jobs)``, by several processes where the system can fork; jobs and results must be picklable.

    Raises:
        DataFormatError: a process died, as from lack of memory, or in a decoder.
    """
    if workers < 2 or sys.platform != "linux" or multiprocessing.current_process().daemon:
        yield from map(work, jobs)
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # here and not in the child: see DepthDataModule._loader
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(work,))
    try:
        waiting: deque[Future[Result]] = deque()
        rest = iter(jobs)
        for job in islice(rest, _AHEAD * workers):
            waiting.append(pool.submit(_call, job))
        while waiting:
            yield waiting.popleft().result()
            for job in islice(rest, 1):
                waiting.append(pool.submit(_call, job))
    except BrokenProcessPool as error:
        hint = "try --workers 1; if that dies too, a decoder crashes on a file"
        raise DataFormatError("a worker process died", next_action=hint) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        cv2.setNumThreads(threads)


def _start(work: Callable[[Any], Any]) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone answers to Ctrl-C
    torch.set_num_threads(1)
    _work = work


def _call(job: Any) -> Any:
    if _work is None:
        raise RuntimeError("a worker was started without its work")
    return _work(job)
