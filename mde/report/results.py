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
    model: str = ""
    data: str = ""
    data_facts: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def write_results(results: Results, path: Path) -> None:
    """Write `results` as JSON; a metric that is not a number becomes null."""
    content = asdict(results)
    for key in ("metrics", "baseline"):
        values = content[key]
        if values is not None:
            content[key] = {k: v if math.isfinite(v) else None for k, v in values.items()}
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
        for key in ("metrics", "baseline"):
            if content[key] is not None:
                content[key] = {k: math.nan if v is None else v for k, v in content[key].items()}
        return Results(**content)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataFormatError(
            f"not a result file ({error})", where=path, next_action="give the results.json that `mde test` wrote"
        ) from error
