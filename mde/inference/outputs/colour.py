"""Colours of a depth map: perceptually uniform, safe for the colour-blind, near is bright.

Bright stands for near whatever the numbers are: small depths, large disparities. Three colours that no map contains
mark what has no place on the scale: grey has no depth, white is nearer than the scale begins, sky blue farther than it
ends (that of M. Okabe and K. Ito, "Color Universal Design", 2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.data.noted import plain_depth
from mde.errors import ConfigError, nearest
from mde.types import Ambiguity

if TYPE_CHECKING:
    from mde.inference.result import DepthResult

__all__ = ["COLOURS", "MARKS", "ColourScale", "Mark", "depth_levels", "palette", "std_levels"]

COLOURS = ("viridis", "cividis", "magma", "inferno", "plasma")
"""Maps of matplotlib that are perceptually uniform and keep their order for the colour-blind."""

_KINDS = ("linear", "log", "reciprocal")
_FIRST = 3  # level of the first colour of the map, behind the marks
_LAST = 255
_ENOUGH = 100_000  # pixels of a map, to judge its percentiles by


class Mark(NamedTuple):
    """A level that stands for no place on the scale."""

    level: int
    colour: tuple[int, int, int]


MARKS = {"none": Mark(0, (191, 191, 191)), "nearer": Mark(1, (255, 255, 255)), "farther": Mark(2, (86, 180, 233))}


@dataclass(frozen=True)
class ColourScale:
    """Which value gets which colour, for one picture or for all of a folder.

    Args:
        vmin: lower end, in the unit of the map: metres, where the network says metres.
        vmax: upper end.
        kind: "linear"; "log", equal ratios look equally far apart; "reciprocal", linear in 1/depth: detail nearby.
        colours: one of `COLOURS`.
        clip: values outside get the colour of the end. False marks them: white is nearer, sky blue farther.

    Raises:
        ConfigError: the ends are not finite and rising, not above 0 for log and reciprocal, or a name is unknown.
    """

    vmin: float
    vmax: float
    kind: str = "linear"
    colours: str = "viridis"
    clip: bool = False

    def __post_init__(self) -> None:
        for name, known in ((self.kind, _KINDS), (self.colours, COLOURS)):
            if name not in known:
                hint = f"nearest: {nearest(name, known)}"
                raise ConfigError(f"unknown colour scale {name!r}", where="colours", next_action=hint)
        if not (np.isfinite((self.vmin, self.vmax)).all() and self.vmin < self.vmax):
            what = f"a colour scale rises from one finite number to another, got {self.vmin:g} to {self.vmax:g}"
            raise ConfigError(what, where="colours", next_action="give the smaller end first, such as 0.5 10")
        if self.kind != "linear" and self.vmin <= 0:
            what = f"a {self.kind} scale begins above 0, got {self.vmin:g}"
            raise ConfigError(what, where="colours", next_action="give another lower end, or take linear")

    @classmethod
    def of(
        cls,
        results: Sequence[DepthResult],
        percentiles: tuple[float, float] = (1.0, 99.0),
        kind: str = "linear",
        colours: str = "viridis",
    ) -> ColourScale:
        """One scale for several maps, between two percentiles of all their pixels; what lies outside is clipped.

        Args:
            results: a picture, or the first ones of a folder or clip; all of one ambiguity.
            percentiles: lower and upper, 0 to 100.
            kind: see `ColourScale`.
            colours: see `ColourScale`.

        Raises:
            ConfigError: no results, results of several ambiguities, or percentiles out of order.
        """
        if len({result.ambiguity for result in results}) != 1 or not 0 <= percentiles[0] < percentiles[1] <= 100:
            what = f"cannot find a scale between percentiles {percentiles} of {len(results)} results"
            hint = "give results of one network, and rising percentiles between 0 and 100"
            raise ConfigError(what, where="colours", next_action=hint)
        return cls._around([plain_depth(r.values, r.ambiguity) for r in results], percentiles, kind, colours)

    @classmethod
    def of_std(cls, result: DepthResult, colours: str = "magma") -> ColourScale:
        """A scale for the standard deviations of one picture: from 0 to their 99th percentile, clipped.

        Raises:
            ConfigError: the network says no standard deviation.
        """
        top = cls._around([_std(result)], (1.0, 99.0), "linear", colours).vmax
        return cls(0.0, top if top > 0 else 1.0, "linear", colours, clip=True)

    @classmethod
    def _around(
        cls, maps: Sequence[NDArray[np.float32]], percentiles: tuple[float, float], kind: str, colours: str
    ) -> ColourScale:
        known = np.concatenate([_some(values) for values in maps])
        low, high = (float(end) for end in np.percentile(known, percentiles)) if known.size else (1.0, 2.0)
        if not high - low > 1e-6 * max(abs(low), abs(high)):  # one value: it gets the middle of the scale
            half = 0.1 * abs(low) or 0.1
            low, high = low - half, high + half
        return cls(low, high, kind, colours, clip=True)

    def positions(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Where values lie on the scale: 0 at `vmin`, 1 at `vmax`, clipped; NaN stays NaN.

        >>> ColourScale(1.0, 100.0, "log").positions(np.array([0.5, 10.0, 100.0])).tolist()
        [0.0, 0.5, 1.0]
        """
        ends = np.array([self.vmin, self.vmax], np.float32)
        inside = np.clip(values, *ends, dtype=np.float32)
        low, high = (float(end) for end in self._stretched(ends))
        return np.asarray((self._stretched(inside) - low) / (high - low), np.float32)

    def _stretched(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The values on an axis along which the colours change evenly, rising."""
        if self.kind == "log":
            return np.asarray(np.log(values))
        return np.asarray(-1 / values) if self.kind == "reciprocal" else values


def depth_levels(result: DepthResult, scale: ColourScale) -> NDArray[np.uint8]:
    """Index of each pixel in `palette`, uint8 (H,W): the marks first, then from far to near.

    Raises:
        ConfigError: a scale that is not linear for a map with a shift, whose zero means nothing.
    """
    shifted = result.ambiguity in (Ambiguity.AFFINE_DEPTH, Ambiguity.AFFINE_DISPARITY)
    if shifted and scale.kind != "linear":
        what = f"a {scale.kind} scale says nothing of {result.ambiguity.unit} with an unknown shift"
        raise ConfigError(what, where="colours", next_action="take linear, or give scale anchors")
    values = plain_depth(result.values, result.ambiguity)
    return _levels(values, scale, rising_is_near=result.ambiguity is Ambiguity.AFFINE_DISPARITY)


def std_levels(result: DepthResult, scale: ColourScale) -> NDArray[np.uint8]:
    """As `depth_levels` for the standard deviation: bright is unsure.

    Raises:
        ConfigError: the network says no standard deviation.
    """
    return _levels(_std(result), scale, rising_is_near=True)


@lru_cache(maxsize=16)
def palette(colours: str) -> NDArray[np.uint8]:
    """RGB of each level, uint8 (256,3): three marks, then the map from dark to bright."""
    ramp = np.linspace(0, 255, _LAST - _FIRST + 1).round().astype(np.uint8)
    drawn = cv2.applyColorMap(ramp[:, None], getattr(cv2, f"COLORMAP_{colours.upper()}"))[:, 0, ::-1]
    made = np.concatenate(([mark.colour for mark in MARKS.values()], drawn)).astype(np.uint8)
    made.setflags(write=False)  # shared by all who ask
    return made


def _levels(values: NDArray[np.float32], scale: ColourScale, *, rising_is_near: bool) -> NDArray[np.uint8]:
    place = scale.positions(values)
    bright = place if rising_is_near else 1 - place
    unknown = np.isnan(values)
    levels = np.where(unknown, 0, _FIRST + np.rint(bright * (_LAST - _FIRST))).astype(np.uint8)
    low, high = ("farther", "nearer") if rising_is_near else ("nearer", "farther")
    levels[np.isposinf(values)] = MARKS["farther"].level  # an end that is clipped, but not that of infinity
    if not scale.clip:
        levels[values < np.float32(scale.vmin)] = MARKS[low].level
        levels[values > np.float32(scale.vmax)] = MARKS[high].level
    return levels


def _std(result: DepthResult) -> NDArray[np.float32]:
    if result.std is None:
        hint = "take a network that says it (DeepLabSID), or average mirrored pictures"
        raise ConfigError("this network does not say how sure it is", where=result.model, next_action=hint)
    return result.std


def _some(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Finite values of a map, evenly spread, not many more than are needed."""
    known = values[np.isfinite(values)]
    return known[:: max(1, known.size // _ENOUGH)]
