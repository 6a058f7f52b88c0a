"""Pictures of a result: the map alone, beside its photograph with a colour bar, and the standard deviation.

Drawn without matplotlib, which takes longer than a small network.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.inference.outputs.colour import MARKS, ColourScale, depth_levels, palette, std_levels
from mde.types import Ambiguity

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from mde.inference.result import DepthResult

__all__ = [
    "Bar",
    "Panel",
    "bar_picture",
    "depth_panel",
    "depth_picture",
    "labels",
    "meaning",
    "png_bytes",
    "side_picture",
    "std_panel",
    "std_picture",
    "ticks",
]

Picture = NDArray[np.uint8]

_LOWEST = 200  # pixels: below that height no bar with its words can be read
_GAP = 8


class Bar(NamedTuple):
    """All that a drawn colour bar depends on.

    Attributes:
        scale: which value has which colour.
        title: what is shown, with its unit.
        unit: behind the ends in the legend; empty for a relative map.
        rising_is_near: large values are bright.
        marks: names of the marks that occur, see `MARKS`.
    """

    scale: ColourScale
    title: str
    unit: str
    rising_is_near: bool
    marks: tuple[str, ...]


class Panel(NamedTuple):
    """A map in colours, uint8 (H,W,3) RGB, with its bar."""

    picture: Picture
    bar: Bar


def depth_picture(result: DepthResult, scale: ColourScale | None = None) -> Picture:
    """The map in colours, uint8 (H,W,3) RGB; by default on a scale for this picture alone."""
    scale = scale or ColourScale.of([result])
    return _coloured(depth_levels(result, scale), scale)


def depth_panel(result: DepthResult, scale: ColourScale | None = None) -> Panel:
    """The map, on a scale for this picture alone where none is given."""
    metric, near = result.ambiguity is Ambiguity.METRIC, result.ambiguity is Ambiguity.AFFINE_DISPARITY
    scale = scale or ColourScale.of([result])
    levels = depth_levels(result, scale)
    title, unit = ("depth (m)", " m") if metric else (result.unit, "")
    return Panel(_coloured(levels, scale), Bar(scale, title, unit, near, _marks_in(levels)))


def std_panel(result: DepthResult) -> Panel:
    """The standard deviation: bright is unsure.

    Raises:
        ConfigError: the network says no standard deviation.
    """
    scale = ColourScale.of_std(result)
    levels = std_levels(result, scale)
    return Panel(_coloured(levels, scale), Bar(scale, "standard deviation (m)", " m", True, _marks_in(levels)))


def side_picture(result: DepthResult, scale: ColourScale | None = None, all_marks: bool = False) -> Picture:
    """The photograph (where it is known), the map and a colour bar in the unit of the map, uint8 (h,w,3) RGB.

    Small pictures are enlarged by whole factors, so that the words at the bar can be read.

    Args:
        result: the map.
        scale: of the colours; see `depth_picture`.
        all_marks: the legend has all marks, not those of this map alone: so the frames of a video have one bar.
    """
    panel = depth_panel(result, scale)
    bar = panel.bar
    if all_marks:  # on a scale that is clipped nothing but infinity lies beyond
        bar = bar._replace(marks=("none", "farther") if bar.scale.clip else tuple(MARKS))
    return _beside([panel.picture] if result.image is None else [result.image, panel.picture], bar)


def std_picture(result: DepthResult) -> Picture:
    """The standard deviation with a colour bar, uint8 (h,w,3) RGB; see `std_panel`."""
    panel = std_panel(result)
    return _beside([panel.picture], panel.bar)


def png_bytes(picture: Picture) -> bytes:
    """An RGB picture as a PNG file."""
    return bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def ticks(scale: ColourScale, most: int = 8) -> list[float]:
    """Both ends of a scale and round numbers between them, rising, far enough apart for `most` of them to fit.

    >>> ticks(ColourScale(0.5, 10.0)), ticks(ColourScale(0.5, 80.0, "log"))
    ([0.5, 2.0, 4.0, 6.0, 8.0, 10.0], [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 80.0])
    """
    apart = 0.6 / most
    kept, places = [scale.vmin], [0.0]
    candidates = _round_numbers(scale, most)
    for value, place in zip(candidates, scale.positions(np.array(candidates)), strict=True):
        if place - places[-1] >= apart and 1 - place >= apart:
            kept.append(float(f"{value:.12g}"))
            places.append(float(place))
    return [*kept, scale.vmax]


def labels(scale: ColourScale, numbers: list[float]) -> list[str]:
    """The numbers in words; the colour of an end that is clipped stands for all beyond it."""
    words = [f"{value:.3g}" for value in numbers]
    if scale.clip:  # below 0 m lies nothing
        words[0] = f"<= {words[0]}" if scale.vmin else words[0]
        words[-1] = f">= {words[-1]}"
    return words


def meaning(mark: str, bar: Bar) -> str:
    """What a mark stands for, in the words of the legend."""
    if mark == "none":
        return "unknown"
    if bar.scale.clip:  # then only infinity is marked
        return "infinite"
    low = (mark == "nearer") != bar.rising_is_near
    return f"< {bar.scale.vmin:.3g}{bar.unit}" if low else f"> {bar.scale.vmax:.3g}{bar.unit}"


def _round_numbers(scale: ColourScale, most: int) -> list[float]:
    """1, 2 and 5 of each decade where a scale that is not linear spans several; else multiples of one of them."""
    low, high = scale.vmin, scale.vmax
    if scale.kind != "linear" and high / low > 3:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        return [v for v in (factor * 10.0**decade for decade in decades for factor in (1, 2, 5)) if low <= v <= high]
    step = 10 ** math.floor(math.log10((high - low) / most))
    step *= next((factor for factor in (1, 2, 5) if (high - low) / (factor * step) < most), 10)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _coloured(levels: NDArray[np.uint8], scale: ColourScale) -> Picture:
    blue_first = palette(scale.colours)  # a table of three channels: OpenCV does not care which colours they are
    return np.asarray(cv2.applyColorMap(levels, np.ascontiguousarray(blue_first[:, None])))


def _marks_in(levels: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(name for name, mark in MARKS.items() if (levels == mark.level).any())


def _beside(pictures: list[Picture], bar: Bar) -> Picture:
    factor = -(-_LOWEST // pictures[0].shape[0])
    if factor > 1:
        pictures = [picture.repeat(factor, 0).repeat(factor, 1) for picture in pictures]
    height = pictures[0].shape[0]
    gap = np.full((height, _GAP, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate([*parts, bar_picture(bar, height)], axis=1)


@lru_cache(maxsize=32)
def bar_picture(bar: Bar, height: int) -> Picture:
    """Title, bar with its ticks and legend, uint8 (height,w,3); drawn once for a folder with one scale."""
    from PIL import Image, ImageDraw

    font = _font(min(30, max(11, height // 34)))
    line, box = _size("0", font)[1] * 2, max(12, height // 24)
    numbers = ticks(bar.scale, most=max(2, min(8, height // (4 * line))))
    legend = [(MARKS[name].colour, meaning(name, bar)) for name in bar.marks]
    words = labels(bar.scale, numbers)
    widths = [_size(bar.title, font)[0], *(box + 10 + _size(w, font)[0] for w in (*words, *(t for _, t in legend)))]
    made = Image.new("RGB", (max(widths) + 8, height), "white")
    draw = ImageDraw.Draw(made)
    draw.text((2, line // 2), bar.title, "black", font, anchor="lm")
    top, bottom = line + line // 2, height - line // 2 - line * len(legend) - 1
    made.paste(Image.fromarray(_ramp(bar, bottom - top + 1, box)), (2, top))
    for word, place in zip(words, bar.scale.positions(np.array(numbers)), strict=True):
        y = top + round(float(place if not bar.rising_is_near else 1 - place) * (bottom - top))
        draw.line((2 + box, y, 5 + box, y), "black")
        draw.text((box + 8, y), word, "black", font, anchor="lm")
    for row, (colour, text) in enumerate(legend):
        y = height - line * (len(legend) - row) + line // 2
        draw.rectangle((2, y - line // 3, 2 + box, y + line // 3), colour, "black")
        draw.text((box + 8, y), text, "black", font, anchor="lm")
    return np.asarray(made)


def _ramp(bar: Bar, height: int, width: int) -> Picture:
    """The colours of the bar from near, at the top, to far."""
    colours = palette(bar.scale.colours)[len(MARKS) :][::-1]
    rows = np.linspace(0, len(colours) - 1, height).round().astype(int)
    return np.repeat(colours[rows][:, None], width, axis=1)


@lru_cache(maxsize=8)
def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _size(text: str, font: FreeTypeFont | ImageFont) -> tuple[int, int]:
    left, top, right, bottom = font.getbbox(text)
    return math.ceil(right - left), math.ceil(bottom - top)
