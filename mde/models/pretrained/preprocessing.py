"""From a picture to what a pretrained network was trained to see, and its map back to the picture's size.

The rules are those of the image processors of transformers, computed in torch on the whole batch. A picture of bytes
becomes the very numbers that those make of it. One in [0,1], as batches of training and evaluation hold it, is not
rounded to bytes after each axis of a resize: that differs by about one grey level, except where bicubic weights
overshoot beyond black or white, which is cut at the end and not after each axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.nn import functional as F

from mde.errors import ConfigError, nearest
from mde.masking import at_least_float32
from mde.resizing import bytes_resized, smoothed

__all__ = ["Preprocessing", "resample_of"]

Size = tuple[int, int]
_RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # the numbers of PIL.Image.Resampling


@dataclass(frozen=True)
class Preprocessing:
    """How a picture is brought to a network's input.

    Attributes:
        size: (height, width) in pixels; None keeps the picture's own.
        keep_aspect: scale both sides by the factor that is nearer to 1, so that `size` is met on one side only.
        multiple: both sides are rounded to a multiple of it, at least one of them.
        round_down: to the multiple below instead of the nearest.
        resample: "nearest", "bilinear" or "bicubic".
        antialias: smooth where the picture shrinks.
        align_corners: of the resize, as ZoeDepth does it.
        reflect: pictures are continued by ``reflect * sqrt(side / 2)`` mirrored pixels on each side before the resize,
            and the map is cut by them (ZoeDepth: 3).
        pad_multiple: zeros around the normalised picture up to a multiple of it; the map is cut by them.
        mean: RGB, subtracted from the picture in [0,1].
        std: RGB, divided by then.

    >>> Preprocessing(size=(518, 518), keep_aspect=True, multiple=14).input_size(480, 640)
    (518, 686)
    """

    size: Size | None = None
    keep_aspect: bool = False
    multiple: int = 1
    round_down: bool = False
    resample: str = "bilinear"
    antialias: bool = True
    align_corners: bool = False
    reflect: float = 0.0
    pad_multiple: int = 1
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for key in ("size", "mean", "std"):  # YAML has lists
            value = getattr(self, key)
            object.__setattr__(self, key, None if value is None else tuple(value))
        sizes_fit = self.size is None or (len(self.size) == 2 and min(self.size) >= 1)
        if not sizes_fit or self.multiple < 1 or self.pad_multiple < 1 or self.resample not in _RESAMPLE.values():
            raise ConfigError(
                f"size must be (height, width), multiples at least 1, resample one of {', '.join(_RESAMPLE.values())}; "
                f"got {self.size}, {self.multiple}, {self.pad_multiple}, {self.resample!r}",
                where="model.preprocessing",
                next_action="leave out what should stay as the network's own",
            )

    def changed(self, settings: Mapping[str, Any]) -> Preprocessing:
        """These rules with some of them replaced.

        Raises:
            ConfigError: a name is unknown, or a value out of range.
        """
        names = [field.name for field in fields(self)]
        for key in settings:
            if key not in names:
                hint = f"nearest: {nearest(key, names)}"
                raise ConfigError(f"unknown setting {key!r}", where="model.preprocessing", next_action=hint)
        return replace(self, **settings)

    def to_dict(self) -> dict[str, Any]:
        """As plain data; ``Preprocessing(**data)`` is the way back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def input_size(self, height: int, width: int) -> Size:
        """The size to which a picture of (height, width), mirrored edges included, is resized."""
        target = self.size or (height, width)
        scales = [target[0] / height, target[1] / width]
        if self.keep_aspect:
            scales = [min(scales, key=lambda scale: abs(1 - scale))] * 2  # of two equal ones the height's
        rounded = math.floor if self.round_down else round
        sides = (rounded(scale * side / self.multiple) for scale, side in zip(scales, (height, width), strict=True))
        high, wide = (max(1, int(side)) * self.multiple for side in sides)
        return high, wide

    def __call__(self, image: Tensor) -> Tensor:
        """The network's input.

        Args:
            image: (B,3,H,W), RGB: float in [0,1], or uint8.

        Returns:
            float (B,3,h,w), normalised; float32 of bytes.
        """
        if image.dtype == torch.uint8 and not self._resizes_bytes:
            image = image.float() / 255
        high, wide = self._mirrored(*image.shape[-2:])
        x = F.pad(image, (wide, wide, high, high), mode="reflect") if high or wide else image
        x = self._normalised(self._resized(x, self.input_size(*x.shape[-2:])))
        # a padding by nothing copies
        return x if self.pad_multiple == 1 else F.pad(x, self._zeros(x.shape[-2:]))

    def restore(self, maps: Tensor, size: Sequence[int], mode: str = "bicubic") -> Tensor:
        """A network's map at the picture's size, without what was added around it.

        Args:
            maps: (B,1,h,w), of the input that `__call__` made.
            size: (height, width) of the picture.
            mode: "bicubic" or "bilinear".

        Returns:
            float32 (B,1,height,width).
        """
        maps = at_least_float32(maps)
        high, wide = self._mirrored(*size)
        whole = (size[0] + 2 * high, size[1] + 2 * wide)
        inner = self.input_size(*whole)
        left, right, top, bottom = self._zeros(inner)
        if left or right or top or bottom:
            maps = _interpolate(maps, (inner[0] + top + bottom, inner[1] + left + right), mode)
            maps = maps[..., top : top + inner[0], left : left + inner[1]]
        return _interpolate(maps, whole, mode)[..., high : high + size[0], wide : wide + size[1]]

    @property
    def _resizes_bytes(self) -> bool:
        """As the image processors that smooth do; the others come to [0,1] first."""
        return self.antialias and not self.align_corners and not self.reflect

    def _normalised(self, x: Tensor) -> Tensor:
        if x.dtype != torch.uint8:
            return (x - _channels(self.mean, x)) / _channels(self.std, x)
        x = x.to(torch.float32, memory_format=torch.contiguous_format)
        return x.sub_(_channels(self.mean, x) * 255).div_(_channels(self.std, x) * 255)

    def _mirrored(self, height: int, width: int) -> Size:
        """Rows above and below, and columns left and right, that are mirrored."""
        if not self.reflect:
            return 0, 0
        high, wide = (min(int(math.sqrt(side / 2) * self.reflect), side - 1) for side in (height, width))
        return high, wide

    def _zeros(self, size: Sequence[int]) -> tuple[int, int, int, int]:
        """(left, right, top, bottom), as `torch.nn.functional.pad` takes them."""
        high, wide = (-side % self.pad_multiple for side in size)
        return wide // 2, wide - wide // 2, high // 2, high - high // 2

    def _resized(self, x: Tensor, size: Size) -> Tensor:
        if tuple(x.shape[-2:]) == size:
            return x
        if self.resample == "nearest":
            return F.interpolate(x, size=size, mode="nearest")
        if x.dtype == torch.uint8:
            return bytes_resized(x, size, self.resample)
        if self.antialias and not self.align_corners:
            x = smoothed(x, size, self.resample)
        else:
            x = F.interpolate(x, size=size, mode=self.resample, align_corners=self.align_corners)
        return x.clamp(0, 1)  # bicubic weights overshoot at edges, which bytes cannot


def _channels(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


def _interpolate(maps: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """With half-pixel centres and without smoothing."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    if maps.device.type == "cpu" and not maps.requires_grad and not torch.compiler.is_compiling():
        # the same cubic (a = -0.75), in a tenth of the time and with less rounding of the positions than torch's
        how = cv2.INTER_CUBIC if mode == "bicubic" else cv2.INTER_LINEAR
        made = maps.new_empty(len(maps), 1, *size)
        for each, target in zip(maps.detach(), made, strict=True):
            cv2.resize(each[0].numpy(), tuple(size)[::-1], dst=target[0].numpy(), interpolation=how)
        return made
    return F.interpolate(maps, size=tuple(size), mode=mode, align_corners=False)


def resample_of(number: int) -> str:
    """The name of one of PIL's numbers of resampling methods.

    Raises:
        ConfigError: torch has no such method.
    """
    if int(number) not in _RESAMPLE:
        raise ConfigError(
            f"the image processor asks for PIL's resampling {int(number)}, which torch does not have",
            where="preprocessor_config.json",
            next_action='give --model.preprocessing \'{"resample": "bicubic"}\'',
        )
    return _RESAMPLE[int(number)]
