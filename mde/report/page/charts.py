"""Curves of the training as SVG inside the page: one colour a method, training dashed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mde.report.curves import Curves

__all__ = ["colour", "curve_charts"]

_WIDTH, _HEIGHT = 520, 220
_MARGIN = 46  # pixels, of the numbers at the left
_FOOT = 34
_COLOURS = 6
_LOGARITHMIC = 100  # largest over smallest loss from which on its axis is logarithmic
_DENSEST = 400  # points of a line; more cannot be seen


class _Line(NamedTuple):
    name: str
    method: int
    dashed: bool
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def colour(number: int) -> str:
    """The colour of a method, as CSS."""
    return f"var(--m{number % _COLOURS})"


def curve_charts(curves: Mapping[str, Curves], metrics: Sequence[str] = ("val/abs_rel", "val/delta1")) -> str:
    """Loss (training dashed, validation solid) and validation metrics over epochs; empty where nothing was logged.

    Args:
        curves: by method.
        metrics: logged names, one chart each, where a run has it.
    """
    losses = []
    for number, (name, each) in enumerate(curves.items()):
        training = "train/loss_epoch" if "train/loss_epoch" in each else "train/loss"
        losses += _lines(each, training, f"{name}, training", number, dashed=True)
        losses += _lines(each, "val/loss", f"{name}, validation", number)
    charts = [_chart("loss", losses)]
    for metric in metrics:
        found = [_lines(each, metric, name, number) for number, (name, each) in enumerate(curves.items())]
        charts.append(_chart(metric, [line for lines in found for line in lines]))
    drawn = "".join(charts)
    return f'<div class="charts">{drawn}</div>' if drawn else ""


def _lines(curves: Curves, name: str, label: str, method: int, dashed: bool = False) -> list[_Line]:
    if name not in curves:
        return []
    x, y = curves[name]
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    every = max(1, math.ceil(len(x) / _DENSEST))
    return [_Line(label, method, dashed, x[::every], y[::every])] if len(x) else []


def _chart(title: str, lines: Sequence[_Line]) -> str:
    if not lines:
        return ""
    right = max(max(float(line.x.max()) for line in lines), 1e-9)
    values = np.concatenate([line.y for line in lines])
    smallest, largest = float(values.min()), float(values.max())
    powers = title == "loss" and 0 < smallest < largest / _LOGARITHMIC
    ticks = _powers(smallest, largest) if powers else _ticks(smallest, largest)
    scale: Callable[[float], float] = math.log10 if powers else float
    low, high = scale(ticks[0]), scale(ticks[-1])

    def place(x: float, y: float) -> tuple[float, float]:
        return _MARGIN + (_WIDTH - _MARGIN - 8) * x / right, _HEIGHT * (high - scale(y)) / (high - low)

    grid = "".join(_grid_line(tick, place(0, tick)[1]) for tick in ticks)
    steps = [tick for tick in _ticks(0, right) if tick <= right]
    feet = "".join(f'<text x="{place(t, ticks[0])[0]:.1f}" y="{_HEIGHT + 18}">{t:g}</text>' for t in steps)
    drawn = "".join(_drawn(line, [place(*point) for point in zip(line.x, line.y, strict=True)]) for line in lines)
    keys = "".join(
        f'<span><i class="{"dashed" if line.dashed else ""}" style="--c:{colour(line.method)}"></i>{escape(line.name)}'
        "</span>"
        for line in lines
    )
    epochs = f'<text x="{(_WIDTH + _MARGIN) / 2:.0f}" y="{_HEIGHT + _FOOT}">epoch</text>'
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption><svg viewBox="0 -8 {_WIDTH} '
        f'{_HEIGHT + _FOOT + 12}" role="img" aria-label="{escape(title)} over epochs">{grid}{feet}{epochs}{drawn}</svg>'
        f'<p class="key">{keys}</p></figure>'
    )


def _grid_line(tick: float, y: float) -> str:
    return (
        f'<line x1="{_MARGIN}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="side" x="{_MARGIN - 6}" y="{y + 4:.1f}">{tick:.4g}</text>'
    )


def _drawn(line: _Line, points: Sequence[tuple[float, float]]) -> str:
    dash = ' stroke-dasharray="6 4"' if line.dashed else ""
    title = f"<title>{escape(line.name)}</title>"
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    style = f'style="stroke:{colour(line.method)}"'
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points) if len(points) <= 40 else ""
    fill = f'<g style="fill:{colour(line.method)}">{dots}</g>'
    return f'<polyline points="{path}" {style}{dash}>{title}</polyline>{fill}'


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten that enclose the range."""
    return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def _ticks(low: float, high: float) -> list[float]:
    """Some five round numbers that enclose the range."""
    span = high - low if high > low else max(abs(high), 1e-9)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * number for number in range(first, max(last, first + 1) + 1)]
