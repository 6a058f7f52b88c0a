"""Errors of each image in one pass over its pixels, in two steps: sums over pixels, then errors from sums.

The sums are what is additive, so the same eleven numbers give the error of one image or of a whole set pooled by pixel.

On a CPU the pixels are visited picture by picture in NumPy: the valid ones are gathered once, then handled in blocks,
with one logarithm each and every sum a product with ones. A batched torch expression takes many times as long there, as
its boolean index and its comparisons are not vectorised and its temporaries leave the cache. On an accelerator the sums
are dense and masked: an index by a mask would make the host wait for the device.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.errors import ConfigError
from mde.masking import fill

__all__ = ["HIGHER_IS_BETTER", "NAMES", "SUMS", "depth_errors", "errors_from_sums", "pixel_sums"]

NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "irmse", "delta1", "delta2", "delta3")
"""The errors, in the order of the last axis of `errors_from_sums`."""

HIGHER_IS_BETTER = frozenset({"delta1", "delta2", "delta3"})

SUMS = ("pixels", "rel", "sq_rel", "sq", "sq_log", "abs_log", "log", "sq_inverse", "delta1", "delta2", "delta3")
"""What is summed over the valid pixels, in the order of the last axis of `pixel_sums`."""

THRESHOLDS = (1.25, 1.25**2, 1.25**3)  # Eigen et al. 2014 (after Ladicky et al. 2014)

_BUFFERS = 6  # maps that `_block_sums` works on
_ROW = 512  # pixels per partial sum: few enough that float32 loses nothing that matters
_ROWS = 256  # rows per block: six float32 maps of 512 KiB; smaller blocks cost more calls than they save in cache

FloatArray = NDArray[np.floating]
_Sums = TypeVar("_Sums", Tensor, NDArray[np.float64])


def depth_errors(pred: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """The ten usual errors of each image over its valid pixels.

    With p predicted, g measured, d = ln p - ln g and means over the valid pixels of an image (Eigen et al. 2014; silog
    as in the KITTI benchmark): abs_rel = mean |p-g|/g, sq_rel = mean (p-g)^2/g, rmse = sqrt(mean (p-g)^2),
    rmse_log = sqrt(mean d^2), log10 = mean |d|/ln 10, silog = 100 sqrt(mean d^2 - (mean d)^2),
    irmse = sqrt(mean (1/p-1/g)^2), delta_k = share of pixels with max(p/g, g/p) < 1.25^k, strictly.

    Args:
        pred: (B,1,H,W), metres, positive and finite where valid; anything elsewhere. Not modified.
        target: (B,1,H,W), metres, positive where valid; anything elsewhere.
        valid: bool (B,1,H,W).

    Returns:
        For each of `NAMES` a float64 (B,): sq_rel and rmse in m, irmse in 1/m, silog times 100, the others unitless.
        NaN for an image without a valid pixel.

    Raises:
        ConfigError: the shapes differ, or (on a CPU) a valid pixel is not positive and finite. On an accelerator
            such an image gives NaN instead, as looking at it would make the host wait.

    >>> g = torch.tensor([[[[1.0, 2.0]]]])
    >>> {name: round(value.item(), 4) for name, value in depth_errors(2 * g, g, g > 0).items() if "rel" in name}
    {'abs_rel': 1.0, 'sq_rel': 1.5}
    """
    sums = pixel_sums(pred, target, valid)
    if sums.device.type == "cpu":
        wrong = failed_images(sums)
        if wrong:
            raise ConfigError(
                "a prediction or a truth is not positive and finite at a valid pixel",
                where=f"image {wrong[0]} of the batch",
                next_action="clamp the prediction and mask the truth with a protocol (EvalProtocol.prepare)",
            )
    return dict(zip(NAMES, errors_from_sums(sums).unbind(-1), strict=True))


def pixel_sums(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Sums over the valid pixels of each image, from which all errors follow.

    Args:
        pred: (B,1,H,W), metres; float32 arithmetic per pixel (float64 for float64).
        target: (B,1,H,W), metres.
        valid: bool (B,1,H,W).

    Returns:
        float64 (B,11), the columns are `SUMS`. All but the pixel count are NaN for an image with a valid pixel where
        the prediction or the truth is not positive and finite.

    Raises:
        ConfigError: the shapes differ, or `valid` is not bool.
    """
    if not pred.shape == target.shape == valid.shape or valid.dtype != torch.bool or pred.ndim < 2:
        raise ConfigError(
            f"errors need equal shapes (B,...) and a bool mask, got {tuple(pred.shape)}, {tuple(target.shape)} and "
            f"{valid.dtype} {tuple(valid.shape)}",
            next_action="resize the prediction to the ground truth first (EvalProtocol.prepare does)",
        )
    dtype = torch.float64 if torch.float64 in (pred.dtype, target.dtype) else torch.float32
    pred, target = pred.detach().to(dtype), target.detach().to(dtype)
    if pred.device.type != "cpu":
        return _dense_sums(pred, target, valid)
    images = zip(pred.numpy(), target.numpy(), valid.numpy(), strict=True)
    sums = [_image_sums(*_gather(p, g, v)) for p, g, v in images]
    return torch.from_numpy(np.array(sums).reshape(-1, len(SUMS)))


def errors_from_sums(sums: Tensor) -> Tensor:
    """The errors that belong to sums over the pixels of an image, or of a whole set.

    Args:
        sums: float64 (...,11), the columns are `SUMS`.

    Returns:
        float64 (...,10), the columns are `NAMES`; NaN where the pixel count is 0.

    >>> errors_from_sums(torch.tensor([4.0, 2, 8, 16, 0, 0, 0, 0, 1, 2, 3], dtype=torch.float64))[:3]
    tensor([0.5000, 2.0000, 2.0000], dtype=torch.float64)
    """
    if sums.device.type != "cpu":
        return _errors(sums)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of an image without a pixel
        return torch.from_numpy(_errors(sums.numpy()))  # on a handful of numbers a fifth of the time of torch


def _errors(sums: _Sums) -> _Sums:
    """`errors_from_sums` in operators that arrays and tensors share."""
    errors = sums[..., 1:] / sums[..., :1]
    variance = errors[..., 3] - errors[..., 5] ** 2
    errors[..., 5] = (variance + abs(variance)) / 2  # rounding may leave it below 0; NaN stays
    errors[..., 2:4] **= 0.5  # rmse and rmse_log
    errors[..., 5:7] **= 0.5  # silog and irmse
    errors[..., 4] /= math.log(10)
    errors[..., 5] *= 100
    return errors


def failed_images(sums: Tensor) -> list[int]:
    """Positions in the batch of images with valid pixels but without finite sums; a device is waited for."""
    finite = sums.isfinite()
    return [] if bool(finite.all()) else torch.nonzero(~finite.all(1)).flatten().tolist()


def require_counts(counts: Tensor, batch: int) -> Tensor:
    """Return `counts`, or raise a `ConfigError` unless it is bool (batch,)."""
    if counts.shape == (batch,) and counts.dtype == torch.bool:
        return counts
    raise ConfigError(f"counts must be bool ({batch},), got {counts.dtype} {tuple(counts.shape)}", where="update")


def _gather(p: FloatArray, g: FloatArray, v: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """The valid elements of two maps (..., W), as flat arrays."""
    p, g, v = p.reshape(-1, p.shape[-1]), g.reshape(-1, g.shape[-1]), v.reshape(-1, v.shape[-1])
    rows = _span(np.asarray(v.any(axis=1)))  # a crop leaves rows and columns without a valid pixel
    p, g, v = p[rows], g[rows], v[rows]
    columns = _span(np.asarray(v.any(axis=0)))
    if v[:, columns].all():
        return p[:, columns].ravel(), g[:, columns].ravel()
    chosen = _positions(v.ravel())  # with `take`, a fifth of the time of an index by a mask
    return p.ravel().take(chosen), g.ravel().take(chosen)


def _positions(v: NDArray[np.bool_]) -> NDArray[np.intp]:
    """`np.flatnonzero` of a vector.

    NumPy searches a mask of up to a tenth of True with a branch per hit, which scattered pixels make slower than the
    branchless search of a denser one. Leading Trues make any mask dense enough.
    """
    lead = v.size // 8
    return np.flatnonzero(np.concatenate((np.ones(lead, dtype=bool), v)))[lead:] - lead


def _span(used: NDArray[np.bool_]) -> slice:
    """From the first to the last True of a vector; empty without any."""
    if not used.any():
        return slice(0, 0)
    return slice(int(used.argmax()), used.size - int(used[::-1].argmax()))


def _image_sums(p: FloatArray, g: FloatArray) -> NDArray[np.float64]:
    """The sums over all elements of two flat arrays, (11,)."""
    sums = np.zeros(len(SUMS))
    sums[0] = p.size
    if p.size == 0:
        return sums
    rows = min(_ROWS, -(-p.size // _ROW))
    buffers = np.empty((_BUFFERS, rows * _ROW), p.dtype)
    ones = np.ones(_ROW, p.dtype)
    # what is not positive and finite makes the sums NaN or infinite, which is looked at once, below
    with np.errstate(all="ignore"):
        for start in range(0, p.size, rows * _ROW):
            pixels = slice(start, start + rows * _ROW)
            sums[1:] += _block_sums(p[pixels], g[pixels], buffers, ones)
        pixel_count, sq_log, log = sums[0], sums[4], sums[6]
        # A prediction that is off by a factor: silog is a small difference of two large numbers, and the float32 row
        # sums are not enough once mean^2 > 3 variance. Rare, so a second and slower look costs nothing as a rule.
        if log**2 > 0.75 * sq_log * pixel_count:
            logs = np.log(p / g).astype(np.float64)
            sums[4], sums[6] = logs @ logs, logs.sum()
    # two negative numbers have a ratio like two positive ones
    if not (np.isfinite(sums).all() and g.min() > 0):
        sums[1:] = np.nan
    return sums


def _block_sums(p: FloatArray, g: FloatArray, buffers: FloatArray, ones: FloatArray) -> NDArray[np.float64]:
    """The sums over one block, (10,). `buffers` is (6, a multiple of the row length), `ones` has a row's length."""
    n, rows = p.size, -(-p.size // _ROW)
    ratio, inverse, error, rel, log, absolute = buffers[:, :n]
    buffers[:, n : rows * _ROW] = 0
    in_rows = buffers[:, : rows * _ROW].reshape(_BUFFERS, rows, _ROW)  # splitting an axis makes no copy
    # the ratio and its own inverse, not |log|: a rounded logarithm moves pixels over a threshold
    np.divide(p, g, out=ratio)
    np.log(ratio, out=log)
    np.divide(g, p, out=inverse)
    np.maximum(ratio, inverse, out=ratio)
    inside = [np.count_nonzero(ratio < threshold) for threshold in THRESHOLDS]
    np.subtract(p, g, out=error)
    np.divide(error, g, out=rel)
    np.divide(rel, p, out=inverse)  # (p - g) / (g p) = 1/g - 1/p
    _, inverse_rows, error_rows, rel_rows, log_rows, _ = in_rows
    squares = [_dot(error_rows, error_rows), _dot(log_rows, log_rows)]
    sq_rel, sq_inverse = _dot(rel_rows, error_rows), _dot(inverse_rows, inverse_rows)
    np.abs(log, out=absolute)
    np.abs(rel, out=rel)
    abs_rel, log_sum, abs_log = (in_rows[3:] @ ones).sum(axis=1, dtype=np.float64)
    return np.array((abs_rel, sq_rel, *squares, abs_log, log_sum, sq_inverse, *inside))


def _dot(a: FloatArray, b: FloatArray) -> np.float64:
    """Sum of products: each row in its own precision at full speed, the few row sums in float64."""
    return np.matmul(a[:, None, :], b[:, :, None]).sum(dtype=np.float64)


def _dense_sums(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """`pixel_sums` over whole maps, (B,...), without a step whose shape depends on the data: no wait for a device."""
    p, g, v = pred.flatten(1), target.flatten(1), valid.flatten(1)
    usable = ~v | ((p > 0) & (g > 0) & torch.isfinite(p) & torch.isfinite(g))
    p, g = fill(p, v, 1.0), fill(g, v, 1.0)  # equal values: a 0 in every sum but those of the thresholds
    error, log = p - g, (p / g).log()
    rel, ratio = error / g, torch.maximum(p / g, g / p)
    terms = (rel.abs(), rel * error, error * error, log * log, log.abs(), log, (rel / p) ** 2)
    inside = (v & (ratio < threshold) for threshold in THRESHOLDS)
    sums = torch.stack([v.sum(1).double(), *(t.sum(1, dtype=torch.float64) for t in (*terms, *inside))], dim=1)
    sums[:, 1:] = torch.where(usable.all(1, keepdim=True), sums[:, 1:], torch.nan)
    return sums
