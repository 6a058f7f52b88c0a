"""What a user chose on the page, as words and numbers of its fields, made into the settings of the library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mde.errors import ConfigError
from mde.inference.camera import Camera
from mde.inference.outputs import COLOURS, ColourScale
from mde.inference.result import DepthResult

__all__ = ["KINDS", "Colours", "anchors_of", "camera_of", "number_of"]

KINDS = {"linear": "linear", "log": "log", "inverse (1/depth)": "reciprocal"}
"""How colours spread over the scale: the words of the page, and those of `ColourScale`."""


@dataclass(frozen=True)
class Colours:
    """The colour scale that was chosen.

    Attributes:
        name: one of `COLOURS`.
        kind: one of the words of `KINDS`.
        near: smaller end in the unit of the map; None, as an empty field, finds both ends by percentile.
        far: larger end.
    """

    name: str = COLOURS[0]
    kind: str = "linear"
    near: float | None = None
    far: float | None = None

    def scale(self, results: Sequence[DepthResult]) -> ColourScale:
        """One scale for results of one ambiguity; what lies outside of chosen ends is marked.

        Raises:
            ConfigError: one end without the other, ends out of order, or an unknown name.
        """
        kind = KINDS.get(self.kind, self.kind)
        if self.near is None and self.far is None:
            return ColourScale.of(results, kind=kind, colours=self.name)
        if self.near is None or self.far is None:
            what = f"the colour scale has no {'near' if self.near is None else 'far'} end"
            raise ConfigError(what, where="colours", next_action="give both ends, or empty both for automatic ones")
        return ColourScale(self.near, self.far, kind, self.name)


def camera_of(fov: float | None, focal_mm: float | None, sensor_mm: float | None) -> Camera:
    """The camera of three fields, of which empty ones are None; all empty leaves it to the EXIF data.

    Raises:
        ConfigError: a focal length without its sensor, a camera in two ways, or numbers out of range.
    """
    if (focal_mm is None) != (sensor_mm is None):
        missing = "width of the sensor" if sensor_mm is None else "focal length"
        hint = "give both in mm, such as 4.2 and 5.6, or the field of view alone"
        raise ConfigError(f"the {missing} is missing", where="camera", next_action=hint)
    focal = None if focal_mm is None or sensor_mm is None else (focal_mm, sensor_mm)
    return Camera(fov=fov, focal=focal)


def number_of(text: str, name: str) -> float | None:
    """The number in a field; None where it is empty. A comma is taken for the decimal point.

    Raises:
        ConfigError: something else, or no finite number.

    >>> number_of(" 2,5 ", "near end"), number_of("", "near end")
    (2.5, None)
    """
    if not text.strip():
        return None
    try:
        found = float(text.strip().replace(",", "."))
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ConfigError(f"{text.strip()!r} is not a number", where=name, next_action="type one, such as 2.5")
    return found


def anchors_of(text: str) -> list[tuple[float, float, float]]:
    """Points of known depth from lines "x,y,metres"; empty lines do not count.

    Raises:
        ConfigError: a line that is not three numbers.

    >>> anchors_of("320,240,2.5")
    [(320.0, 240.0, 2.5)]
    """
    return [_anchor(line) for line in text.splitlines() if line.strip()]


def _anchor(line: str) -> tuple[float, float, float]:
    try:
        x, y, metres = (float(part) for part in line.split(","))
    except ValueError:
        what = f"{line.strip()!r} is not x,y,metres"
        hint = "click on the picture and type the metres behind the comma: 320,240,2.5"
        raise ConfigError(what, where="anchors", next_action=hint) from None
    return x, y, metres
