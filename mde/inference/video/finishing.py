"""What happens to the frames of a video behind the network, one after another: scale, smoothing, flicker, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from mde.data.noted import note_text
from mde.errors import DataFormatError
from mde.inference.outputs import ColourScale, paths, write
from mde.inference.outputs.pictures import side_picture
from mde.inference.result import DepthResult
from mde.inference.video.reading import Clip, ClipFrame
from mde.inference.video.steady import Steady
from mde.inference.video.writing import ClipWriter, container_for

__all__ = ["VIDEO_FORMATS", "Finisher", "clip_outputs"]

VIDEO_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "video": "video of the map with a colour bar and the sound of the clip",
        "video-side": "the same beside the clip itself",
    }
)
"""What a clip can be written in beside the formats of pictures, which make one file a frame."""

_ENDINGS = {"video": "_depth", "video-side": "_side"}


def clip_outputs(stem: Path, formats: Sequence[str], frames: int) -> Iterator[Path]:
    """The files of a clip of so many frames.

    >>> [path.as_posix() for path in clip_outputs(Path("out/a"), ["video", "npy"], 2)]
    ['out/a_depth.mp4', 'out/a/000000_depth.npy', 'out/a/000001_depth.npy']
    """
    for name in formats:
        if name in VIDEO_FORMATS:
            mp4, mkv = (stem.with_name(stem.name + _ENDINGS[name] + suffix) for suffix in (".mp4", ".mkv"))
            yield mkv if mkv.is_file() and not mp4.is_file() else mp4
    single = [name for name in formats if name not in VIDEO_FORMATS]
    for index in range(frames if single else 0):
        yield from paths(stem / f"{index:06}", single)


class Finisher:
    """Takes the results of a clip in order and writes them.

    Used as a context: left without an exception it finishes the videos, else nothing of them stays.

    Args:
        clip: whose frames these are.
        stem: folder and name of the outputs, see `clip_outputs`.
        formats: of the outputs.
        scale: of the colours; None gives each frame one of its own.
        finish: what is done with a result first, given the number of its frame, and a line about it; a
            `DataFormatError` leaves the frame out.
        smooth: one of `mde.inference.temporal.SMOOTHERS`.
        files: writes the files of single frames.
        threads: of each encoder.

    Attributes:
        steady: smooths the results; knows their flicker so far.

    Raises:
        ConfigError: a folder or format that cannot be written, or unknown smoothing; from `add`, too.
    """

    def __init__(
        self,
        clip: Clip,
        stem: Path,
        formats: Sequence[str],
        scale: ColourScale | None,
        finish: Callable[[DepthResult, int], tuple[DepthResult, str]],
        smooth: str,
        files: Executor,
        threads: int,
    ) -> None:
        self.clip, self.stem, self.scale, self.finish = clip, stem, scale, finish
        self.steady = Steady(smooth)
        self.single = [name for name in formats if name not in VIDEO_FORMATS]
        self.videos = [name for name in formats if name in VIDEO_FORMATS]
        self.files, self.threads = files, threads
        self._writers: list[ClipWriter] = []
        self._number = -1

    def __enter__(self) -> Finisher:
        return self

    def add(self, frame: ClipFrame, result: DepthResult) -> tuple[str | None, str, Future[Any] | None]:
        """The next frame.

        Returns:
            Why it was left out, or None; a line of news, which may be empty; and what writes its single files.
        """
        self._number += 1
        try:
            result, news = self.finish(result, self._number)
        except DataFormatError as error:
            return str(error), "", None
        result = self.steady(result, frame.image, frame.time)
        if self.videos and not self._writers:
            self._writers = [self._writer(name, result) for name in self.videos]
        for name, writer in zip(self.videos, self._writers, strict=True):
            shown = result if name == "video-side" else replace(result, image=None)
            writer.add(side_picture(shown, self.scale, all_marks=True), frame.pts)
        if not self.single:
            return None, news, None
        return None, news, self.files.submit(write, result, self.stem / f"{self._number:06}", self.single, self.scale)

    def _writer(self, name: str, result: DepthResult) -> ClipWriter:
        place = self.stem.with_name(self.stem.name + _ENDINGS[name] + container_for(self.clip))
        note = note_text(replace(result, source=self.clip.path.name).noted, kind="video of a map")
        return ClipWriter(place, self.clip, note, self.threads)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as all_of_them:
            for writer in self._writers:
                all_of_them.push(writer)
            if error is not None:
                raise error
