"""Which image belongs to which depth map, and which frame to which split.

An image and a depth map belong together when their paths are equal once the words that tell image from depth are taken
away. All of these are frame ``kitchen/17``: ``kitchen/rgb/17.jpg`` with ``kitchen/depth/17.png``;
``rgb/kitchen/17.jpg`` with ``depth/kitchen/17.npy``; ``kitchen/17.color.jpg`` with ``kitchen/17.depth.png``. Anything
else is written down in list files, ``train.txt``, ``val.txt`` and ``test.txt``, with lines ``image depth [focal_px]``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mde.data.formats import DEPTH_SUFFIXES, IMAGE_SUFFIXES
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError

__all__ = ["SPLITS", "Frame", "find_frames", "listed", "natural", "read_list", "refuse_leaks", "split_blocks"]

SPLITS = ("train", "val", "test")
_IMAGE_WORDS = ("rgb", "color", "colors", "colour", "image", "images", "img")
_DEPTH_WORDS = ("depth", "depths", "depth_map", "depth_maps", "disparity", "disp")
_ANY_WORD = "|".join(_IMAGE_WORDS + _DEPTH_WORDS)
_WORD_IN_NAME = re.compile(rf"(?:^|[._-])(?P<after>{_ANY_WORD})$|^(?P<before>{_ANY_WORD})[._-]")


@dataclass(frozen=True)
class Frame:
    """One image with its depth map.

    Attributes:
        id: stable name, unique within the data set.
        image: path.
        depth: path.
        focal_px: focal length in pixels where a list file gives it.
    """

    id: str
    image: str
    depth: str
    focal_px: float | None = None


def find_frames(root: str | Path) -> list[Frame]:
    """All frames under a folder, in natural order (frame 2 before frame 10).

    Raises:
        DataFormatError: there are none, or an image or a depth map has no partner.
    """
    found: dict[str, dict[str, str]] = {"image": {}, "depth": {}}
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            role, key = role_and_key(path.relative_to(root))
            if role and path.suffix.lower() in (IMAGE_SUFFIXES if role == "image" else DEPTH_SUFFIXES):
                if key in found[role]:
                    what = f"two files for the {role} of {key}: {found[role][key]} and {path}"
                    raise DataFormatError(what, next_action="remove one, or write list files")
                found[role][key] = str(path)
    images, depths = found["image"], found["depth"]
    lonely = [images[k] for k in images.keys() - depths.keys()] + [depths[k] for k in depths.keys() - images.keys()]
    if lonely or not images:
        what = listed("files without a partner", lonely) if lonely else "no image with a depth map of the same name"
        hint = "name pairs rgb/NAME.jpg and depth/NAME.png, or list them in train.txt and val.txt as 'image depth'"
        raise DataFormatError(what, where=root, next_action=hint)
    return [Frame(key, images[key], depths[key]) for key in sorted(images, key=natural)]


def read_list(path: str | Path) -> list[Frame]:
    """Frames from a list file: lines ``image depth [focal length in px]``, relative to the folder of the file.

    Empty lines and lines that start with ``#`` are skipped; a leading slash, as in the lists of BTS, is no root.

    Raises:
        DatasetNotFoundError: the list does not exist.
        DataFormatError: a line cannot be read, a file is missing, or there are no frames.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetNotFoundError("no such list file", where=path, next_action="write lines 'image depth' into it")
    frames = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            image, depth = (word.lstrip("/") for word in words[:2])
            focal_px = float(words[2]) if len(words) > 2 else None
        except ValueError as error:
            hint = "write 'image depth' or 'image depth focal'"
            raise DataFormatError(f"cannot read {line!r}", where=f"{path}:{number}", next_action=hint) from error
        name = Path(image).with_suffix("").as_posix()
        frames.append(Frame(name, str(path.parent / image), str(path.parent / depth), focal_px))
    missing = [file for frame in frames for file in (frame.image, frame.depth) if not os.path.isfile(file)]
    if missing or not frames:
        what = listed("files are missing", missing) if missing else "the list names no frames"
        raise DataFormatError(what, where=path, next_action="paths are relative to the folder of the list")
    return frames


def split_blocks(
    frames: Sequence[Frame], val_fraction: float = 0.1, test_fraction: float = 0.1, guard: int = 10
) -> dict[str, list[Frame]]:
    """Contiguous parts, training first, with `guard` frames dropped between two of them.

    >>> parts = split_blocks([Frame(str(i), "", "") for i in range(100)], guard=5)
    >>> {name: (part[0].id, part[-1].id) for name, part in parts.items()}
    {'train': ('0', '69'), 'val': ('75', '84'), 'test': ('90', '99')}

    Raises:
        ConfigError: the fractions leave nothing to train on.
    """
    if min(val_fraction, test_fraction, guard) < 0 or val_fraction + test_fraction >= 1:
        what = f"cannot split by {val_fraction}, {test_fraction} and a guard of {guard}"
        raise ConfigError(what, where="data", next_action="give fractions that sum to less than 1 and a guard >= 0")
    val, test = (round(share * len(frames)) for share in (val_fraction, test_fraction))
    test_start = len(frames) - test
    val_end = test_start - guard if test else test_start
    val_start = val_end - val
    train_end = val_start - guard if val else val_end
    return {
        "train": list(frames[: max(0, train_end)]),
        "val": list(frames[max(0, val_start) : max(0, val_end)]),
        "test": list(frames[test_start:]),
    }


def role_and_key(path: Path) -> tuple[str | None, str]:
    """What a file is ("image", "depth" or None) and the name that it shares with its partner."""
    words = {**dict.fromkeys(_IMAGE_WORDS, "image"), **dict.fromkeys(_DEPTH_WORDS, "depth")}
    stem = path.stem
    told = [words[part.lower()] for part in path.parts[:-1] if part.lower() in words]
    match = _WORD_IN_NAME.search(stem.lower())
    if match:
        told.append(words[match["before"] or match["after"]])
        stem = stem[match.end() :] if match["before"] else stem[: match.start()]
    folders = [part for part in path.parts[:-1] if part.lower() not in words]
    return (told[0] if told else None), "/".join([*folders, stem])


def natural(text: str) -> list[str | int]:
    """A sort key that puts frame 2 before frame 10.

    >>> sorted(["a10", "a2"], key=natural)
    ['a2', 'a10']
    """
    return [int(part) if odd % 2 else part for odd, part in enumerate(re.split(r"(\d+)", text))]


def listed(what: str, items: Sequence[str], count: int = 10) -> str:
    """The number of the items and the first of them, for an error."""
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return f"{len(items)} {what}: {', '.join(sorted(items, key=natural)[:count])}{more}"


def refuse_leaks(parts: dict[str, list[Frame]]) -> None:
    """Raise a `DataFormatError` when a frame is in two splits; one list that serves as two splits is allowed."""
    ids = {name: {frame.id for frame in frames} for name, frames in parts.items()}
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        both = ids[first] & ids[second]
        if both and parts[first] is not parts[second]:
            what = listed(f"frames are in {first} and in {second}", sorted(both))
            raise DataFormatError(what, next_action="a frame may be in one split only")
