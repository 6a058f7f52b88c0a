"""Losses of class maps at full resolution, without ever holding full-resolution maps of all classes.

A network of output stride 8 gives K maps of an eighth of the picture's size. The usual loss enlarges them bilinearly to
the size of the truth, which at 71 classes and 420x800 takes 286 MB for three pictures, several times over. Here the
rows of the picture are visited in bands: enlarge a band, take its loss and the gradient at once, shrink the gradient
back. Value and gradient are those of ``loss(interpolate(logits))``. What the loss of a band is, a step says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mde.codecs import Binned, DepthCodec
from mde.errors import ConfigError
from mde.losses.base import DepthLoss
from mde.losses.maps import LossMaps
from mde.masking import at_least_float32

__all__ = ["BandStep", "BandedLoss", "banded_mean"]

BandStep: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (R,W,K), classes int64 (R,W), valid bool (R,W)) to the sum of the loss over the valid pixels, a scalar; the
logits are overwritten with the gradient of that sum. Classes are garbage where nothing is valid."""

_BAND_BYTES = {"cpu": 1 << 21, "cuda": 1 << 28}
"""Size of a band of enlarged logits: the second-level cache of a core, or what keeps a GPU busy."""


def banded_mean(logits: Tensor, target: Tensor, valid: Tensor, step: BandStep, align_corners: bool = False) -> Tensor:
    """Mean over valid pixels of a loss of class maps that are enlarged bilinearly to the size of the truth.

    Args:
        logits: (B,K,h,w).
        target: int64 (B,1,H,W), class of each pixel, 0 to K-1 where valid.
        valid: bool (B,1,H,W).
        step: the loss of a band.
        align_corners: as of ``torch.nn.functional.interpolate``.

    Returns:
        Scalar, float32 (float64 for float64 logits); 0 where nothing is valid.

    Raises:
        ConfigError: the shapes do not fit, or a class is out of range.
    """
    _check(logits, target, valid)
    with torch.autocast(logits.device.type, enabled=False):
        value: Tensor = _Banded.apply(at_least_float32(logits), target[:, 0], valid[:, 0], step, align_corners)
    return value


class BandedLoss(DepthLoss):
    """A loss of class maps, which knows whose classes they are.

    Args:
        align_corners: as of ``torch.nn.functional.interpolate``; both are in use, False is the library's convention.
    """

    codec_type: ClassVar[type[Binned]]

    def __init__(self, align_corners: bool = False) -> None:
        super().__init__()
        self.align_corners = align_corners

    def of(self, maps: LossMaps) -> Tensor:
        self.check(maps.codec)
        return super().of(maps)

    def check(self, codec: DepthCodec) -> None:
        """Refuse logits that mean something else.

        Raises:
            ConfigError: the codec is of another kind.
        """
        if not isinstance(codec, self.codec_type):
            what = f"{type(self).__name__} works on the logits of {self.codec_type.__name__}"
            hint = f"set model.codec to mde.codecs.{self.codec_type.__name__}, or leave the loss to the method"
            raise ConfigError(f"{what}, the codec is {type(codec).__name__}", where="model.loss", next_action=hint)


class _Banded(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, logits: Tensor, target: Tensor, valid: Tensor, step: BandStep, align_corners: bool
    ) -> Tensor:
        count = valid.sum().clamp(min=1)
        maps = logits.detach().permute(0, 2, 3, 1)
        if maps.shape[1:3] == target.shape[1:]:  # not enlarged: what lies under the mask, NaN included, must not count
            maps = torch.where(valid[..., None], maps, maps.new_zeros(()))
        maps = maps.contiguous()
        grad = torch.zeros_like(maps) if ctx.needs_input_grad[0] else None
        bands = _Bands(maps, target.shape[1:], step, align_corners)
        total = maps.new_zeros(())
        for image in range(len(maps)):
            total += bands.loss(maps[image], target[image], valid[image], None if grad is None else grad[image])
        if grad is not None:
            ctx.save_for_backward(grad.permute(0, 3, 1, 2).div_(count))
        return total / count

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (grad,) = ctx.saved_tensors
        return grad * grad_output, None, None, None, None


class _Bands:
    """The loss of one image at a time, in bands of rows that share one buffer."""

    def __init__(self, maps: Tensor, size: Sequence[int], step: BandStep, align_corners: bool) -> None:
        rows, columns = size
        row_bytes = columns * maps.shape[3] * maps.element_size()
        height = min(max(1, _BAND_BYTES.get(maps.device.type, 1 << 20) // row_bytes), rows)
        self.down = _Enlarging(maps.shape[1], rows, height, align_corners, maps)
        self.across = _Enlarging(maps.shape[2], columns, 64, align_corners, maps)
        self.buffer = maps.new_empty((height, columns, maps.shape[3]))
        self.step = step

    def loss(self, maps: Tensor, target: Tensor, valid: Tensor, grad: Tensor | None) -> Tensor:
        """Sum over the valid pixels of one image; adds its gradient to `grad`. `maps` and `grad` are (h,w,K)."""
        total = maps.new_zeros(())
        for rows, cells, weights in self.down.parts:
            known = valid[rows]
            if maps.device.type == "cpu" and not known.any():  # the sky, where a lidar sees nothing
                continue
            large = self._widened(torch.tensordot(weights, maps[cells], 1))
            total += self.step(large, target[rows], known)
            if grad is not None:
                grad[cells] += torch.tensordot(weights.T, self._narrowed(large, maps.shape[1]), 1)
        return total

    def _widened(self, mixed: Tensor) -> Tensor:
        large = self.buffer[: len(mixed)]
        for columns, cells, weights in self.across.parts:
            torch.matmul(weights, mixed[:, cells], out=large[:, columns])
        return large

    def _narrowed(self, large: Tensor, width: int) -> Tensor:
        small = large.new_zeros((len(large), width, large.shape[2]))
        for columns, cells, weights in self.across.parts:
            small[:, cells] += weights.T @ large[:, columns]
        return small


class _Enlarging:
    """Bilinear interpolation along one axis as a band matrix, in parts of `step` outputs.

    Attributes:
        parts: (outputs, the inputs that they are made of, weights (outputs, inputs)).
    """

    def __init__(self, small: int, large: int, step: int, align_corners: bool, like: Tensor) -> None:
        unit = torch.eye(small, dtype=like.dtype, device=like.device)
        if small != large:
            unit = F.interpolate(unit[None], size=large, mode="linear", align_corners=align_corners)[0]
        self.parts: list[tuple[slice, slice, Tensor]] = []
        for start in range(0, large, step):
            outputs = slice(start, min(start + step, large))
            used = unit[:, outputs].any(1).nonzero()
            inputs = slice(int(used[0]), int(used[-1]) + 1)
            self.parts.append((outputs, inputs, unit[inputs, outputs].T.contiguous()))


def _check(logits: Tensor, target: Tensor, valid: Tensor) -> None:
    fits = logits.ndim == 4 and target.ndim == 4 and target.shape == valid.shape and target.shape[1] == 1
    if not fits or len(logits) != len(target) or target.dtype != torch.int64 or valid.dtype != torch.bool:
        raise ConfigError(
            "a loss over classes needs logits (B,K,h,w), int64 classes (B,1,H,W) and a bool mask (B,1,H,W), got "
            f"{tuple(logits.shape)}, {target.dtype} {tuple(target.shape)} and {valid.dtype} {tuple(valid.shape)}",
            next_action="take a codec with classes, mde.codecs.Discretized or Ordinal",
        )
    known = target[valid]
    if known.numel() and (int(known.min()) < 0 or int(known.max()) >= logits.shape[1]):
        what = f"classes {int(known.min())} to {int(known.max())} do not fit {logits.shape[1]} logits"
        raise ConfigError(what, next_action="give the head as many outputs as the codec has bins")
