"""Results of repeated runs as one table: mean and standard deviation over the seeds, beside the constant predictor."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mde.protocol import EvalProtocol, require_same
from mde.report.results import Results
from mde.report.tables import Grid, direction

__all__ = ["Summary"]

Spread = tuple[float, float]


@dataclass(frozen=True)
class Summary:
    """Groups of runs that differ in their seed alone, one row each.

    Attributes:
        head: of the label columns.
        groups: labels of a row, as many as `head`, and the results of its runs; none where all failed.
        metrics: names of `Results.metrics`; the first is compared with the constant predictor's.

    Raises:
        ProtocolMismatchError: two results were scored under different protocols.
    """

    head: Sequence[str]
    groups: Sequence[tuple[Sequence[str], Sequence[Results]]]
    metrics: Sequence[str] = ("abs_rel", "rmse", "delta1")

    def __post_init__(self) -> None:
        protocols = [EvalProtocol.from_dict(run.protocol) for _, runs in self.groups for run in runs]
        for protocol in protocols[1:]:
            require_same(protocols[0], protocol)

    def spreads(self, runs: Sequence[Results]) -> dict[str, Spread]:
        """Column -> (mean, sample standard deviation); nan where there is none.

        ``constant`` is the constant predictor's first metric, ``ratio`` the network's over it, run by run.
        """
        first = self.metrics[0]
        constants = [math.nan if run.baseline is None else run.baseline.get(first, math.nan) for run in runs]
        values = {name: [run.metrics.get(name, math.nan) for run in runs] for name in self.metrics}
        values |= {"constant": constants}
        values |= {
            "ratio": [own / other if other else math.nan for own, other in zip(values[first], constants, strict=True)]
        }
        return {name: _spread(each) for name, each in values.items()}

    def cells(self) -> list[list[str]]:
        """The table as text, its head first."""
        arrows = [f"{name} {direction(name)}" for name in self.metrics]
        lines = [[*self.head, "runs", *arrows, f"{self.metrics[0]} of the constant", "network / constant"]]
        for labels, runs in self.groups:
            lines.append([*labels, str(len(runs)), *(_text(spread) for spread in self.spreads(runs).values())])
        return lines

    def markdown(self) -> str:
        """The table for a page."""
        return self.table().markdown()

    def csv(self) -> str:
        """The table for further work: numbers unrounded, mean and deviation in columns of their own."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        columns = [f"{name}_{what}" for name in (*self.metrics, "constant", "ratio") for what in ("mean", "std")]
        writer.writerow([*self.head, "runs", *columns])
        for labels, runs in self.groups:
            writer.writerow([*labels, len(runs), *(x for spread in self.spreads(runs).values() for x in spread)])
        return out.getvalue()

    def table(self, title: str = "") -> Grid:
        """The table; rich prints it."""
        head, *rows = self.cells()
        return Grid(head, rows, title, labels=len(self.head))


def _spread(values: Sequence[float]) -> Spread:
    if not values:
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def _text(spread: Spread) -> str:
    mean, deviation = spread
    if math.isnan(mean):
        return "-"
    return f"{mean:.3f}" if math.isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"
