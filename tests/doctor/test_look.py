"""Files of each format, whole and cut off; the numbers of a frame against NumPy."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from mde.data.dataset import DepthDataset, RawSample
from mde.data.transforms import make_transform
from mde.doctor.files import broken_archives, colour_channels, look
from mde.doctor.findings import CHECKS, SEVERITIES, finding, ordered
from mde.doctor.frame import BINS, Measured, frame_name, measure_frame, measure_neighbours
from mde.doctor.geometry import evidence
from mde.doctor.numbers import unit_zone
from mde.doctor.tally import NUMBERS, Tally

NOISE = np.random.default_rng(0).integers(0, 255, (20, 30), dtype=np.uint8)


def _picture(path: Path) -> None:
    path.write_bytes(cv2.imencode(path.suffix, NOISE)[1].tobytes())


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", NOISE.tobytes())


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = NOISE


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a.jpg": ("image", _picture),
    "a.png": ("depth", _picture),
    "a.npy": ("depth", lambda path: np.save(path, NOISE)),
    "a.npz": ("depth", lambda path: np.savez(path, depth=NOISE)),
    "a.zip": ("other", _zip),
    "a.mat": ("other", _hdf5),
    "a.h5": ("other", _hdf5),
    "a.parquet": ("other", lambda path: path.write_bytes(b"PAR1" + NOISE.tobytes() + b"PAR1") and None),
}


@pytest.mark.parametrize("name", WRITERS)
def test_whole_cut_empty_and_missing(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    role, write = WRITERS[name]
    write(path)
    whole = look(path, role)
    assert whole.code == ""
    assert whole.fingerprint != 0
    assert look(path, role) == whole
    assert broken_archives(tmp_path) == []
    data = path.read_bytes()
    for keep in (len(data) * 2 // 3, 0):
        path.write_bytes(data[:keep])
        assert look(path, role) == ("dead-files", 0)
    assert broken_archives(tmp_path) == ([] if path.suffix in (".jpg", ".png") else [path])
    path.unlink()
    assert look(path, role) == ("missing-files", 0)


def test_what_follows_the_end_of_a_picture_does_not_matter(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        path = tmp_path / name
        _picture(path)
        path.write_bytes(path.read_bytes() + bytes(500))
        assert look(path, "image").code == ""


def test_fingerprints_tell_files_apart(tmp_path: Path) -> None:
    prints = set()
    for number in range(20):
        picture = NOISE.copy()
        picture[10, 15] = number
        (tmp_path / "a.npy").unlink(missing_ok=True)
        np.save(tmp_path / "a.npy", picture)
        prints.add(look(tmp_path / "a.npy", "image").fingerprint)
    assert len(prints) == 20


def test_channels(tmp_path: Path) -> None:
    for channels, wanted in ((1, 0), (3, 3), (4, 4)):
        pixels = np.random.default_rng(1).integers(0, 255, (8, 9, channels), dtype=np.uint8)
        (tmp_path / "a.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        assert colour_channels(tmp_path / "a.png") == wanted
    (tmp_path / "b.png").write_bytes(cv2.imencode(".png", np.dstack([NOISE] * 3))[1].tobytes())
    assert colour_channels(tmp_path / "b.png") == 0


class _Frames(DepthDataset):
    """Frames in memory; frame 2 cannot be read."""

    def __init__(self) -> None:
        super().__init__(make_transform("val", (24, 32), None))

    def __len__(self) -> int:
        return 3

    def read(self, index: int) -> RawSample:
        if index == 2:
            raise RuntimeError("the decoder\ncrashed")
        rng = np.random.default_rng(index)
        depth = rng.uniform(1, 12, (24, 32)).astype(np.float32)
        valid = rng.random(depth.shape) > 0.3
        image = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        camera = np.array([[20, 0, 15.5], [0, 20, 11.5], [0, 0, 1]], np.float32)
        return RawSample(image, np.where(valid, depth, 0).astype(np.float32), valid, camera, f"f{index}")


def test_numbers_of_a_frame() -> None:
    frames = _Frames()
    sample, made = frames.read(0), measure_frame(frames, "val", 0, (2.0, 8.0))
    known = sample.depth[sample.valid]
    assert made.read
    assert made.name == "f0"
    wanted = {
        "height": 24,
        "width": 32,
        "known": sample.valid.mean(),
        "median": np.median(known),
        "top": known.max(),
        "inside": np.mean((known >= 2) & (known <= 8)),
        "beyond": np.mean(known > 8),
        "cx": 0.5,
        "cy": 0.5,
        "fov": 2 * np.degrees(np.arctan(16 / 20)),
        "aspect": 1,
        "grey": 0,
        "border": 0,
    }
    assert {name: made.numbers[name] for name in wanted} == pytest.approx(wanted)
    assert made.histogram is not None
    assert made.histogram.tolist() == np.histogram(known, BINS)[0].tolist()
    assert set(made.numbers) <= set(NUMBERS)


def test_a_reader_that_throws_is_a_problem_of_its_frame() -> None:
    frames = _Frames()
    made = measure_frame(frames, "val", 2, (2.0, 8.0))
    assert made.problem == ("unreadable", "RuntimeError: the decoder")
    assert frame_name(frames, 2) == "#2"
    assert measure_neighbours(frames, 1) is None
    tally = Tally()
    for index in range(3):
        tally.add(measure_frame(frames, "val", index, (2.0, 8.0)))
    assert tally.names == ["f0", "f1"]
    assert tally.decoded == {"train": 0, "val": 3, "test": 0}
    assert tally.problems == [("unreadable", "#2", "RuntimeError: the decoder")]
    assert np.isnan(tally["scale"]).all()  # frames in memory have no files
    assert tally.histogram[1].sum() == sum(frames.read(i).valid.sum() for i in (0, 1))


def test_evidence_needs_frames() -> None:
    rng = np.random.default_rng(0)
    few = np.array([1.0, 1.1, 0.9, 1.0, 1.05])
    assert evidence(few) == (0.0, 0.0)
    values = rng.normal(0.1, 0.2, 400)
    mean, sigmas = evidence(np.append(values, np.nan))
    assert mean == pytest.approx(values.mean())
    assert sigmas == pytest.approx(values.mean() / (values.std(ddof=1) / 20))


def test_order_of_findings() -> None:
    found = [finding("holes", ""), finding("few-values", ""), finding("cannot-open", "no"), finding("dead-files", "")]
    assert [f.code for f in ordered(found)] == ["dead-files", "few-values", "cannot-open", "holes"]
    alone = ordered([finding("cannot-open", "no"), finding("few-values", "")])
    assert [f.severity for f in alone] == ["error", "warning"]
    assert all(check.severity in SEVERITIES and check.next_action for check in CHECKS.values())
    assert unit_zone((0.1, 10))[0] < 1.7 < 2.7 < unit_zone((0.1, 10))[1]


def test_an_empty_tally_has_all_numbers() -> None:
    tally = Tally()
    tally.add(Measured("train", 0, "a"))  # its files are known to be broken
    assert len(tally) == 0
    assert all(tally[name].shape == (0,) for name in NUMBERS)
