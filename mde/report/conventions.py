"""What a matrix of conventions says: how far each one alone moves a number, and which a published number used."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from mde.errors import ConfigError, nearest
from mde.metrics import HIGHER_IS_BETTER
from mde.metrics.functional import NAMES
from mde.protocol import EvalProtocol
from mde.report.tables import Grid

__all__ = ["Convention", "Effect", "Finding", "Match", "Published", "Sensitivity", "explained", "require_metric"]

_SHOWN = ("abs_rel", "rmse", "delta1")
_SAME = 1e-9  # relative: conventions closer than that are one


@dataclass(frozen=True)
class Convention:
    """One combination and what it gives.

    Attributes:
        protocol: the combination.
        metrics: name -> value; NaN where no image counts.
        images: how many images count.
        skipped: images without a pixel to score.
        degenerate: images whose alignment fell back; they count.
    """

    protocol: EvalProtocol
    metrics: dict[str, float]
    images: int
    skipped: int
    degenerate: int

    def setting(self, axis: str) -> Any:
        """The value of a field of the protocol."""
        return getattr(self.protocol, axis)


class Effect(NamedTuple):
    """What one convention alone does, all others as in the reference.

    Attributes:
        axis: field of the protocol.
        values: the metrics by value of the field.
    """

    axis: str
    values: dict[Any, dict[str, float]]

    def span(self, metric: str) -> float:
        """Largest value less smallest."""
        found = [metrics[metric] for metrics in self.values.values() if math.isfinite(metrics[metric])]
        return max(found) - min(found) if found else math.nan


class Published(NamedTuple):
    """A number as it was printed.

    Attributes:
        value: itself.
        tolerance: what rounding to the printed digits leaves open, half a unit of the last digit.
    """

    value: float
    tolerance: float

    @classmethod
    def parse(cls, text: str, tolerance: float | None = None) -> Published:
        """Read a printed number.

        >>> Published.parse("0.098")
        Published(value=0.098, tolerance=0.0005)

        Raises:
            ConfigError: no number, or a tolerance that is not positive.
        """
        try:
            number = Decimal(text)
            digits = -int(number.as_tuple().exponent)
        except (InvalidOperation, ValueError) as error:
            raise ConfigError(f"not a number: {text!r}", where="--find", next_action="write abs_rel=0.098") from error
        if tolerance is not None and not tolerance > 0:
            raise ConfigError(f"a tolerance is above 0, got {tolerance}", where="--tolerance")
        return cls(float(number), 0.5 * 10.0**-digits if tolerance is None else tolerance)


class Match(NamedTuple):
    """Conventions that give the same numbers.

    Attributes:
        distance: largest difference to a published number in units of its tolerance; up to 1 all digits agree.
        conventions: those that cannot be told apart by these metrics.
    """

    distance: float
    conventions: tuple[Convention, ...]

    @property
    def agrees(self) -> bool:
        """Whether all printed digits do; a thousandth of a unit is left to rounding of the binary number."""
        return self.distance <= 1.001


class Finding(NamedTuple):
    """Which conventions a published number used.

    Attributes:
        matches: all conventions, the nearest first.
        decided: by axis, the distance of the nearest convention with another value than the best one's; only axes for
            which none of those agrees.
        undecided: by axis, the values of the conventions that agree (of the nearest, where none agrees).
    """

    matches: list[Match]
    decided: dict[str, float]
    undecided: dict[str, list[Any]]


@dataclass(frozen=True)
class Sensitivity:
    """All combinations of some conventions.

    Attributes:
        reference: what effects are counted from.
        axes: values by field of the protocol.
        conventions: all combinations.
        notes: what a reader has to know, one sentence each.
    """

    reference: Convention
    axes: Mapping[str, Sequence[Any]]
    conventions: Sequence[Convention]
    notes: Sequence[str] = ()

    def effects(self) -> list[Effect]:
        """Each convention alone, all others as in the reference; in the order of the axes."""
        return [Effect(axis, self._alone(axis)) for axis, values in self.axes.items() if len(values) > 1]

    def _alone(self, axis: str) -> dict[Any, dict[str, float]]:
        others = [name for name in self.axes if name != axis]
        fixed = [self.reference.setting(name) for name in others]
        return {
            each.setting(axis): each.metrics
            for each in self.conventions
            if [each.setting(name) for name in others] == fixed
        }

    def paragraph(self, metrics: Sequence[str] = _SHOWN) -> str:
        """What moves these numbers, in words."""
        own = self.reference.metrics
        lines = [f"Reference {self.reference.protocol.name}: {', '.join(f'{m} {own[m]:.4f}' for m in metrics)}."]
        effects = self.effects()
        for metric in metrics:
            moving = sorted((e for e in effects if e.span(metric) > _SAME), key=lambda e: -e.span(metric))
            told = [_told(effect, metric, own[metric]) for effect in moving]
            lines.append(f"{metric}: {'; '.join(told)}." if told else f"{metric}: no convention alone moves it.")
            lines.append(f"  Over all {len(self.conventions)} combinations: {self._extremes(metric)}.")
        still = [e.axis for e in effects if all(not e.span(m) > _SAME for m in NAMES)]
        if still:
            lines.append(f"Without any effect here: {', '.join(still)}.")
        return "\n".join([*lines, *self.notes])

    def _extremes(self, metric: str) -> str:
        finite = [c for c in self.conventions if math.isfinite(c.metrics[metric])]
        sign = -1 if metric in HIGHER_IS_BETTER else 1
        # of equal numbers the one nearest to the reference is told
        best, worst = (
            min(finite, key=lambda c: (way * sign * c.metrics[metric], len(self._differing(c)))) for way in (1, -1)
        )
        return f"{best.metrics[metric]:.4f} ({self.label(best)}) to {worst.metrics[metric]:.4f} ({self.label(worst)})"

    def label(self, convention: Convention) -> str:
        """The settings in which a convention differs from the reference."""
        own = self._differing(convention)
        return ", ".join(f"{axis} {_text(convention.setting(axis))}" for axis in own) or "the reference"

    def _differing(self, convention: Convention) -> list[str]:
        return [axis for axis in self.axes if convention.setting(axis) != self.reference.setting(axis)]

    def find(self, published: Mapping[str, Published]) -> Finding:
        """Rank the conventions by their distance to published numbers, and say which settings decide.

        Args:
            published: by metric.

        Raises:
            ConfigError: no number, or a metric that is not known.
        """
        if not published:
            raise ConfigError("nothing to find", where="--find", next_action="write abs_rel=0.098,delta1=0.95")
        for name in published:
            require_metric(name)
        distances = {id(each): _distance(each.metrics, published) for each in self.conventions}
        ordered = sorted(self.conventions, key=lambda each: distances[id(each)])
        groups: dict[tuple[float, ...], list[Convention]] = {}
        for each in ordered:
            groups.setdefault(tuple(_rounded(each.metrics[name]) for name in published), []).append(each)
        matches = [Match(distances[id(group[0])], tuple(group)) for group in groups.values()]
        agreeing = [c for match in matches if match.agrees for c in match.conventions] or list(matches[0].conventions)
        decided, undecided = {}, {}
        for axis, values in self.axes.items():
            kept = [value for value in values if any(c.setting(axis) == value for c in agreeing)]
            if len(kept) > 1:
                undecided[axis] = kept
            elif len(values) > 1:
                decided[axis] = min(distances[id(c)] for c in self.conventions if c.setting(axis) != kept[0])
        return Finding(matches, decided, undecided)

    # ---- forms -------------------------------------------------------------------------------------------------------

    def effect_grid(self, metrics: Sequence[str] = _SHOWN) -> Grid:
        """One row a value of an axis, all others as in the reference."""
        rows = []
        for effect in self.effects():
            for value, found in effect.values.items():
                own = value == self.reference.setting(effect.axis)
                changes = [_change(found[m], self.reference.metrics[m]) for m in metrics]
                cells = [
                    f"{found[m]:.4f}" if own else f"{found[m]:.4f} ({c})" for m, c in zip(metrics, changes, strict=True)
                ]
                rows.append([effect.axis, f"{_text(value)}{' *' if own else ''}", *cells])
        title = f"Each convention alone (* reference: {self.reference.protocol.name})"
        return Grid(["convention", "value", *metrics], rows, title=title, labels=2)

    def find_grid(self, finding: Finding, published: Mapping[str, Published], count: int = 10) -> Grid:
        """The nearest conventions, those that cannot be told apart in one row."""
        varied = [axis for axis, values in self.axes.items() if len(values) > 1]
        rows = []
        for match in finding.matches[:count]:
            settings = [_text_of_all(axis, match.conventions, self.axes[axis]) for axis in varied]
            found = match.conventions[0].metrics
            rows.append([f"{match.distance:.2f}", *settings, *(f"{found[name]:.5f}" for name in published)])
        head = ["distance", *varied, *(f"{name} ({each.value:g})" for name, each in published.items())]
        note = "distance: in units of what rounding leaves open; up to 1 all printed digits agree"
        return Grid(head, rows, title="Nearest conventions", notes=[note], labels=1 + len(varied))

    def csv(self) -> str:
        """All combinations, unrounded."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*self.axes, "images", "skipped", "degenerate", "fingerprint", *NAMES])
        for each in self.conventions:
            settings = [_text(each.setting(axis)) for axis in self.axes]
            counts = [each.images, each.skipped, each.degenerate, each.protocol.fingerprint]
            writer.writerow([*settings, *counts, *(each.metrics[name] for name in NAMES)])
        return out.getvalue()

    def json(self) -> str:
        """Reference, axes and all combinations, as JSON."""
        content = {
            "reference": _plain(self.reference, {"protocol": self.reference.protocol.to_dict()}),
            "axes": {axis: list(values) for axis, values in self.axes.items()},
            "notes": list(self.notes),
            "conventions": [_plain(c, {"settings": {a: c.setting(a) for a in self.axes}}) for c in self.conventions],
        }
        return json.dumps(content, indent=1) + "\n"


def require_metric(name: str) -> str:
    """The name, or a `ConfigError` that says the nearest."""
    if name not in NAMES:
        raise ConfigError(f"unknown metric {name!r}", where="--find", next_action=f"nearest: {nearest(name, NAMES)}")
    return name


def explained(finding: Finding) -> str:
    """What the numbers decide, in words."""
    best = finding.matches[0]
    agreeing = sum(len(match.conventions) for match in finding.matches if match.agrees)
    if not agreeing:
        return (
            f"No combination gives all printed digits; the nearest is {best.distance:.1f} units of rounding away. "
            "Compare more conventions (see --help), or the truth, its set of images or the weights are others."
        )
    lines = [f"{agreeing} combination(s) give all printed digits."]
    for axis, distance in sorted(finding.decided.items(), key=lambda item: -item[1]):
        value = _text(best.conventions[0].setting(axis))
        lines.append(f"{axis} {value} decides: with any other value the nearest is {distance:.1f} away.")
    for axis, values in finding.undecided.items():
        lines.append(f"{axis} stays open: {', '.join(map(_text, values))} fit alike.")
    return "\n".join(lines)


def _distance(metrics: Mapping[str, float], published: Mapping[str, Published]) -> float:
    found = max(abs(metrics[name] - each.value) / each.tolerance for name, each in published.items())
    return found if math.isfinite(found) else math.inf


def _rounded(value: float) -> float:
    return float(f"{value:.9e}")


def _change(value: float, reference: float) -> str:
    return f"{(value - reference) / reference:+.1%}" if reference else f"{value - reference:+.4f}"


def _told(effect: Effect, metric: str, reference: float) -> str:
    parts = [
        f"{_text(value)} {found[metric]:.4f} ({_change(found[metric], reference)})"
        for value, found in effect.values.items()
        if abs(found[metric] - reference) > _SAME
    ]
    return f"{effect.axis} {', '.join(parts)}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text_of_all(axis: str, conventions: Iterable[Convention], values: Sequence[Any]) -> str:
    found = [value for value in values if any(c.setting(axis) == value for c in conventions)]
    return "any" if len(found) == len(values) else "/".join(map(_text, found))


def _plain(convention: Convention, more: Mapping[str, Any]) -> dict[str, Any]:
    metrics = {name: value if math.isfinite(value) else None for name, value in convention.metrics.items()}
    counts = {"images": convention.images, "skipped": convention.skipped, "degenerate": convention.degenerate}
    return {**more, **counts, "fingerprint": convention.protocol.fingerprint, "metrics": metrics}
