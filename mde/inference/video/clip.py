"""A whole video: frames are read ahead, predicted, finished and written side by side, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mde.errors import DataFormatError
from mde.inference.inputs import Source
from mde.inference.outputs import ColourScale
from mde.inference.pictures import Picture
from mde.inference.pipeline import COLOURED, Colours, Finish, Summary
from mde.inference.predictor import Predictor
from mde.inference.record import RunRecord
from mde.inference.result import DepthResult
from mde.inference.video.finishing import VIDEO_FORMATS, Finisher
from mde.inference.video.reading import Clip, ClipFrame
from mde.types import Ambiguity

__all__ = ["ClipRun", "predict_clip"]

_Step: TypeAlias = "Future[tuple[str | None, str, Future[Any] | None]]"


@dataclass
class ClipRun:
    """What became of a video.

    Attributes:
        summary: `done` counts frames, `skipped` those that were left out.
        flicker: of what was written, see `mde.inference.temporal.FlickerMeter`; None for less than two frames.
        flicker_before: the same before the smoothing; None where there was none.
        broken: what is wrong with the file; empty for a whole one.
    """

    summary: Summary = field(default_factory=Summary)
    flicker: float | None = None
    flicker_before: float | None = None
    broken: str = ""


def predict_clip(
    predictor: Predictor,
    source: Source,
    clip: Clip,
    record: RunRecord,
    colours: Colours | None = None,
    finish: Finish | None = None,
    smooth: str = "none",
    threads: int = 2,
    show: Callable[[Summary, str], None] | None = None,
) -> ClipRun:
    """Predict the frames of a video and write what the record asks for, in its folder.

    A video that breaks off is written as far as it goes. In the record a clip counts as done when it is whole.

    Args:
        predictor: the network.
        source: name and stem of the clip.
        clip: the video.
        record: folder and formats, those of `VIDEO_FORMATS` among them.
        colours: one scale for the whole clip; without ends it is found from `first` frames in a first pass: from all
            over the clip, or where relative maps are smoothed the first ones, whose scale all others take over.
        finish: see `mde.inference.pipeline.Finish`; a frame that cannot be scaled is left out.
        smooth: one of `mde.inference.temporal.SMOOTHERS`.
        threads: for files of single frames, and of the encoder.
        show: called after each frame with the summary so far and a line of news, which may be empty.

    Raises:
        DataFormatError: the network fails on frames of this size.
        ConfigError: unknown smoothing, a format that these results cannot be written in, a folder that cannot be
            written.
    """
    made = ClipRun()
    with made.summary.timed("network"):
        scale = _scale(predictor, source, clip, record, colours or Colours(), finish, smooth)

    def scaled(result: DepthResult, number: int) -> tuple[DepthResult, str]:
        return (result, "") if finish is None else finish(result, _frame(source, number))

    files, steps, reader = (ThreadPoolExecutor(count) for count in (threads, 1, 1))
    stem = record.path.parent / source.stem
    finisher = Finisher(clip, stem, record.formats, scale, scaled, smooth, files, threads)
    with finisher, files, steps, reader:  # left in reverse: nothing is running when the videos are closed
        for reason, news in _results(predictor, source, clip, finisher, reader, steps, made.summary):
            made.summary.done += reason is None
            made.summary.skipped += reason is not None
            if show is not None:
                show(made.summary, news if reason is None else f"skipped: {reason}")
    steady, made.broken = finisher.steady, clip.about_end
    made.flicker, made.flicker_before = steady.flicker, steady.flicker_before
    if not made.broken and not made.summary.skipped:
        facts = {"flicker": made.flicker, "flicker_before": made.flicker_before}
        record.add(source, frames=made.summary.done, **{name: x for name, x in facts.items() if x is not None})
    return made


def _results(
    predictor: Predictor,
    source: Source,
    clip: Clip,
    finisher: Finisher,
    reader: Executor,
    steps: Executor,
    spent: Summary,
) -> Iterator[tuple[str | None, str]]:
    """Why a frame was left out, or None, and news of it; of each in order, when all of it is written."""
    window = predictor.batch_size + 2
    waiting: deque[_Step] = deque()
    for batch in _batches(clip, reader, window, predictor.batch_size, spent):
        with spent.timed("network"):
            outcomes = predictor.outcomes([_picture(source, frame) for frame in batch])
        for frame, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, DataFormatError):
                raise outcome
            waiting.append(steps.submit(finisher.add, frame, outcome))
        while len(waiting) > window or (waiting and waiting[0].done()):
            yield _ended(waiting.popleft(), spent)
    while waiting:
        yield _ended(waiting.popleft(), spent)


def _ended(step: _Step, spent: Summary) -> tuple[str | None, str]:
    with spent.timed("output"):
        reason, news, file = step.result()
        if file is not None:
            file.result()
    return reason, news


def _batches(clip: Clip, reader: Executor, window: int, size: int, spent: Summary) -> Iterator[list[ClipFrame]]:
    """Frames in order, read ahead by some; in one thread, so that they come in order."""
    frames = iter(clip)
    ahead: deque[Future[ClipFrame | None]] = deque()
    batch: list[ClipFrame] = []
    while True:
        while len(ahead) < window:
            ahead.append(reader.submit(next, frames, None))
        with spent.timed("input"):
            frame = ahead.popleft().result()
        if frame is not None:
            batch.append(frame)
        if batch and (frame is None or len(batch) == size):
            yield batch
            batch = []
        if frame is None:
            return


def _scale(
    predictor: Predictor,
    source: Source,
    clip: Clip,
    record: RunRecord,
    colours: Colours,
    finish: Finish | None,
    smooth: str,
) -> ColourScale | None:
    if colours.ends is not None:
        return ColourScale(*colours.ends, colours.kind, colours.colours)
    if colours.first == 0 or not (COLOURED | set(VIDEO_FORMATS)).intersection(record.formats):
        return None
    locked = smooth != "none" and finish is None and predictor.ambiguity is not Ambiguity.METRIC
    frames = zip(range(colours.first), clip, strict=False) if locked else enumerate(clip.spread(colours.first))
    maps = []
    for number, frame in frames:
        outcome = predictor.outcomes([_picture(source, frame)])[0]
        try:
            if isinstance(outcome, DataFormatError):
                raise outcome
            maps.append(outcome if finish is None else finish(outcome, _frame(source, number))[0])
        except DataFormatError:  # it comes again, when its turn comes
            continue
    return ColourScale.of(maps, colours.percentiles, colours.kind, colours.colours) if maps else None


def _picture(source: Source, frame: ClipFrame) -> Picture:
    return Picture(frame.image, f"{source.name}#t={frame.time:.6f}")  # as W3C's media fragments name a time


def _frame(source: Source, number: int) -> Source:
    """A frame as a picture of its own, such as "clip/000012"."""
    name = f"{source.stem}/{number:06}"
    return Source(name, name, source.read, source.path)
