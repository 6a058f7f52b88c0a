"""Decoders: features of an encoder in, maps of growing resolution out, coarse to fine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from mde.errors import ConfigError
from mde.models.layers import BilinearUpsample, DoubleConv, TransposedUpsample, UpsampleFactory
from mde.rebuild import Rebuildable

__all__ = [
    "Decoder",
    "DecoderFactory",
    "DenseDepthDecoder",
    "SkipDecoder",
    "TransposedDecoder",
    "UNetDecoder",
]


class Decoder(Rebuildable, nn.Module, ABC):
    """Base. A subclass is made as ``Decoder(encoder_channels, ...settings)``.

    Attributes:
        channels: of its levels, coarse to fine.
    """

    channels: tuple[int, ...]

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features (B,C,h,w), finest first, to the maps of all levels, (B,channels[i],h,w), coarse to fine."""


DecoderFactory: TypeAlias = Callable[[Sequence[int]], Decoder]
"""Makes a decoder once the encoder's channels are known: a class, or ``functools.partial(cls, width=0.5)``."""


class SkipDecoder(Decoder):
    """The decoder of every U-shaped network: upsample to the size of the next finer feature, concatenate, convolve.

    A level has exactly the size of its skip, so pictures of any size work.

    Args:
        encoder_channels: finest first, at least two.
        widths: output channels of the levels, coarse to fine: one fewer than `encoder_channels`.
        upsample: makes the upsampling block of a level from its input channels.
        norm: batch norm in the levels (paper 3, section III.A: "the ability to turn it on or off").
        negative_slope: of the leaky ReLUs; 0 is a plain ReLU.

    Raises:
        ConfigError: the encoder gives a single feature, or the numbers do not fit.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        widths: Sequence[int],
        upsample: UpsampleFactory,
        norm: bool = False,
        negative_slope: float = 0.0,
    ) -> None:
        super().__init__()
        if len(encoder_channels) < 2 or len(widths) != len(encoder_channels) - 1:
            raise ConfigError(
                f"{len(widths)} decoder levels do not fit an encoder of {len(encoder_channels)} features",
                where=type(self).__name__,
                next_action="take an encoder with at least two features; a level stands between each two",
            )
        self.channels = tuple(widths)
        self.upsamples, self.blocks = nn.ModuleList(), nn.ModuleList()
        current = encoder_channels[-1]
        for width, skip in zip(widths, reversed(encoder_channels[:-1]), strict=True):
            up = upsample(current)
            self.upsamples.append(up)
            self.blocks.append(DoubleConv(up.out_channels + skip, width, norm=norm, negative_slope=negative_slope))
            current = width

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        *skips, x = features
        levels = []
        for upsample, block, skip in zip(self.upsamples, self.blocks, reversed(skips), strict=True):
            x = block(torch.cat((upsample(x, skip.shape[-2:]), skip), dim=1))
            levels.append(x)
        return levels


class DenseDepthDecoder(SkipDecoder):
    """The decoder of DenseDepth (Alhashim and Wonka 2018, table 1): a 1x1 convolution, then levels that halve the
    width.

    LeakyReLU 0.2 follows both convolutions of a level, as in the authors' Keras code; their PyTorch port leaves the
    first one out. Upsampling has half-pixel centres, where the port aligns corners.

    Args:
        encoder_channels: finest first; DenseNet-169 gives (64, 64, 128, 256, 1664).
        width: channels of the 1x1 convolution over those of the last feature: 1 is the paper (832, 416, 208, 104 for
            DenseNet-169), 0.5 the Keras code's default.
        norm: batch norm in the levels; off in DenseDepth.
        upsample: `BilinearUpsample` (the paper's) or `TransposedUpsample`.

    Raises:
        ConfigError: the encoder gives a single feature.

    >>> DenseDepthDecoder([64, 64, 128, 256, 1664]).channels
    (832, 416, 208, 104)
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        width: float = 1.0,
        norm: bool = False,
        upsample: UpsampleFactory = BilinearUpsample,
    ) -> None:
        if width <= 0:
            raise ConfigError(f"width must be above 0, got {width}", where="decoder.width", next_action="give 1 or 0.5")
        bottom = max(int(width * encoder_channels[-1]), 1)
        widths = [max(bottom >> level, 1) for level in range(1, len(encoder_channels))]
        channels = [*encoder_channels[:-1], bottom]
        super().__init__(channels, widths, upsample, norm, negative_slope=0.2)
        self.bottom = nn.Conv2d(encoder_channels[-1], bottom, kernel_size=1)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        *skips, x = features
        return super().forward([*skips, self.bottom(x)])


class UNetDecoder(SkipDecoder):
    """The expanding path of U-Net (Ronneberger et al. 2015, figure 1), with padded convolutions: each level has its
    skip's width.

    Args:
        encoder_channels: finest first, such as (64, 128, 256, 512, 1024).
        norm: batch norm in the levels.
        upsample: `TransposedUpsample` (the paper's) or `BilinearUpsample`.

    Raises:
        ConfigError: the encoder gives a single feature.

    >>> UNetDecoder([8, 16, 32]).channels
    (16, 8)
    """

    def __init__(
        self, encoder_channels: Sequence[int], norm: bool = True, upsample: UpsampleFactory = TransposedUpsample
    ) -> None:
        super().__init__(encoder_channels, list(encoder_channels[-2::-1]), upsample, norm)


class TransposedDecoder(Decoder):
    """A chain of 4x4 transposed convolutions of stride 2, each with batch norm and ReLU, on the last feature alone.

    Paper 1: no skips, each level is twice the size of the one before.

    Args:
        encoder_channels: finest first; only the last counts.
        widths: output channels of the levels, coarse to fine.

    >>> TransposedDecoder([64, 256, 512, 1024, 2048]).channels
    (512, 256, 128, 64)
    """

    def __init__(self, encoder_channels: Sequence[int], widths: Sequence[int] = (512, 256, 128, 64)) -> None:
        super().__init__()
        self.channels = tuple(widths)
        self.levels = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(before, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
            for before, width in zip([encoder_channels[-1], *widths], widths, strict=False)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        x, levels = features[-1], []
        for level in self.levels:
            x = level(x)
            levels.append(x)
        return levels
