"""The result file of a run: metrics, the constant predictor's beside them, and the protocol they were made under."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mde.alignment import Fit
from mde.errors import DataFormatError
from mde.report.scores import ImageScores
from mde.report.statistics import Interval, intervals, pooled, ratio_intervals

__all__ = ["FILE", "Results", "add_intervals", "plain_constants", "read_results", "write_results"]

FORMAT = 2
FILE = "results.json"

_SAME = 1e-6  # of a metric and what the errors per image say it is
_HINT = "give the results.json that `mde test` wrote"


@dataclass
class Results:
    """What a test found.

    Attributes:
        metrics: name -> value; metres for rmse, 1/m for irmse, percent-like (x100) for silog, shares for delta.
        intervals: 95 % interval over images (`mde.report.statistics.intervals`) of those metrics that have one.
        baseline: the metrics of the constant predictor, the training set's median depth.
        baseline_depth: that depth in metres.
        ratio_intervals: of each metric over the constant predictor's.
        variants: the same for other predictions of the module, such as the one without post-processing, by name.
        definitions: what else is called rmse_log or silog (`mde.metrics.LOG_NAMES`).
        extra: more metrics of the prediction, by the names that the recipe gave them.
        tables: named sub-tables, such as {"ranges": {"0-2": {metric: value}}}.
        alignment_constants: scale and shift that were fitted once for the whole set, where the protocol says so.
        protocol: all settings of the `EvalProtocol` and its fingerprint.
        images: how many images count.
        skipped: images without one pixel to score.
        degenerate: images whose alignment fell back; they count.
        model, data, checkpoint: what was tested on what.
        data_facts: what the data module says of itself (layout, split, ground truth, in-painting).
        parameters: of the network, "total" and "trainable".
        weights_hash: SHA-256 of names and values of its weights, 64 hexadecimal digits.
        images_per_second: that one process put through the network, without loading and scoring.
        versions: of the libraries.
    """

    metrics: dict[str, float]
    protocol: dict[str, Any]
    images: int
    skipped: int
    degenerate: int = 0
    intervals: dict[str, Interval] = field(default_factory=dict)
    baseline: dict[str, float] | None = None
    baseline_depth: float | None = None
    ratio_intervals: dict[str, Interval] = field(default_factory=dict)
    variants: dict[str, dict[str, float]] = field(default_factory=dict)
    definitions: dict[str, float] = field(default_factory=dict)
    extra: dict[str, float] = field(default_factory=dict)
    tables: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    alignment_constants: dict[str, float] | None = None
    model: str = ""
    data: str = ""
    data_facts: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    weights_hash: str | None = None
    images_per_second: float | None = None
    checkpoint: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def ratio(self, metric: str) -> float:
        """A metric over the constant predictor's; NaN where there is none."""
        constant = (self.baseline or {}).get(metric, math.nan)
        return self.metrics.get(metric, math.nan) / constant if constant else math.nan


def plain_constants(fit: Fit | None) -> dict[str, float] | None:
    """What `Results.alignment_constants` holds of one fit for a whole set."""
    return None if fit is None else {"scale": float(fit.scale), "shift": float(fit.shift)}


def add_intervals(results: Results, scores: ImageScores, constant: ImageScores | None = None) -> None:
    """Fill in the intervals of those metrics that the errors per image reproduce, as any other number is not theirs.

    Args:
        results: with its metrics, and the protocol's pooling; changed in place.
        scores: of each image.
        constant: of the constant predictor.

    Raises:
        ProtocolMismatchError: `constant` is of other images.
    """
    pooling = str(results.protocol.get("pooling", "image"))
    results.intervals = _confirmed(
        intervals(scores, pooling), pooled(scores, pooling), {**results.extra, **results.metrics}
    )
    if constant is not None and results.baseline is not None:
        found = ratio_intervals(scores, constant, pooling)
        found = {name: interval for name, interval in found.items() if name in results.intervals}
        results.ratio_intervals = _confirmed(found, pooled(constant, pooling), results.baseline)


def _confirmed(found: dict[str, Interval], values: dict[str, float], reported: dict[str, float]) -> dict[str, Interval]:
    return {
        name: interval
        for name, interval in found.items()
        if name in reported and math.isclose(values[name], reported[name], rel_tol=_SAME, abs_tol=_SAME)
    }


def write_results(results: Results, path: Path) -> None:
    """Write `results` as JSON; a metric that is not a number becomes null. The file is whole or the one before it."""
    content = asdict(results)
    for values in _numbers(content):
        values.update({k: None for k, v in values.items() if not math.isfinite(v)})
    whole = path.with_name(f".{path.name}.whole")
    whole.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    whole.replace(path)


def read_results(path: str | Path) -> Results:
    """Read a result file of this format or an older one.

    Raises:
        DataFormatError: missing, cut off, of a newer version, or not a result file of this library.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["format"] > FORMAT:
            what = f"a result file of format {content['format']}, newer than this library's {FORMAT}"
            raise DataFormatError(what, where=path, next_action="upgrade mde")
        return _parsed(content)
    except KeyError as error:
        raise DataFormatError(f"not a result file (no {error} in it)", where=path, next_action=_HINT) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataFormatError(f"not a result file ({error})", where=path, next_action=_HINT) from error


def _parsed(content: dict[str, Any]) -> Results:
    _require_types(content)
    for values in _numbers(content):
        values.update({k: math.nan if v is None else float(v) for k, v in values.items()})
    for key in ("intervals", "ratio_intervals"):
        content[key] = {k: Interval(*map(float, v)) for k, v in content.get(key, {}).items()}
    return Results(**{**content, "format": FORMAT})


def _require_types(content: dict[str, Any]) -> None:
    known = {each.name for each in fields(Results)}
    if unknown := sorted(set(content) - known):
        raise TypeError(f"unknown entries {', '.join(unknown)}")
    for key, kind in (("metrics", dict), ("protocol", dict), ("images", int), ("skipped", int)):
        if not isinstance(content[key], kind):
            raise TypeError(f"{key} is no {kind.__name__}")


def _numbers(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of a result file that hold metrics; files of older versions lack some."""
    yield content["metrics"]
    yield content.get("baseline") or {}
    yield content.get("definitions", {})
    yield content.get("extra", {})
    yield from content.get("variants", {}).values()
    for table in content.get("tables", {}).values():
        yield from table.values()
