"""Reductions over valid pixels, in float32. The only place of the library where such a mean is written.

Two rules make a masked loss safe. First, values under the mask are replaced *before* any arithmetic (`fill`): a NaN
that is only multiplied by zero afterwards still poisons the gradient. Second, an empty mask gives a zero that is
connected to the graph, so that a batch without ground truth neither stops training nor moves the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["at_least_float32", "fill", "masked_mean", "masked_mean_per_image", "masked_sum"]


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 stay as they are.

    >>> at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return values if values.dtype == torch.float64 else values.float()


def fill(values: Tensor, valid: Tensor, value: float = 0.0) -> Tensor:
    """Replace what lies outside the mask, also in the gradient.

    Args:
        values: (B,C,H,W), any unit; garbage, NaN and infinity allowed outside the mask.
        valid: bool, broadcastable to `values`.
        value: what to write there.

    >>> fill(torch.tensor([1.0, float("nan")]), torch.tensor([True, False]))
    tensor([1., 0.])
    """
    return torch.where(valid, values, torch.full((), value, dtype=values.dtype, device=values.device))


def masked_sum(values: Tensor, valid: Tensor) -> Tensor:
    """Sum of `values` over the mask, float32 (float64 stays float64); a scalar."""
    return fill(at_least_float32(values), valid).sum()


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of `values` over the mask; a scalar. An empty mask gives a graph-connected 0.

    Args:
        values: (B,C,H,W), any unit.
        valid: bool, broadcastable to `values`; one True counts once per element of `values` that it covers.

    >>> masked_mean(torch.tensor([1.0, 3.0, 99.0]), torch.tensor([True, True, False]))
    tensor(2.)
    """
    count = valid.expand_as(values).sum().clamp(min=1)
    return masked_sum(values, valid) / count


def masked_mean_per_image(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the mask of each image, (B,); an image without a valid pixel gives 0.

    Args:
        values: (B,C,H,W), any unit.
        valid: bool, broadcastable to `values`.
    """
    mask = valid.expand_as(values).flatten(1)
    total = fill(at_least_float32(values).flatten(1), mask).sum(1)
    return total / mask.sum(1).clamp(min=1)
