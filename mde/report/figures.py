"""Figures with honest colours: truth and prediction share one scale in metres, unknown is grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "DEPTH_COLOURS",
    "ERROR_COLOURS",
    "ComparedImage",
    "comparison_figure",
    "depth_figure",
    "depth_limits",
    "error_limit",
]

DEPTH_COLOURS = "viridis_r"
"""Of matplotlib: perceptually uniform and safe for the colour-blind; near is bright."""

ERROR_COLOURS = "magma"

_UNKNOWN = "0.75"
_CELL_INCHES = 1.9  # width of a picture of `comparison_figure`


class ComparedImage(NamedTuple):
    """A row of `comparison_figure`.

    Attributes:
        name: under its pictures.
        image: uint8 (H,W,3) RGB.
        depth: (h,w), metres, 0 where unknown.
        preds: by method, (h,w), metres; a method that is not there stays blank.
    """

    name: str
    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    preds: dict[str, NDArray[np.float32]]


def depth_figure(
    image: Tensor, depth: Tensor, valid: Tensor, pred: Tensor, names: Sequence[str] = (), title: str = ""
) -> Figure:
    """Rows of RGB | truth | prediction | absolute error, with colour bars in metres.

    Args:
        image: (B,3,H,W), RGB in [0,1].
        depth: (B,1,h,w), metres.
        valid: bool (B,1,h,w); pixels outside are grey in truth and error.
        pred: (B,1,h,w), metres.
        names: one per row.
        title: above the figure.

    Returns:
        A matplotlib figure; the caller saves it. No display and no global state of pyplot is touched.
    """
    count = len(image)
    height, width = image.shape[-2:]
    # a colour bar takes about a sixth of an axis' width
    figure = _figure(12.6, count * (2.75 * height / width + 0.12) + 0.5)
    axes = figure.subplots(count, 4, squeeze=False)
    for row in range(count):
        truth = np.ma.masked_where(~_map(valid[row]), _map(depth[row]))
        guess = _map(pred[row])
        error = np.ma.abs(guess - truth)
        low, high = depth_limits(truth, guess)
        axes[row, 0].imshow(image[row].detach().cpu().float().clamp(0, 1).permute(1, 2, 0).numpy())
        _show(figure, axes[row, 1], truth, DEPTH_COLOURS, low, high)
        _show(figure, axes[row, 2], guess, DEPTH_COLOURS, low, high)
        _show(figure, axes[row, 3], error, ERROR_COLOURS, 0.0, error_limit(error))
        if row < len(names):
            axes[row, 0].set_ylabel(names[row], fontsize=8)
    for axis, head in zip(axes[0], ("RGB", "truth (m)", "prediction (m)", "absolute error (m)"), strict=True):
        axis.set_title(head, fontsize=10)
    _without_ticks(axes)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def comparison_figure(rows: Sequence[ComparedImage], methods: Sequence[str], title: str = "") -> Figure:
    """The figure of a paper: rows are images; columns are RGB, truth and each method, on one scale with one bar.

    The scale spans the 1st to the 99th percentile of the truth of all rows, so that equal colours are equal depths
    everywhere in the figure. Unknown truth and missing predictions are grey.

    Args:
        rows: at least one, each with at least one prediction.
        methods: names of the columns, in their order.
        title: above the figure.

    Returns:
        A matplotlib figure; the caller saves it as PNG or PDF.
    """
    heads = ("RGB", "truth", *methods)
    heights = [row.image.shape[0] / row.image.shape[1] for row in rows]
    figure = _figure(_CELL_INCHES * len(heads) + 0.7, _CELL_INCHES * sum(heights) + 0.35 + 0.05 * len(rows))
    axes = figure.subplots(len(rows), len(heads), squeeze=False, height_ratios=heights)
    all_known = np.concatenate([row.depth[row.depth > 0].ravel() for row in rows])
    low, high = depth_limits(all_known, np.concatenate([p.ravel() for row in rows for p in row.preds.values()]))
    drawn: Any = None
    for line, row in zip(axes, rows, strict=True):
        # matplotlib fits a map to its own pixels: the picture takes the extent of the truth
        extent = (-0.5, row.depth.shape[1] - 0.5, row.depth.shape[0] - 0.5, -0.5)
        line[0].imshow(row.image, extent=extent, interpolation="antialiased")
        line[0].set_ylabel(row.name, fontsize=6)
        maps = [np.ma.masked_where(row.depth <= 0, row.depth), *(row.preds.get(name) for name in methods)]
        for axis, values in zip(line[1:], maps, strict=True):
            shown = np.ma.masked_where(True, row.depth) if values is None else values
            drawn = _draw(axis, shown, DEPTH_COLOURS, low, high, extent)
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head, fontsize=9)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.025, pad=0.01, aspect=15 * sum(heights))
    bar.set_label("depth (m)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    _without_ticks(axes)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def depth_limits(truth: NDArray[Any], guess: NDArray[Any]) -> tuple[float, float]:
    """Ends of one scale of colours for truth and prediction, from the truth where there is one.

    Args:
        truth: any shape, metres; masked where unknown.
        guess: any shape, metres.
    """
    reference = truth if np.ma.count(truth) else guess
    low, high = _percentile(reference, 1), _percentile(reference, 99)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def error_limit(error: NDArray[Any]) -> float:
    """Upper end of the scale of colours for absolute errors in metres, any shape, masked where unknown."""
    return max(_percentile(error, 98), 1e-3)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _map(tensor: Tensor) -> NDArray[Any]:
    return np.asarray(
        tensor.detach().cpu().float().squeeze(0).numpy() if tensor.is_floating_point() else tensor.cpu().squeeze(0)
    )


def _percentile(values: NDArray[Any], q: float) -> float:
    known = np.ma.compressed(np.ma.asarray(values))
    return float(np.percentile(known, q)) if known.size else 1.0


def _draw(axis: Any, values: NDArray[Any], colours: str, low: float, high: float, extent: Any = None) -> Any:
    axis.set_facecolor(_UNKNOWN)
    return axis.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest", extent=extent)


def _show(figure: Any, axis: Any, values: NDArray[Any], colours: str, low: float, high: float) -> None:
    bar = figure.colorbar(_draw(axis, values, colours, low, high), ax=axis, fraction=0.04, pad=0.015)
    bar.ax.tick_params(labelsize=7)


def _without_ticks(axes: Any) -> None:
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
