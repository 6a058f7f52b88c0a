"""The arithmetic under `mde.losses.ssim`: windowed moments, the SSIM map, and its gradient written by hand.

SSIM of two windows with means ``m, n``, variances ``p, q`` and covariance ``c`` is (Wang et al. 2004, equation 13)

    s = A1 A2 / (B1 B2),   A1 = 2 m n + C1,  A2 = 2 c + C2,  B1 = m^2 + n^2 + C1,  B2 = p + q + C2.

Only the *sum* of the variances is needed, so four maps are blurred: x, y, x^2 + y^2 and x y. The gradient of a sum of s
is made of the same blur, applied to three maps. It is computed together with the value, so that one map is kept for
backward, which is then a single multiplication.

The blur is a sum of shifted copies along each axis. Convolutions of one channel are many times slower on a CPU, where
oneDNN pads the channel to a block of 8 or 16. Folding symmetric taps (add the pair, then scale) gains nothing: it takes
as many passes over memory.

Values are centred by the mean of the target before they are squared: SSIM does not notice, but ``E[x^2] - E[x]^2`` in
float32 loses digits with the square of the distance from zero, and C2 is small when metres meet a data range of 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mde.errors import ConfigError
from mde.masking import fill

__all__ = ["SSIMSettings", "blur", "erode", "ssim_of", "ssim_sum"]

# pixels that a CPU works on at a time; of pictures of 48x96, 8 instead of 1 take 0.43 of the time, 48 take 0.7
_CACHED = 32768


class SSIMSettings(NamedTuple):
    """Taps of the separable window, adding up to 1, and the constants C1 and C2."""

    taps: tuple[float, ...]
    c1: float
    c2: float


def blur(maps: Tensor, taps: Sequence[float]) -> Tensor:
    """Windowed means wherever the window lies inside: (..., H, W) to (..., H-k+1, W-k+1), differentiable."""
    for dim in (-1, -2):
        size = maps.shape[dim] - len(taps) + 1
        total = maps.narrow(dim, 0, size) * taps[0]
        for shift, tap in enumerate(taps[1:], start=1):
            total = total.add(maps.narrow(dim, shift, size), alpha=tap)
        maps = total
    return maps


def erode(valid: Tensor, window: int) -> Tensor:
    """True where a whole window is valid: bool (..., H, W) to (..., H-window+1, W-window+1).

    The reach doubles with each step, so that a window of 11 takes four ANDs per axis instead of ten.
    """
    for dim in (-1, -2):
        reach = 1
        while reach < window:
            step = min(reach, window - reach)
            size = valid.shape[dim] - step
            valid = valid.narrow(dim, 0, size) & valid.narrow(dim, step, size)
            reach += step
    return valid


def ssim_of(pred: Tensor, target: Tensor, settings: SSIMSettings) -> Tensor:
    """SSIM of every window that lies inside, differentiable for both: (..., H, W) twice to (..., H-k+1, W-k+1)."""
    centre = _centre(target)
    x, y = pred - centre, target - centre
    m, n, power, product = (blur(v, settings.taps) for v in (x, y, x * x + y * y, x * y))
    a2 = 2 * (product - m * n) + settings.c2
    b2 = (power - (m * m + n * n)).clamp(min=0) + settings.c2
    m, n = m + centre, n + centre
    return (2 * m * n + settings.c1) * a2 / ((m * m + n * n + settings.c1) * b2)


def ssim_sum(
    pred: Tensor, target: Tensor, valid: Tensor | None, counted: Tensor | None, settings: SSIMSettings
) -> Tensor:
    """Sum of ``clamp((1 - SSIM) / 2, 0, 1)`` over the windows that count; a scalar with a gradient for `pred` alone.

    Args:
        pred: (N,H,W), float32 or float64, padded already where padding is wanted.
        target: (N,H,W), the dtype of `pred`; a constant.
        valid: bool (N,H,W), where the values can be read, or None for everywhere.
        counted: bool (N,H-k+1,W-k+1), the windows to sum, or None for all; must not touch an invalid pixel.
        settings: the window and the constants.
    """
    return _SSIMSum.apply(pred, target, valid, counted, settings)


class _SSIMSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, pred: Tensor, target: Tensor, valid: Tensor | None, counted: Tensor | None, settings: SSIMSettings
    ) -> Tensor:
        with_gradient = ctx.needs_input_grad[0]
        gradient = torch.empty_like(pred, memory_format=torch.contiguous_format) if with_gradient else None
        # few pictures at a time, so that the buffers stay in the cache; a GPU prefers few large kernels
        step = (
            _at_a_time(len(pred), pred.shape[-2] * pred.shape[-1]) if pred.device.type == "cpu" else max(len(pred), 1)
        )
        work = _Workspace(pred[:step], settings, with_gradient=with_gradient)
        sums = [pred.new_zeros(())]  # an empty batch has a loss too
        for start in range(0, len(pred), step):
            part = slice(start, start + step)
            work.load(pred[part], target[part], None if valid is None else valid[part])
            sums.append(work.dissimilarity(None if counted is None else ~counted[part]))
            if gradient is not None:
                work.pull_back(out=gradient[part])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return torch.stack(sums).sum()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        # torch's once_differentiable would return a constant here, and a gradient penalty would be wrong without a word
        if torch.is_grad_enabled():
            raise ConfigError(
                "the SSIM loss has no second derivative (create_graph=True)",
                where="ssim_loss",
                next_action="build the loss from mde.losses.ssim_map, which autograd differentiates again",
            )
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None, None, None


def _at_a_time(count: int, pixels: int) -> int:
    """The largest part of `count` pictures that fits into the cache and leaves no smaller one at the end."""
    return max((n for n in range(1, min(count, _CACHED // pixels) + 1) if count % n == 0), default=1)


class _Workspace:
    """Memory for a few pictures at a time, reused from one to the next: fresh pages cost more than the arithmetic.

    Args:
        like: (n,H,W), tells the size, dtype and device of what will be loaded.
        settings: the window and the constants.
        with_gradient: `dissimilarity` shall prepare what `pull_back` needs.
    """

    def __init__(self, like: Tensor, settings: SSIMSettings, *, with_gradient: bool) -> None:
        n, height, width = like.shape
        reach = len(settings.taps) - 1
        self.settings = settings
        self.centre = like.new_zeros(())
        self.with_gradient = with_gradient
        count = 3 if with_gradient else 0
        self.maps = like.new_empty(4, n, height, width)  # x, y, x^2 + y^2, x y, centred
        # later stages take the memory of earlier ones: fewer pages to touch, a fifth faster
        inner = (4, n, height - reach, width - reach)
        self.rows, self.scratch, self.slope_rows = _sharing(
            like, (4, n, height, width - reach), inner, (count, n, height, width + reach)
        )
        self.moments, self.spread = _sharing(like, inner, (count, n, height, width))
        # slopes: derivatives by the means of x, of x^2 + y^2 and of x y, with a border of zeros for the way back
        self.slopes = like.new_zeros(count, n, height + reach, width + reach)
        self.inner_slopes = self.slopes[..., reach:height, reach:width]

    def load(self, pred: Tensor, target: Tensor, valid: Tensor | None) -> None:
        """Fill `maps` from pictures (n,H,W), with zeros where they are invalid."""
        x, y, power, product = self.maps
        self.centre = _centre(target, valid)
        torch.sub(pred, self.centre, out=x)
        torch.sub(target, self.centre, out=y)
        if valid is not None:
            self.maps[:2].masked_fill_(~valid, 0.0)
        torch.mul(x, x, out=power)
        power.add_(torch.mul(y, y, out=product))
        torch.mul(x, y, out=product)

    def dissimilarity(self, dropped: Tensor | None) -> Tensor:
        """Sum of clamp((1 - SSIM) / 2) over the windows not dropped, a scalar; fills `slopes` where they are wanted."""
        _, c1, c2 = self.settings
        _blur_along(self.maps, -1, self.settings.taps, out=self.rows)
        m, n, power, product = _blur_along(self.rows, -2, self.settings.taps, out=self.moments)
        first, second, a1, b1 = self.scratch
        # no fused multiply-add here: where x equals y, m^2 + n^2 must round as 2 m n does, for a loss of 0
        a2 = product.sub_(torch.mul(m, n, out=first)).mul_(2).add_(c2)
        squares = torch.mul(m, m, out=first).add_(torch.mul(n, n, out=second))
        b2 = power.sub_(squares).clamp_(min=0).add_(c2)
        mean_x, mean_y = torch.add(m, self.centre, out=first), torch.add(n, self.centre, out=second)
        torch.mul(mean_x, mean_y, out=a1).mul_(2).add_(c1)
        torch.mul(mean_x, mean_x, out=b1).addcmul_(mean_y, mean_y).add_(c1)
        scale = (b1 * b2).reciprocal_()
        a1_scaled = a1.mul_(scale)
        ssim = a1_scaled * a2
        if self.with_gradient:
            by_mean, by_power, by_product = self.inner_slopes
            torch.div(ssim, b2, out=by_power)
            torch.neg(a1_scaled, out=by_product)
            torch.mul(mean_x, torch.div(ssim, b1, out=b1), out=by_mean).addcmul_(mean_y, scale.mul_(a2), value=-1)
            by_mean.addcmul_(n, a1_scaled).addcmul_(m, by_power, value=-1)
            if dropped is not None:
                self.inner_slopes.masked_fill_(dropped, 0.0)
        loss = ssim.mul_(-0.5).add_(0.5).clamp_(0.0, 1.0)
        return (loss if dropped is None else loss.masked_fill_(dropped, 0.0)).sum()

    def pull_back(self, out: Tensor) -> None:
        """Write the gradient for `pred`, (n,H,W), from `slopes`: the adjoint of a symmetric blur is that blur."""
        _blur_along(self.slopes, -2, self.settings.taps, out=self.slope_rows)
        by_mean, by_power, by_product = _blur_along(self.slope_rows, -1, self.settings.taps, out=self.spread)
        x, y = self.maps[0], self.maps[1]
        torch.addcmul(by_mean, x, by_power, out=out).addcmul_(y, by_product)


def _sharing(like: Tensor, *shapes: Sequence[int]) -> list[Tensor]:
    """Uninitialised tensors of these shapes in the same memory."""
    sizes = [math.prod(shape) for shape in shapes]
    memory = like.new_empty(max(sizes))
    return [memory[:size].view(tuple(shape)) for size, shape in zip(sizes, shapes, strict=True)]


def _blur_along(maps: Tensor, dim: int, taps: Sequence[float], out: Tensor) -> Tensor:
    size = out.shape[dim]
    torch.mul(maps.narrow(dim, 0, size), taps[0], out=out)
    for shift, tap in enumerate(taps[1:], start=1):
        out.add_(maps.narrow(dim, shift, size), alpha=tap)
    return out


def _centre(target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean of each picture, (..., 1, 1): any constant will do, as long as it is near the values."""
    target = target.detach()
    if valid is None:
        return target.mean((-2, -1), keepdim=True)
    return fill(target, valid).sum((-2, -1), keepdim=True) / valid.sum((-2, -1), keepdim=True).clamp(min=1)
