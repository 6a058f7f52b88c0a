"""Many pictures: while the network works on some, threads read the next ones and write the last ones."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from mde.errors import DataFormatError
from mde.inference.inputs import Source
from mde.inference.outputs import ColourScale, write
from mde.inference.pictures import Picture
from mde.inference.predictor import Predictor, chunks
from mde.inference.record import RunRecord
from mde.inference.result import DepthResult

__all__ = ["COLOURED", "Colours", "Finish", "Summary", "predict_all"]

Finish: TypeAlias = Callable[[DepthResult, Source], tuple[DepthResult, str]]
"""What is done with a result before it is written, such as a scale; and one line about it, or nothing.

A `DataFormatError` skips the picture, every other error ends the run."""

STAGES = ("input", "network", "output")
COLOURED = frozenset({"color", "color-jpg", "side"})
"""Formats that need a colour scale."""


@dataclass(frozen=True)
class Colours:
    """The colours of a whole run.

    Args:
        ends: of the scale, in the unit of the maps; values beyond are marked. None finds them.
        first: how many results the scale is found from, by percentiles; 0 gives each picture a scale of its own.
        percentiles: of the pixels of these results.
        kind: see `ColourScale`.
        colours: see `ColourScale`.
    """

    ends: tuple[float, float] | None = None
    first: int = 8
    percentiles: tuple[float, float] = (1.0, 99.0)
    kind: str = "linear"
    colours: str = "viridis"


@dataclass
class Summary:
    """What a run did, and what it waited for.

    Attributes:
        done: pictures predicted and written.
        kept: pictures whose outputs were there already.
        skipped: pictures that gave nothing.
        seconds: of the main thread: the network's own time, and waits for input and output that did not overlap it.
        started: clock at the begin.
    """

    done: int = 0
    kept: int = 0
    skipped: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    started: float = field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        """Seconds since the begin."""
        return time.perf_counter() - self.started

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Counts to one of `STAGES`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def speed(self) -> str:
        """Pictures a second and the share of each stage."""
        whole = max(sum(self.seconds.values()), 1e-9)
        shares = ", ".join(f"{stage} {self.seconds[stage] / whole:.0%}" for stage in STAGES)
        return f"{self.done / max(self.elapsed, 1e-9):.1f} images/s ({shares})"


def predict_all(
    predictor: Predictor,
    found: Iterable[Source],
    record: RunRecord,
    colours: Colours | None = None,
    finish: Finish | None = None,
    threads: int = 2,
    show: Callable[[Summary, str], None] | None = None,
) -> Summary:
    """Predict pictures and write what the record asks for, in its folder.

    Pictures that cannot be read or predicted are counted and written down, the rest is done. At most some batches of
    pictures are in memory at a time. However it ends, files are whole, and the record says which.

    Args:
        predictor: the network.
        found: the pictures; taken one by one.
        record: folder, formats, and what is done already.
        colours: of pictures of maps.
        finish: see `Finish`.
        threads: for reading, and as many for writing.
        show: called after each picture with the summary so far and a line of news, which may be empty.

    Raises:
        ConfigError: a format that these results cannot be written in, a folder that cannot be written.
        OSError: the disk is full.
    """
    run = _Run(predictor, record, colours or Colours(), finish, show or (lambda summary, news: None), threads)
    try:
        run.all(found)
    finally:
        run.close()
    return run.summary


class _Run:
    def __init__(
        self,
        predictor: Predictor,
        record: RunRecord,
        colours: Colours,
        finish: Finish | None,
        show: Callable[[Summary, str], None],
        threads: int,
    ) -> None:
        self.predictor, self.record, self.colours, self.finish, self.show = predictor, record, colours, finish, show
        self.summary = Summary()
        self.readers = ThreadPoolExecutor(threads, "read")
        self.writers = ThreadPoolExecutor(threads, "write")
        self.window = predictor.batch_size + 2 * threads
        self.writing: deque[tuple[Source, str, Future[Any]]] = deque()
        self.held: list[tuple[Source, DepthResult, str]] = []  # until the colour scale is known
        self.scale = self._known_scale()

    def all(self, found: Iterable[Source]) -> None:
        for chunk in chunks(self._pictures(found), self.predictor.batch_size):
            pictures = [picture for _, picture in chunk if isinstance(picture, Picture)]
            with self.summary.timed("network"):
                outcomes = iter(self.predictor.outcomes(pictures))
            for source, picture in chunk:
                self._take(source, next(outcomes) if isinstance(picture, Picture) else picture)
        with self.summary.timed("output"):
            self._release()
            self._written(0)

    def close(self) -> None:
        for pool in (self.readers, self.writers):
            pool.shutdown(wait=True, cancel_futures=True)
        for source, news, future in self.writing:  # of a run that was cut short
            if not future.cancelled() and future.exception() is None:
                self.record.add(source, **({"about": news} if news else {}))
        self.record.close()

    def _pictures(self, found: Iterable[Source]) -> Iterator[tuple[Source, Picture | DataFormatError]]:
        """In order, read ahead by some."""
        waiting: deque[tuple[Source, Future[Picture | DataFormatError]]] = deque()
        todo = (source for source in found if not self._kept(source))
        while True:
            while len(waiting) < self.window and (source := next(todo, None)) is not None:
                waiting.append((source, self.readers.submit(_read, source)))
            if not waiting:
                return
            source, future = waiting.popleft()
            with self.summary.timed("input"):
                picture = future.result()
            yield source, picture

    def _kept(self, source: Source) -> bool:
        done = self.record.done(source)
        if done:
            self.summary.kept += 1
            self.show(self.summary, "")
        return done

    def _take(self, source: Source, outcome: DepthResult | DataFormatError) -> None:
        news = ""
        if self.finish is not None and isinstance(outcome, DepthResult):
            try:
                outcome, news = self.finish(outcome, source)
            except DataFormatError as error:
                outcome = error
        if isinstance(outcome, DataFormatError):
            self._skip(source, str(outcome))
            return
        with self.summary.timed("output"):
            self.held.append((source, outcome, news))
            if self._scale_is_settled():
                self._release()
            self._written(self.window)

    def _skip(self, source: Source, reason: str) -> None:
        self.summary.skipped += 1
        self.record.skip(source, reason)
        self.show(self.summary, f"skipped: {reason}")

    def _known_scale(self) -> ColourScale | None:
        # that which an earlier run found holds for the one that goes on with it
        ends = self.colours.ends or self.record.facts.get("scale")
        if ends is None:
            return None
        low, high = map(float, ends)
        return ColourScale(low, high, self.colours.kind, self.colours.colours, clip=self.colours.ends is None)

    def _scale_is_settled(self) -> bool:
        needless = not COLOURED.intersection(self.record.formats) or self.colours.first == 0
        return self.scale is not None or needless or len(self.held) >= self.colours.first

    def _release(self) -> None:
        """Hand over to the writers what waited for the colour scale."""
        wanted = COLOURED.intersection(self.record.formats) and self.colours.first > 0
        if self.scale is None and self.held and wanted:
            colours = self.colours
            maps = [result for _, result, _ in self.held]
            self.scale = ColourScale.of(maps, colours.percentiles, colours.kind, colours.colours)
            self.record.keep(scale=[self.scale.vmin, self.scale.vmax])
        for source, result, news in self.held:
            stem = self.record.path.parent / Path(source.stem)
            self.writing.append(
                (source, news, self.writers.submit(write, result, stem, self.record.formats, self.scale))
            )
        self.held.clear()

    def _written(self, most: int) -> None:
        """Wait until at most so many results are being written."""
        while len(self.writing) > most or (self.writing and self.writing[0][2].done()):
            source, news, future = self.writing[0]
            future.result()
            self.writing.popleft()
            self.summary.done += 1
            self.record.add(source, **({"about": news} if news else {}))
            self.show(self.summary, news and f"{source.name}: {news}")


def _read(source: Source) -> Picture | DataFormatError:
    try:
        return source.read()
    except DataFormatError as error:
        return error
