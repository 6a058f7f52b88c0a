"""A folder of one's own, as `mde.data.pairing` reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mde.data.io import write_depth, write_image
from mde.data.writers.source import FrameSource, parts_of

__all__ = ["write_rgbd"]


def write_rgbd(root: Path, count: int, source: FrameSource, size: tuple[int, int] | None = None) -> dict[str, int]:
    """``<split>/rgb/000000.jpg`` and ``<split>/depth/000000.png`` in millimetres; 480x640 by default."""
    height, width = size or (480, 640)
    index: dict[str, int] = {}
    for split, frames in parts_of(count).items():
        for number in range(frames):
            name = f"{split}/{number:06d}"
            index[name] = len(index)
            frame = source(index[name], height, width)
            write_image(root / split / "rgb" / f"{number:06d}.jpg", frame.image)
            write_depth(root / split / "depth" / f"{number:06d}.png", frame.depth, "millimetres", np.uint16)
    return index
