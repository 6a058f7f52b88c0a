"""Videos: what is read from them, what is written, and what happens to broken ones."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from mde.errors import ConfigError, DataFormatError
from mde.inference import Predictor, read_depth, sources
from mde.inference.inputs import Source
from mde.inference.outputs import ColourScale
from mde.inference.outputs.pictures import side_picture
from mde.inference.pipeline import Colours, Summary
from mde.inference.record import RunRecord
from mde.inference.result import DepthResult
from mde.inference.video import Clip, ClipFrame, ClipRun, ClipWriter, clip_outputs, predict_clip
from mde.types import Ambiguity
from tests.inference.clips import RATE, SIZE, Grey, decoded, make_clip, packets, ramps, turned

IRREGULAR = [0, 3, 4, 11, 12, 30, 31, 33, 40, 47]


def read(path: Path, **settings: Any) -> list[ClipFrame]:
    return list(Clip(path, **settings))


def done(path: Path, formats: tuple[str, ...] = ("video",), network: Any = None, **more: Any) -> tuple[ClipRun, Path]:
    out = path.parent / "out"
    clip = more.pop("clip", None) or Clip(path)
    record = RunRecord(out, {"formats": formats}, formats)
    [source] = sources([path])
    made = predict_clip(Predictor(network or Grey(), batch_size=2), source, clip, record, threads=1, **more)
    record.close()
    return made, out


def test_frames_come_with_their_times(tmp_path: Path) -> None:
    frames = ramps(10)
    path = make_clip(tmp_path / "a.mp4", frames, IRREGULAR, Fraction(1, 30))
    clip = Clip(path)
    found = list(clip)
    assert (clip.size, clip.sound, clip.about_end) == (SIZE, None, "")
    np.testing.assert_allclose([each.time for each in found], np.array(IRREGULAR) / 30, atol=1e-9)
    for frame, (time, picture) in zip(found, decoded(path), strict=True):
        assert frame.pts * clip.time_base == pytest.approx(time)
        np.testing.assert_array_equal(frame.image, picture)
    assert max(np.abs(found[i].image.astype(int) - frames[i]).mean() for i in range(10)) < 3


def test_a_part_of_a_clip_and_every_nth_frame(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", ramps(20))
    whole = read(path)
    part = read(path, start=0.55, end=1.5, stride=3)
    assert [each.pts for each in part] == [each.pts for each in whole[6:15:3]]
    np.testing.assert_array_equal(part[1].image, whole[9].image)
    assert Clip(path).count == 20
    assert Clip(path, start=0.55, end=1.5, stride=3).count == 3
    spread = [each.time for each in Clip(path).spread(4)]
    assert len(spread) == 4
    assert sorted(spread) == spread
    assert spread[-1] >= 1.2
    clip = Clip(path, start=5)
    assert list(clip) == []
    assert "no frame lies between 5 s and the end" in clip.about_end
    for wrong in ({"start": -1}, {"start": 2, "end": 1}, {"stride": 0}):
        with pytest.raises(ConfigError, match="0 <= start < end"):
            Clip(path, **wrong)


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # as telephones held upright write it
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    ],
)
def test_turned_videos_come_upright(tmp_path: Path, matrix: tuple[int, ...], turn: Any) -> None:
    path = make_clip(tmp_path / "a.mp4", ramps(3))
    [plain, turned_frames] = [read(each) for each in (path, turned(path, matrix))]
    np.testing.assert_array_equal(turned_frames[1].image, turn(plain[1].image))
    assert Clip(turned(path, matrix)).size == turned_frames[1].image.shape[:2]
    with av.open(str(turned(path, matrix))) as container:  # what PyAV makes of the matrix, where it is no mirror
        angle = next(container.decode(video=0)).rotation
    if np.linalg.det(np.reshape(matrix, (2, 2))) > 0:
        np.testing.assert_array_equal(turned_frames[1].image, np.rot90(plain[1].image, round(angle / 90)))


def test_colours_ten_bits_and_pixels_that_are_not_square(tmp_path: Path) -> None:
    red = [np.full((*SIZE, 3), (200, 40, 30), np.uint8)] * 2
    for name, settings in {
        "plain": {},
        "hd": {"colorspace": 1},
        "ten": {"pix_fmt": "yuv420p10le"},
        "mpeg4": {"codec": "mpeg4"},
    }.items():
        found = read(make_clip(tmp_path / f"{name}.mp4", red, **settings))
        assert np.abs(found[1].image.astype(int) - (200, 40, 30)).max() <= 6, name
    wide = make_clip(tmp_path / "wide.mp4", red)
    with av.open(str(tmp_path / "sar.mp4"), "w") as out:
        stream: Any = out.add_stream("mpeg4", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(red[0], format="rgb24")))
        out.mux(stream.encode())
    assert Clip(wide).size == SIZE
    assert Clip(tmp_path / "sar.mp4").size == (48, 96)
    pq = make_clip(tmp_path / "pq.mp4", red, color_trc=16)
    with pytest.raises(DataFormatError, match=r"HDR with the PQ curve.*Next: make an SDR video"):
        Clip(pq)


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    cases = {"empty.mp4": b"", "text.mkv": b"hello " * 90, "cut.mp4": b""}
    whole = make_clip(tmp_path / "whole.mp4", ramps(5)).read_bytes()
    cases["cut.mp4"] = whole[: len(whole) // 2]  # its index is at the end
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataFormatError, match=f"no video, or damaged.*{name}.*Next: "):
            Clip(tmp_path / name)
    with pytest.raises(DataFormatError, match="no such file"):
        Clip(tmp_path / "none.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream: Any = out.add_stream("aac", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with pytest.raises(DataFormatError, match="no pictures"):
        Clip(tmp_path / "sound.mp4")
    with pytest.raises(DataFormatError, match="too large: frames of 64x48"):
        Clip(tmp_path / "whole.mp4", max_megapixels=0.001)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_video_that_breaks_off_gives_what_it_has(tmp_path: Path, name: str) -> None:
    noise = list(np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3), dtype=np.uint8))
    path = make_clip(tmp_path / name, noise, options={"movflags": "faststart"} if name.endswith("mp4") else None)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    clip = Clip(path)
    found = list(clip)
    assert 15 < len(found) < 30
    assert clip.about_end.startswith("breaks off after 2.")
    made, out = done(path, ("video", "npy"))
    assert made.broken == clip.about_end
    assert len(decoded(out / "a_depth.mp4")) == made.summary.done == len(found)
    assert len(list((out / "a").glob("*.npy"))) == len(found)
    assert '"stem"' not in (out / "predict.jsonl").read_text()


def test_damage_within_is_said(tmp_path: Path) -> None:
    noise = list(np.random.default_rng(0).integers(0, 256, (30, *SIZE, 3), dtype=np.uint8))
    path = make_clip(tmp_path / "a.mp4", noise, codec="mpeg4")
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in places[10:12]:
        data[position : position + size] = bytes(size)
    path.write_bytes(bytes(data))
    clip = Clip(path)
    assert 20 < len(list(clip)) <= 30
    assert "damaged" in clip.about_end or clip.about_end == ""


def test_the_written_video_has_the_times_the_sound_and_the_colours(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", ramps(10), IRREGULAR, Fraction(1, 30), sound="aac")
    made, out = done(path, ("video", "video-side"), colours=Colours((0.0, 10.0)))
    assert (made.summary.done, made.summary.skipped, made.broken) == (10, 0, "")
    frames = read(path)
    for name in ("a_depth.mp4", "a_side.mp4"):
        found = decoded(out / name)
        np.testing.assert_allclose([time for time, _ in found], np.array(IRREGULAR) / 30, atol=1e-6)
        assert packets(out / name, "audio") == packets(path, "audio")
        for index in (0, 9):
            values = (frames[index].image.astype(np.float32).mean(2) / np.float32(25.5)).clip(0.1)
            shown = frames[index].image if name == "a_side.mp4" else None
            result = DepthResult(values, Ambiguity.METRIC, image=shown)
            wanted = side_picture(result, ColourScale(0.0, 10.0), all_marks=True)
            height, width = wanted.shape[:2]
            drawn = found[index][1]
            assert drawn.shape[:2] == (height + height % 2, width + width % 2)
            inner = np.s_[8 : height // 8, 8 : width // 8]  # of one colour; edges suffer in 4:2:0
            assert np.abs(drawn[inner].astype(int) - wanted[inner]).max() <= 8
            assert np.abs(drawn[:height, :width].astype(int) - wanted).mean() < 4
    with av.open(str(out / "a_depth.mp4")) as container:
        note = json.loads(container.metadata["comment"])
        assert container.streams.video[0].codec_context.colorspace == 1
    assert (note["ambiguity"], note["unit"], note["model"]) == ("metric", "m", "grey")


def test_a_part_begins_at_zero_with_its_sound(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", ramps(20), sound="aac")
    _, out = done(path, clip=Clip(path, start=0.5, end=1.5))
    found = decoded(out / "a_depth.mp4")
    np.testing.assert_allclose([time for time, _ in found], np.arange(10) / RATE, atol=1e-6)
    source, copied = packets(path, "audio"), packets(out / "a_depth.mp4", "audio")
    kept = [(time, data) for time, data in source if 0.5 <= time < 1.5]
    assert [data for _, data in copied] == [data for _, data in kept]
    np.testing.assert_allclose([t for t, _ in copied], [t - 0.5 for t, _ in kept], atol=2 / 8000)


def test_sound_that_mp4_cannot_hold_goes_to_matroska_or_is_refused(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", ramps(5), sound="pcm_u8")
    _, out = done(path)
    assert packets(out / "a_depth.mkv", "audio") == packets(path, "audio")
    assert [each.name for each in clip_outputs(out / "a", ["video"], 5)] == ["a_depth.mkv"]
    old = make_clip(tmp_path / "b.avi", ramps(5), sound="wmav2", codec="mpeg4")
    with pytest.raises(DataFormatError, match=r"\(wmav2\) can be copied neither .*Next: convert it"):
        done(old)
    assert done(old, ("npy",))[0].summary.done == 5


def test_odd_sizes_are_padded_and_single_frames_carry_their_time(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", ramps(4, (50, 64)))
    clip = Clip(turned(path, (0, 1, -1, 0)))
    with ClipWriter(tmp_path / "odd.mp4", clip) as writer:
        for frame in clip:
            writer.add(frame.image[:63, :49], frame.pts)
    assert decoded(tmp_path / "odd.mp4")[0][1].shape == (64, 50, 3)
    assert not list(tmp_path.glob(".*"))
    made, out = done(path, ("npy", "png16"))
    assert made.summary.done == 4
    names = [each.relative_to(out).as_posix() for each in clip_outputs(out / "a", ["npy", "png16"], 4)]
    assert all((out / name).is_file() for name in names)
    assert names[-2:] == ["a/000003_depth.npy", "a/000003_depth.png"]
    assert not list(out.glob("*.mp4"))
    found = read_depth(out / names[-2])
    assert found.source == "a.mp4#t=0.300000"
    np.testing.assert_allclose(found.values, read(path)[3].image.astype(np.float32).mean(2) / 25.5, rtol=1e-6)


def test_one_scale_for_the_whole_clip(tmp_path: Path) -> None:
    frames = ramps(40)
    path = make_clip(tmp_path / "a.mp4", frames)
    _, out = done(path, colours=Colours(first=4, percentiles=(0.0, 100.0)))
    first, last = (decoded(out / "a_depth.mp4")[i][1] for i in (0, -1))
    bar = np.s_[:, -30:]
    assert np.abs(first[bar].astype(int) - last[bar]).mean() < 1  # the bar stands still
    assert np.abs(first[100:150, 100:200].astype(int) - last[100:150, 100:200]).mean() > 30  # the map does not
    relative = Grey(Ambiguity.SCALE)
    done(path, ("color",), relative, colours=Colours(first=4), smooth="scale")
    assert relative.calls == 44


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", ramps(3))
    lock, alive, most = threading.Lock(), 0, 0

    class Counted(ClipFrame):
        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    class Endless(Clip):
        def __iter__(self) -> Iterator[ClipFrame]:
            nonlocal alive, most
            for index in range(150):
                with lock:
                    alive += 1
                    most = max(most, alive)
                yield Counted(np.full((*SIZE, 3), index, np.uint8), index / 10, index * 1024)

    made, _ = done(path, ("npy", "video"), clip=Endless(path), smooth="flow", colours=Colours((0, 10)))
    assert made.summary.done == 150
    assert most <= 4 + 2 + 2 * 4 + 6  # read ahead, a batch, behind the network, and some that are being freed


def test_a_frame_without_a_scale_is_left_out(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", ramps(6))

    def finish(result: DepthResult, source: Source) -> tuple[DepthResult, str]:
        if source.stem == "a/000002":
            raise DataFormatError("no ground", where=source.name, next_action="none")
        return result, ""

    told: list[str] = []

    def show(_: Summary, news: str) -> None:
        told.append(news)

    made, out = done(path, ("video", "npy"), finish=finish, show=show)
    assert (made.summary.done, made.summary.skipped) == (5, 1)
    assert [round(10 * time) for time, _ in decoded(out / "a_depth.mp4")] == [0, 1, 3, 4, 5]
    assert not (out / "a/000002_depth.npy").exists()
    assert (out / "a/000005_depth.npy").exists()
    assert [news for news in told if news] == ["skipped: no ground [a/000002]. Next: none"]


def test_nothing_half_written_stays_behind(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", ramps(12))

    class Stops(Grey):
        def predict(self, image: Any, flip: bool = False) -> Any:
            if self.calls > 16:
                raise KeyboardInterrupt
            return super().predict(image, flip)

    with pytest.raises(KeyboardInterrupt):
        done(path, ("video",), Stops())
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["predict.jsonl"]
    assert threading.active_count() < 10
    (tmp_path / "out" / "a_depth.mp4").mkdir()
    with pytest.raises(ConfigError, match=r"this video cannot be written.*Next: "):
        done(path)


def test_videos_are_told_from_pictures_by_their_content(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mp4", ramps(3))
    for name in ("b.dat", "c.webm", "d.jpg"):
        (tmp_path / name).write_bytes(path.read_bytes())
    cv2.imwrite(str(tmp_path / "e.png"), ramps(1)[0])
    (tmp_path / "e.png").rename(tmp_path / "e.mp4")
    (tmp_path / "f.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    kinds = {each.name: each.video for each in sources([tmp_path, tmp_path / "b.dat"])}
    assert kinds == {"a.mp4": True, "b.dat": True, "c.webm": True, "d.jpg": False, "e.mp4": False, "f.heic": False}
    assert Predictor(Grey())(next(each for each in sources([tmp_path / "e.mp4"]))).values.shape == SIZE


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(tmp_path / "a.mp4", ramps(3))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ConfigError, match=r"Next: pip install 'mde\[video\]'"):
        Clip(path)
