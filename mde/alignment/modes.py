"""The kinds of alignment, and which of them fits what the numbers of a prediction mean."""

from __future__ import annotations

from enum import StrEnum

from mde.errors import ConfigError, nearest
from mde.types import Ambiguity

__all__ = ["FITTING", "MODES", "Alignment", "require_known", "require_mode"]


class Alignment(StrEnum):
    """What is fitted to the truth before a prediction is scored; each is also its own string.

    >>> Alignment.MEDIAN == "median", Alignment("scale_shift")
    (True, <Alignment.SCALE_SHIFT: 'scale_shift'>)
    """

    NONE = "none"
    MEDIAN = "median"
    SCALE = "scale"
    SCALE_SHIFT = "scale_shift"
    DISPARITY_SCALE_SHIFT = "disparity_scale_shift"
    LOG_AFFINE = "log_affine"
    ROBUST_SCALE = "robust_scale"
    ROBUST_SCALE_SHIFT = "robust_scale_shift"
    ROBUST_DISPARITY_SCALE_SHIFT = "robust_disparity_scale_shift"


MODES: dict[str, str] = {
    "none": "the prediction is metres already",
    "median": "depth times the ratio of the medians (monodepth2)",
    "scale": "depth times the least-squares factor",
    "scale_shift": "least-squares scale and shift in depth (Marigold)",
    "disparity_scale_shift": "least-squares scale and shift of a predicted disparity to 1/depth (MiDaS)",
    "log_affine": "least-squares line in log depth",
    "robust_scale": "as scale, and nearly half of the pixels may be wrong",
    "robust_scale_shift": "as scale_shift, and nearly half of the pixels may be wrong",
    "robust_disparity_scale_shift": "as disparity_scale_shift, and nearly half of the pixels may be wrong",
}

_OF_DEPTH = ("median", "scale", "scale_shift", "log_affine", "robust_scale", "robust_scale_shift")

FITTING: dict[Ambiguity, tuple[str, ...]] = {
    Ambiguity.METRIC: ("none", *_OF_DEPTH),
    Ambiguity.SCALE: _OF_DEPTH,
    Ambiguity.AFFINE_DEPTH: ("scale_shift", "robust_scale_shift"),
    Ambiguity.AFFINE_DISPARITY: ("disparity_scale_shift", "robust_disparity_scale_shift"),
}


def require_mode(mode: str, ambiguity: Ambiguity) -> None:
    """Refuse an alignment that does not fit what the numbers mean.

    Raises:
        ConfigError: the message names the modes that do fit.

    >>> require_mode("median", Ambiguity.SCALE)
    """
    require_known(mode)
    if mode in FITTING[ambiguity]:
        return
    raise ConfigError(
        f"alignment {str(mode)!r} does not fit a prediction that is {ambiguity.name}",
        where="protocol.alignment",
        next_action=f"use {' or '.join(FITTING[ambiguity])}",
    )


def require_known(mode: str) -> None:
    """Raise a `ConfigError` unless `mode` is a key of `MODES`."""
    if mode not in MODES:
        raise ConfigError(f"unknown alignment {str(mode)!r}", next_action=f"nearest: {nearest(str(mode), MODES)}")
