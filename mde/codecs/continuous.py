"""Codecs of one number per pixel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mde.codecs.base import DepthCodec

__all__ = ["Disparity", "Linear", "Log", "LogMetres", "Metres", "Reciprocal"]


class Metres(DepthCodec):
    """y = d: the network says metres (paper 1).

    >>> Metres(0.1, 20.0).decode(torch.tensor([-1.0, 5.0]))
    tensor([0.1000, 5.0000])
    """

    def _encode(self, depth: Tensor) -> Tensor:
        return depth

    def _decode(self, raw: Tensor) -> Tensor:
        return raw


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


class LogMetres(DepthCodec):
    """y = ln d: the network says the logarithm of metres (Eigen et al. 2014), 0 at one metre.

    `Log` spans the same space in other units, which a gradient feels: its y is smaller by ln(max / min), and published
    learning rates of plain gradient descent would act with the square of that.

    >>> LogMetres(0.1, 10.0).decode(torch.tensor([-9.0, 0.0]))
    tensor([0.1000, 1.0000])
    """

    def _encode(self, depth: Tensor) -> Tensor:
        return torch.log(depth)

    def _decode(self, raw: Tensor) -> Tensor:
        return torch.exp(raw)


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
