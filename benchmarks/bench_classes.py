"""Depth as classes at 420x800, 71 of them, batch 3: the loss at full resolution, and encoding, against torch's own way.

Run: python -m benchmarks.bench_classes
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import Row, alternate, parser, report
from mde.codecs import Discretized
from mde.losses import class_cross_entropy


def usual(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Enlarge all class maps, then torch's cross-entropy."""
    large = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(large, torch.where(valid, target, -100)[:, 0], ignore_index=-100)


def step(loss: Callable[[Tensor, Tensor, Tensor], Tensor], *inputs: Tensor) -> None:
    logits = inputs[0].detach().requires_grad_()
    loss(logits, *inputs[1:]).backward()


def main(argv: Sequence[str] | None = None) -> int:
    quick = parser(__doc__ or "").parse_args(argv).quick
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch, size, cells = (1, (42, 80), (6, 10)) if quick else (3, (420, 800), (53, 100))
    codec = Discretized("sid", 71, 1.0, 80.0)
    depth = 80 * torch.rand(batch, 1, *size)
    inputs = torch.randn(batch, 71, *cells), codec.encode(depth), depth > 4
    edges = codec.edges[1:-1].float()
    seconds = alternate(
        {
            "ours": lambda: step(class_cross_entropy, *inputs),
            "usual": lambda: step(usual, *inputs),
            "encode": lambda: codec.encode(depth),
            "bucketize": lambda: torch.bucketize(depth, edges, right=True),
        },
        1 if quick else 9,
    )
    rows = [
        Row("loss, forward and backward", "interpolate and cross_entropy", seconds["ours"] / seconds["usual"], 0.3),
        Row("depth to classes, in float64", "torch.bucketize", seconds["encode"] / seconds["bucketize"]),
    ]
    return report("classes", rows, quick=quick)


if __name__ == "__main__":
    sys.exit(main())
