"""One fit for a whole set of images: what a network's unknown constants are, if it has only one pair of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.alignment.fitting import Fit, coordinates, fit
from mde.alignment.modes import require_known
from mde.errors import ConfigError

__all__ = ["POOLED", "GlobalFit"]

POOLED: dict[str, str] = {
    "pixel": "least squares over all pixels of the set together",
    "image": "the mean of the constants of each image",
}

_ADDITIVE = ("scale", "scale_shift", "disparity_scale_shift", "log_affine")
_RESOLUTION = float(np.finfo(np.float32).eps)
# Constants of an image are rounded to so many bits before they are averaged: the number of threads of a reduction
# moves their last bits, and a mean must not depend on it.
_BITS = 40


class GlobalFit:
    """The constants of a set, found image by image in constant memory.

    All sums are exact (rational numbers), hence the order of the images, the size of the batches and the number of
    processes change nothing: `merge` joins what several processes found.

    Args:
        mode: an `Alignment` or its string, any but "none".
        pooling: key of `POOLED`. "pixel" solves one least-squares problem over all pixels; "image" averages slopes and
            shifts of the images (so the Depth-Anything row of paper 0 was made). Only "image" goes with medians and
            robust fits, which no sums determine.

    Attributes:
        images: images that went in.
        degenerate: images that were left out, as they determine nothing: no pixel, a constant, a NaN.

    Raises:
        ConfigError: an unknown mode or pooling, or one that does not go with the other.

    >>> whole = GlobalFit("scale")
    >>> truth = torch.tensor([[[[1.0, 2.0, 4.0]]]])
    >>> for factor in (1.0, 0.5):
    ...     whole.update(factor * truth, truth, truth > 0)
    >>> round(whole.compute().scale.item(), 3), whole.images
    (1.2, 2)
    """

    def __init__(self, mode: str, pooling: str = "pixel") -> None:
        require_known(mode)
        require_pooling(mode, pooling)
        self.mode = mode
        self.pooling = pooling
        self.images = 0
        self.degenerate = 0
        # "pixel": n, x, y, x^2, x y; "image": n, scale, shift
        self._sums = [Fraction(0)] * (5 if pooling == "pixel" else 3)

    def update(self, pred: Tensor, target: Tensor, valid: Tensor, counts: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            pred: (B,1,H,W), depth or disparity; garbage allowed outside `valid`.
            target: (B,1,H,W), metres, positive where valid.
            valid: bool (B,1,H,W), the pixels to fit on.
            counts: bool (B,), False leaves an image out entirely.

        Raises:
            ConfigError: the shapes differ.
        """
        used = range(len(pred)) if counts is None else torch.nonzero(counts).flatten().tolist()
        for i in used:
            image = pred[i : i + 1].detach(), target[i : i + 1], valid[i : i + 1]
            found = self._of_pixels(*image) if self.pooling == "pixel" else self._of_image(*image)
            if found is None:
                self.degenerate += 1
                continue
            self.images += 1
            self._sums = [a + Fraction(b) for a, b in zip(self._sums, found, strict=True)]

    def merge(self, other: GlobalFit) -> None:
        """Add what another process found with the same settings."""
        self._sums = [a + b for a, b in zip(self._sums, other._sums, strict=True)]
        self.images += other.images
        self.degenerate += other.degenerate

    def compute(self) -> Fit:
        """The constants, each of shape (1,); degenerate and the identity where the images do not determine them."""
        scale, shift = self._mean() if self.pooling == "image" else self._solution()
        degenerate = scale is None or (self.mode in ("median", "scale", "robust_scale") and scale <= 0)
        if scale is None or degenerate:
            scale, shift = Fraction(1), Fraction(0)
        values = torch.tensor([[float(scale)], [float(shift)]], dtype=torch.float64)
        return Fit(values[0], values[1], torch.tensor([degenerate]))

    def _mean(self) -> tuple[Fraction | None, Fraction]:
        count, scale, shift = self._sums
        return (scale / count, shift / count) if count else (None, Fraction(0))

    def _solution(self) -> tuple[Fraction | None, Fraction]:
        """Of the normal equations, without rounding."""
        n, x, y, xx, xy = self._sums
        if self.mode == "scale":
            return (xy / xx if xx else None), Fraction(0)
        spread = n * xx - x * x
        if spread <= n * xx * Fraction(_RESOLUTION) ** 2:  # also without a pixel
            return None, Fraction(0)
        scale = (n * xy - x * y) / spread
        return scale, (y - scale * x) / n

    def _of_pixels(self, pred: Tensor, target: Tensor, valid: Tensor) -> list[float] | None:
        x, y, used = coordinates(pred.flatten(1), target.flatten(1), valid.flatten(1), self.mode)
        # NumPy adds in pairs, the same way whatever the number of threads
        p, g = (t[used].cpu().numpy() for t in (x, y))
        return _finite(np.array((p.size, p.sum(), g.sum(), (p * p).sum(), (p * g).sum()))) if p.size else None

    def _of_image(self, pred: Tensor, target: Tensor, valid: Tensor) -> list[float] | None:
        made = fit(pred, target, valid, self.mode)
        constants = np.array((1.0, made.scale.item(), made.shift.item()))
        mantissa, exponent = np.frexp(constants)
        return (
            None if bool(made.degenerate) else _finite(np.ldexp(np.round(np.ldexp(mantissa, _BITS)), exponent - _BITS))
        )


def require_pooling(mode: str, pooling: str) -> None:
    """Raise a `ConfigError` unless constants of this mode can be found for a set in this way."""
    if pooling not in POOLED:
        raise ConfigError(f"unknown pooling of constants {pooling!r}", next_action=f"use {' or '.join(POOLED)}")
    if mode == "none" or (pooling == "pixel" and mode not in _ADDITIVE):
        hint = f"use {', '.join(_ADDITIVE)}" + ("" if mode == "none" else ", or alignment_pooling 'image'")
        raise ConfigError(
            f"alignment {str(mode)!r} has no fit over all pixels of a set", where="protocol.alignment", next_action=hint
        )


def _finite(values: NDArray[np.float64]) -> list[float] | None:
    return values.tolist() if np.isfinite(values).all() else None
