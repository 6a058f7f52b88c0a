"""Facts of SYNTHIA-RAND-CITYSCAPES: its camera, its classes, and a split, since its authors define none.

The frames are single renders at random places of one city and no video, so that a random split leaks little.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError, nearest

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FOLDER",
    "SPLITS",
    "SYNTHIA_CLASSES",
    "SYNTHIA_FRAMES",
    "SYNTHIA_INTRINSICS",
    "class_masks",
    "read_split",
    "split_frames",
    "write_split",
]

FOLDER = "RAND_CITYSCAPES"
SPLITS = ("train", "val", "test")
SYNTHIA_FRAMES = 9400
SYNTHIA_INTRINSICS = (532.740352, 532.740352, 639.5, 379.5)
"""fx, fy, cx, cy in pixels of 1280x760, the centre of the first pixel at (0, 0).

The focal length is that of SYNTHIA's video sequences of the same size; for RAND-CITYSCAPES none is published. Readers
of those put the principal point at (640, 380), half the size, which is taken for the corner convention: half a pixel
off ours.
"""
_NAMES = (
    *("void", "sky", "building", "road", "sidewalk", "fence", "vegetation", "pole", "car", "traffic sign"),
    *("pedestrian", "bicycle", "motorcycle", "parking slot", "roadwork", "traffic light", "terrain", "rider"),
    *("truck", "bus", "train", "wall", "lane marking"),
)
SYNTHIA_CLASSES: Mapping[int, str] = MappingProxyType(dict(enumerate(_NAMES)))
"""Names of the class ids. Parking slot, terrain, truck and train have an id but do not occur."""

_TEST_FRAMES = 940  # a tenth
_VAL_FRAMES = 470  # a twentieth, taken from the training part
_Labels = TypeVar("_Labels", NDArray[np.uint8], "Tensor")


def split_frames(split: str, seed: int = 0) -> list[int]:
    """Numbers of the frames of a split, sorted: 7990 for training, 470 for validation, 940 for test.

    One permutation of all 9400 numbers (NumPy's legacy generator, whose stream is frozen): its first 940 are the test
    part, the next 470 validation, the rest training. Which files are present changes nothing.

    Raises:
        ConfigError: the split is unknown.

    >>> split_frames("test")[:3]
    [9, 15, 18]
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}", next_action=f"use {', '.join(SPLITS)}")
    order = np.random.RandomState(seed).permutation(SYNTHIA_FRAMES)
    held_out = _TEST_FRAMES + _VAL_FRAMES
    parts = {"test": order[:_TEST_FRAMES], "val": order[_TEST_FRAMES:held_out], "train": order[held_out:]}
    return sorted(parts[split].tolist())


def write_split(path: str | Path, seed: int = 0) -> None:
    """Write the split as a csv file, ``frame,split``, to publish it or to change it (``data.split_csv``)."""
    named = {number: split for split in SPLITS for number in split_frames(split, seed)}
    lines = ["frame,split", *(f"{number:07d},{named[number]}" for number in sorted(named))]
    Path(path).write_text("\n".join(lines) + "\n")


def class_masks(labels: _Labels, names: Iterable[str] | None = None) -> dict[str, _Labels]:
    """Where each class is, for evaluation by class.

    Args:
        labels: class ids of any shape, such as ``batch["labels"]``, (B,1,h,w).
        names: of `SYNTHIA_CLASSES`; default all that occur in the labels.

    Returns:
        Boolean masks of the same shape, by name.

    Raises:
        ConfigError: there is no class of this name.

    >>> masks = class_masks(np.array([[1, 3]], np.uint8))
    >>> {name: mask.tolist() for name, mask in masks.items()}
    {'sky': [[True, False]], 'road': [[False, True]]}
    """
    ids = {name: number for number, name in SYNTHIA_CLASSES.items()}
    if names is None:
        return {name: labels == number for name, number in ids.items() if (labels == number).any()}
    wanted = list(names)
    for name in wanted:
        if name not in ids:
            raise ConfigError(f"unknown class {name!r}", next_action=f"nearest: {nearest(name, ids)}")
    return {name: labels == ids[name] for name in wanted}


def read_split(path: str | Path) -> dict[str, list[int]]:
    """Frame numbers by split from a csv file ``frame,split``, see `write_split`.

    Raises:
        DatasetNotFoundError: there is no such file.
        DataFormatError: it cannot be read, names an unknown split, or lists a frame twice.
    """
    try:
        with open(path, newline="") as lines:
            rows = [(int(row["frame"]), row["split"]) for row in csv.DictReader(lines)]
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise DatasetNotFoundError(what, where=path, next_action="check data.split_csv") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataFormatError(f"no split ({error})", where=path, next_action="write lines 'frame,split'") from error
    numbers = [number for number, _ in rows]
    wrong = sorted({split for _, split in rows} - set(SPLITS))
    if wrong or len(set(numbers)) < len(numbers):
        what = f"unknown parts {wrong}" if wrong else "a frame is listed twice"
        raise DataFormatError(what, where=path, next_action="list each frame once, as train, val or test")
    return {split: sorted(number for number, named in rows if named == split) for split in SPLITS}
