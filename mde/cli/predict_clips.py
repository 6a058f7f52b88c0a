"""The part of ``mde predict`` that is about videos and the camera of this computer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mde.errors import ConfigError, DataFormatError

if TYPE_CHECKING:
    from mde.inference.inputs import Source
    from mde.inference.outputs import ColourScale
    from mde.inference.pipeline import Colours, Finish, Summary
    from mde.inference.predictor import Predictor
    from mde.inference.record import RunRecord
    from mde.inference.result import DepthResult
    from mde.inference.video import ClipRun
    from mde.inference.video.live import Eye

__all__ = ["Formats", "camera_number", "counted", "formats_for", "open_camera", "predict_clips", "watch_camera"]

Display: TypeAlias = "Callable[[int | None], AbstractContextManager[Callable[[Summary, str], None]]]"


def camera_number(options: argparse.Namespace) -> int | None:
    """0 for the input "0" or "webcam:0"; None where the inputs are files.

    Raises:
        ConfigError: a camera among other inputs, or options of videos for one.
    """
    words: list[str] = options.input
    found = [word.removeprefix("webcam:") for word in words if word.removeprefix("webcam:").isdecimal()]
    if found and len(words) > 1:
        what = f"camera {found[0]} is watched alone, and there are {len(words)} inputs"
        raise ConfigError(
            what, where="INPUT", next_action=f"give {found[0]} alone; a file of that name is ./{found[0]}"
        )
    if found and (options.start, options.end, options.stride) != (0, None, 1):
        hint = "leave them out; the window takes the newest frame whenever the network is free"
        raise ConfigError("--start, --end and --stride are for videos, not for a camera", next_action=hint)
    return int(found[0]) if found else None


class Formats(NamedTuple):
    """What is written of pictures, what of videos, and whether that was asked for."""

    pictures: list[str]
    clips: list[str]
    asked: bool


def formats_for(given: Sequence[str]) -> Formats:
    """Those that were asked for; without any: png16 and color, and video."""
    from mde.inference.video import VIDEO_FORMATS

    single = [name for name in given if name not in VIDEO_FORMATS]
    return Formats(single or ["png16", "color"], list(given) or ["video"], bool(given))


def counted(found: Iterable[Source], formats: Formats) -> tuple[int, list[Source]]:
    """The number of pictures, and the videos.

    Raises:
        ConfigError: there are videos, but no extra to read them, or a format of videos without a video.
    """
    from mde.inference.video import VIDEO_FORMATS
    from mde.inference.video.library import library

    total, clips = 0, []
    for source in found:
        if source.video:
            clips.append(source)
        else:
            total += 1
    if clips:
        library()
    elif formats.asked and (given := [name for name in formats.clips if name in VIDEO_FORMATS]):
        what = f"{given[0]} is a format of videos, and there is none among the inputs"
        raise ConfigError(what, where="format", next_action="give color or side for pictures")
    return total, clips


def predict_clips(
    options: argparse.Namespace,
    predictor: Predictor,
    clips: Sequence[Source],
    record: RunRecord,
    colours: Colours,
    finish: Finish | None,
    threads: int,
    display: Display,
) -> int:
    """Predict videos one after another; the number of those that are not whole."""
    from mde.inference.video import Clip, clip_outputs, predict_clip

    failed = 0
    for source in clips:
        known = record.frames.get(source.stem)
        stem = record.path.parent / source.stem
        if known is not None and record.done(source, clip_outputs(stem, record.formats, known)):
            print(f"{source.name}: {known} frames were there already")
            continue
        try:
            clip = Clip(source.path, options.start, options.end, options.stride, options.max_megapixels)
            with display(clip.count) as show:
                made = predict_clip(predictor, source, clip, record, colours, finish, options.smooth, threads, show)
            problem = _problem(made)
        except DataFormatError as error:
            problem = str(error)
        else:
            print(f"{source.name}: {_about(made)}")
        if problem:
            failed += 1
            record.skip(source, problem)
            print(f"mde: {source.name}: {problem}", file=sys.stderr)
    return failed


def _about(made: ClipRun) -> str:
    text = f"{made.summary.done} frames in {made.summary.elapsed:.1f} s, {made.summary.speed()}"
    if made.flicker is None:
        return text
    before = "" if made.flicker_before is None else f" ({made.flicker_before:.2%} before smoothing)"
    return f"{text}; flicker {made.flicker:.2%}{before}"


def _problem(made: ClipRun) -> str:
    if made.broken:
        written = f"what could be read is written, {made.summary.done} frames"
        return f"the video {made.broken}; {written}. Next: fetch it again, or repair it: ffmpeg -i VIDEO fixed.mp4"
    return f"{made.summary.skipped} frames were left out, for the reasons above" if made.summary.skipped else ""


def open_camera(number: int) -> Eye:
    """The camera and a window for it, before a network is read.

    Raises:
        ConfigError: no such camera, or no window can be opened.
    """
    from mde.inference.video.live import Eye, require_window

    require_window()
    return Eye.of_camera(number)


def watch_camera(
    options: argparse.Namespace,
    eye: Eye,
    predictor: Predictor,
    formats: Sequence[str],
    colours: Colours,
    finish: Finish | None,
) -> int:
    """Show what the camera sees until somebody closes the window; always 0."""
    from mde.inference.outputs import write
    from mde.inference.video.live import Window, watch

    def save(result: DepthResult, scale: ColourScale | None, number: int) -> str:
        return str(write(result, options.out / f"camera_{number:03}", formats, scale)[0])

    with eye, Window("mde") as window:
        print("q: quit, s: save this frame, c: other colours")
        shown = watch(predictor, eye, window.show, save, colours, finish, options.smooth)
    print(f"{shown.frames} frames, {shown.rate:.1f} frames/s, {1000 * shown.latency:.0f} ms from camera to window")
    return 0
