"""Whether two tested runs may stand in one table, and what keeps them from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mde.errors import ConfigError, MdeError
from mde.protocol import EvalProtocol
from mde.report.results import Results
from mde.report.runs import ScoredRun
from mde.report.statistics import matched

__all__ = ["differences"]

_NAMES = frozenset({"name", "source", "fingerprint"})  # of a protocol, for people
_TRAINING = frozenset({"train", "val", "validation"})  # facts of what a method learnt from, which may differ
_READING = frozenset({"predictions"})  # how `mde evaluate` read files that another tool wrote


def differences(first: ScoredRun, second: ScoredRun) -> list[str]:
    """What keeps two runs from being compared, in words; empty if nothing does.

    They need one protocol, one data set with one ground truth, and the same images. What the data module says of its
    training and validation parts may differ: methods may learn from different data.
    """
    a, b = first.results, second.results
    return [*_protocols(a.protocol, b.protocol), *_data(a, b), *_images(first, second)]


def _protocols(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    if first.get("fingerprint") == second.get("fingerprint") is not None:
        return
    if not all(set(each) - {"name", "fingerprint"} for each in (first, second)):  # of a run whose settings are unknown
        yield f"protocol: {_called(first)} against {_called(second)}"
        return
    try:
        a, b = (EvalProtocol.from_dict(dict(each)).to_dict() for each in (first, second))
    except ConfigError as error:  # of a newer version
        yield f"protocol: {_called(first)} against {_called(second)} ({_brief(error)})"
        return
    if a["fingerprint"] != b["fingerprint"]:
        yield from (
            f"protocol, {key}: {a[key]!r} against {b[key]!r}" for key in a if key not in _NAMES and a[key] != b[key]
        )


def _called(protocol: Mapping[str, Any]) -> str:
    return f"{protocol.get('name', 'unknown')} ({protocol.get('fingerprint', 'no fingerprint')})"


def _data(first: Results, second: Results) -> Iterator[str]:
    known = bool(first.data_facts) and bool(second.data_facts)
    if first.data != second.data and (known or not _called_as(first) & _called_as(second)):
        yield f"data: {first.data!r} against {second.data!r}"
    if not known:  # of a run on W&B
        return
    a, b = (dict(_facts(each.data_facts)) for each in (first, second))
    if str(first.protocol.get("ground_truth")) != "infilled":  # holes were filled for training alone
        a.pop("infill", None), b.pop("infill", None)
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            yield f"data, {key}: {a.get(key)!r} against {b.get(key)!r}"


def _called_as(results: Results) -> set[str]:
    """The names of a data set; a run on W&B has one of them (`mde.callbacks.panels.data_name`)."""
    facts = results.data_facts
    return {str(name) for name in (results.data, facts.get("layout"), facts.get("world")) if name}


def _facts(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Facts of the test as (dotted key, value)."""
    for key, value in facts.items():
        if key in _TRAINING or (key in _READING and not before):
            continue
        if isinstance(value, Mapping):
            yield from _facts(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _images(first: ScoredRun, second: ScoredRun) -> Iterator[str]:
    a, b = first.results, second.results
    counts = [f"{what}: {x} against {y}" for what, x, y in _counted(a, b) if x != y]
    yield from counts
    if first.scores is not None and second.scores is not None:
        try:
            matched(first.scores, second.scores)
        except MdeError as error:
            yield _brief(error)
    if not counts and _other_truth(a, b):
        yield "ground truth: one constant guess has other errors on it"


def _counted(a: Results, b: Results) -> list[tuple[str, int, int]]:
    return [("images", a.images, b.images), ("images without a pixel to score", a.skipped, b.skipped)]


def _other_truth(a: Results, b: Results) -> bool:
    """The constant predictor's errors depend on its depth, the protocol and the truth alone."""
    if a.protocol.get("fingerprint") != b.protocol.get("fingerprint"):  # differs anyway, and that was said
        return False
    if not a.baseline or not b.baseline or a.baseline_depth is None or a.baseline_depth != b.baseline_depth:
        return False
    return any(abs(value - b.baseline.get(name, value)) > 1e-6 * abs(value) for name, value in a.baseline.items())


def _brief(error: MdeError) -> str:
    return str(error).partition(". Next: ")[0]
