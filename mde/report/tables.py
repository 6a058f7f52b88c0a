"""Metrics as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

__all__ = ["HIGHER_IS_BETTER", "metrics_table"]

HIGHER_IS_BETTER = frozenset({"delta1", "delta2", "delta3", "ssim"})


def metrics_table(
    metrics: Mapping[str, float],
    baseline: Mapping[str, float] | None,
    *,
    title: str,
    baseline_name: str = "constant",
    variants: Mapping[str, Mapping[str, float]] | None = None,
) -> Table:
    """A rich table: one row a metric; variants of the prediction beside it, and the constant predictor, with the ratio.

    Args:
        metrics: name -> value.
        baseline: the same metrics of the constant predictor, or None.
        title: above the table.
        baseline_name: head of the baseline's column.
        variants: the same metrics of other predictions of the network, by the head of their column.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    table.add_column("network", justify="right", style="bold")
    others = variants or {}
    for head in others:
        table.add_column(head, justify="right")
    if baseline is not None:
        table.add_column(baseline_name, justify="right")
        table.add_column("network / constant", justify="right")
    for name, value in metrics.items():
        arrow = "↑" if name in HIGHER_IS_BETTER else "↓"
        row = [f"{name} {arrow}", f"{value:.4f}", *(f"{other[name]:.4f}" for other in others.values())]
        if baseline is not None:
            constant = baseline[name]
            row += [f"{constant:.4f}", f"{value / constant:.2f}" if constant else "-"]
        table.add_row(*row)
    return table
