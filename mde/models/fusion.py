"""Decoders that add what encoders found at several depths: DPT's for plain vision transformers, a light one for any
pyramid.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mde.errors import ConfigError
from mde.models.decoders import Decoder
from mde.models.layers import resize

__all__ = ["DPTDecoder", "LightDecoder"]


class DPTDecoder(Decoder):
    """The decoder of dense prediction transformers, in the form that Depth Anything gives it.

    R. Ranftl, A. Bochkovskiy, V. Koltun, "Vision Transformers for Dense Prediction", ICCV 2021, section 3; L. Yang et
    al., "Depth Anything V2", NeurIPS 2024. Four features of a plain ViT, all of the patch's stride, are reassembled to
    a pyramid of 1/4, 1/2, 1 and 2 patches a cell (transposed convolutions, identity, strided convolution), brought to
    one width and fused from coarse to fine: pre-activation residual units, bilinear enlargement with aligned corners,
    a 1x1 convolution.

    Numbers equal those of transformers' ``DepthAnythingNeck`` with the same weights; the residual unit that its first
    fusion has and never uses is left out.

    Args:
        encoder_channels: of four features of the same size, the earliest block's first.
        widths: channels of the reassembled features, finest first; (48, 96, 192, 384) are those of the small model.
        fusion: channels of all levels; 64 in the small model.

    Raises:
        ConfigError: the encoder has not four features, or on forward, they are a pyramid already.

    >>> decoder = DPTDecoder((384,) * 4)
    >>> [tuple(level.shape[-2:]) for level in decoder([torch.zeros(1, 384, 5, 6)] * 4)]
    [(5, 6), (10, 12), (20, 24), (40, 48)]
    """

    def __init__(
        self, encoder_channels: Sequence[int], widths: Sequence[int] = (48, 96, 192, 384), fusion: int = 64
    ) -> None:
        super().__init__()
        if len(encoder_channels) != 4 or len(widths) != 4:
            raise ConfigError(
                f"needs four features and four widths, got {len(encoder_channels)} and {len(widths)}",
                where="DPTDecoder",
                next_action="take mde.models.VitEncoder with four blocks, or LightDecoder for any other encoder",
            )
        self.channels = (fusion,) * 4
        self.reassemble = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, 1), resizing)
            for before, width, resizing in zip(encoder_channels, widths, _resizings(widths), strict=True)
        )
        self.convs = nn.ModuleList(nn.Conv2d(width, fusion, 3, padding=1, bias=False) for width in widths)
        self.skips = nn.ModuleList(_ResidualUnit(fusion) for _ in range(3))
        self.units = nn.ModuleList(_ResidualUnit(fusion) for _ in range(4))
        self.outs = nn.ModuleList(nn.Conv2d(fusion, fusion, 1) for _ in range(4))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features (B,C,h,w) to levels of h, 2h, 4h and 8h rows."""
        if len({feature.shape[-2:] for feature in features}) > 1:
            what = f"features have {len({f.shape[-2:] for f in features})} sizes, those of a plain ViT have one"
            raise ConfigError(what, where="DPTDecoder", next_action="use LightDecoder for a pyramid")
        parts = zip(self.convs, self.reassemble, features, strict=True)
        *skips, x = [conv(reassemble(feature)) for conv, reassemble, feature in parts]
        sizes = [skip.shape[-2:] for skip in reversed(skips)] + [[2 * side for side in skips[0].shape[-2:]]]
        levels: list[Tensor] = []
        for i, (unit, out, size) in enumerate(zip(self.units, self.outs, sizes, strict=True)):
            if i:
                x = x + self.skips[i - 1](skips[-i])
            x = out(F.interpolate(unit(x), size=tuple(size), mode="bilinear", align_corners=True))
            levels.append(x)
        return levels


class LightDecoder(Decoder):
    """A pyramid of few channels: each feature by a 1x1 convolution to a narrow width, added to the enlarged coarser
    one, and mixed by a depthwise separable convolution.

    T.-Y. Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, section 3, for the sums; D. Wofk et
    al., "FastDepth", ICRA 2019, for depthwise separable layers in a decoder.

    Args:
        encoder_channels: finest first, at least two; any sizes.
        width: channels of the coarsest level; each finer one has half, but not less than `least`.
        least: see `width`.

    Raises:
        ConfigError: the encoder gives a single feature.

    >>> LightDecoder([16, 16, 24, 48, 576], width=128, least=32).channels
    (128, 64, 32, 32, 32)
    """

    def __init__(self, encoder_channels: Sequence[int], width: int = 128, least: int = 32) -> None:
        super().__init__()
        if len(encoder_channels) < 2:
            hint = "take an encoder of several stages"
            raise ConfigError("the encoder has a single feature", where="LightDecoder", next_action=hint)
        coarse = reversed(encoder_channels)
        self.channels = tuple(max(width >> level, least) for level in range(len(encoder_channels)))
        self.laterals = nn.ModuleList(
            nn.Conv2d(before, own, 1) for before, own in zip(coarse, self.channels, strict=True)
        )
        self.narrow = nn.ModuleList(
            nn.Conv2d(before, own, 1, bias=False) if before != own else nn.Identity()
            for before, own in pairwise(self.channels)
        )
        self.blocks = nn.ModuleList(_separable(own) for own in self.channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        *finer, coarsest = features
        levels = [self.blocks[0](self.laterals[0](coarsest))]
        for narrow, lateral, block, feature in zip(
            self.narrow, self.laterals[1:], self.blocks[1:], reversed(finer), strict=True
        ):
            levels.append(block(lateral(feature) + resize(narrow(levels[-1]), feature.shape[-2:])))
        return levels


class _ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu(x)))), 3x3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(torch.relu(self.conv1(torch.relu(x))))
        return out + x


def _resizings(widths: Sequence[int]) -> list[nn.Module]:
    """From the patch's stride to a quarter, a half, one and two patches a cell."""
    first, second, _, last = widths
    return [
        nn.ConvTranspose2d(first, first, 4, 4),
        nn.ConvTranspose2d(second, second, 2, 2),
        nn.Identity(),
        nn.Conv2d(last, last, 3, 2, 1),
    ]


def _separable(channels: int) -> nn.Sequential:
    """A residual-free separable block: norm and ReLU after each of its two convolutions."""
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
