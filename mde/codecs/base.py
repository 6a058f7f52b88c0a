"""What every codec promises."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from mde.errors import ConfigError
from mde.masking import at_least_float32
from mde.rebuild import Rebuildable

__all__ = ["DepthCodec"]


class DepthCodec(Rebuildable, nn.Module, ABC):
    """Base: ``decode(encode(depth)) == depth`` on the range.

    Args:
        min_depth: smallest depth in metres, above 0.
        max_depth: largest depth in metres.
    """

    def __init__(self, min_depth: float, max_depth: float) -> None:
        super().__init__()
        if not 0 < min_depth < max_depth < math.inf:
            raise ConfigError(
                f"a depth range needs 0 < min_depth < max_depth, got {min_depth} and {max_depth}",
                where=type(self).__name__,
                next_action="give both in metres",
            )
        self.min_depth = float(min_depth)
        self.max_depth = float(max_depth)
        self._ends: tuple[float, float] | None = None

    def encode(self, depth: Tensor) -> Tensor:
        """Metres to network space; any shape. Depths outside the range (0 = unknown included) are clamped into it."""
        return self._encode(at_least_float32(depth).clamp(self.min_depth, self.max_depth))

    def decode(self, raw: Tensor) -> Tensor:
        """Network space to metres within [min_depth, max_depth]; any shape. NaN stays NaN."""
        raw = at_least_float32(raw)
        low, high = sorted(self.encoded_range)
        return self._decode(raw.clamp(low, high)).clamp(self.min_depth, self.max_depth)

    def decode_through(self, raw: Tensor) -> Tensor:
        """As `decode`, for losses on metres: what lies outside the range is clamped, yet can be trained to come back.

        Behind a plain clamp an output that left the range would have no gradient. Here it has that of the end of the
        range where a step of descent leads back, and none where it leads further out: the loss would not see such a
        step, and nothing would ever stop it.
        """
        low, high = sorted(self.encoded_range)
        held: Tensor = _Held.apply(at_least_float32(raw), low, high)
        return self._decode(held)

    @property
    def channels(self) -> int:
        """How many channels a network's output has."""
        return 1

    @property
    def encoded_range(self) -> tuple[float, float]:
        """Network-space values of min_depth and max_depth, in this order."""
        if self._ends is None:  # once: a number that is read from a tensor cannot be part of an exported graph
            both = torch.tensor([self.min_depth, self.max_depth], dtype=torch.float64, device="cpu")
            near, far = self._encode(both).tolist()
            self._ends = (near, far)
        return self._ends

    @abstractmethod
    def _encode(self, depth: Tensor) -> Tensor:
        """Encode a depth that lies in the range."""

    @abstractmethod
    def _decode(self, raw: Tensor) -> Tensor:
        """Decode a value that lies in the encoded range."""

    def extra_repr(self) -> str:
        return f"min_depth={self.min_depth:g}, max_depth={self.max_depth:g}"


class _Held(torch.autograd.Function):
    """A clamp to [low, high]; from outside only those gradients pass whose descent leads back."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(raw)
        ctx.ends = low, high
        return raw.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (raw,), (low, high), (gradient,) = ctx.saved_tensors, ctx.ends, gradients
        away = ((raw > high) & (gradient < 0)) | ((raw < low) & (gradient > 0))
        return gradient.masked_fill(away, 0), None, None
