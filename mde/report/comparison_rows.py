"""What a comparison says of each run, as numbers and as the cells of its tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mde.report.runs import ScoredRun
from mde.report.statistics import Interval, Paired
from mde.report.tables import Cell, Grid, direction, number, p_value

__all__ = ["Row", "as_line", "as_plain", "difference_grid", "order", "overview", "rank", "value"]

_ALPHA = 0.05


class Row(NamedTuple):
    """A run, unrounded; NaN where a number is unknown.

    Attributes:
        run: itself.
        values: by metric.
        intervals: of those metrics that have one.
        ratio: the first metric over the constant predictor's.
        ratio_interval: of it.
        tests: of this run against the reference, by metric; none where there are no errors per image.
        differs: what keeps it from being compared.
    """

    run: ScoredRun
    values: dict[str, float]
    intervals: dict[str, Interval]
    ratio: float
    ratio_interval: Interval | None
    tests: dict[str, Paired]
    differs: Sequence[str]


def value(run: ScoredRun, metric: str) -> float:
    """A metric of the protocol, or an extra one; NaN where the run has none."""
    return {**run.results.extra, **run.results.metrics}.get(metric, math.nan)


def rank(run: ScoredRun, metric: str) -> float:
    """Less is better; what is unknown comes last."""
    found = _signed(value(run, metric), metric)
    return math.inf if math.isnan(found) else found


def order(run: ScoredRun, key: str) -> float:
    """Where a run stands when sorted by a metric, "parameters" (few first) or "images_per_second" (many first)."""
    if key == "parameters":
        return run.results.parameters.get("total", math.inf)
    if key == "images_per_second":
        return -(run.results.images_per_second or 0.0)
    return 0.0 if key == "name" else rank(run, key)


def _signed(value: float, metric: str) -> float:
    return -value if direction(metric) == "↑" else value


# ---- tables ----------------------------------------------------------------------------------------------------------


def overview(rows: Sequence[Row], reference: ScoredRun) -> Grid:
    """One row a run; the best and the second of each metric are marked."""
    metrics, found = list(rows[0].values), reference.results
    head = ["method", *map(_titled, metrics), f"{metrics[0]} / constant", "parameters", "images/s"]
    protocol = f"protocol {found.protocol.get('name')} ({found.protocol.get('fingerprint')})"
    title = f"{len(rows)} method(s) on {found.images} images of {found.data or 'unknown data'}, {protocol}"
    places = {metric: _places(rows, metric) for metric in metrics}
    return Grid(head, [_cells(row, places) for row in rows], title, _notes(rows, reference))


def difference_grid(rows: Sequence[Row], reference: ScoredRun) -> Grid:
    """The paired tests."""
    metrics = list(rows[0].values)
    cells = [[row.run.name, *(_difference(row.tests.get(name)) for name in metrics)] for row in rows if row.tests]
    title = f"Difference from {reference.name} on the same images"
    return Grid(["method", *map(_titled, metrics)], cells, title)


def _titled(metric: str) -> str:
    return f"{metric} {direction(metric)}".rstrip()


def _places(rows: Sequence[Row], metric: str) -> dict[str, int]:
    """Name -> 1 for the best, 2 for the second. Runs that differ do not take part, and one alone is no best."""
    found = {row.run.name: rank(row.run, metric) for row in rows if not row.differs}
    if len(found) < 2 or not direction(metric):
        return {}
    ranks = sorted({each for each in found.values() if math.isfinite(each)})
    return {name: ranks.index(each) + 1 for name, each in found.items() if each in ranks}


def _cells(row: Row, places: Mapping[str, Mapping[str, int]]) -> list[Cell | str]:
    results = row.run.results
    cells: list[Cell | str] = [f"{row.run.name} ‡" if row.differs else row.run.name]
    for name, found in row.values.items():
        place = places[name].get(row.run.name)
        sign = " †" if name in row.tests and row.tests[name].p < _ALPHA else ""
        cells.append(Cell(number(found, row.intervals.get(name)) + sign, place == 1, place == 2))
    rate = results.images_per_second
    ratio = number(row.ratio, row.ratio_interval)
    return [*cells, ratio, _count(results.parameters.get("total")), "-" if rate is None else f"{rate:.3g}"]


def _notes(rows: Sequence[Row], reference: ScoredRun) -> list[str]:
    notes = []
    if any(row.intervals for row in rows):
        notes.append("±: half the width of the 95 % interval over images.")
    if any(row.tests for row in rows):
        notes.append(f"†: differs from {reference.name} (p < {_ALPHA}; paired, not corrected for several tests).")
    silent = [row.run.name for row in rows if row.run.scores is None and not row.differs]
    if silent and len(rows) > 1:
        notes.append(f"No errors per image, hence no paired test: {', '.join(silent)}.")
    return [*notes, *(f"‡ {row.run.name} cannot be compared: {'; '.join(row.differs)}." for row in rows if row.differs)]


def _count(parameters: int | None) -> str:
    if parameters is None:
        return "-"
    return f"{parameters / 1e6:.3g} M" if parameters >= 1e5 else str(parameters)


def _difference(test: Paired | None) -> str:
    if test is None:
        return "-"
    text = number(test.difference, test.interval)
    return f"{text if text.startswith('-') else '+' + text} ({p_value(test.p)})"


# ---- plain data ------------------------------------------------------------------------------------------------------


def as_plain(row: Row) -> dict[str, Any]:
    """All of a row for JSON; None where a number is unknown."""
    found, first = row.run.results, next(iter(row.values))
    spread = None if row.ratio_interval is None else list(row.ratio_interval)
    return {
        "name": row.run.name,
        "source": row.run.source,
        "model": found.model,
        "values": {name: _known(each) for name, each in row.values.items()},
        "intervals": {name: list(interval) for name, interval in row.intervals.items()},
        "ratio": {"metric": first, "value": _known(row.ratio), "interval": spread},
        "against_reference": {name: _plain_test(test) for name, test in row.tests.items()},
        "images": found.images,
        "parameters": found.parameters.get("total"),
        "images_per_second": _known(found.images_per_second),
        "weights_hash": found.weights_hash,
        "not_comparable": list(row.differs),
    }


def as_line(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A run of `as_plain` as one flat row of a CSV."""
    made = {key: plain[key] for key in ("name", "model", "source", "images")}
    for name, found in plain["values"].items():
        test = plain["against_reference"].get(name, {})
        low, high = plain["intervals"].get(name, (None, None))
        made |= {name: found, f"{name}_low": low, f"{name}_high": high}
        made |= {f"{name}_difference": test.get("difference"), f"{name}_p": test.get("p")}
    made[f"{plain['ratio']['metric']}_ratio"] = plain["ratio"]["value"]
    made |= {key: plain[key] for key in ("parameters", "images_per_second", "weights_hash")}
    return {**made, "not_comparable": "; ".join(plain["not_comparable"])}


def _known(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _plain_test(test: Paired) -> dict[str, Any]:
    spread = None if test.interval is None else list(test.interval)
    return {"difference": test.difference, "interval": spread, "p": test.p, "images": test.images}
