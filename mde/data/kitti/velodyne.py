"""Sparse depth from KITTI's lidar scans: the ground truth of the 697-image protocol.

Whoever projects the scans decides three things, and published numbers depend on them. The conventions:

"devkit": 1-based pixels as in KITTI's MATLAB code, so 1 is taken off the rounded coordinates; the nearest point wins.
"monodepth": the same with a slip in the code of monodepth and its followers: its linear pixel index is one short per
    row, so that the last pixel of a row and the first of the next one count as the same and disturb each other. The
    crops of Garg and Eigen leave those columns out, so scores are equal.
"centred": pixel centres at whole numbers, as everywhere in this library, so that depth lies on the ray of its pixel.

The depth is z of the camera, or x of the lidar, some 0.27 m more, which monodepth and monodepth2 evaluate on.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mde.errors import ConfigError, DataFormatError, nearest

__all__ = ["CONVENTIONS", "DEPTHS", "ScanReader", "project_velodyne", "read_scan"]

CONVENTIONS = ("devkit", "monodepth", "centred")
DEPTHS = ("z", "x")
_POINT = 16  # bytes: x, y, z and reflectance, float32 each


def read_scan(path: str | Path) -> NDArray[np.float32]:
    """Read a lidar scan: (N,4), x forward, y left and z up in metres, and reflectance.

    Raises:
        DataFormatError: the file is missing, empty or cut off.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataFormatError(f"cannot be read ({error.strerror})", where=path, next_action="check the path") from error
    if not data or len(data) % _POINT:
        what = f"a scan holds 16 bytes for each point, this file has {len(data)} bytes"
        raise DataFormatError(what, where=path, next_action="fetch the drive again")
    return np.frombuffer(data, np.float32).reshape(-1, 4)


def project_velodyne(
    points: NDArray[np.float32],
    projection: NDArray[np.float64],
    size: tuple[int, int],
    *,
    depth: str = "z",
    convention: str = "devkit",
) -> NDArray[np.float32]:
    """Project a scan into a camera. Takes some 5 ms; a literal loop over the points takes a hundred times as long.

    Args:
        points: (N,4) as of `read_scan`; the fourth number is not used.
        projection: (3,4), see `Calibration.projection`.
        size: (height, width) of the image.
        depth: "z" of the camera or "x" of the lidar.
        convention: see the head of this module.

    Returns:
        float32 (H,W), metres, 0 where no point landed. Points behind the lidar are dropped.

    Raises:
        ConfigError: the convention or the kind of depth is unknown.
    """
    require_projection(depth, convention)
    ahead = points[points[:, 0] >= 0, :3].astype(np.float64)
    across, down, z = (ahead @ projection[:, :3].T + projection[:, 3]).T
    metres = z if depth == "z" else ahead[:, 0]
    offset = 0 if convention == "centred" else 1
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = np.round(across / z) - offset, np.round(down / z) - offset
    height, width = size
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    if convention != "monodepth":
        inside &= (z > 0) & (metres > 0)  # x is ahead of the lidar, not of the camera
    columns, rows, metres = u[inside].astype(int), v[inside].astype(int), metres[inside]
    if convention == "monodepth":
        return _short_rows(rows, columns, metres, size)
    far_first = np.argsort(-metres, kind="stable")
    out = np.zeros(size, np.float32)
    out[rows[far_first], columns[far_first]] = metres[far_first]
    return out


def require_projection(depth: str, convention: str) -> None:
    """Raise a `ConfigError` for an unknown kind of depth or convention."""
    for value, known, key in ((depth, DEPTHS, "velodyne_depth"), (convention, CONVENTIONS, "velodyne_convention")):
        if value not in known:
            hint = f"nearest: {nearest(value, known)}"
            raise ConfigError(f"unknown {key} {value!r}", where=f"data.{key}", next_action=hint)


def _short_rows(
    rows: NDArray[np.int_], columns: NDArray[np.int_], metres: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float32]:
    """The collisions of "monodepth": the last point stays, then the first of each collision gets the least depth."""
    out = np.zeros(size, np.float64)
    out[rows, columns] = metres
    _, first, group, count = np.unique(
        rows * (size[1] - 1) + columns - 1, return_index=True, return_inverse=True, return_counts=True
    )
    least = np.full(len(first), np.inf)
    np.minimum.at(least, group, metres)
    shared = first[count > 1]
    out[rows[shared], columns[shared]] = least[count > 1]
    return np.maximum(out, 0).astype(np.float32)


@dataclass(frozen=True)
class ScanReader:
    """Depth maps from scan files, kept on disk if a folder is given.

    Args:
        depth: "z" or "x".
        convention: one of `CONVENTIONS`.
        cache: folder for projected maps, some 150 kB each; None projects anew each time. The numbers are the same.

    Raises:
        ConfigError: the convention or the kind of depth is unknown.
    """

    depth: str = "z"
    convention: str = "devkit"
    cache: str | None = None

    def __post_init__(self) -> None:
        require_projection(self.depth, self.convention)

    def read(
        self, path: str | Path, projection: NDArray[np.float64], size: tuple[int, int], name: str
    ) -> NDArray[np.float32]:
        """The depth map of a scan, float32 (H,W), metres, 0 where unknown; `name` is that of the frame.

        Raises:
            DataFormatError: the scan cannot be read.
        """
        settings = {"depth": self.depth, "convention": self.convention}
        if self.cache is None:
            return project_velodyne(read_scan(path), projection, size, **settings)
        # another calibration, another size or a scan that was fetched again (longer) is another map
        facts = f"{projection.tolist()} {size} {_bytes_of(path)}"
        kind = f"{self.convention}-{self.depth}"
        stored = Path(self.cache) / kind / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}.npz"
        made = _load(stored, size)
        if made is None:
            made = project_velodyne(read_scan(path), projection, size, **settings)
            with suppress(OSError):  # a full or read-only disk costs time and nothing else
                _store(stored, made)
        return made


def _bytes_of(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _load(path: Path, size: tuple[int, int]) -> NDArray[np.float32] | None:
    """The stored map, or None where there is none that can be read."""
    try:
        with np.load(path) as stored:
            out = np.zeros(size, np.float32)
            out.ravel()[stored["where"]] = stored["metres"]
            return out
    except (OSError, ValueError, KeyError, EOFError, IndexError, BadZipFile):
        return None


def _store(path: Path, depth: NDArray[np.float32]) -> None:
    """Write beside and rename, so that no other process ever reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    where = np.flatnonzero(depth).astype(np.uint32)
    try:
        with open(beside, "wb") as file:
            np.savez(file, where=where, metres=depth.ravel()[where])
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
