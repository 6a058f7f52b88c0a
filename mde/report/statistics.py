"""How sure a number is: intervals over images by the bootstrap, and paired tests between two methods.

What is drawn are images, as they are what a test set is a sample of; pixels of one image are anything but independent.
Every pooling is a function of sums over images, so all metrics share their draws, and a resample is a product of two
matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mde.errors import ProtocolMismatchError
from mde.report.resampling import Floats, Statistic, bca, sign_flips
from mde.report.scores import ImageScores

__all__ = ["Interval", "Paired", "intervals", "matched", "paired", "pooled", "ratio_intervals"]


class Interval(NamedTuple):
    """Where the value lies with a confidence of 95 %.

    >>> Interval(0.0, 0.5).half
    0.25
    """

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width, the number behind the ±."""
        return (self.high - self.low) / 2


class Paired(NamedTuple):
    """Two methods on the same images.

    Attributes:
        difference: the first's value less the second's, in the unit of the metric.
        interval: of the difference; None for fewer than ten images.
        p: of the sign-flip test: how often a difference as large comes about if the methods are equal. Two-sided.
        images: how many have a value of both.
    """

    difference: float
    interval: Interval | None
    p: float
    images: int


class _Form(NamedTuple):
    """A pooled value is (sum of weight * error^power / sum of weights)^(1/power)."""

    power: float
    by_pixels: bool


def pooled(scores: ImageScores, pooling: str = "image") -> dict[str, float]:
    """What the metrics of a test are, from its errors per image.

    Args:
        scores: of the images.
        pooling: of the protocol, as of `mde.protocol.EvalProtocol`.

    Returns:
        By metric, NaN where no image has a value. A metric is missing where its pooled value does not follow from
        errors per image: silog pooled by pixel, rmse pooled by batches.

    >>> pooled(ImageScores(("a", "b"), np.array([1, 3]), np.zeros(2, bool), {"rmse": np.array([2.0, 6.0])}), "pixel")
    {'rmse': 5.291502622129181}
    """
    forms = _forms(scores.values, pooling)
    errors, weights = _columns(scores, forms)
    with np.errstate(all="ignore"):
        values = _pooled(errors.sum(axis=0), weights.sum(axis=0), _powers(forms))
    return dict(zip(forms, values.tolist(), strict=True))


def intervals(scores: ImageScores, pooling: str = "image", *, seed: int = 0) -> dict[str, Interval]:
    """The interval of each value of `pooled`.

    Bias-corrected and accelerated bootstrap (BCa; Efron 1987, "Better bootstrap confidence intervals", JASA 82): errors
    per image are skewed, and plain percentiles are then too short on the long side.

    Args:
        scores: of the images.
        pooling: of the protocol, as of `mde.protocol.EvalProtocol`.
        seed: of the draws.

    Returns:
        By metric. A metric is missing where its pooled value does not follow from errors per image (silog pooled by
        pixel, anything pooled by batches), and all are for fewer than ten images.
    """
    forms = _forms(scores.values, pooling)
    sums = np.concatenate(_columns(scores, forms), axis=1)
    powers = _powers(forms)

    def value(total: Floats) -> Floats:
        errors, weights = np.split(total, 2, axis=-1)
        return _pooled(errors, weights, powers)

    return _named(forms, bca(sums, value, seed))


def ratio_intervals(
    scores: ImageScores, constant: ImageScores, pooling: str = "image", *, seed: int = 0
) -> dict[str, Interval]:
    """The interval of each metric over the constant predictor's, both on the same drawn images.

    Args:
        scores: of the network.
        constant: of the constant predictor on the same images.
        pooling: of the protocol.
        seed: of the draws.

    Raises:
        ProtocolMismatchError: the images differ.
    """
    first, second = matched(scores, constant)
    forms = _forms((name for name in first.values if name in second.values), pooling)
    return _named(forms, bca(_both(first, second, forms), _compared(forms, np.divide), seed))


def paired(
    first: ImageScores, second: ImageScores, metrics: Sequence[str], pooling: str = "image", *, seed: int = 0
) -> dict[str, Paired]:
    """Whether two methods differ on the same images.

    The p value is that of a permutation test: if the methods are equal, the two errors of an image may be swapped,
    which flips the sign of their difference (Fisher 1935; exact up to 14 images, else from 9,999 random flips with the
    observed one counted, Phipson & Smyth 2010). The interval is a paired bootstrap (BCa) of the difference.

    Args:
        first: of one method.
        second: of the other; the order of its images may differ.
        metrics: which; those that one of them lacks, or that have no form per image, are left out.
        pooling: of the protocol of both.
        seed: of draws and flips.

    Raises:
        ProtocolMismatchError: the images differ, or the pixels that count in them do.
    """
    one, other = matched(first, second)
    forms = _forms((name for name in metrics if name in one.values and name in other.values), pooling)
    if not forms:
        return {}
    sums = _both(one, other, forms)
    errors_one, errors_other, weights = np.split(sums, 3, axis=1)
    statistic = _compared(forms, np.subtract)
    found = _named(forms, bca(sums, statistic, seed))
    p = sign_flips(errors_one - errors_other, seed)
    with np.errstate(all="ignore"):  # a metric without one value is NaN
        differences = statistic(sums.sum(axis=0))
    images = np.count_nonzero(weights, axis=0)
    return {
        name: Paired(float(differences[k]), found.get(name), float(p[k]), int(images[k]))
        for k, name in enumerate(forms)
        if images[k] > 0
    }


def matched(first: ImageScores, second: ImageScores) -> tuple[ImageScores, ImageScores]:
    """Both in the order of their ids.

    Raises:
        ProtocolMismatchError: an id is in one of them only, or another number of pixels counts in an image.
    """
    a, b = set(first.ids), set(second.ids)
    hint = "test both on the same images"
    if a != b:
        gaps = [_listed("the second lacks", sorted(a - b)), _listed("the first lacks", sorted(b - a))]
        what = f"the images differ: {'; '.join(gap for gap in gaps if gap)}"
        raise ProtocolMismatchError(what, next_action=hint)
    order = sorted(a)
    one, other = first.take(order), second.take(order)
    changed = [order[row] for row in np.flatnonzero(one.pixels != other.pixels)]
    if changed:
        what = _listed("the ground truth differs: other pixels count in", changed)
        raise ProtocolMismatchError(what, next_action=hint)
    return one, other


def _listed(what: str, ids: Sequence[str]) -> str:
    more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
    return f"{what} {len(ids)} image(s), {', '.join(ids[:10])}{more}" if ids else ""


# ---- how a value follows from sums over images -----------------------------------------------------------------------

_ROOTS = frozenset({"rmse", "rmse_log", "irmse"})  # roots of means: their squares are what is additive
_BY_PIXELS = _ROOTS | {"abs_rel", "sq_rel", "log10", "delta1", "delta2", "delta3"}


def _forms(metrics: Iterable[str], pooling: str) -> dict[str, _Form]:
    """Form by metric, those without one left out. Metrics that are none of the protocol are means over images."""
    found = {name: _form(name, pooling) for name in metrics}
    return {name: form for name, form in found.items() if form is not None}


def _form(metric: str, pooling: str) -> _Form | None:
    if pooling == "pixel" and metric in _BY_PIXELS:
        return _Form(2.0 if metric in _ROOTS else 1.0, by_pixels=True)
    if (pooling, metric) == ("mse", "rmse"):
        return _Form(2.0, by_pixels=False)
    if (pooling, metric) in (("pixel", "silog"), ("batch16", "rmse")):
        return None
    return _Form(1.0, by_pixels=False)


def _powers(forms: dict[str, _Form]) -> Floats:
    return np.array([form.power for form in forms.values()])


def _columns(scores: ImageScores, forms: dict[str, _Form]) -> tuple[Floats, Floats]:
    """Weighted errors and weights of each image, (N,M) each; both 0 where there is no value."""
    errors, weights = np.zeros((2, len(scores), len(forms)))
    for k, (name, form) in enumerate(forms.items()):
        seen = np.isfinite(scores.values[name]) & (scores.pixels > 0)
        weights[seen, k] = scores.pixels[seen] if form.by_pixels else 1.0
        errors[seen, k] = weights[seen, k] * scores.values[name][seen] ** form.power
    return errors, weights


def _both(first: ImageScores, second: ImageScores, forms: dict[str, _Form]) -> Floats:
    """(N,3M): errors of the first, errors of the second, weights; an image counts where both have a value."""
    (a, weights), (b, others) = _columns(first, forms), _columns(second, forms)
    seen = (weights > 0) & (others > 0)
    return np.concatenate([np.where(seen, each, 0.0) for each in (a, b, weights)], axis=1)


def _pooled(errors: Floats, weights: Floats, powers: Floats) -> Floats:
    return (errors / weights) ** (1 / powers)


def _compared(forms: dict[str, _Form], compare: Callable[[Floats, Floats], Floats]) -> Statistic:
    powers = _powers(forms)

    def value(total: Floats) -> Floats:
        a, b, weights = np.split(total, 3, axis=-1)
        return compare(_pooled(a, weights, powers), _pooled(b, weights, powers))

    return value


def _named(forms: dict[str, _Form], ends: Floats) -> dict[str, Interval]:
    found = zip(forms, ends, strict=True)
    return {name: Interval(float(low), float(high)) for name, (low, high) in found if np.isfinite((low, high)).all()}
