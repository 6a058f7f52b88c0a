"""Structural similarity as a metric of depth maps, over windows that are valid as a whole."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from mde.errors import ConfigError, DataFormatError
from mde.masking import fill
from mde.metrics.functional import require_counts

__all__ = ["SSIMMetric", "ssim_per_image"]

PADDINGS = ("same", "valid", "zero")
_SIGMA = 1.5  # Wang et al. 2004; kornia's window has no other


def ssim_per_image(
    pred: Tensor, target: Tensor, valid: Tensor, *, data_range: float, window: int = 11, padding: str = "valid"
) -> tuple[Tensor, Tensor]:
    """Mean SSIM of each image over the windows without an invalid pixel (Wang et al. 2004; computed by kornia).

    Args:
        pred: (B,1,H,W), any unit; garbage allowed outside `valid`.
        target: (B,1,H,W), the same unit.
        valid: bool (B,1,H,W).
        data_range: the range L of the values, in their unit; the constants are (0.01 L)^2 and (0.03 L)^2.
        window: side of the Gaussian window (sigma 1.5), odd.
        padding: "valid" takes only windows inside the map (DenseDepth), "same" reflects at the border, "zero" puts
            zeros around it. What lies around the map counts as valid.

    Returns:
        The means, float64 (B,), NaN without a window, and the number of windows, int64 (B,).

    Raises:
        ConfigError: the shapes differ, the window is even or larger than the map.

    >>> ramp = torch.arange(144.0).view(1, 1, 12, 12)
    >>> [round(v.item(), 3) for v in ssim_per_image(ramp, ramp, ramp >= 0, data_range=144.0)]
    [1.0, 4]
    """
    from kornia.metrics import ssim  # a second of import, for those who use it

    _require_maps(pred, target, valid, window)
    half = window // 2
    # float64, as the variances are differences of squares; zeros, as a NaN would spread through the window
    maps = [fill(m.detach().double(), valid) for m in (pred, target)]
    invalid = (~valid).float()
    if padding == "zero":
        maps = [F.pad(m, (half,) * 4) for m in maps]
    similarity = ssim(*maps, window, max_val=float(data_range), padding="same" if padding == "same" else "valid")
    whole = F.max_pool2d(invalid, window, stride=1, padding=0 if padding == "valid" else half) == 0
    count = whole.flatten(1).sum(1)
    return fill(similarity, whole).flatten(1).sum(1) / count, count


class SSIMMetric(Metric):
    """Mean over images of the mean SSIM of each image.

    Published settings differ: DenseDepth takes `padding="valid", data_range=100.0` on reciprocal depth; the ResNet-50
    regression of a course project takes `padding="zero", data_range=1.0` on metres up to 20, so that its values are not
    comparable with those of a true range.

    Args:
        data_range: the range of the values, in their unit. There is no default: one taken from each batch would make
            the result depend on the batches.
        window: side of the Gaussian window, odd.
        sigma: of the window, in pixels; 1.5, as in Wang et al. 2004, is the only one there is.
        padding: "valid", "same" (reflected) or "zero".

    Attributes:
        last: float64 (B,), the values of the last batch by image, NaN where there is no valid window.

    Raises:
        ConfigError: a setting is out of range.

    >>> metric = SSIMMetric(data_range=10.0)
    >>> depth = torch.rand(2, 1, 16, 16)
    >>> metric.update(depth, depth, depth > -1)
    >>> round(metric.compute().item(), 6)
    1.0
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    total: Tensor
    images: Tensor
    skipped: Tensor
    last: Tensor | None = None

    def __init__(self, data_range: float, window: int = 11, sigma: float = _SIGMA, padding: str = "valid") -> None:
        super().__init__()
        if not data_range > 0 or window < 3 or window % 2 == 0:
            raise ConfigError(
                f"SSIM needs data_range > 0 and an odd window of 3 or more, got {data_range} and {window}",
                where="SSIMMetric",
            )
        if sigma != _SIGMA or padding not in PADDINGS:
            raise ConfigError(
                f"SSIM needs sigma {_SIGMA} and a padding of {', '.join(PADDINGS)}, got {sigma} and {padding!r}",
                where="SSIMMetric",
            )
        self.data_range, self.window, self.padding = data_range, window, padding
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("skipped", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, pred: Tensor, target: Tensor, valid: Tensor, counts: Tensor | None = None) -> None:
        """Add a batch; an image without a valid window is skipped.

        Args:
            pred: (B,1,H,W), any unit.
            target: (B,1,H,W), the same unit.
            valid: bool (B,1,H,W).
            counts: bool (B,), False leaves an image out.

        Raises:
            ConfigError: the shapes differ, or the window is larger than the map.
        """
        means, windows = ssim_per_image(
            pred, target, valid, data_range=self.data_range, window=self.window, padding=self.padding
        )
        used = torch.ones_like(windows, dtype=torch.bool) if counts is None else require_counts(counts, len(windows))
        seen = used & (windows > 0)
        self.last = means.detach().cpu()
        # new tensors: those made under inference mode could not be changed in place outside of it
        self.total = self.total + fill(means, seen).sum()
        self.images = self.images + seen.sum()
        self.skipped = self.skipped + (used & ~seen).sum()

    def compute(self) -> Tensor:
        """The mean, a float64 scalar; NaN while no image counted.

        Raises:
            DataFormatError: a prediction was not finite within a valid window.
        """
        result = self.total / self.images
        if self.images > 0 and not result.isfinite():
            raise DataFormatError("a prediction was not finite within a valid window", where="SSIMMetric")
        return result


def _require_maps(pred: Tensor, target: Tensor, valid: Tensor, window: int) -> None:
    if not pred.shape == target.shape == valid.shape or valid.dtype != torch.bool or pred.ndim != 4:
        raise ConfigError(
            f"SSIM needs equal shapes (B,1,H,W) and a bool mask, got {tuple(pred.shape)}, {tuple(target.shape)} and "
            f"{valid.dtype} {tuple(valid.shape)}"
        )
    if min(pred.shape[-2:]) < window or window % 2 == 0:
        raise ConfigError(
            f"SSIM needs an odd window no larger than the map, got {window} for {pred.shape[-2]}x{pred.shape[-1]}"
        )
