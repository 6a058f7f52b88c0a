"""Many pictures: overlapped, resumed, interrupted, with what cannot be read left out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import mde.inference.pipeline
from mde.errors import ConfigError, DataFormatError
from mde.inference.inputs import Source, sources
from mde.inference.pictures import Picture
from mde.inference.pipeline import Colours, Summary, predict_all
from mde.inference.predictor import Predictor
from mde.inference.record import RunRecord
from mde.inference.result import DepthResult, read_depth
from mde.types import Ambiguity, Prediction


class Red:
    """Says the red of a picture, times ten, in metres."""

    ambiguity = Ambiguity.METRIC
    calls = 0

    class info:
        model, depth_range, image_size, weights = "red", (0.0, 10.0), None, "abc"

    def predict(self, image: Tensor, flip: bool = False) -> Prediction:
        self.calls += len(image)
        return Prediction(image[:, :1].float() / 25.5, self.ambiguity)


def picture(red: int, height: int = 8, width: int = 12) -> np.ndarray[Any, np.dtype[np.uint8]]:
    made = np.full((height, width, 3), 40, np.uint8)
    made[..., 0] = red
    made[0, 0, 0] = 0
    return made


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for index in range(9):
        size = (8, 12) if index % 2 else (12, 8)
        Image.fromarray(picture(20 * (index + 1), *size)).save(root / f"{index}.png")
    return root


def done(
    photos: Path,
    formats: tuple[str, ...] = ("npy",),
    network: Any = None,
    fresh: bool = False,
    settings: int = 0,
    **more: Any,
) -> tuple[Summary, RunRecord]:
    predictor = Predictor(network or Red(), batch_size=2)
    record = RunRecord(photos.parent / "out", {"settings": settings, "formats": formats}, formats, fresh)
    return predict_all(predictor, sources([photos]), record, **more), record


def test_every_picture_is_written_under_its_name(photos: Path) -> None:
    summary, record = done(photos, ("npy", "png16", "color"))
    assert (summary.done, summary.kept, summary.skipped) == (9, 0, 0)
    for index in range(9):
        found = read_depth(record.path.parent / f"{index}_depth.npy")
        assert found.values.shape == ((8, 12) if index % 2 else (12, 8))
        assert found.values[3, 3] == np.float32(20 * (index + 1)) / np.float32(25.5)
        assert (found.model, found.source) == ("red", f"{index}.png")
    assert len(list(record.path.parent.iterdir())) == 9 * 4 + 1
    assert summary.speed().endswith("%)")
    assert sum(summary.seconds.values()) <= summary.elapsed


def test_what_cannot_be_read_is_listed_and_the_rest_done(photos: Path) -> None:
    (photos / "3.png").write_bytes(b"")
    (photos / "5.png").write_bytes((photos / "5.png").read_bytes()[:40])
    told: list[str] = []
    summary, record = done(photos, show=lambda _, news: told.append(news))
    assert (summary.done, summary.skipped) == (7, 2)
    assert not (record.path.parent / "3_depth.npy").exists()
    skipped = [news for news in told if news]
    assert [("3.png" in skipped[0], "5.png" in skipped[1])] == [(True, True)]
    lines = [json.loads(line) for line in record.path.read_text().splitlines()]
    assert [line["skipped"] for line in lines if "skipped" in line] == ["3.png", "5.png"]


def test_a_second_run_does_what_is_missing(photos: Path) -> None:
    done(photos)
    out = photos.parent / "out"
    (out / "4_depth.npy").unlink()
    Image.fromarray(picture(99)).save(photos / "6.png")  # another picture now
    Image.fromarray(picture(7)).save(photos / "new.png")
    network = Red()
    summary, _ = done(photos, network=network)
    assert (summary.done, summary.kept, network.calls) == (3, 7, 3)
    assert read_depth(out / "6_depth.npy").values[3, 3] == np.float32(99) / np.float32(25.5)
    assert done(photos)[0].kept == 10
    assert done(photos, fresh=True)[0].done == 10


def test_other_settings_or_another_input_of_the_same_name_are_not_done(photos: Path) -> None:
    done(photos)
    summary, record = done(photos, settings=1)
    assert record.other
    assert summary.done == 9
    assert not done(photos, settings=1)[1].other
    others = photos.parent / "others"
    others.mkdir()
    Image.fromarray(picture(200)).save(others / "0.png")
    assert done(others, settings=1)[0].done == 1
    again, _ = done(photos, settings=1)  # the file of 0.png is that of the others now
    assert (again.done, again.kept) == (1, 8)
    assert read_depth(record.path.parent / "0_depth.npy").values[3, 3] == np.float32(20) / np.float32(25.5)


def test_a_record_that_was_cut_off_is_read_as_far_as_it_goes(photos: Path) -> None:
    _, record = done(photos)
    text = record.path.read_text()
    record.path.write_text(text[:-9])
    summary, _ = done(photos)
    assert (summary.done, summary.kept) == (1, 8)
    assert done(photos)[0].kept == 9
    record.path.write_text("no json\n" + text.partition("\n")[2])  # nobody knows with which settings
    assert done(photos)[0].done == 9


def test_an_interrupt_leaves_whole_files_and_a_run_that_goes_on(photos: Path) -> None:
    def stopping() -> Iterator[Source]:
        for index, source in enumerate(sources([photos])):
            if index == 8:
                raise KeyboardInterrupt
            yield source

    out = photos.parent / "out"
    record = RunRecord(out, {"settings": 0, "formats": ("npy",)}, ("npy",))
    with pytest.raises(KeyboardInterrupt):
        predict_all(Predictor(Red(), batch_size=1), stopping(), record, threads=1)
    written = sorted(path.name for path in out.glob("*_depth.npy"))
    assert 0 < len(written) < 9
    assert not list(out.glob(".*"))
    for name in written:
        assert read_depth(out / name).model == "red"
    summary, _ = done(photos)
    assert (summary.kept, summary.done) == (len(written), 9 - len(written))


def test_what_no_picture_can_be_written_in_ends_the_run(photos: Path) -> None:
    for formats, says in ((("std",), "how sure"), (("ply",), "intrinsics|camera")):
        with pytest.raises(ConfigError, match=says):
            done(photos, formats)
    assert threading.active_count() < 20  # no thread is left behind


def test_one_colour_scale_for_the_folder_and_for_the_run_that_goes_on(photos: Path) -> None:
    _, record = done(photos, ("color",), colours=Colours(first=4))
    out = record.path.parent
    ends = record.facts["scale"]
    wanted = np.percentile([20 * (i + 1) / 25.5 for i in range(4)], (0, 100))
    assert ends[1] == pytest.approx(wanted[1], rel=0.01)
    first = (out / "3_color.png").read_bytes()
    (out / "3_color.png").unlink()
    _, again = done(photos, ("color",), colours=Colours(first=4))
    assert again.facts["scale"] == ends
    assert (out / "3_color.png").read_bytes() == first
    fixed = Colours(ends=(0.0, 1.0))
    done(photos, ("color",), colours=fixed, fresh=True)
    assert np.asarray(Image.open(out / "8_color.png"))[3, 3].tolist() == [86, 180, 233]  # beyond: sky blue
    done(photos, ("color",), colours=Colours(first=0), fresh=True)
    assert (out / "0_color.png").read_bytes() != first


def test_what_is_done_between_network_and_file_may_skip_a_picture(photos: Path) -> None:
    def finish(result: DepthResult, source: Source) -> tuple[DepthResult, str]:
        if source.name == "2.png":
            raise DataFormatError("no scale", where=source.name, next_action="none")
        return result, f"about {source.stem}"

    told: list[str] = []
    summary, record = done(photos, finish=finish, show=lambda _, news: told.append(news))
    assert (summary.done, summary.skipped) == (8, 1)
    assert "8.png: about 8" in told
    assert '"about": "about 8"' in record.path.read_text()


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    lock, alive, most = threading.Lock(), 0, 0

    class Counted(Picture):
        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    def read(index: int) -> Picture:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return Counted(picture(index % 255 + 1), str(index))

    def endless() -> Iterator[Source]:
        for index in range(120):
            yield Source(f"{index}.png", str(index), partial(read, index), tmp_path)

    record = RunRecord(tmp_path / "out", {}, ["npy"])
    summary = predict_all(Predictor(Red(), batch_size=2), endless(), record)
    assert summary.done == 120
    assert most <= 2 * 4 + 2 + 2 * 2 + 8  # a chunk, the window of the readers, and some that are being freed


def test_reading_the_network_and_writing_overlap(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the network works on one picture a later one is read and an earlier one written."""
    read_ahead, written = threading.Event(), threading.Event()
    plain_write = mde.inference.pipeline.write

    def write(*given: Any) -> Any:
        made = plain_write(*given)
        written.set()
        return made

    class Waits(Red):
        overlapped = 0

        def predict(self, image: Tensor, flip: bool = False) -> Prediction:
            if self.calls == 4:
                self.overlapped = int(read_ahead.wait(20)) + int(written.wait(20))
            return super().predict(image, flip)

    monkeypatch.setattr(mde.inference.pipeline, "write", write)

    def watched(source: Source) -> Source:
        def read() -> Picture:
            found = source.read()
            if source.stem == "6":
                read_ahead.set()
            return found

        return Source(source.name, source.stem, read, source.path)

    network = Waits()
    record = RunRecord(photos.parent / "out", {}, ["npy"])
    predict_all(Predictor(network, batch_size=1), map(watched, sources([photos])), record, threads=1)
    assert network.overlapped == 2


def test_pictures_of_equal_size_go_through_the_network_together(photos: Path) -> None:
    class Batches(Red):
        shapes: list[torch.Size] = []

        def predict(self, image: Tensor, flip: bool = False) -> Prediction:
            self.shapes.append(image.shape)
            return super().predict(image, flip)

    done(photos, network=Batches())
    assert sorted(len(shape) and shape[0] for shape in Batches.shapes) == [1, 2, 2, 2, 2]
