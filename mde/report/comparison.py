"""Methods side by side on the same images: intervals, paired tests, and a refusal of what cannot be compared."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Group

from mde.errors import ConfigError, ProtocolMismatchError, nearest
from mde.report.comparable import differences
from mde.report.comparison_rows import Row, as_line, as_plain, difference_grid, order, overview, rank, value
from mde.report.runs import ScoredRun, read_runs
from mde.report.statistics import Paired, paired
from mde.report.tables import Grid

__all__ = ["METRICS", "Comparison", "compare"]

METRICS = ("abs_rel", "rmse", "delta1")

_FORMAT = 1  # of the JSON
_STYLE = (
    "body{font:15px system-ui,sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:left}.number{text-align:right}"
)


def compare(
    runs: Sequence[str | Path | ScoredRun],
    metrics: Sequence[str] = METRICS,
    *,
    against: str | None = None,
    sort: str | None = None,
    force: bool = False,
) -> Comparison:
    """Compare tested runs.

    Args:
        runs: folders, result files, or ``wandb:`` paths (`mde.report.runs.read_run`), or what was read already.
        metrics: columns, of `Results.metrics` or `Results.extra`; the first is the one of the ratio.
        against: name of the run that the others are tested against; None takes the best in the first metric.
        sort: a metric (best first), "name", "parameters" or "images_per_second"; None keeps the order of `runs`.
        force: mark a run that cannot be compared with the first one (or `against`) instead of refusing.

    Raises:
        DataFormatError: runs cannot be read; tells all of them.
        ProtocolMismatchError: runs cannot be compared; tells what differs in each.
        ConfigError: no runs, or an unknown metric or name.
    """
    read = iter(read_runs([run for run in runs if not isinstance(run, ScoredRun)]))
    made = [run if isinstance(run, ScoredRun) else next(read) for run in runs]
    return Comparison(made, tuple(metrics), against=against, sort=sort, force=force)


@dataclass(frozen=True)
class Comparison:
    """Runs in one table; see `compare` for the fields and errors. No number depends on the order of the runs."""

    runs: Sequence[ScoredRun]
    metrics: Sequence[str] = METRICS
    against: str | None = None
    sort: str | None = None
    force: bool = False
    marked: Mapping[str, list[str]] = field(init=False)
    """What differs, of each run that stands here by `force` alone."""

    def __post_init__(self) -> None:
        self._check()
        first = next((run for run in self.runs if run.name == self.against), self.runs[0])
        found = {run.name: differences(first, run) for run in self.runs if run is not first}
        object.__setattr__(self, "marked", {name: differs for name, differs in found.items() if differs})
        if self.marked and not self.force:
            lines = "".join(f"\n  {name}: {'; '.join(differs)}" for name, differs in self.marked.items())
            hint = "test all under one protocol on the same images; --force (force=True) marks them instead"
            what = f"{len(self.marked)} of {len(self.runs)} runs cannot be compared with {first.name!r}:{lines}"
            raise ProtocolMismatchError(what, next_action=hint)

    def _check(self) -> None:
        names = [run.name for run in self.runs]
        known = dict.fromkeys(name for run in self.runs for name in (*run.results.metrics, *run.results.extra))
        if not self.runs or not self.metrics:
            raise ConfigError("nothing to compare", next_action="give runs and at least one metric")
        if len(set(names)) < len(names):
            raise ConfigError(f"two runs have one name: {', '.join(names)}", next_action="write NAME=RUN")
        if unknown := [name for name in self.metrics if name not in known]:
            hint = f"nearest: {nearest(unknown[0], known)}"
            raise ConfigError(f"no run has {', '.join(unknown)}", where="metrics", next_action=hint)
        if self.against is not None and self.against not in names:
            raise ConfigError(f"no run {self.against!r}", where="against", next_action=f"one of {', '.join(names)}")
        orders = (*known, "name", "parameters", "images_per_second")
        if self.sort is not None and self.sort not in orders:
            hint = f"nearest: {nearest(self.sort, orders)}"
            raise ConfigError(f"cannot sort by {self.sort!r}", where="sort", next_action=hint)

    # ---- numbers -----------------------------------------------------------------------------------------------------

    @cached_property
    def reference(self) -> ScoredRun:
        """The run that the others are tested against."""
        if self.against is not None:
            return next(run for run in self.runs if run.name == self.against)
        fair = [run for run in self.runs if run.name not in self.marked]
        return min(fair, key=lambda run: (rank(run, self.metrics[0]), run.name))

    @cached_property
    def _rows(self) -> list[Row]:
        runs = list(self.runs)
        if self.sort is not None:
            runs.sort(key=lambda run: (order(run, str(self.sort)), run.name))
        return [self._row(run) for run in runs]

    def _row(self, run: ScoredRun) -> Row:
        found = run.results
        values = {name: value(run, name) for name in self.metrics}
        known = {name: found.intervals[name] for name in self.metrics if name in found.intervals}
        first = self.metrics[0]
        ratio = found.ratio_intervals.get(first)
        return Row(run, values, known, found.ratio(first), ratio, self._tests(run), list(self.marked.get(run.name, [])))

    def _tests(self, run: ScoredRun) -> dict[str, Paired]:
        """This run less the reference, where both have errors per image."""
        other = self.reference
        if run is other or run.name in self.marked or run.scores is None or other.scores is None:
            return {}
        pooling = str(run.results.protocol.get("pooling", "image"))
        return paired(run.scores, other.scores, self.metrics, pooling)

    def as_dict(self) -> dict[str, Any]:
        """All numbers, unrounded, as plain data; None where one is unknown."""
        first = self.reference.results
        return {
            "format": _FORMAT,
            "protocol": first.protocol,
            "data": first.data,
            "images": first.images,
            "metrics": list(self.metrics),
            "reference": self.reference.name,
            "runs": [as_plain(row) for row in self._rows],
        }

    # ---- forms -------------------------------------------------------------------------------------------------------

    def json(self) -> str:
        """For further work."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False) + "\n"

    def csv(self) -> str:
        """For further work: one row a run, numbers unrounded, empty where unknown."""
        out = io.StringIO()
        lines = [as_line(row) for row in self.as_dict()["runs"]]
        columns = dict.fromkeys(key for line in lines for key in line)
        writer = csv.DictWriter(out, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return out.getvalue()

    def markdown(self) -> str:
        """For a page or an issue."""
        return "\n".join(grid.markdown() for grid in self.grids())

    def latex(self) -> str:
        """For a paper; needs the package booktabs."""
        return "\n".join(grid.latex() for grid in self.grids())

    def html(self) -> str:
        """A page of its own; `grids` gives the tables to stand in another."""
        body = "".join(grid.html() for grid in self.grids())
        head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Comparison</title><style>{_STYLE}'
        return f"{head}</style></head><body>\n{body}</body></html>\n"

    def table(self) -> Group:
        """For a terminal, to be printed by rich."""
        return Group(*self.grids())

    def grids(self) -> list[Grid]:
        """The runs, and where there are paired tests each run's difference from the reference."""
        made = [overview(self._rows, self.reference)]
        return [*made, difference_grid(self._rows, self.reference)] if any(row.tests for row in self._rows) else made
