"""Maps between metres and the space in which a network works.

The labels of a batch are always metres; the codec belongs to the method. Every codec works on a depth range
[min_depth, max_depth] in metres, clamps to it on both ways, and computes in float32 even under autocast.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mde.errors import ConfigError
from mde.masking import at_least_float32
from mde.rebuild import Rebuildable

__all__ = ["DepthCodec", "Disparity", "Linear", "Log", "Reciprocal"]


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

    def encode(self, depth: Tensor) -> Tensor:
        """Metres to network space; any shape. Depths outside the range (0 = unknown included) are clamped into it."""
        return self._encode(at_least_float32(depth).clamp(self.min_depth, self.max_depth))

    def decode(self, raw: Tensor) -> Tensor:
        """Network space to metres within [min_depth, max_depth]; any shape. NaN stays NaN."""
        raw = at_least_float32(raw)
        low, high = sorted(self.encoded_range)
        return self._decode(raw.clamp(low, high)).clamp(self.min_depth, self.max_depth)

    @property
    def encoded_range(self) -> tuple[float, float]:
        """Network-space values of min_depth and max_depth, in this order."""
        ends = self._encode(torch.tensor([self.min_depth, self.max_depth], dtype=torch.float64, device="cpu")).tolist()
        return ends[0], ends[1]

    @abstractmethod
    def _encode(self, depth: Tensor) -> Tensor:
        """Encode a depth that lies in the range."""

    @abstractmethod
    def _decode(self, raw: Tensor) -> Tensor:
        """Decode a value that lies in the encoded range."""

    def extra_repr(self) -> str:
        return f"min_depth={self.min_depth:g}, max_depth={self.max_depth:g}"


class Linear(DepthCodec):
    """y = d / max_depth: 1 is the far end.

    >>> Linear(0.1, 10.0).encode(torch.tensor([5.0]))
    tensor([0.5000])
    """

    def _encode(self, depth: Tensor) -> Tensor:
        return depth / self.max_depth

    def _decode(self, raw: Tensor) -> Tensor:
        return raw * self.max_depth


class Log(DepthCodec):
    """y = ln(d / min) / ln(max / min): equal steps are equal ratios; 0 is the near end, 1 the far end.

    >>> Log(1.0, 100.0).encode(torch.tensor([10.0]))
    tensor([0.5000])
    """

    def _encode(self, depth: Tensor) -> Tensor:
        return torch.log(depth / self.min_depth) / math.log(self.max_depth / self.min_depth)

    def _decode(self, raw: Tensor) -> Tensor:
        return self.min_depth * torch.exp(raw * math.log(self.max_depth / self.min_depth))


class Reciprocal(DepthCodec):
    """y = m / d with m = max_depth: from 1 (far end) to max / min (near end). DenseDepth; paper 3 after eq. 4.

    >>> Reciprocal(0.1, 10.0).encode(torch.tensor([0.1, 2.0, 10.0]))
    tensor([100.,   5.,   1.])
    """

    def _encode(self, depth: Tensor) -> Tensor:
        return self.max_depth / depth

    def _decode(self, raw: Tensor) -> Tensor:
        return self.max_depth / raw


class Disparity(DepthCodec):
    """y from 0 (far end) to 1 (near end), linear in 1/d, as a sigmoid gives it (monodepth2).

    >>> Disparity(0.1, 100.0).decode(torch.tensor([0.0, 1.0]))
    tensor([100.0000,   0.1000])
    """

    def _encode(self, depth: Tensor) -> Tensor:
        return (1 / depth - 1 / self.max_depth) / (1 / self.min_depth - 1 / self.max_depth)

    def _decode(self, raw: Tensor) -> Tensor:
        return 1 / (1 / self.max_depth + (1 / self.min_depth - 1 / self.max_depth) * raw)
