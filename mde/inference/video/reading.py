"""Frames of a video file, one by one: upright, RGB, each with its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mde.errors import ConfigError, DataFormatError
from mde.inference.pictures import MAX_MEGAPIXELS
from mde.inference.video.library import library

__all__ = ["Clip", "ClipFrame"]

_PQ = 16  # transfer characteristics of ITU-T H.273
_SLACK = 0.5  # seconds that the length in the header of a file may be off

Turn = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class ClipFrame:
    """A frame of a video.

    Attributes:
        image: uint8 (H,W,3), RGB, upright, of square pixels.
        time: seconds since the first frame of the video.
        pts: the time stamp that the file has, in its `Clip.time_base`.
    """

    image: NDArray[np.uint8]
    time: float
    pts: int


class Clip:
    """A video file; its frames are read when they are asked for, so that memory does not grow with its length.

    Frames come upright, as the display matrix of the file says (telephones), with square pixels, as 8-bit RGB: 10-bit
    video is rounded, HLG is taken as it is, which is how a screen without HDR shows it.

    Args:
        path: MP4, MOV, MKV, WebM, AVI or what else FFmpeg reads.
        start: seconds from the first frame; what comes before is left out.
        end: seconds from the first frame; None takes all.
        stride: every how many frames one is taken, counted from the first that is taken.
        max_megapixels: larger frames are refused.

    Attributes:
        size: (height, width) of the frames.
        time_base: seconds of one step of the time stamps.
        rate: frames a second on the average.
        duration: seconds that the file promises; None where it says nothing.
        sound: name of the codec of the sound; None without sound.
        first_pts: time stamp of the first frame.
        about_end: after the last frame, what is wrong with the video: it broke off, or had damaged parts; else empty.

    Raises:
        DataFormatError: missing, empty, no video, too large, or HDR with the PQ curve.
        ConfigError: the extra ``video`` is missing, or times or a stride that cannot be.
    """

    def __init__(
        self,
        path: str | Path,
        start: float = 0.0,
        end: float | None = None,
        stride: int = 1,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        if not 0 <= start < (float("inf") if end is None else end) or stride < 1:
            what = f"from {start:g} s to {'the end' if end is None else f'{end:g} s'} by {stride} frames is no clip"
            raise ConfigError(what, where="clip", next_action="give 0 <= start < end, in seconds, and a stride of 1 up")
        self.path, self.start, self.end, self.stride = Path(path), start, end, stride
        self.about_end = ""
        with self._open() as (container, stream):
            first = _first_frame(container, stream, self.path)
            self._turn, self._stored = _upright(first), _square(first, stream)
            _require_usable(stream, self._stored, max_megapixels, self.path)
            self.size: tuple[int, int] = self._turn(np.empty((*self._stored, 3), np.uint8)).shape[:2]
            self.time_base = Fraction(stream.time_base)
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            self.first_pts = first.pts or 0
            sounds = container.streams.audio
            self.sound = sounds[0].codec_context.name if sounds else None
            self.duration, self._promised = _length(container, stream)

    @property
    def count(self) -> int | None:
        """How many frames there are about to be; None where the file says nothing."""
        if self.duration is None:
            return None
        seconds = min(self.duration, self.end or self.duration) - self.start
        return max(1, round(seconds * float(self.rate) / self.stride))

    def __iter__(self) -> Iterator[ClipFrame]:
        """The frames, each time from the begin.

        A file that breaks off or has damaged parts gives what can be read, and `about_end` says so.
        """
        self.about_end = ""
        number = 0
        for frame, pts in self._decoded():
            time = float((pts - self.first_pts) * self.time_base)
            if self.end is not None and time >= self.end:
                self.about_end = ""
                return
            if time < self.start - 1e-9:
                continue
            if number % self.stride == 0:
                yield ClipFrame(self._picture(frame), time, pts)
            number += 1
        if not number and not self.about_end:
            self.about_end = f"no frame lies between {self.start:g} s and the end"

    def spread(self, count: int) -> Iterator[ClipFrame]:
        """Up to `count` frames from all over the clip: key frames near even steps of time, found without decoding all.

        Where the length is unknown: the first ones.
        """
        length = min(self.duration or 0.0, self.end or float("inf")) - self.start
        if length <= 0 or count < 2:
            yield from _some(iter(self), count)
            return
        with self._open() as (container, stream):
            for index in range(count):
                wanted = self.first_pts + int((self.start + (index + 0.5) * length / count) / self.time_base)
                frame = _frame_at(container, stream, wanted)
                if frame is not None:
                    pts = wanted if frame.pts is None else frame.pts
                    yield ClipFrame(self._picture(frame), float((pts - self.first_pts) * self.time_base), pts)

    def _picture(self, frame: Any) -> NDArray[np.uint8]:
        height, width = self._stored
        return np.ascontiguousarray(self._turn(frame.to_ndarray(format="rgb24", width=width, height=height)))

    def _decoded(self) -> Iterator[tuple[Any, int]]:
        """Frames with rising time stamps."""
        av = library()
        damaged, last, seen, ended = 0, None, 0, 0.0
        step = max(1, round(1 / self.rate / self.time_base))
        with self._open() as (container, stream):
            if self.start:
                _seek(container, stream, self.first_pts + int(self.start / self.time_base))
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                except av.FFmpegError as error:
                    self.about_end = f"breaks off after {ended:.1f} s ({_reason(error)})"
                    return
                if packet is None:
                    break
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    damaged += 1
                    continue
                for frame in frames:
                    pts = frame.pts if frame.pts is not None else self.first_pts if last is None else last + step
                    last = pts if last is None else max(pts, last + 1)
                    seen, ended = seen + 1, float((last + step - self.first_pts) * self.time_base)
                    yield frame, last
        if self._promised is not None and ended < self._promised - max(_SLACK, 2 / float(self.rate)):
            self.about_end = f"breaks off after {ended:.1f} s of {self._promised:.1f} s"
        elif damaged:
            self.about_end = f"{damaged} damaged parts were left out"

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        """The file and its stream of pictures."""
        av = library()
        hint = "is it whole? Play it, or make it anew: ffmpeg -i VIDEO fixed.mp4"
        try:
            container = av.open(str(self.path))
        except (av.FFmpegError, OSError) as error:
            what = f"no video, or damaged ({_reason(error)})"
            if isinstance(error, FileNotFoundError):
                what, hint = "no such file", "check the path"
            raise DataFormatError(what, where=self.path, next_action=hint) from error
        with closing(container):
            if not container.streams.video or container.streams.video[0].codec_context is None:
                raise DataFormatError("there are no pictures in this file", where=self.path, next_action=hint)
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # it has a thread of its own; the cores are the network's
            yield container, stream


def _first_frame(container: Any, stream: Any, path: Path) -> Any:
    av = library()
    try:
        found = next((frame for packet in container.demux(stream) for frame in _tried(packet)), None)
    except av.FFmpegError:
        found = None
    if found is None:
        hint = "is it whole? Play it, or make it anew: ffmpeg -i VIDEO fixed.mp4"
        raise DataFormatError("no frame of this video can be read", where=path, next_action=hint)
    return found


def _tried(packet: Any) -> Sequence[Any]:
    try:
        return list(packet.decode())
    except library().FFmpegError:
        return []


def _some(frames: Iterator[ClipFrame], count: int) -> Iterator[ClipFrame]:
    return (frame for frame, _ in zip(frames, range(count), strict=False))


def _seek(container: Any, stream: Any, pts: int) -> bool:
    """To the key frame before; False where the file cannot be sought in."""
    try:
        container.seek(pts, stream=stream, backward=True)
    except library().FFmpegError:
        return False
    return True


def _frame_at(container: Any, stream: Any, pts: int) -> Any:
    if not _seek(container, stream, pts):
        return None
    try:
        return next((frame for packet in container.demux(stream) for frame in _tried(packet)), None)
    except library().FFmpegError:
        return None


def _length(container: Any, stream: Any) -> tuple[float | None, float | None]:
    """Seconds that the pictures are said to last, and those that are sure: a file may only tell its longest stream,
    which may be the sound."""
    said = stream.metadata.get("DURATION", "")  # as Matroska's statistics tags have it: 00:00:10.000000000
    if stream.duration:
        seconds = float(stream.duration * stream.time_base)
        return seconds, seconds
    if said.count(":") == 2:
        hours, minutes, rest = (float(part) for part in said.split(":"))
        return (seconds := 3600 * hours + 60 * minutes + rest), seconds
    if not container.duration:
        return None, None
    seconds = container.duration / 1e6
    return seconds, None if len(container.streams) > 1 else seconds


def _square(frame: Any, stream: Any) -> tuple[int, int]:
    """(height, width) of the frame as it is stored, with square pixels."""
    ratio = float(stream.sample_aspect_ratio or 1)
    return frame.height, max(1, round(frame.width * ratio)) if ratio > 0 else frame.width


def _upright(frame: Any) -> Turn:
    """How frames are turned so that they stand as they were seen.

    The display matrix (ISO/IEC 14496-12, 6.2.2) takes (x, y) to (a x + c y, b x + d y); telephones write quarter turns
    and mirrors. Other angles stay as they are.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return lambda image: image
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(np.int64)
    lying = abs(b) > abs(a)
    across, down = (c, b) if lying else (a, d)

    def turn(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        image = image.swapaxes(0, 1) if lying else image
        return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]

    return turn


def _require_usable(stream: Any, size: tuple[int, int], limit: float, path: Path) -> None:
    if size[0] * size[1] > limit * 1e6:
        what = f"too large: frames of {size[1]}x{size[0]} pixels are more than {limit:g} megapixels"
        raise DataFormatError(what, where=path, next_action="raise the limit (--max-megapixels), or make it smaller")
    if stream.codec_context.color_trc == _PQ:
        hint = "make an SDR video of it first: ffmpeg's filters zscale and tonemap, or export as SDR"
        raise DataFormatError(
            "HDR with the PQ curve: its colours are not those of a photograph", where=path, next_action=hint
        )


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).split(":")[0][:120]
