"""Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004) as a map and as a loss.

The gradient with respect to the prediction is analytic (`mde.losses.ssim_kernel`): exact, one saved map, and many times
faster than convolutions on a CPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from mde.errors import ConfigError
from mde.losses.base import DepthLoss, check_shapes
from mde.losses.ssim_kernel import SSIMSettings, erode, ssim_of, ssim_sum
from mde.masking import at_least_float32, fill, masked_mean

__all__ = ["SSIMLoss", "ssim_loss", "ssim_map"]

# Wang et al. 2004, section III.B and III.C: K1, K2, and a Gaussian of 11 taps with a standard deviation of 1.5 pixels
_K1, _K2, _WINDOW, _SIGMA = 0.01, 0.03, 11, 1.5
_PADDINGS = ("valid", "same", "zero")
_WINDOW_TYPES = ("gaussian", "box")


def ssim_map(
    pred: Tensor,
    target: Tensor,
    *,
    data_range: float,
    window: int = _WINDOW,
    sigma: float = _SIGMA,
    padding: str = "valid",
    window_type: str = "gaussian",
) -> Tensor:
    """SSIM of the window around each pixel, in [-1, 1]; differentiable with respect to both maps.

    Args:
        pred: (B,C,H,W), any space, finite.
        target: (B,C,H,W), the space of `pred`, finite.
        data_range: R, the span of the values; sets C1 = (0.01 R)^2 and C2 = (0.03 R)^2.
        window: side of the window in pixels, odd.
        sigma: standard deviation of the Gaussian in pixels; unused by a box.
        padding: "valid" keeps windows inside the image, and its result is smaller by ``window - 1``; "same" reflects at
            the border (kornia, torchmetrics, monodepth2), "zero" pads with zeros (paper 1).
        window_type: "gaussian", or "box" for a plain mean (monodepth2 with a window of 3).

    Returns:
        (B,C,h,w), at least float32.

    Raises:
        ConfigError: a setting is out of range, the shapes differ, or the image is smaller than the window.

    >>> same = torch.rand(1, 1, 12, 16)
    >>> bool(ssim_map(same, same, data_range=1.0).allclose(torch.ones(1, 1, 2, 6)))
    True
    """
    settings = _settings(data_range, window, sigma, padding, window_type)
    check_shapes(pred, target)
    _check_size(pred, window, padding)
    pred, target = _common_dtype(pred, target)
    return ssim_of(_pad(pred, window, padding), _pad(target, window, padding), settings)


def ssim_loss(
    pred: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    data_range: float,
    window: int = _WINDOW,
    sigma: float = _SIGMA,
    padding: str = "valid",
    window_type: str = "gaussian",
) -> Tensor:
    """Mean of ``clamp((1 - SSIM) / 2, 0, 1)`` over the windows that touch no invalid pixel; a scalar in [0, 1].

    Padding is not invalid: with "same" and "zero" a window over the border counts when its pixels inside the image are
    valid. If no window counts the loss is a graph-connected 0, which happens with sparse ground truth: there SSIM has
    nothing to say.

    Source: Alhashim and Wonka 2018 (DenseDepth), equation 4; the clamp is that of their code and undoes rounding only.

    Args:
        pred: (B,1,H,W), any space.
        target: (B,1,H,W), the space of `pred`.
        valid: bool (B,1,H,W).
        data_range: as in `ssim_map`, as are the other settings.

    Raises:
        ConfigError: a setting is out of range, the shapes differ, or the image is smaller than the window.

    >>> truth = torch.rand(1, 1, 12, 16)
    >>> round(float(ssim_loss(truth, truth, truth >= 0, data_range=1.0)), 6)
    0.0
    """
    settings = _settings(data_range, window, sigma, padding, window_type)
    check_shapes(pred, target, valid)
    _check_size(pred, window, padding)
    pred, target = _common_dtype(pred, target)
    if target.requires_grad and torch.is_grad_enabled():
        return _loss_by_autograd(pred, target, valid, settings, padding)
    # looking at the mask costs next to nothing on a CPU; on a GPU the host would have to wait for the answer
    dense = valid.device.type == "cpu" and bool(valid.all())
    if padding == "same" and not dense:  # before garbage is reflected to where the mask does not reach
        pred, target = fill(pred, valid), fill(target, valid)
    x, y = (_pad(v, window, padding).flatten(0, 1) for v in (pred, target))
    if dense:
        windows = len(x) * (x.shape[-2] - window + 1) * (x.shape[-1] - window + 1)
        return ssim_sum(x, y, None, None, settings) / max(windows, 1)
    mask = _pad_mask(valid, window, padding).flatten(0, 1)
    counted = erode(mask, window)
    return ssim_sum(x, y, mask, counted, settings) / counted.sum().clamp(min=1)


class SSIMLoss(DepthLoss):
    """Structural dissimilarity, in whichever space `pred` and `target` are; `data_range` belongs to that space.

    Args:
        data_range: span of the values, such as 100 for reciprocal depth between 0.1 m and 10 m.
        window: side of the window in pixels, odd.
        sigma: standard deviation of the Gaussian in pixels.
        padding: "valid" (DenseDepth), "same" (reflected) or "zero" (paper 1).
        window_type: "gaussian" or "box".

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        data_range: float,
        window: int = _WINDOW,
        sigma: float = _SIGMA,
        padding: str = "valid",
        window_type: str = "gaussian",
    ) -> None:
        super().__init__()
        _settings(data_range, window, sigma, padding, window_type)
        self.data_range = float(data_range)
        self.window = window
        self.sigma = float(sigma)
        self.padding = padding
        self.window_type = window_type

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return ssim_loss(
            pred,
            target,
            valid,
            data_range=self.data_range,
            window=self.window,
            sigma=self.sigma,
            padding=self.padding,
            window_type=self.window_type,
        )

    def extra_repr(self) -> str:
        return f"data_range={self.data_range:g}, window={self.window}, padding={self.padding!r}, {self.window_type}"


def _loss_by_autograd(pred: Tensor, target: Tensor, valid: Tensor, settings: SSIMSettings, padding: str) -> Tensor:
    """The same loss where the target learns too, which is rare enough to be left to autograd."""
    window = len(settings.taps)
    x, y = (_pad(fill(v, valid), window, padding) for v in (pred, target))
    loss = ((1 - ssim_of(x, y, settings)) / 2).clamp(0, 1)
    return masked_mean(loss, erode(_pad_mask(valid, window, padding), window))


def _settings(data_range: float, window: int, sigma: float, padding: str, window_type: str) -> SSIMSettings:
    """Check the settings and turn them into taps and constants."""
    for value, known, key in ((padding, _PADDINGS, "padding"), (window_type, _WINDOW_TYPES, "window_type")):
        if value not in known:
            raise ConfigError(f"unknown {key} {value!r}", where="ssim", next_action=f"use one of: {', '.join(known)}")
    if window < 3 or window % 2 == 0:
        raise ConfigError(f"window must be odd and at least 3, got {window}", where="ssim", next_action="11 is usual")
    for number, key in ((data_range, "data_range"), (sigma, "sigma")):
        if not 0 < number < math.inf:
            raise ConfigError(f"{key} must be above 0 and finite, got {number}", where="ssim")
    half = window // 2
    spread = sigma if window_type == "gaussian" else math.inf
    weights = [math.exp(-0.5 * (i / spread) ** 2) for i in range(-half, half + 1)]
    taps = tuple(weight / sum(weights) for weight in weights)
    return SSIMSettings(taps, (_K1 * data_range) ** 2, (_K2 * data_range) ** 2)


def _check_size(pred: Tensor, window: int, padding: str) -> None:
    height, width = pred.shape[-2:]
    # reflection needs one pixel beyond the padding
    smallest = {"valid": window, "same": window // 2 + 1, "zero": 1}[padding]
    if min(height, width) < smallest:
        raise ConfigError(
            f"an image of {height}x{width} is too small for an SSIM window of {window} with padding {padding!r}",
            where="ssim",
            next_action=f"use images of at least {smallest}x{smallest}, a smaller window, or padding 'zero'",
        )


def _common_dtype(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    pred, target = at_least_float32(pred), at_least_float32(target)
    dtype = torch.promote_types(pred.dtype, target.dtype)
    return pred.to(dtype), target.to(dtype)


def _pad(values: Tensor, window: int, padding: str) -> Tensor:
    if padding == "valid":
        return values
    half = window // 2
    return F.pad(values, (half, half, half, half), mode="reflect" if padding == "same" else "constant")


def _pad_mask(valid: Tensor, window: int, padding: str) -> Tensor:
    """A reflected invalid pixel needs no mark: every window that sees its image sees the pixel itself."""
    half = 0 if padding == "valid" else window // 2
    return F.pad(valid, (half, half, half, half), value=True)
