"""Maps between metres and the space in which a network works.

The labels of a batch are always metres; the codec belongs to the method. Every codec works on a depth range
[min_depth, max_depth] in metres, clamps to it on both ways, and computes in float32 even under autocast.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mde.errors import ConfigError, nearest
from mde.masking import at_least_float32
from mde.rebuild import Rebuildable

__all__ = ["DECODERS", "DepthCodec", "Discretized", "Disparity", "Linear", "Log", "Metres", "Reciprocal"]


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

    def decode_through(self, raw: Tensor) -> Tensor:
        """As `decode`, for losses on metres: what lies outside the range is clamped, yet its gradient passes.

        Behind a plain clamp an output that left the range would never be trained to come back. The gradient outside is
        that at the end of the range (a straight-through estimator).
        """
        raw = at_least_float32(raw)
        low, high = sorted(self.encoded_range)
        return self._decode(raw + (raw.detach().clamp(low, high) - raw.detach()))

    @property
    def channels(self) -> int:
        """How many channels a network's output has."""
        return 1

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


DECODERS = ("midpoint", "geometric", "mean", "log_mean")
"""Ways from a posterior over classes to one depth; see `Discretized.decode`."""
_TIE = 1e-12  # in bins: above the rounding of the logarithm, far below what float32 can tell apart


class Discretized(DepthCodec):
    """Depth as one of `bins` classes: `encode` gives class numbers, `decode` takes logits.

    "sid", spacing-increasing discretization: edges t_i = exp(ln a + i/K ln(b/a)) - shift with a = alpha + shift and
    b = beta + shift, so that all bins have the same relative width (Fu et al., "Deep Ordinal Regression Network",
    CVPR 2018, section 3.2, who shift so that a = 1). "uniform": edges a + i/K (b - a).

    Args:
        kind: "sid" or "uniform".
        bins: number of classes K.
        alpha: nearest edge, metres.
        beta: farthest edge, metres.
        shift: metres, added before the logarithm and taken off after; 0.999 with ``alpha=0.001`` is DORN's.
        how: the way of `decode` when it is not told another.

    Attributes:
        edges: float64 (K+1,), metres, on the CPU.

    Raises:
        ConfigError: an unknown kind or way, fewer than two bins, or edges that are not above 0.

    >>> codec = Discretized("sid", 4, 1.0, 16.0)
    >>> codec.edges.tolist()
    [1.0, 2.0, 4.0, 8.0, 16.0]
    >>> codec.encode(torch.tensor([1.0, 1.9, 2.0, 16.0, 500.0])).tolist()
    [0, 0, 1, 3, 3]
    """

    def __init__(
        self,
        kind: str = "sid",
        bins: int = 71,
        alpha: float = 1.0,
        beta: float = 80.0,
        shift: float = 0.0,
        how: str = "midpoint",
    ) -> None:
        super().__init__(alpha, beta)
        if kind not in ("sid", "uniform"):
            raise ConfigError(f"unknown discretization {kind!r}", where="codec.kind", next_action="use sid or uniform")
        if bins < 2 or alpha + shift <= 0:
            what = f"needs at least 2 bins and alpha + shift above 0, got {bins} and {alpha + shift:g}"
            raise ConfigError(what, where="codec", next_action="give more bins or a larger alpha or shift")
        self.kind, self.bins, self.shift, self.how = kind, int(bins), float(shift), _known_way(how)
        # float64 on the CPU whatever the default device and dtype: the closed form below must agree with them exactly
        steps = torch.arange(bins + 1, dtype=torch.float64, device="cpu") / bins
        low, high = alpha + shift, beta + shift
        edges = alpha + steps * (beta - alpha) if kind == "uniform" else low * (high / low) ** steps - shift
        edges[0], edges[-1] = alpha, beta
        self.edges = edges  # no buffer: .half() and 16-bit training must not round it

    @property
    def encoded_range(self) -> tuple[float, float]:
        """First and last class."""
        return 0.0, self.bins - 1.0

    def encode(self, depth: Tensor) -> Tensor:
        """Class of each depth, int64 of the same shape: the number i with edges[i] <= depth < edges[i + 1].

        Args:
            depth: metres, any shape; what lies outside the range goes to the first or last class.
        """
        depth = depth.double().clamp(self.min_depth, self.max_depth)
        low, high = self.min_depth + self.shift, self.max_depth + self.shift
        if self.kind == "uniform":
            position = (depth - self.min_depth) / (self.max_depth - self.min_depth)
        else:
            position = torch.log((depth + self.shift) / low) / math.log(high / low)
        return (position * self.bins + _TIE).long().clamp_(0, self.bins - 1)

    def centres(self, how: str | None = None) -> Tensor:
        """Depth that stands for each class, float32 (K,), metres.

        Args:
            how: "midpoint" or "mean": (t_i + t_{i+1}) / 2, DORN's; "geometric" or "log_mean": sqrt of the product.
        """
        near, far = self.edges[:-1], self.edges[1:]
        if _known_way(how or self.how) in ("midpoint", "mean"):
            return ((near + far) / 2).float()
        return (torch.sqrt((near + self.shift) * (far + self.shift)) - self.shift).float()

    def decode(self, raw: Tensor, how: str | None = None) -> Tensor:
        """Logits to metres.

        Args:
            raw: (B,K,H,W), logits.
            how: "midpoint": arithmetic middle of the likeliest bin. "geometric": its geometric middle. "mean":
                expectation of the depth under the posterior. "log_mean": exp of the expectation of the logarithm.

        Returns:
            (B,1,H,W), metres.

        Raises:
            ConfigError: the logits have another number of classes.
        """
        raw = self._checked(raw)
        way, centres = _known_way(how or self.how), self.centres(how).to(raw)
        if way in ("midpoint", "geometric"):
            found = centres[raw.argmax(1, keepdim=True)]
            return torch.where(raw.isnan().any(1, keepdim=True), raw.new_tensor(math.nan), found)
        weights = raw.softmax(1)
        if way == "mean":
            return torch.einsum("bkhw,k->bhw", weights, centres)[:, None]
        logs = torch.log(centres + self.shift)
        return torch.exp(torch.einsum("bkhw,k->bhw", weights, logs))[:, None] - self.shift

    def decode_through(self, raw: Tensor) -> Tensor:
        """The expectation, which has a gradient where the likeliest class has none: of the logarithm for "sid"."""
        return self.decode(raw, "log_mean" if self.kind == "sid" else "mean")

    @property
    def channels(self) -> int:
        return self.bins

    def uncertainty(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """How sure the posterior is.

        Args:
            raw: (B,K,H,W), logits.

        Returns:
            Standard deviation of the depth in metres and entropy in nats (0 to ln K), each (B,1,H,W).
        """
        raw = self._checked(raw)
        logs = raw.log_softmax(1)
        weights, centres = logs.exp(), self.centres("mean").to(raw)
        mean = torch.einsum("bkhw,k->bhw", weights, centres)[:, None]
        variance = (weights * (centres.view(1, -1, 1, 1) - mean) ** 2).sum(1, keepdim=True)
        return variance.sqrt(), -(weights * logs).sum(1, keepdim=True)

    def _checked(self, raw: Tensor) -> Tensor:
        if raw.ndim != 4 or raw.shape[1] != self.bins:
            what = f"expected logits (B,{self.bins},H,W), got {tuple(raw.shape)}"
            raise ConfigError(what, where="Discretized.decode", next_action="give the head as many outputs as bins")
        return at_least_float32(raw)

    def _encode(self, depth: Tensor) -> Tensor:
        return self.encode(depth)

    def _decode(self, raw: Tensor) -> Tensor:
        return self.decode(raw)

    def extra_repr(self) -> str:
        return f"{self.kind}, bins={self.bins}, {super().extra_repr()}, shift={self.shift:g}, how={self.how}"


def _known_way(how: str) -> str:
    if how not in DECODERS:
        raise ConfigError(
            f"unknown way to decode {how!r}", where="how", next_action=f"nearest: {nearest(how, DECODERS)}"
        )
    return how
