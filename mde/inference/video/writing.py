"""A video that keeps the times and the sound of the one that it was made from."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.errors import ConfigError, DataFormatError
from mde.inference.video.library import library
from mde.inference.video.reading import Clip

__all__ = ["ClipWriter", "container_for"]

_CONTAINERS = {".mp4": "mp4", ".mkv": "matroska"}
_QUALITY = {"crf": "18", "preset": "veryfast"}
_BT709 = 1  # ITU-T H.273: primaries, transfer and matrix of HD video


def container_for(clip: Clip) -> str:
    """ ".mp4", or ".mkv" where MP4 cannot hold the sound of the clip (its time stamps are whole milliseconds).

    Raises:
        DataFormatError: neither can hold it.
    """
    for suffix, name in _CONTAINERS.items():
        with library().open(io.BytesIO(), "w", format=name) as trial:
            if clip.sound is None or clip.sound in trial.supported_codecs:
                return suffix
    hint = "convert it: ffmpeg -i VIDEO -c:v copy -c:a aac new.mkv; or write single frames (--format npz)"
    what = f"its sound ({clip.sound}) can be copied neither into MP4 nor into Matroska"
    raise DataFormatError(what, where=clip.path, next_action=hint)


class ClipWriter:
    """Writes pictures as H.264 video with the time stamps of the frames of a clip, and copies its sound as it is.

    The first picture sets the size; one of an odd width or height gets a further column or row of its last pixels, as
    4:2:0 wants even numbers, and later ones are cut or filled up with white to that size. The file appears under its
    name when it is closed; left by an exception, nothing of it stays.

    Args:
        path: of the video, with the suffix that `container_for` says.
        clip: whose time stamps and sound it takes over. A clip that begins later begins at 0 here.
        note: a text for the file.
        threads: of the encoder.

    Raises:
        ConfigError: the folder cannot be written, or this FFmpeg has no encoder for H.264.
    """

    def __init__(self, path: Path, clip: Clip, note: str = "", threads: int = 1) -> None:
        self.path, self.clip = path, clip
        self._note, self._threads = note, threads
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._sound: Iterator[Any] | None = None
        self._next: Any = None
        self._size = (0, 0)
        self._out: Any = None
        self._stream: Any = None

    def __enter__(self) -> ClipWriter:
        return self

    def add(self, picture: NDArray[np.uint8], pts: int) -> None:
        """Append a picture.

        Args:
            picture: uint8 (H,W,3), RGB.
            pts: its time stamp in the time base of the clip, above the last one.
        """
        av = library()
        try:
            if self._out is None:
                self._begin(picture.shape[0], picture.shape[1])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(_fitted(picture, self._size)), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709)
            frame.pts, frame.time_base = pts - self._offset, self.clip.time_base
            self._out.mux(self._stream.encode(frame))
            self._mux_sound(float((pts - self._offset) * self.clip.time_base))
        except (av.FFmpegError, OSError) as error:
            raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Finish the file."""
        av = library()
        if self._out is None:
            return
        try:
            self._out.mux(self._stream.encode())
            self._mux_sound(float("inf"))
            self._out.close()
            self._out = None
            os.replace(self._part, self.path)
        except (av.FFmpegError, OSError) as error:
            raise _unwritable(self.path, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            if self._out is not None:
                self._out.close()
            self._part.unlink(missing_ok=True)

    def _begin(self, height: int, width: int) -> None:
        av = library()
        if "libx264" not in av.codecs_available:
            hint = "pip install --force-reinstall av (its wheels have it), or write frames: --format color"
            raise ConfigError("this PyAV cannot encode H.264", where=self.path, next_action=hint)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._out = av.open(str(self._part), "w", format=_CONTAINERS[self.path.suffix])
        self._out.metadata["comment"] = self._note
        stream = self._stream = self._out.add_stream("libx264", rate=self.clip.rate, options=dict(_QUALITY))
        self._size = height + height % 2, width + width % 2
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = stream.time_base = self.clip.time_base
        context.thread_count = self._threads
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        self._offset = self._first_pts()
        if self.clip.sound is not None:
            self._sound = self._packets()
            self._next = next(self._sound, None)

    def _first_pts(self) -> int:
        return int(Fraction(self.clip.start) / self.clip.time_base) + self.clip.first_pts if self.clip.start else 0

    def _packets(self) -> Iterator[Any]:
        """Those of the sound, between start and end of the clip, their stream made as the first is asked for."""
        av, clip = library(), self.clip
        with av.open(str(clip.path)) as container:
            source = container.streams.audio[0]
            target = self._out.add_stream_from_template(source)
            begin = float(clip.first_pts * clip.time_base)
            for packet in _until_it_breaks(container.demux(source)):
                if packet.dts is None:
                    continue
                time = float(packet.dts * packet.time_base) - begin
                if clip.end is not None and time >= clip.end:
                    return
                if time < clip.start - 1e-3 and clip.start:
                    continue
                shift = int(self._offset * clip.time_base / packet.time_base)
                packet.dts, packet.pts = packet.dts - shift, (packet.pts or packet.dts) - shift
                packet.stream = target
                yield packet

    def _mux_sound(self, until: float) -> None:
        """The packets up to a time: sound and pictures lie side by side in the file."""
        while self._sound is not None and self._next is not None:
            if float(self._next.dts * self._next.time_base) > until:
                return
            self._out.mux_one(self._next)
            self._next = next(self._sound, None)


def _until_it_breaks(packets: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from packets
    except library().FFmpegError:
        return


def _fitted(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = size
    down, across = height - picture.shape[0], width - picture.shape[1]
    if 0 <= down <= 1 and 0 <= across <= 1:
        return cv2.copyMakeBorder(picture, 0, down, 0, across, cv2.BORDER_REPLICATE) if down or across else picture
    filled = np.full((*size, 3), 255, np.uint8)
    part = picture[:height, :width]
    filled[: part.shape[0], : part.shape[1]] = part
    return filled


def _unwritable(path: Path, error: Exception) -> Exception:
    if getattr(error, "errno", None) == errno.ENOSPC:
        return error
    what = f"this video cannot be written ({getattr(error, 'strerror', None) or error})"
    return ConfigError(what, where=path, next_action="give a folder that you may write to, or another format")
