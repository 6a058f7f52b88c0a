"""KITTI as it is unpacked: raw drives with official depth, lidar scans and calibration; and the depth selection.

The cameras, their official depth and the scan of a frame agree exactly: ``image_03`` and its official depth show the
same scene from the place of the right camera, as the calibration says it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mde.data.io import write_depth, write_image
from mde.data.kitti.calibration import NOMINAL, Calibration, read_calibration
from mde.data.kitti.frames import (
    HELD_OUT_DRIVES,
    LEFT,
    RIGHT,
    Frame,
    drive_folder,
    eigen_frames,
    has_official_depth,
)
from mde.data.writers.source import FrameSource, SourceFrame, parts_of
from mde.geometry import crop_intrinsics, resize_intrinsics
from mde.protocol import CROPS

__all__ = ["write_raw", "write_selection"]

_BENCHMARK = (352, 1216)  # size of the images of the depth selection
_FAR = 80.0  # metres
_SKYLINE = 0.4  # of the height; the lidar sees what is below
_OFFICIAL_SHARE = 0.16  # of all pixels have official depth
_DriveFrame = tuple[str, int]


def write_raw(root: Path, count: int, source: FrameSource, size: tuple[int, int] | None = None) -> dict[str, int]:
    """Frames of the real Eigen lists in the folders of the real drives, so that the real lists apply.

    Each day has its true size and focal length (`size` scales both). Test frame 0 of drive 2011_09_26/0002 has no
    official depth, like 45 of the 697. Right images are made for training frames.
    """
    index: dict[str, int] = {}
    rigs = {date: _write_calibration(root / date, date, size) for date in NOMINAL}
    for split, chosen in _chosen(count).items():
        for drive, number in chosen:
            frame = Frame(drive, number)
            index[frame.id] = len(index)
            rig = rigs[drive.split("/")[0]]
            _write_scan(root, frame, _write_frame(root, frame, rig, source, index[frame.id]), rig)
            if split == "train":
                _write_frame(root, frame._replace(camera=RIGHT), rig, source, index[frame.id])
    first = Frame("2011_09_26/0002", 0)
    rig = rigs["2011_09_26"]
    _write_scan(root, first, _write_frame(root, first, rig, source, len(index)), rig)
    return index


def write_selection(root: Path, count: int, source: FrameSource, size: tuple[int, int] | None = None) -> dict[str, int]:
    """``val_selection_cropped`` of `count` images, and an eighth as many anonymous ones without depth."""
    height, width = size or _BENCHMARK
    camera = _selection_camera(height, width, cropped=size is None)
    index: dict[str, int] = {}
    folder = root / "val_selection_cropped"
    for drive, number in _spread(eigen_frames("test_652"), count):
        name = f"{drive_folder(drive)}_{{}}_{number:010d}_image_02"
        stem = name.format("image")
        index[stem] = len(index)
        frame = _write_image(folder, stem, source(index[stem], height, width, camera), camera)
        rng = np.random.default_rng(index[stem])
        write_depth(folder / f"groundtruth_depth/{name.format('groundtruth_depth')}.png", *_official(frame.depth, rng))
        sparse = np.where(_beams(frame.depth), frame.depth, 0)
        write_depth(folder / f"velodyne_raw/{name.format('velodyne_raw')}.png", sparse, "kitti", np.uint16)
    for number in range(parts_of(count)["test"]):
        made = source(len(index) + number, height, width, camera)
        _write_image(root / "test_depth_prediction_anonymous", f"{number:010d}", made, camera)
    return index


# -------------------------------------------------------------------------------------------------------------- frames


def _chosen(count: int) -> dict[str, list[_DriveFrame]]:
    """Frames with official depth that are in the same part under every split of `mde.data.kitti.split_frames`."""
    parts = parts_of(count)
    inner = [frame for frame in eigen_frames("train_22600") if has_official_depth(*frame)]
    drawn = [f for f in eigen_frames("val_888") if f[0] in HELD_OUT_DRIVES and has_official_depth(*f)]
    more = [frame for frame in inner if frame[0] in HELD_OUT_DRIVES]
    train = [frame for frame in inner if frame[0] not in HELD_OUT_DRIVES]
    val = _spread(drawn, parts["val"]) + _spread(more, max(0, parts["val"] - len(drawn)))
    return {"train": _spread(train, count), "val": val, "test": _spread(eigen_frames("test_652"), parts["test"])}


def _spread(frames: Sequence[_DriveFrame], count: int) -> list[_DriveFrame]:
    picked = np.linspace(0, len(frames), min(count, len(frames)), endpoint=False).astype(int)
    return [frames[i] for i in picked]


def _write_frame(root: Path, frame: Frame, rig: Calibration, source: FrameSource, number: int) -> SourceFrame:
    """The image, and its official depth where KITTI has some."""
    height, width = rig.size or _BENCHMARK
    right = rig.baseline if frame.camera == RIGHT else 0.0
    made = source(number, height, width, rig.intrinsics(frame.camera), right)
    folder, name = drive_folder(frame.drive), f"image_{frame.camera:02d}"
    date = frame.drive.split("/")[0]
    write_image(root / date / folder / name / "data" / f"{frame.number:010d}.png", made.image)
    if has_official_depth(frame.drive, frame.number):
        # KITTI's own split of the official depth is by drive
        half = "val" if frame.drive in HELD_OUT_DRIVES else "train"
        path = root / "data_depth_annotated" / half / folder / "proj_depth/groundtruth" / name
        write_depth(path / f"{frame.number:010d}.png", *_official(made.depth, np.random.default_rng(number)))
    return made


def _official(depth: NDArray[np.float32], rng: np.random.Generator) -> tuple[NDArray[np.float32], str, type[np.uint16]]:
    """What `write_depth` writes: sparse depth in 1/256 m."""
    known = (rng.random(depth.shape) < _OFFICIAL_SHARE / (1 - _SKYLINE)) & (depth > 0) & (depth <= _FAR)
    known[: int(_SKYLINE * len(depth))] = False
    return np.where(known, depth, 0).astype(np.float32), "kitti", np.uint16


def _beams(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels that the lidar hits: every fourth row, every other column."""
    hit = np.zeros(depth.shape, bool)
    hit[int(_SKYLINE * len(depth)) :: 4, ::2] = True
    return hit & (depth > 0) & (depth <= _FAR)


def _write_scan(root: Path, frame: Frame, made: SourceFrame, rig: Calibration) -> None:
    """Points that land in the middle of the pixels that they were taken from, some with another one hidden behind.

    A third as many points lie behind the car, where a projection without a test would put them into the image.
    """
    rows, columns = np.nonzero(_beams(made.depth))
    z = made.depth[rows, columns].astype(np.float64)
    hidden = slice(None, None, 10)
    u, v = np.append(columns, columns[hidden]), np.append(rows, rows[hidden])
    z = np.append(z, 1.3 * z[hidden])
    projection = rig.projection(frame.camera)
    ahead = np.linalg.solve(projection[:, :3], np.stack([u * z, v * z, z]) - projection[:, 3:]).T
    behind = ahead[::3] * (-1, 1, 1) - (1, 0, 0)
    points = np.concatenate([ahead, behind]).astype(np.float32)
    shine = np.random.default_rng(frame.number).random((len(points), 1), np.float32)
    path = root / frame.drive.split("/")[0] / drive_folder(frame.drive) / "velodyne_points/data"
    path.mkdir(parents=True, exist_ok=True)
    np.hstack([points, shine]).tofile(path / f"{frame.number:010d}.bin")


# --------------------------------------------------------------------------------------------------------- calibration


def _write_calibration(folder: Path, date: str, size: tuple[int, int] | None) -> Calibration:
    """Write the two files of a day; returned is what a reader finds in them, rounded as they are."""
    height, width = size or NOMINAL[date][:2]
    shifts = ((0.06, 0.0, 0.003), (-0.47, 0.0, 0.003))  # of the cameras, metres from camera 0
    camera = _nominal_camera(date, height, width).astype(np.float64)
    turn = cv2.Rodrigues(np.array([0.004, -0.007, -0.01]))[0]
    forward_to_z = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    lines = {"calib_time": date.replace("_", "-"), "corner_dist": "9.950000e-02", "R_rect_00": _text(turn)}
    for number, moved in zip((LEFT, RIGHT), shifts, strict=True):
        lines[f"S_rect_{number:02d}"] = _text(np.array([width, height]))
        lines[f"P_rect_{number:02d}"] = _text(camera @ np.column_stack([np.eye(3), moved]))
    lidar = {"R": cv2.Rodrigues(np.array([0.015, 0.001, -0.007]))[0] @ forward_to_z, "T": [-0.004, -0.076, -0.272]}
    _write_lines(folder / "calib_cam_to_cam.txt", lines)
    _write_lines(folder / "calib_velo_to_cam.txt", {key: _text(np.asarray(value)) for key, value in lidar.items()})
    return read_calibration(folder)


def _nominal_camera(date: str, height: int, width: int) -> NDArray[np.float32]:
    rows, columns, focal_px, cx, cy = NOMINAL[date]
    camera = torch.tensor([[focal_px, 0, cx], [0, focal_px, cy], [0, 0, 1]])
    return np.asarray(resize_intrinsics(camera, width / columns, height / rows).numpy())


def _selection_camera(height: int, width: int, *, cropped: bool) -> NDArray[np.float32]:
    date = "2011_09_26"
    if not cropped:
        return _nominal_camera(date, height, width)
    rows, columns = NOMINAL[date][:2]
    top, _, left, _ = CROPS["kitti_kb"](rows, columns)
    return np.asarray(crop_intrinsics(torch.from_numpy(_nominal_camera(date, rows, columns)), left, top).numpy())


def _write_image(folder: Path, stem: str, frame: SourceFrame, camera: NDArray[np.float32]) -> SourceFrame:
    write_image(folder / "image" / f"{stem}.png", frame.image)
    (folder / "intrinsics").mkdir(exist_ok=True)
    (folder / "intrinsics" / f"{stem}.txt").write_text(" ".join(f"{number:.6f}" for number in camera.ravel()) + "\n")
    return frame


def _write_lines(path: Path, lines: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))


def _text(numbers: NDArray[np.generic]) -> str:
    return " ".join(f"{number:.6e}" for number in np.ravel(numbers))
