"""A matplotlib figure of a result, for notebooks and papers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mde.inference.outputs.colour import MARKS, ColourScale, palette
from mde.inference.outputs.pictures import Panel, depth_panel, labels, meaning, std_panel, ticks

if TYPE_CHECKING:
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from mde.inference.result import DepthResult

__all__ = ["figure"]

_WIDTH = 4.2  # inches of a panel with its bar


def figure(result: DepthResult, scale: ColourScale | None = None) -> Figure:
    """As `DepthResult.plot`; neither a display nor pyplot's state is touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [depth_panel(result, scale), *([] if result.std is None else [std_panel(result)])]
    count, (height, width) = len(panels) + (result.image is not None), result.values.shape
    made = Figure(figsize=(_WIDTH * count, 0.8 * _WIDTH * float(np.clip(height / width, 0.3, 2)) + 0.6))
    made.set_layout_engine("constrained")
    FigureCanvasAgg(made)
    axes = list(made.subplots(1, count, squeeze=False)[0])
    if result.image is not None:
        axes[0].imshow(result.image)
        axes[0].set_title(result.source, fontsize=9)
    for axis, panel in zip(axes[-len(panels) :], panels, strict=True):
        _draw(made, axis, panel)
    for axis in axes:
        axis.set_axis_off()
    return made


def _draw(figure: Figure, axis: Any, panel: Panel) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    picture, bar = panel
    axis.imshow(picture, interpolation="nearest")
    colours = palette(bar.scale.colours)[len(MARKS) :][:: 1 if bar.rising_is_near else -1] / 255
    drawn = figure.colorbar(ScalarMappable(_norm(bar.scale), ListedColormap(colours)), ax=axis, fraction=0.046)
    drawn.ax.set_yticks(ticks(bar.scale), labels(bar.scale, ticks(bar.scale)))
    drawn.ax.minorticks_off()
    drawn.set_label(bar.title)
    if not bar.rising_is_near:  # near is at the top
        drawn.ax.invert_yaxis()
    patches = [Patch(color=_rgb(mark), label=meaning(mark, bar)) for mark in bar.marks]
    if patches:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "ncols": 3}
        axis.legend(handles=patches, **place, frameon=False, fontsize=8)


def _rgb(mark: str) -> tuple[float, float, float]:
    red, green, blue = MARKS[mark].colour
    return red / 255, green / 255, blue / 255


def _norm(scale: ColourScale) -> Normalize:
    from matplotlib.colors import FuncNorm, LogNorm, Normalize

    if scale.kind == "log":
        return LogNorm(scale.vmin, scale.vmax)
    if scale.kind == "linear":
        return Normalize(scale.vmin, scale.vmax)
    return FuncNorm((_negative_inverse, _negative_inverse), scale.vmin, scale.vmax)


def _negative_inverse(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rising, and its own inverse."""
    with np.errstate(divide="ignore"):
        return np.asarray(-1 / np.asarray(values))
