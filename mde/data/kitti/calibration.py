"""KITTI's calibration: the cameras of a recording day, and the way from its lidar into their pictures.

A point x of the lidar (homogeneous) lands at ``P_rect · R_rect_00 · T · x`` (Geiger et al., IJRR 2013, equation 8, with
the lidar's T instead of the IMU's). ``P_rect`` is (3,4): its last column holds the shift from camera 0 to the camera.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mde.data.kitti.frames import LEFT, RIGHT
from mde.errors import DataFormatError

__all__ = ["NOMINAL", "Calibration", "nominal_calibration", "read_calibration"]

CAMERA_FILE, LIDAR_FILE = "calib_cam_to_cam.txt", "calib_velo_to_cam.txt"

NOMINAL: Mapping[str, tuple[int, int, float, float, float]] = MappingProxyType(
    {
        "2011_09_26": (375, 1242, 721.5377, 609.5593, 172.854),
        "2011_09_28": (370, 1224, 707.0493, 604.0814, 180.5066),
        "2011_09_29": (374, 1238, 718.3351, 600.3891, 181.5122),
        "2011_09_30": (370, 1226, 707.0912, 601.8873, 183.1104),
        "2011_10_03": (376, 1241, 718.856, 607.1928, 185.2157),
    }
)
"""Height, width, focal length, cx and cy in pixels of both colour cameras, by day (from S_rect and P_rect)."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The rectified colour cameras of one day.

    Attributes:
        cameras: `LEFT` and `RIGHT` -> P_rect, float64 (3,4), pixels and metres.
        size: (height, width) of the rectified images; None where the file does not say it.
        rectification: R_rect_00, float64 (3,3).
        velo_to_cam: [R|T] of the lidar, float64 (3,4), metres; None where unknown.
        where: the file, for messages.
    """

    cameras: Mapping[int, NDArray[np.float64]]
    size: tuple[int, int] | None
    rectification: NDArray[np.float64]
    velo_to_cam: NDArray[np.float64] | None
    where: str

    def intrinsics(self, camera: int) -> NDArray[np.float32]:
        """The camera's matrix, float32 (3,3), pixels."""
        return self.cameras[camera][:, :3].astype(np.float32)

    @property
    def baseline(self) -> float:
        """Metres from the left colour camera to the right one along their common x axis: some 0.53.

        P_rect is K [I|t], with the shift t from camera 0 (Geiger et al., section IV). Its first row alone is often
        taken for fx tx; that is 0.3% off on 2011_09_28, whose rectified cameras differ by 2 mm in z, too.

        Raises:
            DataFormatError: it is not known, as without calibration files.
        """
        left, right = self.cameras[LEFT], self.cameras[RIGHT]
        metres = float((np.linalg.solve(left[:, :3], left[:, 3]) - np.linalg.solve(right[:, :3], right[:, 3]))[0])
        if not metres > 0:
            hint = f"fetch the day's calibration ({CAMERA_FILE})"
            raise DataFormatError("stereo needs the distance of the cameras", where=self.where, next_action=hint)
        return metres

    def projection(self, camera: int) -> NDArray[np.float64]:
        """From lidar coordinates in metres to (u z, v z, z), float64 (3,4).

        Raises:
            DataFormatError: it is not known where the lidar is.
        """
        if self.velo_to_cam is None:
            hint = f"fetch the day's calibration (it holds {LIDAR_FILE}), or use official ground truth"
            raise DataFormatError(
                "velodyne depth needs the calibration of the lidar", where=self.where, next_action=hint
            )
        turned, moved = np.eye(4), np.eye(4)
        turned[:3, :3] = self.rectification
        moved[:3] = self.velo_to_cam
        return np.asarray(self.cameras[camera] @ turned @ moved)


def read_calibration(path: str | Path) -> Calibration:
    """Read a calibration.

    Args:
        path: the folder of a day of the raw data, with ``calib_cam_to_cam.txt`` and, where scans are projected,
            ``calib_velo_to_cam.txt``; or one file of the object benchmark (P2, P3, R0_rect, Tr_velo_to_cam).

    Raises:
        DataFormatError: a file or a key is missing, or a key has too few numbers.
    """
    path = Path(path)
    if path.is_file():
        keys = _Keys(path)
        cameras = {LEFT: keys.matrix("P2", 4), RIGHT: keys.matrix("P3", 4)}
        return Calibration(cameras, None, keys.matrix("R0_rect", 3), keys.matrix("Tr_velo_to_cam", 4), str(path))
    keys = _Keys(path / CAMERA_FILE)
    cameras = {camera: keys.matrix(f"P_rect_{camera:02d}", 4) for camera in (LEFT, RIGHT)}
    width, height = keys.numbers("S_rect_02", 2)
    lidar = None
    if (path / LIDAR_FILE).is_file():
        velo = _Keys(path / LIDAR_FILE)
        lidar = np.column_stack([velo.matrix("R", 3), velo.numbers("T", 3)])
    return Calibration(cameras, (int(height), int(width)), keys.matrix("R_rect_00", 3), lidar, str(path))


def nominal_calibration(date: str) -> Calibration:
    """The cameras of a day from the table `NOMINAL`, for copies of KITTI without calibration files.

    Raises:
        DataFormatError: KITTI has no such day.
    """
    if date not in NOMINAL:
        hint = f"KITTI was recorded on {', '.join(NOMINAL)}; give its {CAMERA_FILE}"
        raise DataFormatError(f"nothing is known of the camera on {date}", next_action=hint)
    height, width, focal, cx, cy = NOMINAL[date]
    camera = np.array([[focal, 0, cx, 0], [0, focal, cy, 0], [0, 0, 1, 0]])
    return Calibration({LEFT: camera, RIGHT: camera}, (height, width), np.eye(3), None, f"{date} (no {CAMERA_FILE})")


class _Keys:
    """A file of lines ``key: numbers``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise self._broken("the calibration cannot be read") from error
        self.lines = dict(line.split(":", 1) for line in lines if ":" in line)

    def numbers(self, key: str, count: int) -> NDArray[np.float64]:
        try:
            found = np.array([float(word) for word in self.lines[key].split()])
        except (KeyError, ValueError) as error:
            raise self._broken(f"no numbers for {key}") from error
        if len(found) != count or not np.isfinite(found).all():
            raise self._broken(f"{key} should have {count} finite numbers, has {len(found)}")
        return found

    def matrix(self, key: str, columns: int) -> NDArray[np.float64]:
        return self.numbers(key, 3 * columns).reshape(3, columns)

    def _broken(self, what: str) -> DataFormatError:
        return DataFormatError(what, where=self.path, next_action="fetch the calibration files of this day again")
