"""Small results to write and draw."""

from __future__ import annotations

import numpy as np

from mde.inference.result import DepthResult
from mde.types import Ambiguity

CAMERA = np.array([[31.3, 0, 15.2], [0, 29.7, 11.1], [0, 0, 1]])


def room(ambiguity: Ambiguity = Ambiguity.METRIC, **changes: object) -> DepthResult:
    """24x32 pixels: a wall at 4 m behind a box at 2 m, one hole."""
    values = np.full((24, 32), 4.0, np.float32)
    values[8:16, 10:20] = 2.0
    values[0, 0] = np.nan
    image = np.zeros((24, 32, 3), np.uint8)
    image[...] = (10, 120, 250)
    image[8:16, 10:20] = (200, 60, 30)
    facts = {"image": image, "intrinsics": CAMERA, "depth_range": (0.1, 10.0), "model": "UNet", "source": "room/1.jpg"}
    return DepthResult(
        **{"values": values, "ambiguity": ambiguity, "std": values * np.float32(0.05), **facts, **changes}
    )
