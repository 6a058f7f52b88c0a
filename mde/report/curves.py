"""Loss curves of one or several runs (paper 3, figure 3), from the ``metrics.csv`` that each run writes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mde.errors import DataFormatError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Curves", "curve_figure", "read_curves"]

_HINT = "give the metrics.csv of a run, or its folder"

Curves: TypeAlias = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Logged name -> (epoch, value), each (N,). An epoch counts from 0 at its start, so 0.5 is its middle."""


def read_curves(path: str | Path) -> Curves:
    """Read what a run logged.

    Args:
        path: of a ``metrics.csv``, or of the folder of a run.

    Raises:
        DataFormatError: no such file, or it has no columns ``epoch`` and ``step``.
    """
    path = Path(path) / "metrics.csv" if Path(path).is_dir() else Path(path)
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataFormatError(f"not a log of metrics ({error})", where=path, next_action=_HINT) from error
    if not rows or not {"epoch", "step"} <= set(rows[0]):
        raise DataFormatError("no columns epoch and step", where=path, next_action=_HINT)
    steps_per_epoch = _steps_per_epoch(rows)
    return {
        name: _curve([row for row in rows if row[name]], name, steps_per_epoch)
        for name in rows[0]
        if name not in ("epoch", "step") and any(row[name] for row in rows)
    }


def curve_figure(runs: Mapping[str, Curves], metric: str = "val/abs_rel") -> Figure:
    """Training and validation loss on the left, a validation metric on the right, over epochs.

    Args:
        runs: label -> curves of `read_curves`; a run has one colour, its training loss is dashed.
        metric: logged name of the right one; left out where no run has it.

    Returns:
        A matplotlib figure; the caller saves it as PNG, PDF or SVG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    right = any(metric in curves for curves in runs.values())
    figure = Figure(figsize=(9.6 if right else 4.8, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2 if right else 1, squeeze=False)[0]
    for number, (label, curves) in enumerate(runs.items()):
        training = "train/loss_epoch" if "train/loss_epoch" in curves else "train/loss"
        _draw(axes[0], curves, "val/loss", f"C{number % 10}-", f"{label} val".strip())
        _draw(axes[0], curves, training, f"C{number % 10}--", f"{label} train".strip())
        if right:
            _draw(axes[1], curves, metric, f"C{number % 10}-", label)
    for axis, title in zip(axes, ("loss", metric), strict=False):
        _finish(axis, title)
    return figure


def _steps_per_epoch(rows: Sequence[Mapping[str, str]]) -> float:
    """What is logged at the end of an epoch has the number of its last step, so the largest ratio is the length."""
    ratios = [(float(row["step"]) + 1) / (float(row["epoch"]) + 1) for row in rows if row["epoch"] and row["step"]]
    return max(ratios, default=1.0)


def _curve(rows: Sequence[Mapping[str, str]], name: str, steps_per_epoch: float) -> Any:
    epochs = [(float(row["step"]) + 1) / steps_per_epoch for row in rows]
    return np.array(epochs), np.array([float(row[name]) for row in rows])


def _draw(axis: Any, curves: Curves, name: str, style: str, label: str) -> None:
    if name in curves:
        axis.plot(*curves[name], style, label=label, marker="o", markersize=2.5, linewidth=1.4)


def _finish(axis: Any, title: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("epoch")
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7)
