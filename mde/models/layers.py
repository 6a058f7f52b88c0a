"""Blocks that several methods share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mde.errors import ConfigError
from mde.rebuild import Rebuildable

__all__ = [
    "BilinearUpsample",
    "DoubleConv",
    "LevelHeads",
    "SummedASPP",
    "TransposedUpsample",
    "Upsample",
    "UpsampleFactory",
    "in_float32",
    "resize",
]


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize of a map with half-pixel centres; returns `x` itself where the size is right.

    Args:
        x: (B,C,h,w), any unit without unknown pixels (never ground truth).
        size: (height, width).
    """
    sides = (*size, *x.shape[-2:])
    if not any(isinstance(side, torch.SymInt) for side in sides):  # one graph for all sizes must not ask for theirs
        size = (int(size[0]), int(size[1]))
        if tuple(x.shape[-2:]) == size:
            return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions of padding 1, each followed by a (leaky) ReLU.

    Weights start with a variance of 2 over the number of inputs (He et al. 2015; Ronneberger et al. 2015, section 3),
    which keeps the signal's size from layer to layer: torch's own start shrinks it, and a U-Net without batch norm
    stands still.

    Args:
        in_channels: of the input, (B,in_channels,h,w).
        out_channels: of the output, (B,out_channels,h,w).
        norm: batch norm before each activation; the convolutions then have no bias, which the norm would cancel.
        negative_slope: of the leaky ReLU; 0 is a plain ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: bool = False, negative_slope: float = 0.0) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            conv = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=not norm)
            nn.init.kaiming_normal_(conv.weight, a=negative_slope)
            layers.append(conv)
            if norm:
                layers.append(nn.BatchNorm2d(out_channels))
            layers.append(nn.LeakyReLU(negative_slope, inplace=True) if negative_slope else nn.ReLU(inplace=True))
        super().__init__(*layers)


class Upsample(Rebuildable, nn.Module, ABC):
    """Base of the upsampling blocks that are injected into a decoder.

    Args:
        in_channels: of the input.

    Attributes:
        out_channels: of the output.
    """

    out_channels: int

    @abstractmethod
    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """(B,in_channels,h,w) to (B,out_channels,*size)."""


UpsampleFactory: TypeAlias = Callable[[int], Upsample]


class BilinearUpsample(Upsample):
    """Bilinear interpolation with half-pixel centres; no parameters, keeps the channels.

    >>> BilinearUpsample(8)(torch.zeros(1, 8, 2, 3), (5, 6)).shape
    torch.Size([1, 8, 5, 6])
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = in_channels

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return resize(x, size)


class TransposedUpsample(Upsample):
    """A learned 2x2 transposed convolution of stride 2 that halves the channels (Ronneberger et al. 2015, section 2).

    Where twice the input is not the size asked for (odd sizes), the result is brought to it bilinearly.

    >>> TransposedUpsample(8)(torch.zeros(1, 8, 2, 3), (5, 6)).shape
    torch.Size([1, 4, 5, 6])
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = max(in_channels // 2, 1)
        self.conv = nn.ConvTranspose2d(in_channels, self.out_channels, kernel_size=2, stride=2)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return resize(self.conv(x), size)


class LevelHeads(nn.Module):
    """One convolution on each of the last decoder levels (deep supervision, Lee et al. 2014).

    Heads compute in float32 also under autocast: bfloat16 has 8 bits, which would put the output on steps of 0.4 %.

    Args:
        channels: of all decoder levels, coarse to fine.
        count: how many of the last levels get a head.
        kernel_size: of the heads, odd.
        bias: what all heads say before they have learned anything, in network space.
        outputs: channels of each head.

    Raises:
        ConfigError: more heads than levels, or none.
    """

    def __init__(self, channels: Sequence[int], count: int, *, kernel_size: int, bias: float, outputs: int = 1) -> None:
        super().__init__()
        if not 1 <= count <= len(channels):
            raise ConfigError(
                f"{count} levels are to be supervised, the decoder has {len(channels)}",
                where="model.supervision",
                next_action="give one weight per supervised level, the finest last",
            )
        self.convs = nn.ModuleList(
            nn.Conv2d(c, outputs, kernel_size, padding=kernel_size // 2) for c in list(channels)[-count:]
        )
        for conv in self.convs:
            nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels (B,C,h,w), coarse to fine, to one raw map (B,outputs,h,w) per head, coarse to fine."""
        supervised = list(levels)[-len(self.convs) :]
        return [in_float32(conv, level) for conv, level in zip(self.convs, supervised, strict=True)]

    def last(self, levels: Sequence[Tensor]) -> Tensor:
        """The raw map (B,outputs,h,w) of the finest level alone, which is what inference uses."""
        return in_float32(self.convs[-1], levels[-1])


class SummedASPP(nn.Module):
    """Atrous spatial pyramid pooling of DeepLab v2: parallel 3x3 convolutions of several rates, summed.

    Weights start from N(0, 0.01), biases at 0. Chen et al., "DeepLab", TPAMI 2018, section 3.2. No norm, no activation;
    DeepLab v3's pyramid is another one. Computes in float32 also under autocast: its outputs are logits.

    Args:
        in_channels: of the features.
        out_channels: number of classes.
        rates: dilations.

    >>> sum(p.numel() for p in SummedASPP(2048, 71).parameters())
    5234972
    """

    def __init__(self, in_channels: int, out_channels: int, rates: Sequence[int] = (6, 12, 18, 24)) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(in_channels, out_channels, 3, padding=rate, dilation=rate) for rate in rates
        )
        for conv in self.convs:
            nn.init.normal_(conv.weight, std=0.01)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B,in_channels,h,w) to (B,out_channels,h,w)."""
        return torch.stack([in_float32(conv, x) for conv in self.convs]).sum(0)


def in_float32(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer with weights, computed in float32 also under autocast (outputs, which bfloat16 would put on steps)."""
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = layer(x.to(next(layer.parameters()).dtype))
    return out
