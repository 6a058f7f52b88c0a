"""The result file of a run: metrics, the constant predictor's beside them, and the protocol they were made under."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mde.errors import DataFormatError

__all__ = ["Results", "read_results", "write_results"]

FORMAT = 1


@dataclass
class Results:
    """What a test found.

    Attributes:
        metrics: name -> value; metres for rmse, 1/m for irmse, percent-like (x100) for silog, shares for delta.
        baseline: the same for the constant predictor, the training set's median depth.
        baseline_depth: that depth in metres.
        variants: the same for other predictions of the module, such as the one without post-processing, by name.
        extra: more metrics of the prediction, by the names that the recipe gave them.
        protocol: all settings of the `EvalProtocol` and its fingerprint.
        images: how many images count.
        skipped: images without one pixel to score.
        model, data, checkpoint: what was tested on what.
        data_facts: what the data module says of itself (layout, split, ground truth, in-painting).
        versions: of the libraries.
    """

    metrics: dict[str, float]
    protocol: dict[str, Any]
    images: int
    skipped: int
    baseline: dict[str, float] | None = None
    baseline_depth: float | None = None
    variants: dict[str, dict[str, float]] = field(default_factory=dict)
    extra: dict[str, float] = field(default_factory=dict)
    model: str = ""
    data: str = ""
    data_facts: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def write_results(results: Results, path: Path) -> None:
    """Write `results` as JSON; a metric that is not a number becomes null."""
    content = asdict(results)
    for values in _numbers(content):
        values.update({k: None for k, v in values.items() if not math.isfinite(v)})
    path.write_text(json.dumps(content, indent=2) + "\n")


def read_results(path: str | Path) -> Results:
    """Read a result file.

    Raises:
        DataFormatError: missing, cut off, or not a result file of this library.
    """
    try:
        content = json.loads(Path(path).read_text())
        if content["format"] > FORMAT:
            raise DataFormatError("a result file of a newer version", where=path, next_action="upgrade mde")
        for values in _numbers(content):
            values.update({k: math.nan for k, v in values.items() if v is None})
        return Results(**content)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataFormatError(
            f"not a result file ({error})", where=path, next_action="give the results.json that `mde test` wrote"
        ) from error


def _numbers(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of a result file that hold metrics; files of older versions lack some."""
    parts = [content["metrics"], content["baseline"], content.get("extra"), *content.get("variants", {}).values()]
    return [part for part in parts if part is not None]
