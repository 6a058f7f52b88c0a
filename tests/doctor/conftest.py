"""A clean data set of rendered rooms, written once, and copies of it to spoil."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mde.data.io import write_depth, write_image
from mde.data.writers import SourceFrame, rendered
from mde.doctor import Examination, examine

COUNTS = {"train": 24, "val": 6, "test": 6}
ALL = sum(COUNTS.values())
SIZE = (96, 128)
CAMERA = np.array([[110, 0, 63.5], [0, 110, 47.5], [0, 0, 1]], np.float32)
SETTINGS: dict[str, Any] = {"depth_scale": 0.001, "intrinsics": [110, 110, 63.5, 47.5]}


class Spoiled:
    """A copy of the clean set; files are named by split and number."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def rgb(self, number: int, split: str = "train") -> Path:
        return self.root / split / "rgb" / f"{number:06d}.jpg"

    def depth(self, number: int, split: str = "train") -> Path:
        return self.root / split / "depth" / f"{number:06d}.png"

    def replace(self, path: Path, data: bytes) -> None:
        """Write a new file: the copy is made of hard links."""
        path.unlink()
        path.write_bytes(data)

    def change(self, spoil: Callable[[NDArray[Any]], NDArray[Any]], *, only: tuple[int, ...] | None = None) -> None:
        """Rewrite depth maps, as they are in the files; of the training part, if numbers are given."""
        for split, count in COUNTS.items() if only is None else (("train", 0),):
            for number in only or range(count):
                path = self.depth(number, split)
                raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                done, data = cv2.imencode(".png", spoil(raw))
                assert done
                self.replace(path, data.tobytes())

    def examine(self, sample: int | None = None, **changed: Any) -> Examination:
        return examine(self.root, settings={**SETTINGS, **changed}, sample=sample, workers=1)


@pytest.fixture(scope="session")
def frames() -> list[SourceFrame]:
    source = rendered("rooms", seed=5)
    return [source(index, *SIZE, CAMERA) for index in range(ALL)]


@pytest.fixture(scope="session")
def clean(frames: list[SourceFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms") / "clean"
    made = iter(frames)
    for split, count in COUNTS.items():
        for number in range(count):
            frame = next(made)
            write_image(root / split / "rgb" / f"{number:06d}.jpg", frame.image)
            write_depth(root / split / "depth" / f"{number:06d}.png", frame.depth, "millimetres", np.uint16)
    return root


@pytest.fixture
def data(clean: Path, tmp_path: Path) -> Spoiled:
    shutil.copytree(clean, tmp_path / "data", copy_function=os.link)
    return Spoiled(tmp_path / "data")
