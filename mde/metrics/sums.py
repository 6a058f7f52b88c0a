"""Sums over the valid pixels of each image, from which all errors follow.

On a CPU the pixels are visited picture by picture in NumPy: the valid ones are gathered and clamped block by block,
with one logarithm each and every sum a product with ones. A batched torch expression takes many times as long there, as
its boolean index and its comparisons are not vectorised and its temporaries leave the cache. On an accelerator the sums
are dense and masked: an index by a mask would make the host wait for the device.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.errors import ConfigError
from mde.masking import fill

__all__ = ["SUMS", "pixel_sums"]

SUMS = ("pixels", "rel", "sq_rel", "sq", "sq_log", "abs_log", "log", "sq_inverse", "delta1", "delta2", "delta3")
"""What is summed over the valid pixels, in the order of the last axis of `pixel_sums`."""

THRESHOLDS = (1.25, 1.25**2, 1.25**3)  # Eigen et al. 2014 (after Ladicky et al. 2014)

_BUFFERS = 8  # maps that `_block_sums` works on
_ROW = 512  # pixels per partial sum: few enough that float32 loses nothing that matters
_ROWS = 256  # rows per block: eight float32 maps of 512 KiB; smaller blocks cost more calls than they save in cache

FloatArray = NDArray[np.floating]


def pixel_sums(pred: Tensor, target: Tensor, valid: Tensor, limits: tuple[float, float] | None = None) -> Tensor:
    """Sums over the valid pixels of each image, from which all errors follow.

    Args:
        pred: (B,1,H,W), metres; float32 arithmetic per pixel (float64 for float64). Not modified.
        target: (B,1,H,W), metres.
        valid: bool (B,1,H,W).
        limits: predictions are clamped to them, metres.

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
        return _dense_sums(pred if limits is None else pred.clamp(*limits), target, valid)
    images = zip(pred.numpy(), target.numpy(), valid.numpy(), strict=True)
    sums = [_image_sums(_Pixels(p, g, v, limits)) for p, g, v in images]
    return torch.from_numpy(np.array(sums).reshape(-1, len(SUMS)))


class _Pixels:
    """The valid pixels of one image, copied block by block into buffers that stay in the cache.

    Args:
        p: predictions (..., W), views are welcome.
        g: truth, likewise.
        v: what is valid, bool.
        limits: the copies of predictions are clamped to them.
    """

    def __init__(self, p: FloatArray, g: FloatArray, v: NDArray[np.bool_], limits: tuple[float, float] | None) -> None:
        p, g, v = p.reshape(-1, p.shape[-1]), g.reshape(-1, g.shape[-1]), v.reshape(-1, v.shape[-1])
        self.limits = limits
        self.chosen: NDArray[np.intp] | None = None
        columns = _span(np.asarray(v.any(axis=0)))  # a crop leaves columns without a valid pixel
        if v[:, columns].all():
            p, g = p[:, columns], g[:, columns]
        else:
            self.chosen = _positions(v.ravel())  # with `take`, a fifth of the time of an index by a mask
            p, g = p.ravel(), g.ravel()
        self.p, self.g = p, g
        self.count = p.size if self.chosen is None else self.chosen.size

    def blocks(self, p: FloatArray, g: FloatArray) -> Iterator[int]:
        """Fill the beginning of two buffers with block after block; yields how many pixels."""
        width = 1 if self.chosen is not None else self.p.shape[1]
        step = max(p.size // width, 1)
        for start in range(0, self.count // max(width, 1), step):
            yield self._fill(p, g, slice(start, start + step))

    def _fill(self, p: FloatArray, g: FloatArray, part: slice) -> int:
        if self.chosen is not None:
            chosen = self.chosen[part]
            # all positions are within: "clip" only saves the buffer that "raise" needs
            self.p.take(chosen, out=p[: chosen.size], mode="clip")
            self.g.take(chosen, out=g[: chosen.size], mode="clip")
            count = chosen.size
            if self.limits is not None:
                np.clip(p[:count], *self.limits, out=p[:count])
            return count
        from_p, from_g = self.p[part], self.g[part]
        count = from_p.size
        into_p, into_g = p[:count].reshape(from_p.shape), g[:count].reshape(from_g.shape)
        if self.limits is None:
            into_p[...] = from_p
        else:
            np.clip(from_p, *self.limits, out=into_p)
        into_g[...] = from_g
        return count


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


def _image_sums(pixels: _Pixels) -> NDArray[np.float64]:
    """The sums over the valid pixels of an image, (11,)."""
    sums = np.zeros(len(SUMS))
    sums[0] = pixels.count
    if pixels.count == 0:
        return sums
    rows = min(max(_ROWS, -(-pixels.p.shape[-1] // _ROW)), -(-pixels.count // _ROW))
    p, g, *_ = buffers = np.empty((_BUFFERS, rows * _ROW), pixels.p.dtype)
    ones = np.ones(_ROW, pixels.p.dtype)
    nearest = np.inf
    # what is not positive and finite makes the sums NaN or infinite, which is looked at once, below
    with np.errstate(all="ignore"):
        for count in pixels.blocks(p, g):
            sums[1:] += _block_sums(count, buffers, ones)
            nearest = min(nearest, g[:count].min())
        pixel_count, sq_log, log = sums[0], sums[4], sums[6]
        # A prediction that is off by a factor: silog is a small difference of two large numbers, and the float32 row
        # sums are not enough once mean^2 > 3 variance. Rare, so a second and slower look costs nothing as a rule.
        if log**2 > 0.75 * sq_log * pixel_count:
            logs = [np.log(p[:count] / g[:count]).astype(np.float64) for count in pixels.blocks(p, g)]
            sums[4], sums[6] = sum(each @ each for each in logs), sum(each.sum() for each in logs)
    # two negative numbers have a ratio like two positive ones
    if not (np.isfinite(sums).all() and nearest > 0):
        sums[1:] = np.nan
    return sums


def _block_sums(n: int, buffers: FloatArray, ones: FloatArray) -> NDArray[np.float64]:
    """The sums over one block of n pixels, (10,).

    Args:
        buffers: (8, a multiple of the row length); prediction and truth stand at the beginning of the first two.
        ones: of a row's length.
    """
    p, g, ratio, inverse, error, rel, log, absolute = buffers[:, :n]
    rows = -(-n // _ROW)
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
    inverse_rows, error_rows, rel_rows, log_rows = in_rows[3:7]
    squares = [_dot(error_rows, error_rows), _dot(log_rows, log_rows)]
    sq_rel, sq_inverse = _dot(rel_rows, error_rows), _dot(inverse_rows, inverse_rows)
    np.abs(log, out=absolute)
    np.abs(rel, out=rel)
    abs_rel, log_sum, abs_log = (in_rows[5:] @ ones).sum(axis=1, dtype=np.float64)
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
