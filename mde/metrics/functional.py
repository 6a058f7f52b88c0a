"""Errors of each image from sums over its pixels (`mde.metrics.sums`).

The sums are what is additive, so the same eleven numbers give the error of one image or of a whole set pooled by pixel.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.errors import ConfigError
from mde.metrics.sums import SUMS, pixel_sums

__all__ = [
    "HIGHER_IS_BETTER",
    "LOG_NAMES",
    "NAMES",
    "SUMS",
    "depth_errors",
    "errors_from_sums",
    "log_errors_from_sums",
    "pixel_sums",
]

NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "irmse", "delta1", "delta2", "delta3")
"""The errors, in the order of the last axis of `errors_from_sums`."""

HIGHER_IS_BETTER = frozenset({"delta1", "delta2", "delta3"})

LOG_NAMES = ("rmse_log_si", "si_log_mse", "silog_eigen", "silog_half")
"""Other definitions of rmse_log and silog, in the order of the last axis of `log_errors_from_sums`."""


_Sums = TypeVar("_Sums", Tensor, NDArray[np.float64])


def depth_errors(pred: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """The ten usual errors of each image over its valid pixels.

    With p predicted, g measured, d = ln p - ln g and means over the valid pixels of an image (Eigen et al. 2014; silog
    as in the KITTI benchmark)::

        abs_rel = mean |p-g|/g        sq_rel = mean (p-g)^2/g       rmse = sqrt(mean (p-g)^2)
        rmse_log = sqrt(mean d^2)     log10 = mean |d|/ln 10        silog = 100 sqrt(mean d^2 - (mean d)^2)
        irmse = sqrt(mean (1/p-1/g)^2)
        delta_k = share of pixels with max(p/g, g/p) < 1.25^k, strictly

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


def errors_from_sums(sums: Tensor, silog: str = "silog", rmse_log: str = "plain") -> Tensor:
    """The errors that belong to sums over the pixels of an image, or of a whole set.

    Args:
        sums: float64 (...,11), the columns are `SUMS`.
        silog: what stands in the column of this name, see `mde.protocol.EvalProtocol`.
        rmse_log: likewise.

    Returns:
        float64 (...,10), the columns are `NAMES`; NaN where the pixel count is 0.

    >>> errors_from_sums(torch.tensor([4.0, 2, 8, 16, 0, 0, 0, 0, 1, 2, 3], dtype=torch.float64))[:3]
    tensor([0.5000, 2.0000, 2.0000], dtype=torch.float64)
    """
    if sums.device.type != "cpu":
        return all_errors(sums, silog, rmse_log)[0]
    return torch.from_numpy(all_errors(sums.numpy(), silog, rmse_log)[0])  # a fifth of the time of torch


def log_errors_from_sums(sums: Tensor) -> Tensor:
    """The other public definitions of the errors in the logarithm, with d = ln p - ln g.

    rmse_log_si = sqrt(var d), which is silog / 100. si_log_mse = var d, which is eq. 5 of paper 2 to the letter.
    silog_eigen = var(d) / 2 (Eigen et al. 2014, eq. 1). silog_half = sqrt(mean d^2 - (mean d)^2 / 2) (Depth Anything
    V2, metric_depth/util/metric.py).

    Args:
        sums: float64 (...,11), the columns are `SUMS`.

    Returns:
        float64 (...,4), the columns are `LOG_NAMES`, unitless; NaN where the pixel count is 0.
    """
    return all_errors(sums)[1][..., : len(LOG_NAMES)]


_SILOG = {"eigen": "silog_eigen", "half": "silog_half"}
_RMSE_LOG = {"si": "rmse_log_si", "si_mse": "si_log_mse"}


def all_errors(sums: _Sums, silog: str = "silog", rmse_log: str = "plain") -> tuple[_Sums, _Sums]:
    """`errors_from_sums` (...,10); `log_errors_from_sums` and the mean square, (...,5). Of arrays or of tensors."""
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is the NaN of an image without a pixel
        errors, others = sums[..., 1:] / sums[..., :1], sums[..., :5] / sums[..., :1]
        others[..., 4] = errors[..., 2]
        mean_square = errors[..., 5] ** 2
        variance = errors[..., 3] - mean_square
        variance = (variance + abs(variance)) / 2  # rounding may leave it below 0; NaN stays
        others[..., 0], others[..., 1], others[..., 2] = variance**0.5, variance, variance / 2
        others[..., 3] = (errors[..., 3] - mean_square / 2) ** 0.5
        errors[..., 5] = variance
        errors[..., 2:4] **= 0.5  # rmse and rmse_log
        errors[..., 5:7] **= 0.5  # silog and irmse
    errors[..., 4] /= math.log(10)
    errors[..., 5] *= 100
    for column, definition in ((5, _SILOG.get(silog)), (3, _RMSE_LOG.get(rmse_log))):
        if definition is not None:
            errors[..., column] = others[..., LOG_NAMES.index(definition)]
    return errors, others


def failed_images(sums: Tensor) -> list[int]:
    """Positions in the batch of images with valid pixels but without finite sums; a device is waited for."""
    finite = sums.isfinite() if sums.device.type != "cpu" else torch.from_numpy(np.isfinite(sums.numpy()))
    return [] if bool(finite.all()) else torch.nonzero(~finite.all(1)).flatten().tolist()


def require_counts(counts: Tensor, batch: int) -> Tensor:
    """Return `counts`, or raise a `ConfigError` unless it is bool (batch,)."""
    if counts.shape == (batch,) and counts.dtype == torch.bool:
        return counts
    raise ConfigError(f"counts must be bool ({batch},), got {counts.dtype} {tuple(counts.shape)}", where="update")
