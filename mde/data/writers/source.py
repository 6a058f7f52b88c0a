"""Where the frames of a made data set come from, and the note that says that it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mde import __version__

__all__ = [
    "MARKER",
    "FrameSource",
    "Rendered",
    "SourceFrame",
    "Writer",
    "is_made",
    "mark",
    "parts_of",
    "rendered",
    "smooth",
]

MARKER = "made-by-mde.json"
"""A file of this name in the root says that the frames were rendered, and that only some of the real ones exist."""


@dataclass(frozen=True)
class SourceFrame:
    """A picture with its exact depth.

    Attributes:
        image: uint8 (H,W,3), RGB.
        depth: float32 (H,W), z-depth in metres, 0 where there is nothing (the sky).
        intrinsics: float32 (3,3), pixels.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: NDArray[np.float32]


class FrameSource(Protocol):
    """Gives frame `index` at any size, seen through any camera; the same arguments always give the same frame.

    A writer whose data set has known intrinsics asks for them, so that point clouds of the made frames are true. One
    whose data set has stereo pairs asks for each frame once more, seen from so many metres farther to the `right`.
    """

    def __call__(
        self, index: int, height: int, width: int, intrinsics: NDArray[np.float32] | None = None, right: float = 0.0
    ) -> SourceFrame: ...


class Writer(Protocol):
    """Writes a made data set.

    Args:
        root: folder to write into; made if it is not there.
        count: number of training frames; validation and test get at least one frame each, see `parts_of`.
        source: where the frames come from.
        size: (height, width) of the frames; None for that of the real data set.

    Returns:
        For each frame id of the data module: the index of the frame in `source`.
    """

    def __call__(
        self, root: Path, count: int, source: FrameSource, size: tuple[int, int] | None = None
    ) -> dict[str, int]: ...


@dataclass(frozen=True)
class Rendered:
    """The procedural world as a source of frames: "rooms" or "street"."""

    world: str
    seed: int = 0

    def __call__(
        self, index: int, height: int, width: int, intrinsics: NDArray[np.float32] | None = None, right: float = 0.0
    ) -> SourceFrame:
        from mde.data.worlds import make_scene
        from mde.data.worlds.raycast import render

        rng = np.random.default_rng(np.random.SeedSequence((self.seed, index)))
        scene, camera = make_scene(self.world, rng, height, width)
        if intrinsics is not None:
            camera = replace(camera, intrinsics=intrinsics.astype(np.float64))
        camera = camera.moved(right=right)
        image, depth, _ = render(scene, camera, height, width)
        return SourceFrame(image, depth, camera.intrinsics.astype(np.float32))


def rendered(world: str, seed: int = 0) -> FrameSource:
    """Frames of the procedural world "rooms" or "street"."""
    return Rendered(world, seed)


def smooth(
    index: int, height: int, width: int, intrinsics: NDArray[np.float32] | None = None, right: float = 0.0
) -> SourceFrame:
    """A source that costs nothing, for tests: smooth colours, 0.5 to 4.5 m, and a hole in the first rows.

    There is no scene behind it: from the `right` it is another picture, of the same size and range.
    """
    rng = np.random.default_rng((index, 1) if right else index)
    size = (width, height)
    image = cv2.resize(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8), size, interpolation=cv2.INTER_CUBIC)
    depth = cv2.resize(rng.uniform(0.5, 4.5, (4, 5)).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    depth[: height // 8] = 0
    focal = 0.8 * width
    central = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], np.float32)
    return SourceFrame(image, depth, central if intrinsics is None else intrinsics)


def parts_of(count: int) -> dict[str, int]:
    """How many frames of each split a made data set of `count` training frames has.

    >>> parts_of(40)
    {'train': 40, 'val': 5, 'test': 5}
    >>> parts_of(2)
    {'train': 2, 'val': 1, 'test': 1}
    """
    other = max(1, count // 8)
    return {"train": count, "val": other, "test": other}


def mark(root: Path, layout: str, settings: Mapping[str, Any]) -> None:
    """Leave the note."""
    note = {"layout": layout, "mde": __version__, "what": "rendered frames in the layout of a real data set"}
    (root / MARKER).write_text(json.dumps({**note, **settings}, indent=1) + "\n")


def is_made(root: str | Path) -> bool:
    """True if the folder holds made frames: then only some of the files that the real lists name are there."""
    path = Path(root)
    return ((path if path.is_dir() else path.parent) / MARKER).is_file()
