"""The tables of the page: metrics with intervals, ranges and other sub-tables, scenes, the worst images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from mde.errors import MdeError
from mde.report.page.content import Content, Method
from mde.report.scores import ImageScores
from mde.report.statistics import paired
from mde.report.tables import Cell, Grid, direction, number, p_value

__all__ = ["marked", "metrics_section", "scene_section", "sub_tables", "worst_section"]

_METRICS = ("abs_rel", "rmse", "delta1")  # of sub-tables: one of each kind, so that they fit on a phone
_SCENES = 60
_NAMES = {"ranges": "range of true depth (m)", "classes": "semantic class"}


def metrics_section(content: Content) -> Iterator[str]:
    """All metrics of all methods beside the constant predictor, the best in bold, with 95 % intervals."""
    methods, first = content.methods, content.methods[0].results
    constant = first.baseline or {}
    depth = "" if first.baseline_depth is None else f" ({first.baseline_depth:.2f} m)"
    head = ["metric", *_heads(content), *([f"constant{depth}"] if constant else [])]
    rows: list[list[Cell | str]] = []
    for name in first.metrics:
        values = [method.results.metrics.get(name, math.nan) for method in methods]
        texts = [number(v, m.results.intervals.get(name)) for v, m in zip(values, methods, strict=True)]
        row: list[Cell | str] = [f"{name} {direction(name)}", *marked(name, values, texts)]
        rows.append([*row, number(constant.get(name, math.nan))] if constant else row)
    notes = []
    if any(method.results.intervals for method in methods):
        notes.append("± is half of the 95 % interval over images (bootstrap).")
    if constant:
        notes.append("The constant predictor knows nothing but the median depth of the training set.")
    yield _html(Grid(head, rows, notes=[*notes, *_paired(content)]))
    yield from _other_predictions(methods)


def sub_tables(content: Content) -> Iterator[str]:
    """What results hold by range of depth, by class, ...: one table each."""
    for table in dict.fromkeys(name for method in content.methods for name in method.results.tables):
        found = {
            (method.name, key): row
            for method in content.methods
            for key, row in method.results.tables.get(table, {}).items()
        }
        known = list(dict.fromkeys(metric for row in found.values() for metric in row))
        metrics = [name for name in _METRICS if name in known] or known[: len(_METRICS)]
        labels = {key: key for _, key in found}
        name = _NAMES.get(table, table.replace("_", " "))
        yield f"<h2>By {escape(name)}</h2>{_by_method(content, name, labels, metrics, found)}"


def scene_section(content: Content) -> Iterator[str]:
    """Means over the images of each scene, the folder part of an id; nothing where ids have no folders."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    counts: dict[str, int] = {}
    for method in content.methods:
        for scene, rows in _scenes(method.scores).items():
            counts[scene] = len(rows)
            found[method.name, scene] = {m: _mean(rows.values[m]) for m in _METRICS if m in rows.values}
    if not counts:
        return
    first = content.methods[0].name
    order = sorted(counts, key=lambda scene: -np.nan_to_num(found.get((first, scene), {}).get("abs_rel", 0.0)))
    yield "<h2>By scene</h2>"
    if len(order) > _SCENES:
        yield f'<p class="soft">The {_SCENES} worst of {len(order)} scenes by abs_rel of {escape(first)}.</p>'
    labels = {scene: f"{scene} ({counts[scene]})" for scene in order[:_SCENES]}
    yield _by_method(content, "scene (images)", labels, _METRICS, found)


def worst_section(content: Content, anchors: Mapping[str, str]) -> Iterator[str]:
    """The images with the largest abs_rel of the first method, with each method's; linked to their pictures.

    Args:
        content: of the page.
        anchors: link to the pictures of an id.
    """
    names = [method.name for method in content.methods]
    heads = "".join(f'<th class="number">{escape(name)}</th>' for name in _heads(content))
    yield f'<div class="wide"><table><thead><tr><th></th><th>image</th>{heads}</tr></thead><tbody>'
    for rank, (sample_id, errors) in enumerate(content.worst, start=1):
        label = f'<span class="mono">{escape(sample_id)}</span>'
        link = f'<a href="{anchors[sample_id]}">{label}</a>' if sample_id in anchors else label
        values = [errors[name] for name in names]
        best = marked("abs_rel", values, [number(value) for value in values])
        cells = (f"<strong>{cell.text}</strong>" if cell.best else cell.text for cell in best)
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        yield f'<tr><td class="number soft">{rank}</td><td>{link}</td>{numbers}</tr>'
    yield "</tbody></table></div>"


def _by_method(
    content: Content,
    corner: str,
    labels: Mapping[str, str],
    metrics: Sequence[str],
    found: Mapping[tuple[str, str], Mapping[str, float]],
) -> str:
    """A table of keys against metrics, the methods of a metric side by side.

    Args:
        content: of the page.
        corner: head of the keys.
        labels: of the keys.
        metrics: of the columns.
        found: values by method and key.
    """
    names = [method.name for method in content.methods]
    one = len(names) == 1
    heads = [f"{m} {direction(m)}" + ("" if one else f", {head}") for m in metrics for head in _heads(content)]
    rows = []
    for key, label in labels.items():
        row: list[Cell | str] = [label]
        for metric in metrics:
            values = [found.get((name, key), {}).get(metric, math.nan) for name in names]
            row += marked(metric, values, [number(value) for value in values])
        rows.append(row)
    return _html(Grid([corner, *heads], rows))


def _paired(content: Content) -> Iterator[str]:
    """Whether the other methods differ from the first on the same images, in words."""
    first, *others = content.methods
    for other in others:
        if first.scores is None or other.scores is None or other.name in content.mismatches:
            continue
        pooling = str(first.results.protocol.get("pooling", "image"))
        try:
            found = paired(other.scores, first.scores, _METRICS, pooling)
        except MdeError as error:  # the images could be read, so the page is made
            yield f"No paired test of {other.name}: {error}"
            continue
        words = [f"{name} {number(each.difference, each.interval)}, {p_value(each.p)}" for name, each in found.items()]
        yield f"{other.name} less {first.name}, image by image: {'; '.join(words)}."


def _other_predictions(methods: Sequence[Method]) -> Iterator[str]:
    """Variants of a prediction (such as with another alignment, or without post-processing) and extra metrics."""
    for method in methods:
        variants = method.results.variants
        if variants:
            rows = [
                [
                    f"{name} {direction(name)}",
                    number(value),
                    *(number(v.get(name, math.nan)) for v in variants.values()),
                ]
                for name, value in method.results.metrics.items()
            ]
            yield f"<h3>Variants of {escape(method.name)}</h3>{_html(Grid(['metric', method.name, *variants], rows))}"
    extra = dict.fromkeys(name for method in methods for name in method.results.extra)
    if extra:
        rows = [[name, *(number(m.results.extra.get(name, math.nan)) for m in methods)] for name in extra]
        yield f"<h3>More metrics</h3>{_html(Grid(['metric', *(m.name for m in methods)], rows))}"


def _html(grid: Grid) -> str:
    return f'<div class="wide">{grid.html()}</div>'


def _heads(content: Content) -> list[str]:
    """Names of the methods; those that are not comparable with the first are marked."""
    return [f"{m.name} †" if m.name in content.mismatches else m.name for m in content.methods]


def marked(metric: str, values: Sequence[float], texts: Sequence[str]) -> list[Cell]:
    """The best of several values in bold; none where there is no other value, or where neither end is good."""
    finite, better = {value for value in values if math.isfinite(value)}, direction(metric)
    best = (max if better == "↑" else min)(finite) if better and len(finite) > 1 else None
    return [Cell(text, best=value == best) for value, text in zip(values, texts, strict=True)]


def _scenes(scores: ImageScores | None) -> dict[str, ImageScores]:
    """The images of each scene; none where ids have no folder."""
    ids: dict[str, list[str]] = {}
    for sample_id in () if scores is None else scores.ids:
        folder, slash, _ = sample_id.rpartition("/")
        if slash:
            ids.setdefault(folder, []).append(sample_id)
    return {} if scores is None else {scene: scores.take(each) for scene, each in ids.items()}


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
