"""One fit per image: `fit` finds the constants, `apply_fit` makes metres of them, `align` does both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mde.alignment.modes import require_known, require_mode
from mde.alignment.robust import robust_lines
from mde.errors import ConfigError
from mde.masking import fill
from mde.types import Ambiguity

__all__ = ["Fit", "align", "apply_fit", "coordinates", "fit"]

# Aligned disparity and exp-aligned depth stay within 1e-6 and 1e6 (1/m or m): finite in float32, and wider than the
# range of any protocol, whose clamp then decides (a cap of 80 m is a disparity of 0.0125).
_LIMIT = 1e6
# A prediction whose spread is below the resolution of float32 is constant: its slope would be rounding noise.
_RESOLUTION = float(np.finfo(np.float32).eps)

_Constants = tuple[Tensor, Tensor, Tensor]


class Fit(NamedTuple):
    """The constants of each image.

    Attributes:
        scale: float64 (B,), the factor (the exponent for "log_affine").
        shift: float64 (B,), in the space of the fit: m, 1/m for disparity, ln(m) for "log_affine".
        degenerate: bool (B,), True where the image did not determine the fit and a fallback stands in.
    """

    scale: Tensor
    shift: Tensor
    degenerate: Tensor


def align(pred: Tensor, target: Tensor, valid: Tensor, mode: str, *, ambiguity: Ambiguity | None = None) -> Tensor:
    """Fit the prediction of each image to its truth and return it in metres.

    Args:
        pred: (B,1,H,W), depth or disparity up to what `mode` fits; garbage allowed outside `valid`. Not modified.
        target: (B,1,H,W), metres, positive where valid.
        valid: bool (B,1,H,W), the pixels to fit on. The result covers all pixels.
        mode: an `Alignment` or its string, see `MODES`.
        ambiguity: what the numbers of `pred` mean; when given, a mode that does not fit it is refused.

    Returns:
        Depth in metres, (B,1,H,W), float32 (float64 for float64), not clamped to a range: a linear fit may go negative.

    Raises:
        ConfigError: unknown mode, a mode that does not fit the ambiguity, or tensors of different shapes.

    >>> truth = torch.tensor([[[[1.0, 2.0, 4.0]]]])
    >>> align(truth / 2, truth, truth > 0, "median")
    tensor([[[[1., 2., 4.]]]])
    """
    if ambiguity is not None:
        require_mode(mode, ambiguity)
    return apply_fit(pred, fit(pred, target, valid, mode), mode)


def fit(pred: Tensor, target: Tensor, valid: Tensor, mode: str) -> Fit:
    """The constants of each image, in float64.

    * "median": median(target) / median(pred), the mean of the two middle values for an even count (monodepth2,
      evaluate_depth.py). Degenerate unless positive.
    * "scale": argmin_s sum (s p - g)^2. Degenerate unless positive.
    * "scale_shift": argmin_{s,t} sum (s p + t - g)^2 (Marigold, least_square).
    * "disparity_scale_shift": argmin_{s,t} sum (s p + t - 1/g)^2, p a disparity (MiDaS, Ranftl et al. 2020).
    * "log_affine": argmin_{a,b} sum (a ln p + b - ln g)^2 over pixels with p > 0.
    * "robust_*": the same lines by `mde.alignment.robust.robust_lines` (least median of squares, then biweight).

    Fallbacks where the fit is degenerate: a constant prediction takes scale 0 and the mean (robust: the median) of the
    truth in the space of the fit, which is its best constant; everything else (no pixel, NaN or infinity among them, a
    factor that is not positive) takes the identity, so that a NaN stays where it was and the evaluation reports it.

    Args:
        pred: (B,1,H,W), garbage allowed outside `valid`.
        target: (B,1,H,W), metres, positive where valid.
        valid: bool (B,1,H,W).
        mode: an `Alignment` or its string.

    Raises:
        ConfigError: unknown mode, or tensors of different shapes.

    >>> p = torch.tensor([[[[1.0, 2.0, 3.0, 4.0, 6.0]]]])
    >>> made = fit(p, 1 / (0.5 * p + 0.25), p > 0, "disparity_scale_shift")
    >>> round(made.scale.item(), 6), round(made.shift.item(), 6)
    (0.5, 0.25)
    """
    require_known(mode)
    if not pred.shape == target.shape == valid.shape or valid.dtype != torch.bool:
        raise ConfigError(
            f"alignment needs equal shapes and a bool mask, got {tuple(pred.shape)}, {tuple(target.shape)} and "
            f"{valid.dtype} {tuple(valid.shape)}",
            next_action="resize the prediction to the ground truth first (EvalProtocol.prepare does)",
        )
    one = torch.ones(len(pred), dtype=torch.float64, device=pred.device)
    if mode == "none":
        return Fit(one, 0 * one, one < 0)
    scale, shift, degenerate = _constants(pred.detach().flatten(1), target.flatten(1), valid.flatten(1), mode)
    usable = scale.isfinite() & shift.isfinite()
    return Fit(torch.where(usable, scale, one), torch.where(usable, shift, 0.0), degenerate | ~usable)


def apply_fit(pred: Tensor, fit: Fit, mode: str) -> Tensor:
    """Turn a prediction into metres with constants that were fitted before, also on other images.

    Args:
        pred: (B,1,H,W).
        fit: constants of B images, or of one image for all.
        mode: what `fit` was made with.

    Returns:
        Depth in metres, (B,1,H,W), float32 (float64 for float64).

    Raises:
        ConfigError: unknown mode.

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> apply_fit(torch.full((2, 1, 1, 1), 3.0), Fit(one, one, one < 0), "disparity_scale_shift").flatten()
    tensor([0.2500, 0.2500])
    """
    require_known(mode)
    dtype = pred.dtype if pred.dtype == torch.float64 else torch.float32
    if mode == "none":
        return pred.to(dtype)
    scale, shift = fit.scale.view(-1, 1, 1, 1), fit.shift.view(-1, 1, 1, 1)
    values = pred.double()
    if mode == "log_affine":
        # a prediction of 0 or less has no logarithm: it counts as the nearest depth there is
        aligned = (scale * values.clamp(min=1 / _LIMIT).log() + shift).exp().clamp(1 / _LIMIT, _LIMIT)
    else:
        aligned = scale * values + shift
    if mode.endswith("disparity_scale_shift"):
        aligned = 1 / aligned.clamp(min=1 / _LIMIT)
    return aligned.to(dtype)


def coordinates(pred: Tensor, target: Tensor, valid: Tensor, mode: str) -> _Constants:
    """Where the line of a mode is fitted: x and y, (B,N) float64, and the pixels that take part, bool (B,N).

    Args:
        pred: (B,N).
        target: (B,N), metres.
        valid: bool (B,N).
        mode: any but "none" and "median".
    """
    if mode == "log_affine":
        # only zero and below is left out; a NaN has to stay in, or it would go unnoticed
        valid = valid & ~(pred <= 0)
        return fill(pred.double(), valid, 1.0).log(), fill(target.double(), valid, 1.0).log(), valid
    if mode.endswith("disparity_scale_shift"):
        return pred.double(), 1 / fill(target.double(), valid, 1.0), valid
    return pred.double(), target.double(), valid


def _constants(pred: Tensor, target: Tensor, valid: Tensor, mode: str) -> _Constants:
    if mode == "median":
        return _positive(_medians(target, valid) / _medians(pred, valid))
    x, y, used = coordinates(pred, target, valid, mode)
    if mode == "scale":
        x, y = fill(x, used), fill(y, used)
        return _positive((x * y).sum(1) / (x * x).sum(1))
    if mode == "robust_scale":
        return _positive(robust_lines(x, y, used, through_origin=True)[0])
    return robust_lines(x, y, used) if mode.startswith("robust") else _lines(x, y, used)


def _positive(scale: Tensor) -> _Constants:
    """A pure factor; NaN, hence the identity, unless it is positive."""
    usable = scale > 0
    return torch.where(usable, scale, torch.nan), torch.zeros_like(scale), ~usable


def _lines(x: Tensor, y: Tensor, valid: Tensor) -> _Constants:
    """Least-squares line y = s x + t of each row, (B,N) float64; centred, as the plain normal equations cancel."""
    count = valid.sum(1).double()
    x, y = fill(x, valid), fill(y, valid)
    mean_x, mean_y = x.sum(1) / count, y.sum(1) / count
    dx = fill(x - mean_x[:, None], valid)
    spread = (dx * dx).sum(1)
    constant = spread <= count * (_RESOLUTION * x.abs().amax(1)) ** 2
    scale = torch.where(constant, 0.0, (dx * (y - mean_y[:, None])).sum(1) / spread)
    return scale, mean_y - scale * mean_x, constant


def _medians(values: Tensor, valid: Tensor) -> Tensor:
    """True median of the valid elements of each row, (B,N) -> float64 (B,); NaN for an empty row."""
    if values.device.type != "cpu":
        return _medians_by_sort(values, valid)
    # selection on the few valid elements: some ten times faster than a sort, and `take` than a boolean index
    rows = values.double() if values.dtype.itemsize < torch.float32.itemsize else values
    chosen = [rows[i].numpy().take(np.flatnonzero(valid[i].numpy())) for i in range(len(rows))]
    return torch.tensor([np.median(c.astype(np.float64)) if c.size else np.nan for c in chosen], dtype=torch.float64)


def _medians_by_sort(values: Tensor, valid: Tensor) -> Tensor:
    """`_medians` without a step that depends on the number of valid elements: no wait for an accelerator."""
    ordered = fill(values.double(), valid, torch.inf).sort(1).values
    count = valid.sum(1, keepdim=True)
    low = ordered.gather(1, ((count - 1) // 2).clamp(min=0))
    high = ordered.gather(1, (count // 2).clamp(max=values.shape[1] - 1))
    return torch.where(count > 0, (low + high) / 2, torch.nan).squeeze(1)
