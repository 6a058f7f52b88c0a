"""The bootstrap and the sign-flip test, on sums over images: a resample is a product of two matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "MIN_IMAGES", "Floats", "Statistic", "bca", "sign_flips"]

LEVEL = 0.95
MIN_IMAGES = 10
"""Below it there is no interval: so few images hardly show the tails of their own distribution."""

_RESAMPLES = (1000, 4000)  # at least and at most; Efron & Tibshirani 1993, 14.3: 1000 for intervals as these
_DRAWS = 40_000_000  # images drawn in all, where that is within the bounds above
_BLOCK = 4_000_000  # numbers of a block of draws: 32 MB
_EXACT = 14  # up to so many images all 2^n signs are tried
_FLIPS = 9_999

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Sums over images (...,K) -> values (...,M)."""


def bca(columns: Floats, statistic: Statistic, seed: int) -> Floats:
    """Low and high end of each value, (M,2); NaN where there is none.

    Args:
        columns: (N,K), of which a sample's sums are what `statistic` takes; a row of zeros is no image.
        statistic: (...,K) -> (...,M).
        seed: of the draws.
    """
    columns = columns[columns.any(axis=1)]
    total = columns.sum(axis=0)
    with np.errstate(all="ignore"):  # what is no number is left out by the caller
        value = statistic(total)
        if len(columns) < MIN_IMAGES:
            return np.full((value.size, 2), np.nan)
        drawn = np.concatenate([statistic(counts @ columns) for counts in _resamples(len(columns), seed)])
        influence = statistic(total - columns)  # leaving out one image each: the jackknife
        influence = influence.mean(axis=0) - influence
        acceleration = (influence**3).sum(axis=0) / (6 * (influence**2).sum(axis=0) ** 1.5)
    below = ((drawn < value).mean(axis=0) + (drawn <= value).mean(axis=0)) / 2
    ends = [_ends(*each, len(drawn)) for each in zip(below, np.nan_to_num(acceleration), strict=True)]
    return np.array([np.quantile(column, q) for column, q in zip(drawn.T, ends, strict=True)])


def _ends(below: float, acceleration: float, resamples: int) -> tuple[float, float]:
    """Which quantiles of the draws are the ends; without bias and skew they are (1 - LEVEL) / 2 and 1 less that."""
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below, 0.5 / resamples), 1 - 0.5 / resamples))
    shifted = [bias + normal.inv_cdf(q) for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    low, high = (normal.cdf(bias + z / (1 - acceleration * z)) for z in shifted)
    return low, high


def _resamples(images: int, seed: int) -> Iterator[Floats]:
    """Blocks (b,N) of how often each image is drawn."""
    rng = np.random.default_rng(seed)
    left = min(max(_RESAMPLES[0], _DRAWS // images), _RESAMPLES[1])
    while left > 0:
        block = min(left, max(1, _BLOCK // images))
        draws = rng.integers(images, size=(block, images))
        yield np.stack([np.bincount(draw, minlength=images) for draw in draws]).astype(np.float64)
        left -= block


def sign_flips(differences: Floats, seed: int) -> Floats:
    """Two-sided p values, (M,), of differences (N,M) whose signs are arbitrary if the methods are equal.

    Swapping the two errors of an image turns a into b in both sums, and a root keeps the order of sums, so this is the
    test of pooled values as well.
    """
    differences = differences[differences.any(axis=1)]  # the sign of 0 changes nothing
    images = len(differences)
    observed = np.abs(differences.sum(axis=0))
    least = observed - 1e-12 * np.abs(differences).sum(axis=0)  # rounding must not break a tie
    reached, flips = np.zeros(observed.shape), 0
    for signs in _all_signs(images) if images <= _EXACT else _random_signs(images, seed):
        reached += (np.abs(signs @ differences) >= least).sum(axis=0)
        flips += len(signs)
    return reached / flips if images <= _EXACT else (reached + 1) / (flips + 1)


def _all_signs(images: int) -> Iterator[Floats]:
    flipped = (np.arange(2**images)[:, None] >> np.arange(images)) & 1
    yield 1 - 2 * flipped.astype(np.float64)


def _random_signs(images: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    left = _FLIPS
    while left > 0:
        block = min(left, max(1, _BLOCK // images))
        yield 1 - 2 * rng.integers(0, 2, size=(block, images), dtype=np.int8).astype(np.float64)
        left -= block
