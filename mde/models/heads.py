"""Heads: levels of a decoder in, network space out. Which depth that is the codec says, so that a metric, a logarithmic
and an inverse head are one head with another codec.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mde.codecs import Binned, DepthCodec
from mde.errors import ConfigError
from mde.models.layers import LevelHeads
from mde.models.supervised import middle_of
from mde.rebuild import Rebuildable

__all__ = ["BinsHead", "Head", "HeadFactory", "LinearHead", "SigmoidHead"]


class Head(Rebuildable, nn.Module, ABC):
    """Base. A subclass is made as ``Head(decoder_channels, codec, ...settings)``.

    Args:
        decoder_channels: of the levels, coarse to fine.
        codec: whose network space it speaks; it does not become a part of the head.
        outputs: channels of its last convolution.
        bias: what that convolution says at the start.
        hidden: 0 is a single 3x3 convolution on the finest level. Above 0 stands DPT's head: a 3x3 convolution that
            halves the channels, enlargement to the picture's size with aligned corners, a 3x3 convolution to `hidden`
            channels, a ReLU, a 1x1 convolution (Ranftl et al. 2021, supplement; Depth Anything has 32).
    """

    def __init__(
        self, decoder_channels: Sequence[int], codec: DepthCodec, *, outputs: int, bias: float, hidden: int
    ) -> None:
        super().__init__()
        if hidden < 0:
            raise ConfigError(f"hidden is {hidden}", where=type(self).__name__, next_action="give 0, or 32 as DPT")
        before = decoder_channels[-1]
        self.enter = nn.Conv2d(before, before // 2, 3, padding=1) if hidden else None
        self.mix = nn.Conv2d(before // 2, hidden, 3, padding=1) if hidden else None
        # its last convolution stays in float32 under autocast
        self.out = LevelHeads([hidden or before], 1, kernel_size=1 if hidden else 3, bias=bias, outputs=outputs)

    @abstractmethod
    def forward(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Levels (B,C,h,w), coarse to fine, to network space, (B,codec.channels,*), at the finest level's size or
        `size`.

        Args:
            levels: of the decoder.
            size: (height, width) of the picture.
        """

    def convolved(self, finest: Tensor, size: Sequence[int]) -> Tensor:
        """The finest level, (B,C,h,w), to (B,outputs,*), float32."""
        if self.enter is not None and self.mix is not None:
            large = F.interpolate(self.enter(finest), size=tuple(size), mode="bilinear", align_corners=True)
            finest = torch.relu(self.mix(large))
        return self.out.last([finest])

    def uncertainty(self, levels: Sequence[Tensor], size: Sequence[int], codec: DepthCodec) -> tuple[Tensor, Tensor]:
        """Standard deviation in metres and entropy in nats of the posterior, each (B,1,*).

        Raises:
            ConfigError: the head has none; see `has_posterior`.
        """
        hint = "use BinsHead, or LinearHead with a codec of classes"
        raise ConfigError(f"{type(self).__name__} has no posterior", where="model.head", next_action=hint)

    @staticmethod
    def has_posterior(codec: DepthCodec) -> bool:
        """Whether `uncertainty` answers."""
        return False


HeadFactory: TypeAlias = Callable[[Sequence[int], DepthCodec], Head]
"""Makes a head once decoder and codec are known: a class, or ``functools.partial(cls, hidden=32)``."""


class LinearHead(Head):
    """No activation: as many channels as the codec asks for, so values or the logits of classes.

    Args:
        decoder_channels: see `Head`.
        codec: see `Head`; values start in the middle of its range.
        hidden: see `Head`.
    """

    def __init__(self, decoder_channels: Sequence[int], codec: DepthCodec, hidden: int = 0) -> None:
        bias = middle_of(codec) if codec.channels == 1 else 0.0
        super().__init__(decoder_channels, codec, outputs=codec.channels, bias=bias, hidden=hidden)

    def forward(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        return self.convolved(levels[-1], size)

    def uncertainty(self, levels: Sequence[Tensor], size: Sequence[int], codec: DepthCodec) -> tuple[Tensor, Tensor]:
        if not isinstance(codec, Binned):
            return super().uncertainty(levels, size, codec)
        return codec.uncertainty(self(levels, size))

    @staticmethod
    def has_posterior(codec: DepthCodec) -> bool:
        return isinstance(codec, Binned)


class SigmoidHead(Head):
    """A sigmoid over the range of the codec: no output leaves it. Metric depth with `Linear`, disparity with
    `Disparity`, ln(depth) with `Log`.

    Args:
        decoder_channels: see `Head`.
        codec: see `Head`; the output starts in the middle of its range.
        hidden: see `Head`.

    Raises:
        ConfigError: the codec has classes.
    """

    def __init__(self, decoder_channels: Sequence[int], codec: DepthCodec, hidden: int = 0) -> None:
        self._low, self._high = _range_of(codec, "SigmoidHead")
        share = (middle_of(codec) - self._low) / (self._high - self._low)
        bias = math.log(share / (1 - share))
        super().__init__(decoder_channels, codec, outputs=1, bias=bias, hidden=hidden)

    def forward(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        return self._low + (self._high - self._low) * torch.sigmoid(self.convolved(levels[-1], size))


class BinsHead(Head):
    """Adaptive bins: each picture divides the range its own way, each pixel weighs the bins' centres.

    S. Bhat, I. Alhashim, P. Wonka, "AdaBins: Depth Estimation Using Adaptive Bins", CVPR 2021, section 3.2: widths that
    are positive and sum to the range, centres by equation 2, the depth as expectation over a softmax, equation 3.
    Deviates: widths come from the mean of the coarsest level by two linear layers and a softmax, where AdaBins has a
    small transformer at half the picture's size; bins divide the codec's network space, so that with `Log` equal widths
    are equal ratios, at which they start.

    Args:
        decoder_channels: see `Head`.
        codec: see `Head`.
        bins: number of bins.
        hidden: see `Head`.

    Raises:
        ConfigError: the codec has classes of its own, or there are fewer than two bins.
    """

    def __init__(self, decoder_channels: Sequence[int], codec: DepthCodec, bins: int = 64, hidden: int = 0) -> None:
        self._low, self._high = _range_of(codec, "BinsHead")
        if bins < 2:
            raise ConfigError(f"needs at least 2 bins, got {bins}", where="head.bins", next_action="64 to 256 is usual")
        super().__init__(decoder_channels, codec, outputs=bins, bias=0.0, hidden=hidden)
        coarse = decoder_channels[0]
        self.divide = nn.Sequential(nn.Linear(coarse, coarse), nn.ReLU(inplace=True), nn.Linear(coarse, bins))
        last = self.divide[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def widths(self, levels: Sequence[Tensor]) -> Tensor:
        """(B,K), network space, positive, with the range's length as sum."""
        pooled = levels[0].mean((-2, -1))
        with torch.autocast(pooled.device.type, enabled=False):
            logits = self.divide(pooled.to(next(self.divide.parameters()).dtype))
        return (self._high - self._low) * logits.softmax(1)

    def posterior(self, levels: Sequence[Tensor], size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logarithms of the weights (B,K,*) and centres (B,K) in network space, from the lower end up."""
        widths = self.widths(levels)
        centres = self._low + widths.cumsum(1) - widths / 2
        return self.convolved(levels[-1], size).log_softmax(1), centres

    def forward(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        logs, centres = self.posterior(levels, size)
        return _expected(logs.exp(), centres)

    def uncertainty(self, levels: Sequence[Tensor], size: Sequence[int], codec: DepthCodec) -> tuple[Tensor, Tensor]:
        logs, centres = self.posterior(levels, size)
        weights, depths = logs.exp(), codec.decode(centres)
        spread = depths[..., None, None] - _expected(weights, depths)
        return (weights * spread**2).sum(1, keepdim=True).sqrt(), -(weights * logs).sum(1, keepdim=True)

    @staticmethod
    def has_posterior(codec: DepthCodec) -> bool:
        return True


def _expected(weights: Tensor, values: Tensor) -> Tensor:
    """(B,K,h,w) and (B,K) to (B,1,h,w)."""
    return (weights * values[..., None, None]).sum(1, keepdim=True)  # einsum would leave float32 under autocast


def _range_of(codec: DepthCodec, name: str) -> tuple[float, float]:
    if codec.channels != 1:
        what = f"{type(codec).__name__} has {codec.channels} channels, this head says one value a pixel"
        raise ConfigError(what, where=name, next_action="use LinearHead, or a codec such as Log or Linear")
    low, high = sorted(codec.encoded_range)
    return low, high
