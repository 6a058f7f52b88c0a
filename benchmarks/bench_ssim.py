"""The SSIM loss, forward and backward, against the forms that others use; values and gradients are compared first.

Each reference is met with its own padding: kornia and DenseDepth without one, torchmetrics with reflection.

Run: python -m benchmarks.bench_ssim
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import kornia
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from benchmarks.harness import Row, alternate, parser, report
from mde.losses import l1_loss, ssim_loss

Loss = Callable[[Tensor, Tensor], Tensor]

# goals as ratios of CPU time
GOALS = {"kornia": 0.3, "torchmetrics": 0.05, "DenseDepth": 0.02}
SIZES = ((2, 240, 320), (4, 480, 640))


def ours(padding: str, masked: bool = False) -> Loss:
    """The library's loss; `masked` has a corner of each picture invalid."""

    def loss(pred: Tensor, target: Tensor) -> Tensor:
        valid = torch.ones_like(target, dtype=torch.bool)
        valid[..., :20, :20] = not masked
        return ssim_loss(pred, target, valid, data_range=1.0, padding=padding)

    return loss


def kornia_loss(pred: Tensor, target: Tensor) -> Tensor:
    value: Tensor = kornia.losses.ssim_loss(pred, target, 11, max_val=1.0, padding="valid")
    return value


def torchmetrics_loss(pred: Tensor, target: Tensor) -> Tensor:
    similarity = structural_similarity_index_measure(pred, target, data_range=1.0)
    assert isinstance(similarity, Tensor)
    return (1 - similarity) / 2


def five_convolutions(pred: Tensor, target: Tensor) -> Tensor:
    """The formula as DenseDepth's port computes it: one 11x11 convolution of one channel for each of five moments."""
    line = torch.exp(-((torch.arange(11.0) - 5) ** 2) / (2 * 1.5**2))
    kernel = (torch.outer(line, line) / line.sum() ** 2)[None, None]
    m, n = F.conv2d(pred, kernel), F.conv2d(target, kernel)
    p = F.conv2d(pred * pred, kernel) - m * m
    q = F.conv2d(target * target, kernel) - n * n
    c = F.conv2d(pred * target, kernel) - m * n
    similarity = (2 * m * n + 0.01**2) * (2 * c + 0.03**2) / ((m * m + n * n + 0.01**2) * (p + q + 0.03**2))
    return ((1 - similarity) / 2).clamp(0, 1).mean()


def plain_l1(pred: Tensor, target: Tensor) -> Tensor:
    return l1_loss(pred, target, torch.ones_like(target, dtype=torch.bool))


def value_and_gradient(loss: Loss, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One forward and backward pass, as a training step has it."""
    pred = pred.detach().requires_grad_()
    value = loss(pred, target)
    torch.autograd.backward(value)
    assert pred.grad is not None
    return value.detach(), pred.grad


def disagreement(loss: Loss, reference: Loss, pred: Tensor, target: Tensor) -> tuple[float, float]:
    """Absolute difference of the values, and largest difference of the gradients relative to the largest gradient."""
    (value, gradient), (expected, wanted) = (value_and_gradient(f, pred, target) for f in (loss, reference))
    return float((value - expected).abs()), float((gradient - wanted).abs().max() / wanted.abs().max())


def saved_maps(loss: Loss, pred: Tensor, target: Tensor) -> float:
    """Memory that autograd keeps for the backward pass, in maps of the size and type of `pred`."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = loss(pred.detach().requires_grad_(), target)
    del value
    return sum(kept.values()) / (pred.numel() * pred.element_size())


def measure(shape: tuple[int, int, int], repeats: int) -> list[Row]:
    """All rows of one size."""
    batch, height, width = shape
    size = f"b{batch} {height}x{width}"
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(batch, 1, height, width, generator=generator)
    pred = target + 0.2 * torch.randn(target.shape, generator=generator)
    references: dict[str, tuple[Loss, str]] = {
        "kornia": (kornia_loss, "valid"),
        "torchmetrics": (torchmetrics_loss, "same"),
        "DenseDepth": (five_convolutions, "valid"),
    }
    losses: dict[str, Loss] = {name: loss for name, (loss, _) in references.items()}
    losses |= {"ours valid": ours("valid"), "ours same": ours("same"), "ours masked": ours("valid", masked=True)}
    losses["plain L1"] = plain_l1
    calls = {name: (lambda loss=loss: value_and_gradient(loss, pred, target)) for name, loss in losses.items()}
    seconds = alternate(calls, repeats)
    rows = []
    for name, (loss, padding) in references.items():
        value, gradient = disagreement(losses[f"ours {padding}"], loss, pred, target)
        # both are float32 and round differently; a wrong formula is off by far more
        if value > 1e-5 or gradient > 1e-3:
            raise SystemExit(f"{size}: not the loss of {name}: value off by {value:.1e}, gradient by {gradient:.1e}")
        ratio = seconds[f"ours {padding}"] / seconds[name]
        note = f"padding {padding}; value differs by {value:.0e}, gradient by {gradient:.0e}"
        rows.append(Row(f"ssim fwd+bwd {size}", name, ratio, GOALS[name], note=note))
    masked = seconds["ours masked"] / seconds["ours valid"]
    rows.append(Row(f"ssim with a partial mask {size}", "the full mask", masked, 1.5))
    rows.append(Row(f"ssim fwd+bwd {size}", "plain L1", seconds["ours valid"] / seconds["plain L1"]))
    maps = {name: saved_maps(loss, pred, target) for name, loss in losses.items()}
    note = f"kornia {maps['kornia']:.1f}, torchmetrics {maps['torchmetrics']:.1f}, DenseDepth {maps['DenseDepth']:.1f}"
    rows.append(Row(f"ssim saved for backward {size}", "one map", maps["ours valid"], 1.1, note=note))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    args = parser(__doc__ or "").parse_args(argv)
    if args.quick:
        return report("ssim", measure((1, 24, 32), repeats=1), quick=True)
    rows = [row for shape in SIZES for row in measure(shape, repeats=7)]
    return report("ssim", rows, quick=False)


if __name__ == "__main__":
    sys.exit(main())
