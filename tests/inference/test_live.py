"""A camera at work, with a capture and a window that are none."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from mde.errors import DataFormatError
from mde.inference import Predictor
from mde.inference.inputs import Source
from mde.inference.outputs import ColourScale
from mde.inference.outputs.pictures import side_picture
from mde.inference.pipeline import Colours
from mde.inference.result import DepthResult
from mde.inference.video.live import Eye, watch
from mde.types import Ambiguity
from tests.inference.clips import SIZE, Grey


class Capture:
    """Frames with a blue of their number; the next one comes when it is let go, or at once."""

    def __init__(self, count: int, gated: bool = False) -> None:
        self.count, self.given, self.released = count, 0, False
        self.gate = threading.Semaphore(0) if gated else None

    def read(self) -> tuple[bool, Any]:
        if self.gate is not None:
            self.gate.acquire(timeout=20)
        if self.given >= self.count or self.released:
            return False, None
        self.given += 1
        frame = np.full((*SIZE, 3), 100, np.uint8)
        frame[..., 0] = self.given
        return True, frame

    def release(self) -> None:
        self.released = True


def none(*_: Any) -> str:
    return ""


def test_the_newest_frame_wins_and_stale_ones_are_dropped() -> None:
    capture = Capture(7, gated=True)
    assert capture.gate is not None
    with Eye(capture) as eye:
        capture.gate.release()
        first = eye.newest()
        assert first is not None
        np.testing.assert_array_equal(first[0][0, 0], (100, 100, 1))  # red first
        for _ in range(5):
            capture.gate.release()
        while capture.given < 6:
            time.sleep(0.001)
        capture.gate.release()
        while capture.given < 7:
            time.sleep(0.001)
        newest = eye.newest()
        assert newest is not None
        assert newest[0][0, 0, 2] >= 6
        assert newest[1] > first[1]
        capture.gate.release()
        last = eye.newest()
        assert last is None or last[0][0, 0, 2] == 7
        assert eye.newest() is None  # it ended
    assert capture.released


def test_latency_is_from_the_camera_to_the_window() -> None:
    """Each frame takes at least as long as network and window do."""
    capture = Capture(3, gated=True)
    assert capture.gate is not None
    gate, times = capture.gate, []

    class Slow(Grey):
        def predict(self, image: Any, flip: bool = False) -> Any:
            time.sleep(0.03)
            return super().predict(image, flip)

    def show(_: Any) -> str:
        time.sleep(0.02)
        times.append(time.perf_counter())
        gate.release()
        return ""

    with Eye(capture) as eye:
        gate.release()
        shown = watch(Predictor(Slow()), eye, show, none)
    assert shown.frames == 3 == len(times)
    assert 0.05 <= shown.latency < 5
    assert 0 < shown.rate <= 1 / 0.05


def test_what_is_shown_and_saved() -> None:
    capture = Capture(5, gated=True)
    assert capture.gate is not None
    gate, pictures, saved = capture.gate, [], []

    def show(picture: Any) -> str:
        pictures.append(picture)
        gate.release()
        return {2: "s", 4: "q"}.get(len(pictures), "")

    def save(result: DepthResult, scale: ColourScale | None, number: int) -> str:
        saved.append((result, scale, number))
        return "out/camera_001_depth.npz"

    with Eye(capture, "camera 3") as eye:
        gate.release()
        shown = watch(Predictor(Grey()), eye, show, save, Colours((0.0, 10.0)))
    assert shown.frames == 4
    [(result, scale, number)] = saved
    assert (result.source, number, scale) == ("camera 3", 1, ColourScale(0.0, 10.0))
    drawn = side_picture(result, scale, all_marks=True)
    np.testing.assert_array_equal(pictures[1][-drawn.shape[0] :], drawn)
    strips = [each[: -drawn.shape[0]] for each in pictures]
    assert (strips[0] == 255).all()  # no latency is known yet
    assert all((each < 128).any() for each in strips[1:])
    assert (strips[2] < 128).sum() > 1.3 * (strips[3] < 128).sum()  # says where it was saved


def test_colours_are_found_once_and_again_when_asked() -> None:
    used = []
    capture = Capture(8, gated=True)
    assert capture.gate is not None
    gate = capture.gate

    class Brighter(Grey):
        def predict(self, image: Any, flip: bool = False) -> Any:
            made = super().predict(image, flip)
            return type(made)(made.values * (1 + self.calls), self.ambiguity)

    count = 0

    def show(_: Any) -> str:
        nonlocal count
        count += 1
        gate.release()
        return "c" if count == 6 else "s"

    def save(_: DepthResult, scale: ColourScale | None, __: int) -> str:
        assert scale is not None
        used.append(scale.vmax)
        return ""

    with Eye(capture) as eye:
        gate.release()
        watch(Predictor(Brighter(Ambiguity.SCALE)), eye, show, save, Colours(first=2))
    assert len(used) == 7
    assert used[1] == used[2] == used[3] == used[4] > used[0]
    assert used[5] > used[4]


def test_a_frame_without_a_scale_says_why_and_the_camera_goes_on() -> None:
    capture = Capture(3, gated=True)
    assert capture.gate is not None
    gate, shapes = capture.gate, []

    def show(picture: Any) -> str:
        shapes.append(picture.shape)
        gate.release()
        return ""

    def finish(result: DepthResult, source: Source) -> tuple[DepthResult, str]:
        if len(shapes) == 1:
            raise DataFormatError("no ground", where=source.name, next_action="look down")
        return result, ""

    with Eye(capture) as eye:
        gate.release()
        shown = watch(Predictor(Grey()), eye, show, none, finish=finish, smooth="flow")
    assert (shown.frames, len(shapes)) == (2, 3)
    assert shapes[1] == (SIZE[0] + 24, SIZE[1], 3)


def test_a_network_that_fails_ends_with_its_error() -> None:
    class Fails(Grey):
        def predict(self, image: Any, flip: bool = False) -> Any:
            raise MemoryError

    capture = Capture(2)
    with Eye(capture) as eye, pytest.raises(MemoryError):
        watch(Predictor(Fails()), eye, none, none)
    assert capture.released
