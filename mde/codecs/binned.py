"""Depth as intervals: what codecs of classes and of ordered questions share, and the classes."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from mde.codecs.base import DepthCodec
from mde.errors import ConfigError, nearest
from mde.masking import at_least_float32

__all__ = ["DECODERS", "Binned", "Discretized"]

DECODERS = ("midpoint", "geometric", "mean", "log_mean")
"""Ways from probabilities of intervals to one depth; see `Binned.decode`."""
_TIE = 1e-12  # in bins: above the rounding of the logarithm, far below what float32 can tell apart
_LEAST = 1e-5  # probability, below which the logarithm of a given posterior is cut


class Binned(DepthCodec):
    """Depth as the number of one of `bins` intervals; what a network says of them is the subclass's.

    "sid", spacing-increasing discretization: edges t_i = exp(ln a + i/K ln(b/a)) - shift with a = alpha + shift and
    b = beta + shift, so that all bins have the same relative width (Fu et al., "Deep Ordinal Regression Network",
    CVPR 2018, section 3.2, who shift so that a = 1). "uniform": edges a + i/K (b - a).

    Args:
        kind: "sid" or "uniform".
        bins: number of intervals K.
        alpha: nearest edge, metres.
        beta: farthest edge, metres.
        shift: metres, added before the logarithm and taken off after; 0.999 with ``alpha=0.001`` is DORN's.
        how: the way of `decode` when it is not told another.

    Attributes:
        edges: float64 (K+1,), metres, on the CPU.

    Raises:
        ConfigError: an unknown kind or way, fewer than two bins, or edges that are not above 0.
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
            how: "midpoint" or "mean": (t_i + t_{i+1}) / 2, as in DORN's paper; "geometric" or "log_mean": sqrt of the
                product, the middle of the logarithms, as in DORN's own code.
        """
        near, far = self.edges[:-1], self.edges[1:]
        if _known_way(how or self.how) in ("midpoint", "mean"):
            return ((near + far) / 2).float()
        return (torch.sqrt((near + self.shift) * (far + self.shift)) - self.shift).float()

    def decode(self, raw: Tensor, how: str | None = None) -> Tensor:
        """Logits to metres.

        Args:
            raw: (B,C,H,W), logits, C = `channels`.
            how: "midpoint": arithmetic middle of the chosen bin. "geometric": its geometric middle. "mean": expectation
                of the depth. "log_mean": exp of the expectation of the logarithm.

        Returns:
            (B,1,H,W), metres; NaN where a logit is NaN.

        Raises:
            ConfigError: the logits have another number of channels.
        """
        raw = self._checked(raw)
        way, centres = _known_way(how or self.how), self.centres(how).to(raw)
        if way in ("midpoint", "geometric"):
            found = centres[self._chosen(raw)]
            return torch.where(raw.isnan().any(1, keepdim=True), raw.new_tensor(math.nan), found)
        if way == "mean":
            return self._expectation(raw, centres)
        return torch.exp(self._expectation(raw, torch.log(centres + self.shift))) - self.shift

    def decode_through(self, raw: Tensor) -> Tensor:
        """The expectation, which has a gradient where a chosen bin has none: of the logarithm for "sid"."""
        return self.decode(raw, "log_mean" if self.kind == "sid" else "mean")

    def uncertainty(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """How sure the posterior is.

        Args:
            raw: (B,C,H,W), logits.

        Returns:
            Standard deviation of the depth in metres and entropy in nats (0 to ln K), each (B,1,H,W).
        """
        logs = self.log_posterior(raw)
        weights, centres = logs.exp(), self.centres("mean").to(logs)
        mean = mean_of(weights, centres)
        variance = (weights * (centres.view(1, -1, 1, 1) - mean) ** 2).sum(1, keepdim=True)
        return variance.sqrt(), -(weights * logs).sum(1, keepdim=True)

    @abstractmethod
    def log_posterior(self, raw: Tensor) -> Tensor:
        """Logits (B,C,H,W) to the logarithm of the probability of each bin, (B,K,H,W)."""

    @abstractmethod
    def of_posterior(self, posterior: Tensor) -> Tensor:
        """Logits (B,C,H,W) of given probabilities of the bins, (B,K,H,W), cut at 1e-5."""

    @abstractmethod
    def _chosen(self, raw: Tensor) -> Tensor:
        """Class that the logits decide for, int64 (B,1,H,W)."""

    @abstractmethod
    def _expectation(self, raw: Tensor, values: Tensor) -> Tensor:
        """Mean of a value per bin (K,) under the logits' probabilities, (B,1,H,W)."""

    def _checked(self, raw: Tensor) -> Tensor:
        if raw.ndim != 4 or raw.shape[1] != self.channels:
            name = type(self).__name__
            what = f"{name} of {self.bins} bins takes logits (B,{self.channels},H,W), got {tuple(raw.shape)}"
            hint = f"give the head {self.channels} outputs, the codec's channels"
            raise ConfigError(what, where=f"{name}.decode", next_action=hint)
        return at_least_float32(raw)

    def _encode(self, depth: Tensor) -> Tensor:
        return self.encode(depth)

    def _decode(self, raw: Tensor) -> Tensor:
        return self.decode(raw)

    def extra_repr(self) -> str:
        return f"{self.kind}, bins={self.bins}, {super().extra_repr()}, shift={self.shift:g}, how={self.how}"


class Discretized(Binned):
    """Depth as one of `bins` classes: `encode` gives class numbers, `decode` takes a logit for each class.

    The arguments are those of `Binned`.

    >>> codec = Discretized("sid", 4, 1.0, 16.0)
    >>> codec.edges.tolist()
    [1.0, 2.0, 4.0, 8.0, 16.0]
    >>> codec.encode(torch.tensor([1.0, 1.9, 2.0, 16.0, 500.0])).tolist()
    [0, 0, 1, 3, 3]
    """

    @property
    def channels(self) -> int:
        return self.bins

    def log_posterior(self, raw: Tensor) -> Tensor:
        return self._checked(raw).log_softmax(1)

    def of_posterior(self, posterior: Tensor) -> Tensor:
        return posterior.clamp(min=_LEAST).log()

    def _chosen(self, raw: Tensor) -> Tensor:
        return raw.argmax(1, keepdim=True)

    def _expectation(self, raw: Tensor, values: Tensor) -> Tensor:
        return mean_of(raw.softmax(1), values)


def mean_of(weights: Tensor, values: Tensor) -> Tensor:
    """Sum of `values` (K,) by `weights` (B,K,H,W), (B,1,H,W), in their precision also under autocast."""
    with torch.autocast(weights.device.type, enabled=False):
        return torch.einsum("bkhw,k->bhw", weights, values)[:, None]


def _known_way(how: str) -> str:
    if how not in DECODERS:
        raise ConfigError(
            f"unknown way to decode {how!r}", where="how", next_action=f"nearest: {nearest(how, DECODERS)}"
        )
    return how
