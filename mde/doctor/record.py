"""The examination as plain data: the JSON file, whose keys stay as they are.

``format`` 1: {format, mde, root, layout, settings, protocol, span_m, interrupted, seconds,
splits: {name: {frames, decoded, median_depth_m, known_share}}, counts: {error, warning, info},
findings: [{code, severity, title, message, next_action, count, items}],
histogram: {edges_m, counts: {split: […]}}, planes: {exponent, standard_error, frames}}. Numbers that were not measured
are null.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mde import __version__
from mde.doctor.examination import Examination
from mde.doctor.findings import SEVERITIES
from mde.doctor.frame import BINS
from mde.doctor.geometry import plane_exponent
from mde.doctor.tally import SPLITS

__all__ = ["FORMAT", "to_dict", "write_json"]

FORMAT = 1


def to_dict(made: Examination) -> dict[str, Any]:
    """Plain data with all affected items; see the top of this file."""
    exponent, error, frames = plane_exponent(made.tally)
    return {
        "format": FORMAT,
        "mde": __version__,
        "root": str(made.root),
        "layout": made.layout,
        "settings": made.settings,
        "protocol": made.protocol,
        "span_m": list(made.span),
        "interrupted": made.interrupted,
        "seconds": round(made.seconds, 2),
        "splits": split_facts(made),
        "counts": {name: sum(f.severity == name for f in made.findings) for name in SEVERITIES},
        "findings": [{**asdict(found), "items": list(found.items)} for found in made.findings],
        "histogram": {
            "edges_m": [round(float(edge), 5) for edge in BINS],
            "counts": {split: made.tally.histogram[SPLITS.index(split)].tolist() for split in made.datasets},
        },
        "planes": {"exponent": _number(exponent), "standard_error": _number(error), "frames": frames},
    }


def split_facts(made: Examination) -> dict[str, dict[str, Any]]:
    """Of each split: frames, decoded frames, median over frames of their median depth, mean share of known pixels."""
    median, known, splits = made.tally["median"], made.tally["known"], np.array(made.tally.splits)
    facts: dict[str, dict[str, Any]] = {}
    for split, dataset in made.datasets.items():
        chosen = splits == SPLITS.index(split) if len(splits) else np.zeros(0, bool)
        depths = median[chosen][np.isfinite(median[chosen])]
        facts[split] = {
            "frames": len(dataset),
            "decoded": made.tally.decoded[split],
            "median_depth_m": _number(float(np.median(depths))) if len(depths) else None,
            "known_share": _number(float(known[chosen].mean())) if chosen.any() else None,
        }
    return facts


def write_json(path: str | Path, made: Examination) -> None:
    """Write `to_dict` as JSON; folders are made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(to_dict(made), indent=1, default=str) + "\n")


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
