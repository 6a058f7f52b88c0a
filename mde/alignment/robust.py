"""Lines through data of which nearly half may be wrong: least median of squares, then a biweight fit.

Least squares follows outliers, and least absolute residuals (the usual remedy) still follow those whose x is far off: a
network that fails on a third of an image fails in x. The way here breaks down with neither below one half. Among many
lines through two pixels the one with the least median of squared residuals is taken (Rousseeuw 1984), its median gives
the noise (Rousseeuw & Leroy 1987, ch. 5), and reweighted least squares with Tukey's biweight goes on from there (Beaton
& Tukey 1974; Yohai 1987 for the two together). On data without noise the result is the exact line.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

__all__ = ["robust_lines"]

# With every second pixel wrong, none of 128 pairs is good with a probability of 1e-16.
_PAIRS = 128
_SAMPLE = 1024  # pixels that judge a pair: enough for a median
_TUNING = 4.685  # 95 % efficiency under normal noise (Beaton & Tukey 1974)
_NORMAL = 1.4826  # median of absolute residuals to standard deviation
_STEPS = 30
_RESOLUTION = float(np.finfo(np.float32).eps)


def robust_lines(x: Tensor, y: Tensor, valid: Tensor, *, through_origin: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Robust line y = s x + t of each row.

    Args:
        x: (B,N) float64.
        y: (B,N) float64.
        valid: bool (B,N), the elements to fit on.
        through_origin: t is 0.

    Returns:
        s and t, float64 (B,), and where the row did not determine them, bool (B,): s = 0 and the median of y where x
        is constant, NaN where there is nothing to fit or not all is finite.
    """
    rows = [_line(x[i][valid[i]], y[i][valid[i]], through_origin) for i in range(len(x))]
    constants = torch.stack([torch.stack(row) for row in rows]) if rows else x.new_zeros((0, 2))
    return constants[:, 0], constants[:, 1], ~(constants[:, 0] != 0) | constants.isnan().any(1)


def _line(x: Tensor, y: Tensor, through_origin: bool) -> tuple[Tensor, Tensor]:
    if x.numel() == 0 or not bool(torch.isfinite(x).all() & torch.isfinite(y).all()):
        return x.new_tensor(torch.nan), x.new_tensor(torch.nan)
    start = _least_median(x, y, through_origin)
    if start is None:
        return x.new_tensor(0.0), y.median()
    scale, shift, noise = start
    for _ in range(_STEPS):
        residual = (y - scale * x - shift) / (_TUNING * noise)
        weight = (1 - residual**2).clamp(min=0) ** 2
        before = scale
        scale, shift = _weighted(x, y, weight, through_origin)
        if bool((scale - before).abs() <= 1e-14 * scale.abs()):
            break
    return scale, shift


def _least_median(x: Tensor, y: Tensor, through_origin: bool) -> tuple[Tensor, Tensor, Tensor] | None:
    """Of lines through pairs of elements the best for most elements, and the noise about it; None for a constant x."""
    first, second, judges = (draw.to(x.device) for draw in _draws(x.numel()))
    dx, dy = (x[first], y[first]) if through_origin else (x[second] - x[first], y[second] - y[first])
    apart = dx.abs() > _RESOLUTION * torch.maximum(x[first].abs(), x[second].abs())
    if through_origin:
        apart = dx != 0
    if not bool(apart.any()):
        return None
    slopes = (dy / dx)[apart]
    shifts = torch.zeros_like(slopes) if through_origin else y[first][apart] - slopes * x[first][apart]
    sample_x, sample_y = x[judges], y[judges]
    medians = (sample_y - slopes[:, None] * sample_x - shifts[:, None]).abs().median(1).values
    best = medians.argmin()
    # the correction for few elements is that of Rousseeuw & Leroy; rounding of float32 is noise, too
    noise = _NORMAL * (1 + 5 / max(x.numel() - 2, 1)) * medians[best]
    return slopes[best], shifts[best], noise.clamp(min=_RESOLUTION * float(sample_y.abs().median()))


def _weighted(x: Tensor, y: Tensor, weight: Tensor, through_origin: bool) -> tuple[Tensor, Tensor]:
    """Least squares with weights."""
    if through_origin:
        return (weight * x * y).sum() / (weight * x * x).sum(), x.new_tensor(0.0)
    total = weight.sum()
    mean_x, mean_y = (weight * x).sum() / total, (weight * y).sum() / total
    dx = x - mean_x
    scale = (weight * dx * (y - mean_y)).sum() / (weight * dx * dx).sum()
    return scale, mean_y - scale * mean_x


@functools.cache
def _uniform() -> Tensor:
    """Always the same numbers: the constants of an image must not depend on what was scored before it."""
    return torch.rand(2 * _PAIRS + _SAMPLE, dtype=torch.float64, generator=torch.Generator().manual_seed(1984))


def _draws(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions of the first and the second element of each pair, and of the elements that judge."""
    first, second, judges = torch.split((_uniform() * count).long(), [_PAIRS, _PAIRS, _SAMPLE])
    return first, second, judges if count > _SAMPLE else torch.arange(count)
