"""Fits between a relative prediction and the measured depth: scale, shift, or both, per image or once for a whole set.

A network that was trained without metric labels gives depth or disparity up to unknown constants; a table of its errors
is made after these constants were fitted to the truth. All fits are batched and work in float64.

An image may leave a fit undefined (no pixel to fit on, a constant prediction, a prediction with NaN). Nothing becomes
NaN by that: `fit` falls back as described there and says so in `Fit.degenerate`.
"""

from __future__ import annotations

from mde.alignment.fitting import Fit, align, apply_fit, fit
from mde.alignment.modes import FITTING, MODES, Alignment, require_mode
from mde.alignment.whole import POOLED, GlobalFit

__all__ = [
    "FITTING",
    "MODES",
    "POOLED",
    "Alignment",
    "Fit",
    "GlobalFit",
    "align",
    "apply_fit",
    "fit",
    "require_mode",
]
