"""How much a video's depth flickers: each map against the one before it, brought onto it along the motion."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mde.errors import ConfigError
from mde.metrics.images import ImageMetric, Values, image_values

__all__ = ["Flicker", "flicker"]

_COLUMNS = ("opw", "relative", "within")


def flicker(pred: Tensor, warped: Tensor, valid: Tensor, *, ratio: float = 1.05) -> dict[str, Tensor]:
    """Change of each map against the one before.

    "opw" is the optical-flow-based warping error of Y. Wang et al., "Less is More: Consistent Video Depth Estimation
    with Masked Frames Modeling" (FMNet), ACM MM 2022: mean ``|d_t - w|`` over the pixels that are seen in both frames,
    where w is d_(t-1) warped onto frame t; with a mask where they weigh pixels by how well the colours agree. "within"
    is the share of these pixels with max(d/w, w/d) < ratio, the relative temporal consistency of S. Li et al.,
    "Enforcing Temporal Consistency in Video Depth Estimation", ICCV workshops 2021. "relative" is the mean of that
    maximum less 1. Where the motion comes from is the caller's business: a flow network, a classical flow, the truth.

    A camera that moves changes depth rightly: only of one that stands still is 0 the best that there is. Numbers
    compare methods on one clip with one motion.

    Args:
        pred: (B,1,H,W), depth; anything outside `valid`.
        warped: (B,1,H,W), the prediction of the frame before at the place where each pixel was then.
        valid: bool (B,1,H,W), pixels seen in both frames.
        ratio: of "within", above 1.

    Returns:
        "opw" in the unit of the maps, "relative" (0 up) and "within" in [0,1], float64 (B,), NaN for an image without a
        valid pixel; the last two NaN for one with a depth that is not above 0.

    Raises:
        ConfigError: the ratio is out of range, or shapes differ.
        DataFormatError: the prediction is not finite at a valid pixel.

    >>> import torch
    >>> before = torch.tensor([[[[2.0, 4.0]]]])
    >>> {name: round(value.item(), 3) for name, value in flicker(1.1 * before, before, before > 0).items()}
    {'opw': 0.3, 'relative': 0.1, 'within': 0.0}
    """
    _require_ratio(ratio)
    return image_values(_COLUMNS, lambda p, w, v: _change(p[v], w[v], ratio), pred, warped, valid)


class Flicker(ImageMetric):
    """Mean over pairs of frames of `flicker`; `update` takes the warped map in the place of the target.

    Args:
        ratio: see `flicker`.

    >>> import torch
    >>> metric, before = Flicker(), torch.full((1, 1, 2, 2), 3.0)
    >>> metric.update(before, before, before > 0)
    >>> metric.compute()["opw"].item(), metric.compute()["within"].item()
    (0.0, 1.0)
    """

    columns = _COLUMNS
    higher = frozenset({"within"})

    def __init__(self, ratio: float = 1.05) -> None:
        _require_ratio(ratio)
        super().__init__()
        self.ratio = ratio

    def values(self, pred: Tensor, target: Tensor, valid: Tensor, **needs: Tensor) -> dict[str, Tensor]:
        return flicker(pred, target, valid, ratio=self.ratio)


def _change(now: Values, before: Values, ratio: float) -> tuple[float, float, float]:
    opw = float(np.abs(now - before).mean())
    if not (now > 0).all() or not (before > 0).all():
        return opw, np.nan, np.nan
    factor = np.maximum(now / before, before / now)
    return opw, float(factor.mean()) - 1, float((factor < ratio).mean())


def _require_ratio(ratio: float) -> None:
    if not ratio > 1:
        what = f"a ratio of depths is above 1, got {ratio:g}"
        raise ConfigError(what, where="flicker", next_action="1.05 counts changes below 5 %")
