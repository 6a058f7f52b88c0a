"""How the frames of a folder become three splits, and the two recordings with lists of their own.

TUM RGB-D (Sturm et al., IROS 2012) has ``rgb.txt`` and ``depth.txt`` with lines ``timestamp file``; its two cameras are
not synchronised. 7-Scenes (Shotton et al., CVPR 2013) has ``TrainSplit.txt`` and ``TestSplit.txt`` with lines
``sequence1``, for folders ``seq-01`` of ``frame-000000.color.png`` and ``frame-000000.depth.png``.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from mde.data.pairing import SPLITS, Frame, find_frames, listed, read_list, split_blocks
from mde.errors import DataFormatError, DatasetNotFoundError

__all__ = ["SPLIT_KINDS", "read_associated", "read_sequences", "split_folder", "timed_recordings"]

SPLIT_KINDS = ("auto", "lists", "sequences", "folders", "blocks")
MAX_DELAY = 0.02
"""Seconds between an image and its depth map: the default of the authors' associate.py."""

Parts = dict[str, list[Frame]]


def split_folder(
    root: Path, kind: str = "auto", val_fraction: float = 0.1, test_fraction: float = 0.1, guard: int = 10
) -> tuple[str, Parts]:
    """The frames of a folder in three splits; "test" may be missing or empty.

    Args:
        root: the folder.
        kind: one of `SPLIT_KINDS`; "auto" takes the first of the others that the folder has.
        val_fraction, test_fraction, guard: see `split_blocks`.

    Returns:
        The kind of split that was used, and the frames.

    Raises:
        DatasetNotFoundError: a list file that `kind` asks for does not exist.
        DataFormatError: there are no frames, or some of their files are missing.
        ConfigError: the fractions leave nothing to train on.
    """
    if kind == "lists" or (kind == "auto" and (root / "train.txt").is_file()):
        return "lists", {
            s: read_list(root / f"{s}.txt") for s in SPLITS if s != "test" or (root / "test.txt").is_file()
        }
    if kind == "sequences" or (kind == "auto" and (root / "TrainSplit.txt").is_file()):
        return "sequences", read_sequences(root, val_fraction, guard)
    timed = timed_recordings(root)
    frames = [frame for folder in timed for frame in read_associated(folder, root)] if timed else find_frames(root)
    parts = {s: [f for f in frames if f.id.startswith(f"{s}/")] for s in SPLITS}
    if kind == "blocks" or (kind == "auto" and not parts["train"]):
        return "blocks", split_blocks(frames, val_fraction, test_fraction, guard)
    return "folders", parts


def timed_recordings(root: Path) -> list[Path]:
    """The folders with ``rgb.txt`` and ``depth.txt``: the root itself, or those in it."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    found = [folder for folder in folders if all((folder / f"{name}.txt").is_file() for name in ("rgb", "depth"))]
    return found[:1] if found[:1] == [root] else found


def read_associated(folder: Path, root: Path) -> list[Frame]:
    """The frames of one TUM recording: each image with the depth map nearest in time, within `MAX_DELAY`.

    Pairs are made from the nearest on, and each file is used once, as the authors' tool does.

    Args:
        folder: holds ``rgb.txt`` and ``depth.txt``; the files named in them are relative to it.
        root: ids are paths relative to it, ending in the timestamp of the image.

    Raises:
        DataFormatError: a line cannot be read, no two files are close in time, or files are missing.
    """
    images, depths = (_timed_files(folder / f"{name}.txt") for name in ("rgb", "depth"))
    pairs = _nearest_pairs([float(stamp) for stamp, _ in images], [float(stamp) for stamp, _ in depths])
    if not pairs:
        what = f"no depth map lies within {MAX_DELAY} s of an image"
        raise DataFormatError(what, where=folder, next_action="are rgb.txt and depth.txt of one recording?")
    place = folder.relative_to(root)
    frames = [
        Frame((place / images[i][0]).as_posix(), str(folder / images[i][1]), str(folder / depths[j][1]))
        for i, j in pairs
    ]
    missing = [file for frame in frames for file in (frame.image, frame.depth) if not os.path.isfile(file)]
    if missing:
        hint = "extract the whole archive of the recording"
        raise DataFormatError(listed("files are missing", missing), where=folder, next_action=hint)
    return frames


def read_sequences(root: Path, val_fraction: float = 0.1, guard: int = 10) -> Parts:
    """The frames of a scene of 7-Scenes by its split files; the authors name no validation part.

    The last training sequence is for validation; of a single one, its last part (`split_blocks`).

    Raises:
        DatasetNotFoundError: there is no ``TrainSplit.txt`` or ``TestSplit.txt``.
        DataFormatError: a line cannot be read, or a sequence that is named is not there.
    """
    named = {name: _named_sequences(root / f"{name}Split.txt") for name in ("Train", "Test")}
    missing = [folder for folders in named.values() for folder in folders if not (root / folder).is_dir()]
    if missing:
        hint = "extract the zip files of the sequences beside the split files"
        raise DataFormatError(listed("sequences are missing", missing), where=root, next_action=hint)
    train, test = ([_under(root, folder) for folder in folders] for folders in named.values())
    if len(train) > 1:
        parts = {"train": list(chain(*train[:-1])), "val": train[-1]}
    else:
        parts = split_blocks(list(chain(*train)), val_fraction, 0.0, guard)
    return {**parts, "test": list(chain(*test))}


def _timed_files(path: Path) -> list[tuple[str, str]]:
    """Timestamp, as it is written, and file of each line."""
    files = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2 or not re.fullmatch(r"\d+(\.\d*)?", words[0]):
            hint = "lines are 'timestamp file'"
            raise DataFormatError(f"cannot read {line!r}", where=f"{path}:{number}", next_action=hint)
        files.append((words[0], words[1]))
    return sorted(files, key=lambda file: float(file[0]))


def _nearest_pairs(first: Sequence[float], second: Sequence[float]) -> list[tuple[int, int]]:
    """Indices (i,j) of times within `MAX_DELAY`, the nearest first, none used twice; in order of i. Both are sorted."""
    close = [
        (abs(time - second[j]), i, j)
        for i, time in enumerate(first)
        for j in range(bisect_left(second, time - MAX_DELAY), bisect_right(second, time + MAX_DELAY))
    ]
    pairs: dict[int, int] = {}
    used: set[int] = set()
    for _, i, j in sorted(close):
        if i not in pairs and j not in used:
            pairs[i] = j
            used.add(j)
    return sorted(pairs.items())


def _named_sequences(path: Path) -> list[str]:
    """Folders of the lines "sequence1", …: "seq-01", …"""
    if not path.is_file():
        hint = "a scene of 7-Scenes has TrainSplit.txt and TestSplit.txt; set data.root to one scene"
        raise DatasetNotFoundError("no such split file", where=path, next_action=hint)
    folders = []
    for line in filter(None, map(str.strip, path.read_text().splitlines())):
        match = re.fullmatch(r"(?:sequence|seq-?)\s*(\d+)", line, re.IGNORECASE)
        if match is None:
            raise DataFormatError(f"cannot read {line!r}", where=path, next_action="lines are 'sequence1'")
        folders.append(f"seq-{int(match[1]):02d}")
    return folders


def _under(root: Path, folder: str) -> list[Frame]:
    return [Frame(f"{folder}/{frame.id}", frame.image, frame.depth) for frame in find_frames(root / folder)]
