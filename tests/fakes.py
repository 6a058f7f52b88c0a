"""Writers of tiny data sets in their true on-disk layout, made from a seed; sizes are (height, width)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.data.nyu import FILE_NAME, NYU_FRAMES
from mde.data.writers import SourceFrame
from mde.data.writers.nyu import write_mat


def fake_frame(index: int, size: tuple[int, int] = (24, 32)) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A smooth RGB picture and a depth map of 0.5 to 4.5 m with a hole (0) in its first rows."""
    rng = np.random.default_rng(index)
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    depth = cv2.resize(rng.uniform(0.5, 4.5, (4, 5)).astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    depth[: size[0] // 8] = 0
    return image, depth


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """RGB to PNG or JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image[..., ::-1]):
        raise OSError(path)


def write_depth(path: Path, depth: NDArray[np.float32], scale: float = 0.001) -> None:
    """Metres to a 16-bit PNG in units of `scale`, or to npy, npz, TIFF or PFM as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, depth)
    elif path.suffix == ".npz":
        np.savez_compressed(path, depth=depth)
    else:
        stored = np.round(depth / scale).astype(np.uint16) if path.suffix == ".png" else depth
        if not cv2.imwrite(str(path), stored):
            raise OSError(path)


def write_rgbd_folder(
    root: Path,
    counts: dict[str, int],
    size: tuple[int, int] = (24, 32),
    *,
    depth_suffix: str = ".png",
    lists: bool = False,
    focal: float | None = None,
) -> Path:
    """``<split>/rgb/<n>.jpg`` and ``<split>/depth/<n>.png``; the split "" has no folder; list files on request."""
    for split, count in counts.items():
        lines = []
        for number in range(count):
            image, depth = fake_frame(len(split) * 1000 + number, size)
            write_image(root / split / "rgb" / f"{number}.jpg", image)
            write_depth(root / split / "depth" / f"{number}{depth_suffix}", depth)
            pair = f"/{split}/rgb/{number}.jpg {split}/depth/{number}{depth_suffix}"
            lines.append(pair if focal is None else f"{pair} {focal}")
        if lists:
            (root / f"{split}.txt").write_text("# image depth focal\n" + "\n".join(lines) + "\n\n")
    return root


def write_nyu_labeled(root: Path, size: tuple[int, int] = (12, 16), rows: Sequence[int] | None = None) -> Path:
    """``nyu_depth_v2_labeled.mat`` with all 1449 rows, three to a scene.

    Only `rows` (default: all) get content of their own; the others are black at 2 m, and take no space on disk.
    """
    unknown = np.full((3, 3), np.nan, np.float32)
    frames = {
        row: SourceFrame(*fake_frame(row, size), unknown) for row in (range(NYU_FRAMES) if rows is None else rows)
    }
    scenes = [f"kitchen_{row // 6:04d}{'ab'[row // 3 % 2]}" for row in range(NYU_FRAMES)]
    write_mat(root / FILE_NAME, frames, scenes, size)
    return root / FILE_NAME
