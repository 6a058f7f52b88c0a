"""NYU Depth v2 in each of its layouts, with the names, bit depths and quirks of the real copies.

The frames are seen through the camera of NYU. Training frames are of kitchens, two to a room; those that make up a
validation part are of one office, so that whole rooms can be held out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from mde.data.io import write_depth, write_image
from mde.data.layouts.nyu import CSV_NAMES, EIGEN_NAMES, LABELED_NAME
from mde.data.nyu.camera import NYU_SIZE, nyu_camera
from mde.data.nyu.splits import official_test_rows
from mde.data.writers.source import FrameSource, SourceFrame, parts_of

__all__ = [
    "write_bts",
    "write_densedepth",
    "write_eigen",
    "write_h5",
    "write_labeled",
    "write_mat",
    "write_parquet",
]

Size = tuple[int, int] | None


class _Wanted(NamedTuple):
    """A frame to be written: in which part, the how manieth of its scene, and its number in the source."""

    part: str
    scene: str
    number: int
    frame: int


def write_labeled(root: Path, count: int, source: FrameSource, size: Size = None) -> dict[str, int]:
    """``nyu_depth_v2_labeled.mat`` with few rows, and a ``splits.mat`` that counts them from 1."""
    from scipy.io import savemat

    wanted = list(_frames(count))
    height, width = size or NYU_SIZE
    frames = {row: _frame(source, item.frame, height, width) for row, item in enumerate(wanted)}
    write_mat(root / LABELED_NAME, frames, [item.scene for item in wanted], (height, width))
    rows = {part: [row + 1 for row, item in enumerate(wanted) if item.part == part] for part in ("train", "test")}
    indices = {f"{part}Ndxs": np.array(rows[part], np.uint16)[:, None] for part in rows}
    savemat(root / "splits.mat", indices)
    return {f"nyu_{row:05d}": item.frame for row, item in enumerate(wanted)}


def write_mat(path: Path, frames: Mapping[int, SourceFrame], scenes: Sequence[str], size: tuple[int, int]) -> None:
    """The labelled set as HDF5 with MATLAB's reversed axes, one row for each scene name.

    Args:
        path: of the file.
        frames: the content of rows; all others are black at 2 m, and take no space.
        scenes: name of the scene of each row, stored as references to character codes.
        size: (height, width).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    count, (height, width) = len(scenes), size
    with h5py.File(path, "w") as file:
        flat: dict[str, Any] = {"chunks": (1, width, height), "shape": (count, width, height), "dtype": np.float32}
        images = file.create_dataset("images", (count, 3, width, height), np.uint8, chunks=(1, 3, width, height))
        filled = file.create_dataset("depths", fillvalue=2.0, **flat)
        raw = file.create_dataset("rawDepths", fillvalue=2.0, **flat)
        for row, frame in frames.items():
            images[row], raw[row] = frame.image.transpose(2, 1, 0), frame.depth.T
            filled[row] = _filled(frame.depth).T
        refs = file.create_dataset("scenes", (1, count), h5py.ref_dtype)
        names = file.create_group("#refs#")
        for number, scene in enumerate(dict.fromkeys(scenes)):
            codes = np.array([[ord(letter)] for letter in scene], np.uint16)
            same = [row for row, name in enumerate(scenes) if name == scene]
            refs[0, same] = names.create_dataset(f"s{number}", data=codes).ref


def write_densedepth(root: Path, count: int, source: FrameSource, size: Size = None) -> dict[str, int]:
    """``data/nyu2_train.csv`` with 8-bit depth (255 is 10 m), ``data/nyu2_test.csv`` with 16-bit millimetres."""
    index: dict[str, int] = {}
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for item in _frames(count):
        frame = _frame(source, item.frame, *(size or NYU_SIZE))
        if item.part == "train":
            name = f"nyu2_train/{item.scene}_out/{item.number + 1}"
            image, depth = f"data/{name}.jpg", f"data/{name}.png"
            write_depth(root / depth, frame.depth, 10 / 255, np.uint8)
            write_image(root / image, frame.image)
        else:
            name = f"nyu2_test/{_test_row(item):05d}"
            image, depth = f"data/{name}_colors.png", f"data/{name}_depth.png"
            write_depth(root / depth, frame.depth, "millimetres", np.uint16)
            (root / image).write_bytes(_encoded(".png", frame.image[..., ::-1]))
        lines[item.part].append(f"{image},{depth}")
        index[name] = item.frame
    for part, rows in lines.items():
        (root / "data" / CSV_NAMES[part]).write_text("\n".join(rows) + "\n")
    return index


def write_bts(root: Path, count: int, source: FrameSource, size: Size = None) -> dict[str, int]:
    """Lists ``rgb depth focal``, with a leading slash in that of training, and 16-bit millimetres.

    As in the real copy the test frames are black outside of the area that the depth camera sees.
    """
    height, width = size or NYU_SIZE
    focal_px = round(float(nyu_camera(height, width)[0, 0]), 4)
    index: dict[str, int] = {}
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for item in _frames(count):
        frame = source(item.frame, height, width, nyu_camera(height, width, focal_px))
        train = item.part == "train"
        home, scene = ("sync", item.scene) if train else ("official_splits/test", "bathroom")
        number = 7 * item.number if train else _test_row(item)  # every 7th frame of a video
        image, depth = f"{scene}/rgb_{number:05d}.jpg", f"{scene}/sync_depth_{number:05d}.png"
        write_image(root / home / image, frame.image)
        write_depth(root / home / depth, _bordered(frame.depth), "millimetres", np.uint16)
        slash = "/" if train else ""
        lines[item.part].append(f"{slash}{image} {slash}{depth} {focal_px:.4f}")
        index[f"{scene}/rgb_{number:05d}"] = item.frame
    for part, rows in lines.items():
        (root / f"nyudepthv2_{part}_files_with_gt.txt").write_text("\n".join(rows) + "\n")
    return index


def write_h5(root: Path, count: int, source: FrameSource, size: Size = None) -> dict[str, int]:
    """``train/<scene>/00001.h5`` and ``val/official/00001.h5``, counted from 1."""
    index: dict[str, int] = {}
    for item in _frames(count):
        frame = _frame(source, item.frame, *(size or NYU_SIZE))
        train = item.part == "train"
        name = f"train/{item.scene}/{item.number + 1:05d}" if train else f"val/official/{_test_row(item) + 1:05d}"
        path = root / f"{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["rgb"] = frame.image.transpose(2, 0, 1)
            file["depth"] = frame.depth
        index[name] = item.frame
    return index


def write_parquet(root: Path, count: int, source: FrameSource, size: Size = None) -> dict[str, int]:
    """``data/train-00000-of-00001.parquet`` and ``data/validation-…`` with pictures as PNG and depth as float TIFF."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = list(_frames(count))
    index: dict[str, int] = {}
    (root / "data").mkdir(parents=True, exist_ok=True)
    for part, name in (("train", "train"), ("test", "validation")):
        cells: dict[str, list[dict[str, Any]]] = {"image": [], "depth_map": []}
        for row, item in enumerate(item for item in wanted if item.part == part):
            frame = _frame(source, item.frame, *(size or NYU_SIZE))
            path = f"{item.scene}/{item.number + 1:05d}"
            cells["image"].append({"bytes": _encoded(".png", frame.image[..., ::-1]), "path": f"{path}.png"})
            cells["depth_map"].append({"bytes": _encoded(".tiff", frame.depth), "path": f"{path}.tiff"})
            index[f"{part}/{row:06d}"] = item.frame
        target = root / "data" / f"{name}-00000-of-00001.parquet"
        pq.write_table(pa.table(cells), target, row_group_size=2)
    return index


def write_eigen(root: Path, count: int, source: FrameSource, size: Size = None) -> dict[str, int]:
    """``eigen_test_rgb.npy``, ``eigen_test_depth.npy`` (in-painted) and ``eigen_test_crop.npy``: test frames only."""
    from mde.data.nyu.arrays import densedepth_crop

    frames = [_frame(source, index, *(size or NYU_SIZE)) for index in range(count)]
    np.save(root / EIGEN_NAMES["rgb"], np.stack([frame.image for frame in frames]))
    np.save(root / EIGEN_NAMES["depth"], np.stack([_filled(frame.depth) for frame in frames]))
    np.save(root / EIGEN_NAMES["crop"], np.array(densedepth_crop()))
    return {f"eigen_{index:05d}": index for index in range(count)}


def _frames(count: int) -> Iterator[_Wanted]:
    """Training frames (with those that will be held out), then test frames."""
    parts = parts_of(count)
    index = 0
    for row in range(parts["train"]):
        yield _Wanted("train", f"kitchen_{row // 2:04d}{'ab'[row % 2]}", row, index)
        index += 1
    for row in range(parts["val"]):
        yield _Wanted("train", "office_0001a", row, index)
        index += 1
    for row in range(parts["test"]):
        yield _Wanted("test", "official", row, index)
        index += 1


def _frame(source: FrameSource, index: int, height: int, width: int) -> SourceFrame:
    return source(index, height, width, nyu_camera(height, width))


def _test_row(item: _Wanted) -> int:
    """Test frames are called by their row in the labelled set."""
    rows = official_test_rows()
    return rows[item.number % len(rows)]


def _filled(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """In-painted: unknown pixels take the nearest known depth."""
    unknown = (depth <= 0).astype(np.uint8)
    if not unknown.any() or unknown.all():
        return depth
    _, labels = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    nearest = np.zeros(int(labels.max()) + 1, np.float32)
    nearest[labels[unknown == 0]] = depth[unknown == 0]
    return np.where(unknown > 0, nearest[labels], depth).astype(np.float32)


def _bordered(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unknown outside of rows 7:474 and columns 7:632 of 480x640 (BTS, extract_official_train_test_set_from_mat.py)."""
    (rows, columns), (height, width) = NYU_SIZE, depth.shape
    inside = slice(7 * height // rows, 474 * height // rows), slice(7 * width // columns, 632 * width // columns)
    made = np.zeros_like(depth)
    made[inside] = depth[inside]
    return made


def _encoded(suffix: str, pixels: NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(suffix, pixels)[1].tobytes())
