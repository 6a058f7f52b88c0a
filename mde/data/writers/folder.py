"""A folder of one's own, as `mde.data.pairing` reads it, and the recordings of TUM RGB-D and 7-Scenes."""

from __future__ import annotations

from itertools import count as integers
from pathlib import Path

import numpy as np

from mde.data.encodings import ENCODINGS
from mde.data.formats import encode_pixels
from mde.data.io import write_depth, write_image
from mde.data.pairing import Frame, split_blocks
from mde.data.writers.source import FrameSource, parts_of

__all__ = ["write_rgbd", "write_seven_scenes", "write_tum"]

_SIZE = (480, 640)


def write_rgbd(root: Path, count: int, source: FrameSource, size: tuple[int, int] | None = None) -> dict[str, int]:
    """``<split>/rgb/000000.jpg`` and ``<split>/depth/000000.png`` in millimetres; 480x640 by default."""
    height, width = size or _SIZE
    index: dict[str, int] = {}
    for split, frames in parts_of(count).items():
        for number in range(frames):
            name = f"{split}/{number:06d}"
            index[name] = len(index)
            frame = source(index[name], height, width)
            write_image(root / split / "rgb" / f"{number:06d}.jpg", frame.image)
            write_depth(root / split / "depth" / f"{number:06d}.png", frame.depth, "millimetres", np.uint16)
    return index


def write_tum(root: Path, count: int, source: FrameSource, size: tuple[int, int] | None = None) -> dict[str, int]:
    """One recording of 30 frames per second, its depth maps 5 ms late and every tenth of them lost.

    The data module splits it into blocks and drops the frames between them: those are written, too, as long as `count`
    frames remain to train on.
    """
    height, width = size or _SIZE
    lines: dict[str, list[str]] = {"rgb": [], "depth": []}
    stamps: dict[str, int] = {}
    for number in range(_recorded(count) * 10 // 9 + 1):
        time = 1305031102.175304 + number / 30
        names = {"rgb": f"{time:.6f}", "depth": f"{time + 0.005:.6f}"}
        lost = number % 10 == 9
        frame = source(number, height, width)
        write_image(root / f"rgb/{names['rgb']}.png", frame.image)
        if not lost:
            write_depth(root / f"depth/{names['depth']}.png", frame.depth, "tum")
            stamps[names["rgb"]] = number
        for folder in ("rgb", "depth")[: 1 if lost else 2]:
            lines[folder].append(f"{names[folder]} {folder}/{names[folder]}.png")
        if len(stamps) == _recorded(count):
            break
    for folder, texts in lines.items():
        (root / f"{folder}.txt").write_text("# timestamp filename\n" + "\n".join(texts) + "\n")
    parts = split_blocks([Frame(stamp, "", "") for stamp in stamps])
    return {frame.id: stamps[frame.id] for part in parts.values() for frame in part}


def write_seven_scenes(
    root: Path, count: int, source: FrameSource, size: tuple[int, int] | None = None
) -> dict[str, int]:
    """Sequences 1 and 2 for training, of which the data module validates on the second, and 3 for testing.

    Missing pixels are 65535, as the authors mark them.
    """
    height, width = size or _SIZE
    index: dict[str, int] = {}
    for sequence, frames in enumerate(parts_of(count).values(), start=1):
        for number in range(frames):
            name = f"seq-{sequence:02d}/frame-{number:06d}"
            index[name] = len(index)
            frame = source(index[name], height, width)
            write_image(root / f"{name}.color.png", frame.image)
            stored = ENCODINGS["seven_scenes"].from_metres(frame.depth, np.uint16)
            encode_pixels(root / f"{name}.depth.png", np.where(frame.depth > 0, stored, np.uint16(65535)))
    (root / "TrainSplit.txt").write_text("sequence1\nsequence2\n")
    (root / "TestSplit.txt").write_text("sequence3\n")
    return index


def _recorded(train: int) -> int:
    """How many frames a recording needs to leave `train` of them for training, and some for the other two."""
    frame = Frame("", "", "")
    for total in integers(train):
        parts = split_blocks([frame] * total)
        if len(parts["train"]) == train and parts["val"]:
            break
    return total
