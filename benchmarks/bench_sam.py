"""SAM's encoder at SlimSAM-77's sizes and 1024 pixels, float32 on one core: our attention against transformers'.

Random weights, tables of positions included. Times are ratios of medians, in turn; the memory is what a process of its
own grows by at its peak in one pass.

Run: python -m benchmarks.bench_sam
"""

from __future__ import annotations

import math
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.harness import Row, alternate, parser, report
from mde.models import SamEncoder
from mde.models.encoders.sam_attention import BlockedAttention

KINDS = ("ours", "theirs")


def networks(image_size: int) -> dict[str, nn.Module]:
    """The same encoder with either attention."""
    from transformers import SamVisionModel

    ours = SamEncoder("slimsam-77", image_size=image_size).net.eval()
    torch.manual_seed(0)
    for name, parameter in ours.named_parameters():
        if "pos" in name:  # they start at 0, where any arithmetic is right
            nn.init.normal_(parameter, std=0.2)
    theirs = SamVisionModel(cast(Any, ours).config).eval()
    theirs.load_state_dict(ours.state_dict())
    return {"ours": ours, "theirs": theirs}


def layers(nets: dict[str, nn.Module], index: int) -> dict[str, nn.Module]:
    return {kind: net.get_submodule(f"vision_encoder.layers.{index}.attn") for kind, net in nets.items()}


@torch.no_grad()
def forward(net: nn.Module, x: Tensor) -> Tensor:
    out = net(x)
    return cast(Tensor, out[0] if isinstance(out, tuple) else out.last_hidden_state)


def backward(layer: nn.Module, x: Tensor) -> None:
    layer(x.detach().requires_grad_())[0].sum().backward()


def growth(kind: str, image_size: int) -> float:
    """Megabytes by which the peak of a fresh process grows in one pass."""
    command = [sys.executable, "-m", "benchmarks.bench_sam", "--peak", kind, "--size", str(image_size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak(kind: str, image_size: int) -> None:
    net, x = networks(image_size)[kind], torch.rand(1, 3, image_size, image_size)
    # the first call's one-time costs of kernels and threads belong to neither
    with torch.no_grad():
        nn.functional.scaled_dot_product_attention(*torch.rand(3, 1, 1, 8, 16))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    forward(net, x)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def difference(calls: dict[str, Callable[[], Tensor]]) -> float:
    found, expected = (calls[kind]() for kind in KINDS)
    return float((found - expected).abs().max() / expected.abs().max())


def measured(quick: bool) -> list[Row]:
    size = 256 if quick else 1024
    # first: a process begins with the peak of the one that starts it
    peaks = {kind: growth(kind, size) for kind in KINDS}
    nets, x = networks(size), torch.rand(1, 3, size, size)
    attention, tokens = layers(nets, 2), torch.randn(1, size // 16, size // 16, 168)
    assert isinstance(attention["ours"], BlockedAttention)
    whole = {kind: lambda net=net: forward(net, x) for kind, net in nets.items()}
    one = {f"{kind}, one": lambda net=net: forward(net, tokens) for kind, net in attention.items()}
    both = {f"{kind}, both": lambda net=net: backward(net, tokens) for kind, net in attention.items()}
    seconds = alternate(whole, 1 if quick else 5)
    seconds |= alternate({**one, **both}, 1 if quick else 2)
    gap = difference(cast(Any, whole))
    ratio = {what: seconds[f"ours{what}"] / seconds[f"theirs{what}"] for what in ("", ", one", ", both")}
    growths = peaks["ours"] / (peaks["theirs"] or math.nan)  # none, where the process that started these was larger
    return [
        Row("encoder, time", "transformers", ratio[""], 0.35, note=f"{seconds['theirs']:.1f} s there"),
        Row("encoder, growth of memory", "transformers", growths, 0.1, note=_megabytes(peaks)),
        Row("encoder, largest difference", "the largest value", gap, 1e-5),
        Row("one global attention, time", "transformers", ratio[", one"]),
        Row("one global attention, forward and backward", "transformers", ratio[", both"]),
    ]


def _megabytes(peaks: dict[str, float]) -> str:
    return f"{peaks['ours']:.0f} MB against {peaks['theirs']:.0f} MB"


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__ or "")
    options.add_argument("--peak", choices=KINDS, help="print the growth of one, for the process of its own")
    options.add_argument("--size", type=int, default=1024, help="of the picture, with --peak")
    chosen = options.parse_args(argv)
    torch.set_num_threads(1)
    if chosen.peak:
        print_peak(chosen.peak, chosen.size)
        return 0
    return report("sam", measured(chosen.quick), quick=chosen.quick)


if __name__ == "__main__":
    sys.exit(main())
