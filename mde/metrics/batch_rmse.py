"""Paper 1's RMSE: the mean over batches, not over images."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from mde.masking import fill
from mde.metrics.functional import require_counts

__all__ = ["BatchRMSE"]


class BatchRMSE(Metric):
    """Mean over batches of the RMSE of all pixels of the batch, as the code of paper 1 has it (batches of 16).

    It depends on the size and the order of the batches, the last of which weighs as much as a whole one; several
    processes have batches of their own. To be compared with paper 1's number and nothing else.

    >>> metric = BatchRMSE()
    >>> truth = torch.ones(2, 1, 4, 4)
    >>> for error in (1.0, 3.0):
    ...     metric.update(truth + error, truth, truth > 0)
    >>> metric.compute().item()
    2.0
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    total: Tensor
    batches: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("batches", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, pred: Tensor, target: Tensor, valid: Tensor, counts: Tensor | None = None) -> None:
        """Add a batch; one without a valid pixel is left out.

        Args:
            pred: (B,1,H,W), any unit; garbage allowed outside `valid`.
            target: (B,1,H,W), the same unit.
            valid: bool (B,1,H,W).
            counts: bool (B,), False leaves an image out.
        """
        used = valid if counts is None else valid & require_counts(counts, len(pred)).view(-1, 1, 1, 1)
        squares = fill((pred.detach() - target).double() ** 2, used)
        pixels = used.sum()
        # new tensors: those made under inference mode could not be changed in place outside of it
        self.total = self.total + (squares.sum() / pixels.clamp(min=1)).sqrt()
        self.batches = self.batches + (pixels > 0)

    def compute(self) -> Tensor:
        """The mean, a float64 scalar in the unit of the maps; NaN while no batch counted."""
        return self.total / self.batches
