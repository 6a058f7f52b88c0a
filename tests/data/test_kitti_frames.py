"""The lists of the Eigen split against the facts they were taken from, and list files of other projects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mde.data.kitti.frames import (
    HELD_OUT_DRIVES,
    LEFT,
    RIGHT,
    Frame,
    eigen_frames,
    has_official_depth,
    read_list,
    split_frames,
)
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError

FACTS = Path(__file__).parents[2] / "../shared/facts/kitti_eigen_split.json"
NAMES = ("train_23488", "train_23158", "train_22600", "val_888", "test_697", "test_652")
RAW = "2011_09_26/2011_09_26_drive_0002_sync"


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_in_the_name(name: str) -> None:
    frames = eigen_frames(name)
    assert len(frames) == len(set(frames)) == int(name.split("_")[1])
    assert list(frames) == sorted(frames)


def test_membership_is_that_of_the_published_lists() -> None:
    if not FACTS.exists():
        pytest.skip("no shared folder with the lists of KITTI beside the repository")
    facts = json.loads(FACTS.read_text())

    def listed(key: str) -> set[tuple[str, int]]:
        return {(drive, number) for drive, numbers in facts[key].items() for number in numbers}

    counts = facts["train_drives_num_frames_23488"]
    everything = {(drive, number) for drive, count in counts.items() for number in range(count)}
    inner = {(drive, number) for drive, count in counts.items() for number in range(5, count - 6 + 1)}
    val, test = listed("val_888_inside_train_drives"), listed("test_697")
    expected = (everything, inner, everything - val, val, test, test - listed("test_697_without_official_gt_45"))
    for name, members in zip(NAMES, expected, strict=True):
        assert set(eigen_frames(name)) == members, name


def test_training_and_test_share_no_drive() -> None:
    train, test = ({drive for drive, _ in eigen_frames(name)} for name in ("train_23488", "test_697"))
    assert (len(train), len(test)) == (33, 28)
    assert not train & test
    assert set(HELD_OUT_DRIVES) <= train


@pytest.mark.parametrize(
    ("scheme", "truth", "sizes"),
    [
        ("eigen", "official", (22441, 717, 652)),
        ("eigen", "velodyne", (22721, 767, 697)),
        ("monodepth2", "official", (22285, 873, 652)),
        ("monodepth2", "velodyne", (22600, 888, 697)),
    ],
)
def test_splits_part_the_lists(scheme: str, truth: str, sizes: tuple[int, ...]) -> None:
    train, val, test = (set(split_frames(scheme, split, truth)) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == sizes
    assert not train & val
    assert not (train | val) & test
    assert train | val == set(eigen_frames("train_23158" if truth == "official" else "train_23488"))
    assert truth == "velodyne" or all(has_official_depth(*frame) for frame in train | val | test)
    if scheme == "eigen":
        assert not {drive for drive, _ in train} & {drive for drive, _ in val}
    whole = set(split_frames(scheme, "train", truth, val_on_test=True))
    assert whole == train | val
    assert set(split_frames(scheme, "val", truth, val_on_test=True)) == test


def test_unknown_list() -> None:
    with pytest.raises(ConfigError, match="nearest: test_697"):
        eigen_frames("test_679")


def test_list_files_of_three_projects(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    truth = "2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000069.png"
    path.write_text(
        f"{RAW}/image_02/data/0000000069.png {truth} 721.5377\n{RAW}/image_02/data/0000000072.png None 721.5377\n"
    )
    drive = "2011_09_26/0002"
    assert read_list(path) == [Frame(drive, 69, LEFT)]
    assert read_list(path, "velodyne") == [Frame(drive, 69, LEFT), Frame(drive, 72, LEFT)]
    path.write_text(f"{RAW}/image_02/data/0000000069.jpg {RAW}/image_03/data/0000000069.jpg\n")
    assert read_list(path) == [Frame(drive, 69, LEFT)]
    # frame 72 has no official depth, which lists of monodepth2 cannot say
    path.write_text(f"# a comment\n\n{RAW} 69 r\n{RAW} 72 l\n{RAW} 0000000012\n")
    assert read_list(path) == [Frame(drive, 69, RIGHT), Frame(drive, 12, LEFT)]
    assert len(read_list(path, "velodyne")) == 3


def test_list_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    with pytest.raises(DatasetNotFoundError, match=r"no such list file.*data\.lists"):
        read_list(path)
    path.write_text(f"{RAW} 69 l\nrgb/1.png depth/1.png\n")
    with pytest.raises(DataFormatError, match=r"cannot read 'rgb/1\.png.*list\.txt:2"):
        read_list(path)
    path.write_text(f"{RAW}/image_02/data/0000000000.png None 721.5377\n")
    with pytest.raises(DataFormatError, match="names no frames"):
        read_list(path)


def test_ids_name_drive_camera_and_frame() -> None:
    assert Frame("2011_09_26/0002", 69, RIGHT).id == "2011_09_26_drive_0002_sync/image_03/0000000069"
