"""How a picture was taken: intrinsics from pixels, a field of view, a focal length in millimetres, or EXIF."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mde.errors import ConfigError, DataFormatError

__all__ = ["Camera", "exif_focal"]

Size = tuple[int, int]

# EXIF 3.0, tables 4 to 8
_ORIENTATION = 0x0112
_FOCAL_MM, _FOCAL_35MM = 0x920A, 0xA405
_PLANE_X, _PLANE_Y, _PLANE_UNIT = 0xA20E, 0xA20F, 0xA210
_WIDTH, _HEIGHT = 0xA002, 0xA003
_UNIT_MM = {2: 25.4, 3: 10.0}  # inch, centimetre
_FILM_DIAGONAL_MM = math.hypot(36, 24)


@dataclass(frozen=True)
class Camera:
    """What is known of a camera; nothing at all leaves it to the EXIF data of each picture.

    Pictures are meant as they are seen, upright. The principal point of all but `pixels` is the centre, and pixels are
    square.

    Args:
        pixels: (fx, fy, cx, cy); the centre of the top-left pixel is (0, 0).
        size: (height, width) of the picture that `pixels` are for; they are rescaled with it. None: each picture's own.
        fov: horizontal field of view, degrees.
        focal: focal length and width of the sensor, both in mm; the width lies along the longer side of a picture.

    Raises:
        ConfigError: two of them at once, or numbers out of range.
    """

    pixels: tuple[float, float, float, float] | None = None
    size: Size | None = None
    fov: float | None = None
    focal: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("pixels", "fov", "focal") if getattr(self, name) is not None]
        hint = "give one of pixels (fx, fy, cx, cy), fov in degrees, focal (mm, sensor width in mm)"
        if len(given) > 1 or (self.size is not None and self.pixels is None):
            what = f"a camera is given in one way, not by {', '.join(given) or 'a size alone'}"
            raise ConfigError(what, where="camera", next_action=hint)
        positive = [*(self.pixels or ())[:2], *(self.focal or ()), *(self.size or ())]
        finite = all(math.isfinite(number) for number in (*positive, *(self.pixels or ())))
        wide = self.fov is not None and not 0 < self.fov < 180
        if not finite or wide or any(number <= 0 for number in positive):
            raise ConfigError(f"no camera has {self.describe()}", where="camera", next_action=hint)

    def intrinsics(self, size: Size, focal_px: tuple[float, float] | None = None) -> NDArray[np.float64] | None:
        """The matrix (3,3) for a picture of `size` (height, width), in its pixels; None where nothing is known.

        Args:
            size: of the picture.
            focal_px: what its EXIF data say, see `exif_focal`.

        Raises:
            DataFormatError: the shape of the picture is not that for which the pixels are.

        >>> Camera(fov=90).intrinsics((480, 640))[0].round(6).tolist()
        [320.0, 0.0, 319.5]
        """
        height, width = size
        if self.pixels is not None:
            return _rescaled(self.pixels, self.size or size, size)
        if self.fov is not None:
            focal_px = (width / 2 / math.tan(math.radians(self.fov) / 2),) * 2
        elif self.focal is not None:
            focal_px = (self.focal[0] / self.focal[1] * max(size),) * 2
        if focal_px is None:
            return None
        return _matrix(*focal_px, (width - 1) / 2, (height - 1) / 2)

    def describe(self) -> str:
        """In words, for messages."""
        parts = {"fx, fy, cx, cy": self.pixels, "field of view": self.fov, "focal length and sensor width": self.focal}
        return ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None) or "EXIF data"


def exif_focal(tags: Mapping[int, Any], size: Size) -> tuple[float, float] | None:
    """Focal lengths (fx, fy) in pixels of the upright picture, from EXIF data; None where they do not say it.

    FocalLengthIn35mmFilm compares diagonals (36x24 mm film). Without it FocalLength and the resolution of the sensor
    are taken, which belong to the picture as it was taken: where that size is noted they are rescaled.

    Args:
        tags: by number, those of the main and of the EXIF directory together.
        size: (height, width) of the picture as it is stored, before it is turned upright.

    >>> exif_focal({0xA405: 36}, (2400, 3600))
    (3600.0, 3600.0)
    """
    height, width = size
    film = _positive(tags.get(_FOCAL_35MM))
    if film:
        focal = film / _FILM_DIAGONAL_MM * math.hypot(height, width)
        return focal, focal
    millimetres, unit = _positive(tags.get(_FOCAL_MM)), _UNIT_MM.get(int(_positive(tags.get(_PLANE_UNIT, 2))))
    dense = _positive(tags.get(_PLANE_X))
    if not millimetres or not dense or unit is None:
        return None
    taken = _positive(tags.get(_HEIGHT)) or height, _positive(tags.get(_WIDTH)) or width
    fx = millimetres * dense / unit * width / taken[1]
    fy = millimetres * (_positive(tags.get(_PLANE_Y)) or dense) / unit * height / taken[0]
    return (fy, fx) if int(_positive(tags.get(_ORIENTATION))) in (5, 6, 7, 8) else (fx, fy)


def _rescaled(pixels: tuple[float, float, float, float], old: Size, new: Size) -> NDArray[np.float64]:
    fx, fy, cx, cy = pixels
    down, across = new[0] / old[0], new[1] / old[1]
    if abs(down / across - 1) > 0.01:
        what = f"intrinsics for {old[1]}x{old[0]} pixels do not suit a picture of {new[1]}x{new[0]}: another shape"
        raise DataFormatError(what, where="camera", next_action="give the size that they belong to")
    return _matrix(fx * across, fy * down, (cx + 0.5) * across - 0.5, (cy + 0.5) * down - 0.5)


def _positive(value: Any) -> float:
    """A number of EXIF data; 0 for all that means "unknown"."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _matrix(fx: float, fy: float, cx: float, cy: float) -> NDArray[np.float64]:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)
