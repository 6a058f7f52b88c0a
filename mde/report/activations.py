"""What the levels of a decoder see, as pictures (paper 3, figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["activation_figure"]

_COLUMNS = 4


def activation_figure(image: Tensor, depth: Tensor, valid: Tensor, levels: Sequence[Tensor], title: str = "") -> Figure:
    """A grid of RGB, truth, and the mean over the channels of each level, coarse to fine.

    Each map has its own range of colours: activations have no unit and no common scale.

    Args:
        image: (3,H,W), RGB in [0,1].
        depth: (1,h,w), metres.
        valid: bool (1,h,w); pixels outside stay white.
        levels: maps (C,h,w) of any size.
        title: above the figure.

    Returns:
        A matplotlib figure; the caller saves it. No display and no global state of pyplot is touched.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    truth = np.ma.masked_where(~valid[0].cpu().numpy(), depth[0].detach().cpu().float().numpy())
    maps: dict[str, NDArray[Any]] = {"truth": truth}
    for number, level in enumerate(levels, start=1):
        name = f"level {number}: {level.shape[0]} at {level.shape[1]}x{level.shape[2]}"
        maps[name] = level.detach().cpu().float().mean(0).numpy()
    rows = -(-(1 + len(maps)) // _COLUMNS)
    height, width = image.shape[-2:]
    figure = Figure(figsize=(2.8 * _COLUMNS, rows * (2.8 * height / width + 0.3) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    first, *others = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    first.imshow(image.detach().cpu().float().clamp(0, 1).permute(1, 2, 0).numpy())
    first.set_title("RGB", fontsize=8)
    for axis, (name, values) in zip(others, maps.items(), strict=False):
        axis.imshow(values, cmap="viridis", interpolation="nearest")
        axis.set_title(name, fontsize=8)
    for axis in (first, *others):
        axis.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=10)
    return figure
