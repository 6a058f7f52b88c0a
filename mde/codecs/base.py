"""What every codec promises."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

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
        """As `decode`, for losses on metres: what lies outside the range is clamped, yet its gradient passes.

        Behind a plain clamp an output that left the range would never be trained to come back. The gradient outside is
        that at the end of the range (a straight-through estimator).
        """
        raw = at_least_float32(raw)
        low, high = sorted(self.encoded_range)
        # in this order the value is that of the clamp to the last bit, however far outside it was
        return self._decode(raw.detach().clamp(low, high) + (raw - raw.detach()))

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
