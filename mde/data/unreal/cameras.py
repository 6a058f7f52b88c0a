"""The camera of a frame: known from the form, from the user, or from a file beside the frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from mde.errors import DataFormatError

__all__ = ["read_stereo4k", "read_virtual_kitti"]


@lru_cache(maxsize=64)  # the file holds the whole sequence, and is asked for once per frame
def read_virtual_kitti(path: str) -> dict[tuple[int, int], tuple[float, float, float, float]]:
    """Virtual KITTI 2's ``intrinsic.txt``: fx, fy, cx, cy by (frame, camera).

    Columns ``frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]`` after a header. The principal point is (620.5, 187) for
    1242x375, so the centre of the first pixel is (0, 0), as in this library.

    Raises:
        DataFormatError: the file cannot be read.
    """
    try:
        rows = [line.split() for line in Path(path).read_text().splitlines()[1:] if line.strip()]
        return {(int(r[0]), int(r[1])): (float(r[2]), float(r[3]), float(r[4]), float(r[5])) for r in rows}
    except (OSError, ValueError, IndexError) as error:
        hint = "fetch vkitti_2.0.3_textgt.tar.gz and unpack it beside the frames"
        raise DataFormatError(f"no intrinsics ({error})", where=path, next_action=hint) from error


def read_stereo4k(left: str) -> tuple[float, float]:
    """UnrealStereo4K: focal length in px and baseline in metres, from ``Extrinsics0`` and ``Extrinsics1``.

    The focal length is the first number of the first line, the position across the first row of the second line, its
    fourth number. Depth is focal length times baseline over disparity.

    Args:
        left: path of the file of the left camera; that of the right one lies beside it.

    Raises:
        DataFormatError: a file cannot be read, or the two cameras are at one place.
    """
    path = Path(left)
    right = path.parents[1] / "Extrinsics1" / path.name
    (focal, here), (_, there) = _focal_and_position(path), _focal_and_position(right)
    if not focal > 0 or here == there:
        what = f"a focal length of {focal:g} px and a baseline of {abs(here - there):g} m give no depth"
        raise DataFormatError(what, where=left, next_action="fetch the Extrinsics again")
    return focal, abs(here - there)


def _focal_and_position(path: Path) -> tuple[float, float]:
    try:
        first, second = (_numbers(line) for line in path.read_text().splitlines()[:2])
        return first[0], second[3]
    except (OSError, ValueError, IndexError) as error:
        hint = "UnrealStereo4K needs Extrinsics0 and Extrinsics1 with one text file per frame"
        raise DataFormatError(f"no camera ({error})", where=path, next_action=hint) from error


def _numbers(line: str) -> Sequence[float]:
    return [float(word) for word in line.split()]
