"""Rendered frames as SYNTHIA-RAND-CITYSCAPES."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.data.formats import encode_pixels
from mde.data.io import write_depth, write_image
from mde.data.synthia_facts import FOLDER, SYNTHIA_CLASSES, SYNTHIA_INTRINSICS, split_frames
from mde.data.writers.source import FrameSource, SourceFrame, parts_of
from mde.geometry import intrinsics_matrix, resize_intrinsics

__all__ = ["write_rand_cityscapes"]

_SKY_METRES = 655.35  # the largest number of 16 bits, in centimetres
_GROUND_BELOW = 1.0  # metres below the camera: what lies so low is called road


def write_rand_cityscapes(
    root: Path, count: int, source: FrameSource, size: tuple[int, int] | None = None
) -> dict[str, int]:
    """``RAND_CITYSCAPES/RGB/0000000.png``, ``Depth`` and ``GT/LABELS``, with numbers out of the real split.

    The renderer knows no classes: sky is where nothing is, road what lies more than a metre below the camera, and
    everything else is called a building.
    """
    height, width = size or (760, 1280)
    camera = resize_intrinsics(intrinsics_matrix(*SYNTHIA_INTRINSICS), width / 1280, height / 760).numpy()
    folder = root / FOLDER
    index: dict[str, int] = {}
    for split, frames in parts_of(count).items():
        for number in split_frames(split)[:frames]:
            name = f"{number:07d}"
            frame = source(len(index), height, width, camera)
            index[name] = len(index)
            write_image(folder / "RGB" / f"{name}.png", frame.image)
            depth = np.where(frame.depth > 0, frame.depth, np.float32(_SKY_METRES))
            write_depth(folder / "Depth" / f"{name}.png", depth, "synthia")
            path = folder / "GT" / "LABELS" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            encode_pixels(path, _labels(frame))
    return index


def _labels(frame: SourceFrame) -> NDArray[np.uint16]:
    """Blue, green (instance), red (class), 16 bits each."""
    ids = {name: number for number, name in SYNTHIA_CLASSES.items()}
    rows = np.arange(frame.depth.shape[0], dtype=np.float32)[:, None]
    below = (rows - frame.intrinsics[1, 2]) / frame.intrinsics[1, 1] * frame.depth
    classes = np.where(below > _GROUND_BELOW, ids["road"], ids["building"])
    classes = np.where(frame.depth > 0, classes, ids["sky"]).astype(np.uint16)
    nothing = np.zeros_like(classes)
    return cv2.merge([nothing, nothing, classes])
