"""The Kinect's colour camera."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mde.geometry import intrinsics_matrix, resize_intrinsics

__all__ = ["NYU_INTRINSICS", "NYU_SIZE", "nyu_camera"]

NYU_SIZE = (480, 640)
NYU_INTRINSICS = (518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)
"""fx, fy, cx, cy of the colour camera in pixels of 640x480, from the toolbox of the authors (camera_params.m).

The lens distorts (k1 = 0.208, k2 = -0.586, k3 = 0.499, p1 = 0.0072, p2 = 0.0010), and the frames are not undistorted:
away from the centre the pinhole model is off by several pixels.
"""


def nyu_camera(height: int, width: int, focal_px: float | None = None) -> NDArray[np.float32]:
    """The matrix (3,3) for frames of this size: reduced copies exist.

    Args:
        height, width: of the image in pixels.
        focal_px: the focal length that a list file gives for both axes, in pixels of this image.
    """
    rows, columns = NYU_SIZE
    made = resize_intrinsics(intrinsics_matrix(*NYU_INTRINSICS), width / columns, height / rows)
    if focal_px is not None:
        made[0, 0] = made[1, 1] = focal_px
    return np.asarray(made.numpy())
