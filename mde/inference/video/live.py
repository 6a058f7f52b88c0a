"""A camera at work: depth in a window, of the newest frame, with the time from the camera to the window."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.errors import ConfigError, DataFormatError
from mde.inference.inputs import Source
from mde.inference.outputs import ColourScale
from mde.inference.outputs.pictures import side_picture
from mde.inference.pictures import Picture
from mde.inference.pipeline import Colours, Finish
from mde.inference.predictor import Predictor
from mde.inference.result import DepthResult
from mde.inference.video.steady import Steady

__all__ = ["Capture", "Eye", "Shown", "Window", "require_window", "watch"]

_SMOOTHED = 0.1  # of each new frame in the rate and the latency that are shown
_WAIT = 10.0  # seconds without a frame
_LINE = 24  # pixels

Image = NDArray[np.uint8]


class Capture(Protocol):
    """What OpenCV's VideoCapture does."""

    def read(self) -> tuple[bool, Any]:
        """Waits for the next frame: (True, uint8 (H,W,3), blue first), or (False, anything) when there are no more."""

    def release(self) -> None:
        """Close it."""


class Eye:
    """Reads a camera in a thread of its own and keeps the newest frame alone, so that none is ever stale.

    Args:
        capture: the camera.
        name: for people.
    """

    def __init__(self, capture: Capture, name: str = "camera") -> None:
        self.name = name
        self._capture = capture
        self._news = threading.Condition()
        self._frame: tuple[Image, float] | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._read, name=name, daemon=True)

    @classmethod
    def of_camera(cls, number: int) -> Eye:
        """A camera of this computer.

        Raises:
            ConfigError: there is no such camera, or it gives no picture.
        """
        before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            capture = cv2.VideoCapture(number)
        finally:
            cv2.utils.logging.setLogLevel(before)
        if not capture.isOpened() or not capture.read()[0]:
            capture.release()
            hint = "plug it in, close other programs that use it, allow access to it, or give another number"
            raise ConfigError(f"no picture from camera {number}", where="INPUT", next_action=hint)
        return cls(capture, f"camera {number}")

    def newest(self) -> tuple[Image, float] | None:
        """The newest frame, RGB, and the clock when it came; waits for one that was not given yet.

        Returns:
            None when the camera gives no more.
        """
        with self._news:
            self._news.wait_for(lambda: self._frame is not None or self._ended, _WAIT)
            frame, self._frame = self._frame, None
        return frame if frame is None else (np.ascontiguousarray(frame[0][..., ::-1]), frame[1])

    def __enter__(self) -> Eye:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._thread.join(_WAIT)
        self._capture.release()

    def _read(self) -> None:
        while not self._ended:
            good, frame = self._capture.read()
            now = time.perf_counter()
            with self._news:
                self._ended = self._ended or not good
                self._frame = (frame, now) if good else self._frame
                self._news.notify()


def require_window() -> None:
    """Before any work is done: can a window be opened here?

    Raises:
        ConfigError: this OpenCV has no windows, or there is no screen.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        hint = "start it where windows can be seen, or record a video and predict that"
        raise ConfigError("there is no screen for a window", where="camera", next_action=hint)
    try:
        cv2.namedWindow("mde")
        cv2.destroyWindow("mde")
    except cv2.error as error:
        hint = "pip uninstall opencv-python-headless; pip install opencv-python"
        raise ConfigError("this OpenCV cannot open windows", where="camera", next_action=hint) from error


class Window:
    """A window of OpenCV. Used as a context."""

    def __init__(self, title: str) -> None:
        self.title = title

    def __enter__(self) -> Window:
        cv2.namedWindow(self.title, cv2.WINDOW_AUTOSIZE)
        return self

    def show(self, picture: Image) -> str:
        """Show a picture, uint8 (H,W,3) RGB; the key that was pressed, "q" when the window was closed, or nothing."""
        cv2.imshow(self.title, np.ascontiguousarray(picture[..., ::-1]))
        key = cv2.waitKey(1)
        closed = cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1
        return "q" if closed else "" if key < 0 else chr(key & 0xFF)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cv2.destroyAllWindows()


@dataclass
class Shown:
    """What was shown.

    Attributes:
        frames: how many.
        rate: frames a second, a running mean.
        latency: seconds from the camera to the window, a running mean.
    """

    frames: int = 0
    rate: float = 0.0
    latency: float = 0.0


def watch(
    predictor: Predictor,
    eye: Eye,
    show: Callable[[Image], str],
    save: Callable[[DepthResult, ColourScale | None, int], str],
    colours: Colours | None = None,
    finish: Finish | None = None,
    smooth: str = "none",
) -> Shown:
    """Predict the newest frame of a camera again and again.

    Args:
        predictor: the network.
        eye: the camera.
        show: shows a picture, RGB, and returns a key: "q" ends, "s" saves this frame, "c" finds the colours anew.
        save: writes a result with its colours and number; returns where.
        colours: the scale of the first `first` frames is kept.
        finish: see `mde.inference.pipeline.Finish`; a frame that cannot be scaled says why in the window.
        smooth: one of `mde.inference.temporal.SMOOTHERS`.

    Returns:
        What was shown, when the camera or somebody ended it.
    """
    shown, steady, scale = Shown(), Steady(smooth), _Scale(colours or Colours())
    saved, words, last = 0, "", time.perf_counter()
    while (frame := eye.newest()) is not None:
        image, taken = frame
        try:
            result = _result(predictor, eye, image, finish)
        except DataFormatError as error:
            if show(_titled(image, str(error))) == "q":
                break
            continue
        result = steady(result, image, taken) if smooth != "none" else result
        colour = scale.of(result)
        key = show(_titled(side_picture(result, colour, all_marks=True), _speed(shown) + words))
        now = time.perf_counter()
        _count(shown, now - taken, now - last)
        last, words = now, ""
        if key == "q":
            break
        if key == "s":
            saved += 1
            words = f"   saved: {save(result, colour, saved)}"
        elif key == "c":
            scale.maps.clear()
    return shown


class _Scale:
    """The colours, from the first results since they were asked for anew."""

    def __init__(self, colours: Colours) -> None:
        self.colours, self.maps = colours, list[DepthResult]()
        self._known: ColourScale | None = None

    def of(self, result: DepthResult) -> ColourScale | None:
        if self.colours.ends is not None:
            return ColourScale(*self.colours.ends, self.colours.kind, self.colours.colours)
        if len(self.maps) < self.colours.first:
            self.maps.append(result)
            kind, colours = self.colours.kind, self.colours.colours
            self._known = ColourScale.of(self.maps, self.colours.percentiles, kind, colours)
        return self._known


def _result(predictor: Predictor, eye: Eye, image: Image, finish: Finish | None) -> DepthResult:
    picture = Picture(image, eye.name)
    outcome = predictor.outcomes([picture])[0]
    if isinstance(outcome, DataFormatError):
        raise outcome
    return outcome if finish is None else finish(outcome, Source(eye.name, eye.name, lambda: picture, Path()))[0]


def _count(shown: Shown, latency: float, step: float) -> None:
    new = 1.0 if shown.frames == 0 else _SMOOTHED
    shown.frames += 1
    shown.latency += new * (latency - shown.latency)
    shown.rate += new * (1 / max(step, 1e-6) - shown.rate)


def _speed(shown: Shown) -> str:
    return f"{1000 * shown.latency:.0f} ms from camera to window, {shown.rate:.1f} frames/s" if shown.frames else ""


def _titled(picture: Image, words: str) -> Image:
    """The picture below a line of words, which OpenCV's letters can write."""
    strip = np.full((_LINE, picture.shape[1], 3), 255, np.uint8)
    plain = words.encode("ascii", "replace").decode()
    cv2.putText(strip, plain, (6, _LINE - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate((strip, picture))
