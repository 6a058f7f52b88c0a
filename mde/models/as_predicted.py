"""What a network of other authors says is scored as it is: no codec of ours between its output and the protocol."""

from __future__ import annotations

from torch import Tensor

from mde.codecs import DepthCodec
from mde.losses import DepthLoss, L1Loss
from mde.losses.scale_shift_invariant import ScaleShiftInvariantLoss
from mde.masking import at_least_float32
from mde.types import Ambiguity

__all__ = ["AsPredicted", "loss_for"]


class AsPredicted(DepthCodec):
    """The identity on the output: neither decoded nor clamped, because an alignment must see what the network said.

    `encode` gives the truth that such an output is trained on, metres or 1/metres. For a metric network the two are
    inverse to each other; a relative one has no way to metres, and `decode` keeps its unit.

    Args:
        min_depth: metres, above 0; labels are clamped to the range, predictions are not.
        max_depth: metres.
        disparity: the output is a disparity.

    >>> import torch
    >>> AsPredicted(0.1, 10.0, disparity=True).encode(torch.tensor([2.0]))
    tensor([0.5000])
    >>> AsPredicted(1.0, 2.0).decode(torch.tensor([9.0]))
    tensor([9.])
    """

    def __init__(self, min_depth: float, max_depth: float, disparity: bool = False) -> None:
        super().__init__(min_depth, max_depth)
        self.disparity = disparity

    def decode(self, raw: Tensor) -> Tensor:
        """The output itself, at least float32; any shape, in the unit of the network's ambiguity."""
        return at_least_float32(raw)

    def _encode(self, depth: Tensor) -> Tensor:
        return 1 / depth if self.disparity else depth

    def _decode(self, raw: Tensor) -> Tensor:
        return raw

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, disparity={self.disparity}"


def loss_for(ambiguity: Ambiguity) -> DepthLoss:
    """The loss that asks no more of a network than its ambiguity promises."""
    return L1Loss() if ambiguity is Ambiguity.METRIC else ScaleShiftInvariantLoss()
