"""Depth as answers to ordered questions: is it beyond the first bin, beyond the second, …?"""

from __future__ import annotations

import torch
from torch import Tensor

from mde.codecs.binned import Binned, mean_of

__all__ = ["Ordinal"]

_LEAST = 1e-5  # probability, below which the logit of a given posterior is cut
_TINY = 1e-12  # of a bin, so that its logarithm exists


class Ordinal(Binned):
    """Ordinal regression: for each of K bins a network says whether the depth lies beyond it.

    H. Fu et al., "Deep Ordinal Regression Network for Monocular Depth Estimation", CVPR 2018, section 3.3. A pair of
    logits for each bin, their softmax is P_k = P(class > k); the channels 2k and 2k + 1 are "no" and "yes". Only their
    difference counts, so ``pairs=False``, one logit and a sigmoid, says the same with half the channels.

    `encode` gives the class as `Discretized` does. "midpoint" and "geometric" count the P_k of at least one half, and
    their number is the class. "mean" and "log_mean" take the expectation, c_0 + sum of P_k (c_{k+1} - c_k) over the
    centres c. The last question, whether the depth lies beyond the last bin, is trained as in the paper and always
    answered no; no decode asks it.

    Nothing makes the P_k fall with k. Neither the count nor the expectation needs that: the count never looks at the
    order, and the expectation stays within the centres whatever the P_k are. Where probabilities of bins are wanted
    (`log_posterior`, `uncertainty`, a field), the P_k are sorted first, which leaves the count as it was
    (V. Chernozhukov et al., "Improving point and interval estimators of monotone functions by rearrangement", 2009).

    Args:
        kind: "sid" or "uniform"; this and the others as of `Binned`.
        bins: number of bins K.
        alpha: nearest edge, metres.
        beta: farthest edge, metres.
        shift: metres; 0.999 with ``alpha=0.001`` is DORN's.
        how: the way of `decode` when it is not told another.
        pairs: two logits for each bin, as in the paper, or one.

    >>> codec = Ordinal("sid", 4, 1.0, 16.0, pairs=False)
    >>> codec.decode(torch.tensor([9.0, 9.0, -9.0, -9.0]).view(1, 4, 1, 1)).item()  # beyond 2 and 4 metres, not 8
    6.0
    """

    def __init__(
        self,
        kind: str = "sid",
        bins: int = 71,
        alpha: float = 1.0,
        beta: float = 80.0,
        shift: float = 0.0,
        how: str = "midpoint",
        pairs: bool = True,
    ) -> None:
        super().__init__(kind, bins, alpha, beta, shift, how)
        self.pairs = pairs

    @property
    def channels(self) -> int:
        return 2 * self.bins if self.pairs else self.bins

    def margins(self, raw: Tensor) -> Tensor:
        """How much rather yes than no: the logits of P_k, (B,K,H,W).

        Args:
            raw: (B,C,H,W), logits, C = `channels`.

        Raises:
            ConfigError: the logits have another number of channels.
        """
        raw = self._checked(raw)
        return raw[:, 1::2] - raw[:, ::2] if self.pairs else raw

    def log_posterior(self, raw: Tensor) -> Tensor:
        above = self._above(raw).sort(1, descending=True).values
        one, zero = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
        return (torch.cat((one, above), 1) - torch.cat((above, zero), 1)).clamp(min=_TINY).log()

    def of_posterior(self, posterior: Tensor) -> Tensor:
        above = posterior.flip(1).cumsum(1).flip(1)[:, 1:]
        margins = torch.logit(torch.cat((above, torch.zeros_like(above[:, :1])), 1), _LEAST)
        return torch.stack((-margins / 2, margins / 2), 2).flatten(1, 2) if self.pairs else margins

    def _chosen(self, raw: Tensor) -> Tensor:
        return (self.margins(raw)[:, :-1] >= 0).sum(1, keepdim=True)

    def _expectation(self, raw: Tensor, values: Tensor) -> Tensor:
        return values[0] + mean_of(self._above(raw), values.diff())

    def _above(self, raw: Tensor) -> Tensor:
        """P_k without the last, (B,K-1,H,W)."""
        return self.margins(raw)[:, :-1].sigmoid()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, pairs={self.pairs}"
