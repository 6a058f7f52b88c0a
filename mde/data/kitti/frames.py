"""Which frames of KITTI's drives are for what: the lists of the Eigen split, and list files of other projects.

A drive is written "2011_09_26/0001"; its folder is ``2011_09_26/2011_09_26_drive_0001_sync``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError, nearest

__all__ = [
    "GROUND_TRUTHS",
    "HELD_OUT_DRIVES",
    "LEFT",
    "RIGHT",
    "SCHEMES",
    "Frame",
    "drive_folder",
    "eigen_frames",
    "has_official_depth",
    "read_list",
    "split_frames",
]

LEFT, RIGHT = 2, 3
"""The colour cameras, by KITTI's numbers: image_02 and image_03."""
SCHEMES = ("eigen", "monodepth2")
GROUND_TRUTHS = ("official", "velodyne")
HELD_OUT_DRIVES = ("2011_09_26/0005", "2011_09_26/0079", "2011_09_26/0095", "2011_09_26/0113", "2011_09_29/0026")
"""Validation of the split "eigen": those training drives that KITTI's depth benchmark keeps for validation, too."""
_EDGE = 5  # official depth adds up 11 scans, so the first and last five frames of a drive have none
_DriveFrame = tuple[str, int]


class Frame(NamedTuple):
    """One image of a drive: ``Frame("2011_09_26/0001", 5, LEFT)``."""

    drive: str
    number: int
    camera: int = LEFT

    @property
    def id(self) -> str:
        """Stable name, such as "2011_09_26_drive_0001_sync/image_02/0000000005"."""
        return f"{drive_folder(self.drive)}/image_{self.camera:02d}/{self.number:010d}"


def drive_folder(drive: str) -> str:
    """Name of the folder of a drive.

    >>> drive_folder("2011_09_26/0001")
    '2011_09_26_drive_0001_sync'
    """
    date, number = drive.split("/")
    return f"{date}_drive_{number}_sync"


def eigen_frames(name: str) -> tuple[_DriveFrame, ...]:
    """A list of the Eigen split as (drive, frame number), left camera, sorted by drive and number.

    The authors' test files hold the same frames in another order, shuffled inside each drive.

    Args:
        name: "train_23488" (all frames of 33 drives), "train_23158" (those with official depth: BTS and later),
            "train_22600" and "val_888" (monodepth's random draw out of the 23,488), "test_697", or "test_652" (those of
            the 697 with official depth).

    Raises:
        ConfigError: there is no such list.

    >>> len(eigen_frames("test_652")), eigen_frames("test_652")[0]
    (652, ('2011_09_26/0002', 6))
    """
    if name not in _LISTS:
        raise ConfigError(f"unknown list {name!r}", next_action=f"nearest: {nearest(name, _LISTS)}")
    return _LISTS[name]()


def has_official_depth(drive: str, number: int) -> bool:
    """False for frames of the Eigen lists without official depth, those at the ends of a drive."""
    count = _facts()["train_drives"].get(drive)
    if count is not None:
        return bool(_EDGE <= number < count - _EDGE)
    return number not in _facts()["test_without_official_depth"].get(drive, ())


def split_frames(scheme: str, split: str, ground_truth: str, *, val_on_test: bool = False) -> tuple[_DriveFrame, ...]:
    """The frames of a split.

    Args:
        scheme: "eigen": training and test as published, 23,158 and 652 frames with official depth or 23,488 and 697
            with velodyne depth; no validation part is published, so the five `HELD_OUT_DRIVES` are taken out of
            training as a whole, because neighbours in a video are almost equal: 717 or 767 frames. "monodepth2": 22,600
            and 888 frames drawn at random out of the training drives, less those without official depth; the validation
            frames have neighbours in training.
        split: "train", "val" or "test".
        ground_truth: "official" or "velodyne".
        val_on_test: validate on the test part and train on all of the training part, as much of the literature does.
    """
    official = ground_truth == "official"
    if split == "test" or (split == "val" and val_on_test):
        return eigen_frames("test_652" if official else "test_697")
    if scheme == "monodepth2" and not (val_on_test and split == "train"):
        drawn = eigen_frames("train_22600" if split == "train" else "val_888")
        return tuple(frame for frame in drawn if not official or has_official_depth(*frame))
    frames = eigen_frames("train_23158" if official else "train_23488")
    if val_on_test:
        return frames
    return tuple(frame for frame in frames if (frame[0] in HELD_OUT_DRIVES) == (split == "val"))


def read_list(path: str | Path, ground_truth: str = "official") -> list[Frame]:
    """Frames of a list file of another project.

    Each line is one of: ``rgb depth focal`` (BTS; depth ``None`` where there is no official depth), ``left right``
    (monodepth), or ``folder frame l|r`` (monodepth2).

    Args:
        path: the list file.
        ground_truth: with "official", frames without official depth are left out.

    Raises:
        DatasetNotFoundError: the list does not exist.
        DataFormatError: a line cannot be read, or no frames are left.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetNotFoundError("no such list file", where=path, next_action="correct data.lists")
    official = ground_truth == "official"
    frames = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        frame = _parse(line)
        if frame is None:
            hint = "lines are 'rgb depth focal' (BTS), 'left right' (monodepth) or 'folder frame l|r' (monodepth2)"
            raise DataFormatError(f"cannot read {line!r}", where=f"{path}:{number}", next_action=hint)
        if not official or ("None" not in words and has_official_depth(frame.drive, frame.number)):
            frames.append(frame)
    if not frames:
        raise DataFormatError("the list names no frames", where=path, next_action="correct data.lists")
    return list(dict.fromkeys(frames))


_BY_PATH = re.compile(r"(\d{4}_\d\d_\d\d)_drive_(\d{4})_sync/image_0([23])/data/(\d+)\.(?:png|jpg)\b")
_BY_FOLDER = re.compile(r"(\d{4}_\d\d_\d\d)_drive_(\d{4})_sync/?\s+(\d+)(?:\s+([lr23]))?\s*$")


def _parse(line: str) -> Frame | None:
    found = _BY_PATH.search(line)
    if found:
        date, drive, camera, number = found.groups()
        return Frame(f"{date}/{drive}", int(number), int(camera))
    found = _BY_FOLDER.search(line)
    if found is None:
        return None
    date, drive, number, side = found.groups()
    return Frame(f"{date}/{drive}", int(number), RIGHT if side in ("r", "3") else LEFT)


@cache
def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(Path(__file__).with_name("eigen.json").read_text())
    return facts


@cache
def _all_training_frames() -> tuple[_DriveFrame, ...]:
    return tuple((drive, number) for drive, count in _facts()["train_drives"].items() for number in range(count))


@cache
def _stored(name: str) -> tuple[_DriveFrame, ...]:
    return tuple((drive, number) for drive, numbers in _facts()[name].items() for number in numbers)


def _with_official_depth(frames: Iterable[_DriveFrame]) -> tuple[_DriveFrame, ...]:
    return tuple(frame for frame in frames if has_official_depth(*frame))


def _undrawn() -> tuple[_DriveFrame, ...]:
    drawn = set(_stored("val_888"))
    return tuple(frame for frame in _all_training_frames() if frame not in drawn)


_LISTS: dict[str, Callable[[], tuple[_DriveFrame, ...]]] = {
    "train_23488": _all_training_frames,
    "train_23158": lambda: _with_official_depth(_all_training_frames()),
    "train_22600": _undrawn,
    "val_888": lambda: _stored("val_888"),
    "test_697": lambda: _stored("test_697"),
    "test_652": lambda: _with_official_depth(_stored("test_697")),
}
