"""The recordings of TUM RGB-D and 7-Scenes in a folder of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mde.data.encodings import ENCODINGS
from mde.data.folder import RGBDFolderDataModule
from mde.data.folder_splits import MAX_DELAY, _nearest_pairs, read_associated, read_sequences
from mde.data.io import write_depth as write_encoded
from mde.data.layouts import get_layout
from mde.data.pairing import Frame, split_blocks
from mde.data.writers import smooth
from mde.data.writers.folder import _recorded
from mde.errors import DataFormatError, DatasetNotFoundError
from tests.data.layout_contract import LayoutContract
from tests.fakes import fake_frame, write_depth, write_image

SIZE = (24, 32)


class TestTum(LayoutContract):
    layout = "folder/tum"
    step = 1 / 5000


class TestSevenScenes(LayoutContract):
    layout = "folder/seven_scenes"
    step = 0.001


def recording(root: Path, rgb: list[float], depth: list[float]) -> Path:
    """A TUM recording of empty files; lists in falling order, as nothing promises a rising one."""
    for name, times in (("rgb", rgb), ("depth", depth)):
        (root / name).mkdir(parents=True, exist_ok=True)
        lines = []
        for time in sorted(times, reverse=True):
            (root / name / f"{time:.6f}.png").touch()
            lines.append(f"{time:.6f} {name}/{time:.6f}.png")
        (root / f"{name}.txt").write_text("# color images\n\n" + "\n".join(lines) + "\n")
    return root


def test_timestamps_are_paired_from_the_nearest_on(tmp_path: Path) -> None:
    recording(tmp_path, [1.0, 1.03, 1.06, 2.0], [1.019, 1.025, 1.0599, 2.0201])
    pairs = [(Path(f.image).stem, Path(f.depth).stem) for f in read_associated(tmp_path, tmp_path)]
    # 1.03 takes 1.025 (5 ms) and leaves 1.019 to 1.0; 2.0201 is 0.1 ms too late
    assert pairs == [("1.000000", "1.019000"), ("1.030000", "1.025000"), ("1.060000", "1.059900")]
    (tmp_path / "depth/1.025000.png").unlink()
    with pytest.raises(DataFormatError, match=r"1 files are missing: .*1\.025000\.png"):
        read_associated(tmp_path, tmp_path)
    recording(tmp_path, [1.0], [1.0 + 1.01 * MAX_DELAY])
    with pytest.raises(DataFormatError, match=r"no depth map lies within 0\.02 s"):
        read_associated(tmp_path, tmp_path)
    (tmp_path / "rgb.txt").write_text("one.png\n")
    with pytest.raises(DataFormatError, match=r"one\.png.*rgb\.txt:1.*timestamp file"):
        read_associated(tmp_path, tmp_path)


@given(
    first=st.lists(st.integers(0, 400), unique=True, max_size=12),
    second=st.lists(st.integers(0, 400), unique=True, max_size=12),
)
def test_pairs_against_the_definition(first: list[int], second: list[int]) -> None:
    """Milliseconds; the greedy rule written down plainly."""
    first, second = sorted(first), sorted(second)
    free_i, free_j, expected = set(range(len(first))), set(range(len(second))), []
    while left := sorted((abs(first[i] - second[j]), i, j) for i in free_i for j in free_j):
        delay, i, j = left[0]
        if delay > 20:
            break
        expected.append((i, j))
        free_i.remove(i)
        free_j.remove(j)
    found = _nearest_pairs([i / 1000 for i in first], [j / 1000 for j in second])
    delays = [abs(first[i] - second[j]) for i, j in found]
    assert len({i for i, _ in found}) == len({j for _, j in found}) == len(found)
    assert all(delay <= 20 for delay in delays)
    assert 20 in [abs(a - b) for a in first for b in second] or sorted(delays) == sorted(
        abs(first[i] - second[j]) for i, j in expected
    )  # exactly 20 ms may fall to either side in floating point


@pytest.mark.parametrize("count", [1, 2, 4, 9, 40])
def test_made_recordings_leave_what_was_asked_for(count: int) -> None:
    parts = split_blocks([Frame(str(i), "", "") for i in range(_recorded(count))])
    assert len(parts["train"]) == count
    assert parts["val"]
    assert parts["test"]


def test_several_recordings(tmp_path: Path) -> None:
    for name in ("desk", "room"):
        root = recording(tmp_path / name, [1.0, 2.0], [1.0, 2.0])
        for time in (1, 2):
            image, depth = fake_frame(time, SIZE)
            write_image(root / f"rgb/{time}.000000.png", image)
            write_encoded(root / f"depth/{time}.000000.png", depth, "tum")
    data = RGBDFolderDataModule(str(tmp_path), encoding="tum", guard=0, val_fraction=0.25, test_fraction=0.25)
    ids = [data.dataset(split).frame_id(0) for split in ("train", "val", "test")]
    assert ids == ["desk/1.000000", "room/1.000000", "room/2.000000"]
    assert data.facts()["layout"] == "folder/tum"


def test_sequences_of_seven_scenes(tmp_path: Path) -> None:
    for sequence, count in ((1, 3), (2, 2), (4, 2)):
        for number in range(count):
            image, depth = fake_frame(number, SIZE)
            write_image(tmp_path / f"seq-{sequence:02d}/frame-{number:06d}.color.png", image)
            write_depth(tmp_path / f"seq-{sequence:02d}/frame-{number:06d}.depth.png", depth)
    (tmp_path / "TrainSplit.txt").write_text("sequence1\r\nsequence4\r\n")
    with pytest.raises(DatasetNotFoundError, match=r"no such split file.*TestSplit"):
        read_sequences(tmp_path)
    (tmp_path / "TestSplit.txt").write_text("sequence2 \n\n")
    ids = {name: [frame.id for frame in part] for name, part in read_sequences(tmp_path).items()}
    assert ids["train"] == [f"seq-01/frame-{number:06d}" for number in range(3)]
    assert {frame.split("/")[0] for frame in ids["val"]} == {"seq-04"}
    assert {frame.split("/")[0] for frame in ids["test"]} == {"seq-02"}
    (tmp_path / "TrainSplit.txt").write_text("sequence1\n")  # one sequence only: its end
    ids = {name: [frame.id for frame in part] for name, part in read_sequences(tmp_path, 0.34, guard=1).items()}
    assert (ids["train"], ids["val"]) == (["seq-01/frame-000000"], ["seq-01/frame-000002"])
    (tmp_path / "TrainSplit.txt").write_text("sequence1\nsequence11\n")
    with pytest.raises(DataFormatError, match=r"1 sequences are missing: seq-11.*extract"):
        read_sequences(tmp_path)
    (tmp_path / "TrainSplit.txt").write_text("first\n")
    with pytest.raises(DataFormatError, match=r"cannot read 'first'.*lines are 'sequence1'"):
        read_sequences(tmp_path)


@pytest.mark.parametrize("name", ["tum", "seven_scenes"])
def test_the_layout_says_the_encoding(tmp_path: Path, name: str) -> None:
    """Without any setting, and even where the numbers alone would speak for another unit."""
    layout = get_layout(f"folder/{name}")
    written = layout.load_writer()(tmp_path, 6, smooth, (24, 32))
    data = RGBDFolderDataModule(str(tmp_path), image_size=(24, 32), guard=1)
    raw = data.dataset("train").read(0)
    assert data.facts()["encoding"] == str(ENCODINGS[name])
    assert np.abs(raw.depth - smooth(written[raw.id], 24, 32).depth)[raw.valid].max() < 0.001
