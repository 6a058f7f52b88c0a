"""``mde predict`` on videos and a camera, as a user calls it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import mde
from mde.cli import main
from mde.inference.video.live import Window
from tests.checkpoints import tiny_unet, write_checkpoint
from tests.inference.clips import decoded, make_clip, packets, ramps

NETWORK = (16, 24)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt", tiny_unet(NETWORK))


@pytest.fixture(scope="module")
def made_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    noise = cv2.GaussianBlur(random.integers(0, 256, (48, 64, 3), dtype=np.uint8), (0, 0), 3)
    frames = [np.clip(noise.astype(int) + 3 * index, 0, 255).astype(np.uint8) for index in range(12)]
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames, sound="aac")


@pytest.fixture
def clip(made_clip: Path) -> Path:
    Path("media").mkdir()
    return Path(shutil.copy(made_clip, "media/clip.mp4"))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], checkpoint: Path) -> Callable[..., str]:
    """Runs the command, which must end with a code, and returns what it printed, errors last."""

    def call(code: int, *words: str | Path) -> str:
        threads = torch.get_num_threads()
        assert main(["predict", *map(str, words), "--checkpoint", str(checkpoint), "-o", "out"]) == code
        torch.set_num_threads(threads)
        return "".join(capsys.readouterr())

    return call


def files() -> list[str]:
    return sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file())


def test_a_video_becomes_a_video(said: Callable[..., str], clip: Path) -> None:
    text = said(0, clip)
    assert "clip.mp4: 12 frames in " in text
    assert "; flicker " in text
    assert "Written: out (video)" in text
    assert files() == ["clip_depth.mp4", "predict.jsonl"]
    assert len(decoded(Path("out/clip_depth.mp4"))) == 12
    assert packets(Path("out/clip_depth.mp4"), "audio") == packets(clip, "audio")
    line = json.loads(Path("out/predict.jsonl").read_text().splitlines()[-1])
    assert line["frames"] == 12
    assert f"flicker {line['flicker']:.2%}" in text
    changed = Path("out/clip_depth.mp4").stat().st_mtime_ns
    assert "clip.mp4: 12 frames were there already" in said(0, clip)
    assert Path("out/clip_depth.mp4").stat().st_mtime_ns == changed
    assert "12 frames in" in said(0, clip, "--overwrite")
    text = said(0, clip, "--smooth", "flow")
    assert "outputs of other settings" in text
    assert "% before smoothing)" in text
    assert "12 frames in" in text


def test_pictures_and_videos_together(said: Callable[..., str], clip: Path, checkpoint: Path) -> None:
    Image.fromarray(ramps(2)[1]).save("media/a.png")
    text = said(0, "media", "--format", "video-side,npy", "--stride", "2", "--start", "0.2", "--end", "1")
    assert "1 pictures in " in text
    assert "clip.mp4: 4 frames in " in text
    assert files() == sorted(
        ["a_depth.npy", "a_depth.npy.json", "clip_side.mp4", "predict.jsonl"]
        + [f"clip/{index:06}_depth.npy{end}" for index in range(4) for end in ("", ".json")]
    )
    found = mde.read_depth("out/clip/000001_depth.npy")
    time, picture = decoded(clip)[4]
    assert found.source == f"clip.mp4#t={time:.6f}"
    np.testing.assert_allclose(found.values, mde.load(checkpoint).predict(picture).values[0, 0].numpy(), rtol=1e-5)
    text = said(0, "media", "--format", "video-side,npy", "--stride", "2", "--start", "0.2", "--end", "1")
    assert "1 were there already" in text
    assert "4 frames were there already" in text


def test_a_video_that_breaks_off(said: Callable[..., str], clip: Path) -> None:
    random = np.random.default_rng(0)
    frames = list(random.integers(0, 256, (30, 48, 64, 3), dtype=np.uint8))
    path = make_clip(Path("media/broken.mp4"), frames, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    Path("media/empty.mov").touch()
    text = said(1, "media")
    assert "mde: broken.mp4: the video breaks off after 1." in text
    assert "what could be read is written, 1" in text
    assert "Next: fetch it again" in text
    assert "mde: empty.mov: no video, or damaged" in text
    assert 10 < len(decoded(Path("out/broken_depth.mp4"))) < 20
    assert len(decoded(Path("out/clip_depth.mp4"))) == 12
    text = said(1, "media")  # what is not whole is tried again
    assert "broken.mp4: the video breaks off" in text
    assert "clip.mp4: 12 frames were there already" in text


def test_metres_by_a_scale_and_one_range_of_colours(said: Callable[..., str], clip: Path) -> None:
    said(0, clip, "-f", "npz", "--end", "0.3")
    plain = mde.read_depth("out/clip/000001_depth.npz").values
    said(0, clip, "-f", "npz", "--end", "0.3", "--anchor", f"10,20,{2 * plain[20, 10]}", "--fov", "60")
    found = mde.read_depth("out/clip/000001_depth.npz")
    np.testing.assert_allclose(found.values, 2 * plain, rtol=1e-4)
    assert found.intrinsics is not None
    said(0, clip, "--color-range", "0.5", "3", "--color-kind", "log", "--colors", "magma")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["media/clip.mp4", "--format", "vidoe"], "unknown output format 'vidoe'"),
        (["media/a.png", "--format", "video"], "video is a format of videos, and there is none among the inputs"),
        (["media/clip.mp4", "--smooth", "kalman"], "invalid choice: 'kalman'"),
        (["media/clip.mp4", "--start", "3", "--end", "1"], "0 <= start < end"),
        (["media/clip.mp4", "--stride", "0"], "a stride of 1 up"),
        (["media/clip.mp4", "--format", "ply"], "camera"),
        (["0", "media/clip.mp4"], "camera 0 is watched alone, and there are 2 inputs"),
        (["webcam:1", "--stride", "2"], "--start, --end and --stride are for videos"),
    ],
)
def test_wrong_words_end_in_one_line_that_helps(
    said: Callable[..., str], clip: Path, words: list[str], says: str
) -> None:
    Image.fromarray(ramps(1)[0]).save("media/a.png")
    text = said(2, *words)
    assert says in text
    assert "Traceback" not in text
    assert not list(Path("out").glob("*.mp4"))


def test_without_the_extra_nothing_is_begun(
    said: Callable[..., str], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert "videos need the extra video" in said(2, clip)
    assert not Path("out").exists()


def test_a_camera_without_a_screen_or_a_camera(said: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "there is no screen for a window" in said(2, "0")
    monkeypatch.setenv("DISPLAY", ":77")

    def none(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "namedWindow", none)
    assert "Next: pip uninstall opencv-python-headless" in said(2, "0")
    monkeypatch.setattr("mde.inference.video.live.require_window", lambda: None)
    assert "no picture from camera 77" in said(2, "webcam:77")


def test_a_camera_shows_and_saves(said: Callable[..., str], clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A video stands in for the camera, and a list for the window."""
    plain, shown = cv2.VideoCapture, []

    def show(_: Window, picture: np.ndarray[Any, Any]) -> str:
        shown.append(picture)
        return "s" if len(shown) == 2 else "q" if len(shown) == 4 else ""

    class Endless:
        def __init__(self, _: int) -> None:
            self.capture = plain(str(clip))

        isOpened = staticmethod(lambda: True)

        def read(self) -> tuple[bool, Any]:
            good, frame = self.capture.read()
            return (True, frame) if good else (self.__init__(0), self.read())[1]  # type: ignore[misc, func-returns-value]

        def release(self) -> None:
            self.capture.release()

    monkeypatch.setattr("mde.inference.video.live.require_window", lambda: None)
    monkeypatch.setattr(cv2, "VideoCapture", Endless)
    monkeypatch.setattr(Window, "__enter__", lambda self: self)
    monkeypatch.setattr(Window, "__exit__", lambda *_: None)
    monkeypatch.setattr(Window, "show", show)
    text = said(0, "webcam:0", "--format", "npy,color", "--smooth", "scale")
    assert "q: quit, s: save" in text
    assert "4 frames, " in text
    assert " ms from camera to window" in text
    assert files() == ["camera_001_color.png", "camera_001_depth.npy", "camera_001_depth.npy.json"]
    assert mde.read_depth("out/camera_001_depth.npy").values.shape == (48, 64)
    assert len({picture.shape for picture in shown}) == 1
