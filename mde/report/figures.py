"""Figures with honest colours: truth and prediction share one scale in metres, unknown is grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["depth_figure"]

_DEPTH_COLOURS = "viridis_r"  # perceptually uniform and safe for the colour-blind; near is bright
_ERROR_COLOURS = "magma"
_UNKNOWN = "0.75"


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(image)
    height, width = image.shape[-2:]
    # a colour bar takes about a sixth of an axis' width
    figure = Figure(figsize=(12.6, count * (2.75 * height / width + 0.12) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(count, 4, squeeze=False)
    for row in range(count):
        truth = np.ma.masked_where(~_map(valid[row]), _map(depth[row]))
        guess = _map(pred[row])
        error = np.ma.abs(guess - truth)
        low, high = _limits(truth, guess)
        axes[row, 0].imshow(image[row].detach().cpu().float().clamp(0, 1).permute(1, 2, 0).numpy())
        _show(figure, axes[row, 1], truth, _DEPTH_COLOURS, low, high)
        _show(figure, axes[row, 2], guess, _DEPTH_COLOURS, low, high)
        _show(figure, axes[row, 3], error, _ERROR_COLOURS, 0.0, max(_percentile(error, 98), 1e-3))
        if row < len(names):
            axes[row, 0].set_ylabel(names[row], fontsize=8)
    for axis, head in zip(axes[0], ("RGB", "truth (m)", "prediction (m)", "absolute error (m)"), strict=True):
        axis.set_title(head, fontsize=10)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _map(tensor: Tensor) -> NDArray[Any]:
    return np.asarray(
        tensor.detach().cpu().float().squeeze(0).numpy() if tensor.is_floating_point() else tensor.cpu().squeeze(0)
    )


def _percentile(values: NDArray[Any], q: float) -> float:
    known = np.ma.compressed(np.ma.asarray(values))
    return float(np.percentile(known, q)) if known.size else 1.0


def _limits(truth: NDArray[Any], guess: NDArray[Any]) -> tuple[float, float]:
    """One scale for both maps, from the truth where there is one."""
    reference = truth if np.ma.count(truth) else guess
    low, high = _percentile(reference, 1), _percentile(reference, 99)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _show(figure: Any, axis: Any, values: NDArray[Any], colours: str, low: float, high: float) -> None:
    axis.set_facecolor(_UNKNOWN)
    drawn = axis.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    bar = figure.colorbar(drawn, ax=axis, fraction=0.04, pad=0.015)
    bar.ax.tick_params(labelsize=7)
