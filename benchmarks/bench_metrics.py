"""Evaluation per picture: `DepthMetrics.update` against the usual NumPy loop and against torchmetrics.

The NumPy loop is the evaluator that depth papers share (BTS, AdaBins, ZoeDepth), written anew from its formulas: range
and NaN handling on the whole map, a boolean mask and crop, a boolean gather, then nine errors with a mean each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torchmetrics
from numpy.typing import NDArray

from benchmarks.harness import Row, alternate, parser, report
from mde.metrics import DepthMetrics
from mde.protocol import EvalProtocol, get_protocol

# name, protocol, map, share of measured pixels, goal
CASES = (
    ("NYU 480x640 dense", "nyu_eigen_filled", (480, 640), 1.0, 0.45),
    ("NYU 480x640, 15 % holes", "nyu_eigen", (480, 640), 0.85, None),
    ("KITTI 375x1242, 5 % measured", "kitti_eigen_garg_80", (375, 1242), 0.05, 0.40),
    ("KITTI 375x1242, 17 % measured", "kitti_eigen_garg_80", (375, 1242), 0.17, 0.40),
)
TORCHMETRICS_GOAL = 0.2
BATCH = 8

Map = NDArray[np.float32]
Maps = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def numpy_loop(pred: Map, gt: Map, protocol: EvalProtocol) -> dict[str, float]:
    """Nine errors of one picture, (H,W) each, the way evaluators are usually written."""
    low, high = protocol.min_depth, protocol.max_depth
    pred = pred.copy()
    pred[pred < low] = low
    pred[pred > high] = high
    pred[np.isinf(pred)] = high
    pred[np.isnan(pred)] = low
    valid = np.logical_and(gt > low, gt < high)
    top, bottom, left, right = protocol.window(*gt.shape)
    crop = np.zeros(valid.shape)
    crop[top:bottom, left:right] = 1
    valid = np.logical_and(valid, crop)
    return nine_errors(pred[valid], gt[valid])


def nine_errors(p: Map, g: Map) -> dict[str, float]:
    ratio = np.maximum(g / p, p / g)
    difference = np.log(p) - np.log(g)
    errors = {f"delta{k}": (ratio < 1.25**k).mean() for k in (1, 2, 3)}
    errors["rmse"] = np.sqrt(((g - p) ** 2).mean())
    errors["rmse_log"] = np.sqrt(((np.log(g) - np.log(p)) ** 2).mean())
    errors["abs_rel"] = np.mean(np.abs(g - p) / g)
    errors["sq_rel"] = np.mean((g - p) ** 2 / g)
    errors["silog"] = 100 * np.sqrt(np.mean(difference**2) - np.mean(difference) ** 2)
    errors["log10"] = np.abs(np.log10(p) - np.log10(g)).mean()
    return {name: float(value) for name, value in errors.items()}


def maps(shape: tuple[int, int], share: float, top: float, seed: int) -> Maps:
    """A prediction, a truth (metres, 0 where unknown) and its mask, (B,1,H,W)."""
    generator = torch.Generator().manual_seed(seed)
    size = (BATCH, 1, *shape)
    truth = torch.rand(size, generator=generator) * 0.95 * top + 0.02 * top
    pred = truth * (0.2 * torch.randn(size, generator=generator)).exp()
    valid = torch.rand(size, generator=generator) < share
    return pred, torch.where(valid, truth, 0.0), valid


def check(pred: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor, protocol: EvalProtocol) -> None:
    """Both must give the same numbers, and those of a float64 evaluation."""
    metric = DepthMetrics(protocol)
    metric.update(pred, truth, valid)
    ours = metric.compute()
    for dtype in (np.float32, np.float64):
        images = [numpy_loop(p.astype(dtype), g.astype(dtype), protocol) for p, g in pictures(pred, truth)]
        for name in images[0]:
            theirs = float(np.mean([image[name] for image in images]))
            # float64 arithmetic sees thresholds exactly: a pixel on one may fall on the other side
            if abs(ours[name].item() - theirs) > 1e-6 * max(1.0, abs(theirs)):
                raise SystemExit(f"{name} differs: {ours[name].item()} against {theirs} in {np.dtype(dtype).name}")


def pictures(pred: torch.Tensor, truth: torch.Tensor) -> list[tuple[Map, Map]]:
    return [(p[0].numpy(), g[0].numpy()) for p, g in zip(pred, truth, strict=True)]


def against_numpy(repeats: int) -> list[Row]:
    rows = []
    for name, key, shape, share, goal in CASES:
        protocol = get_protocol(key)
        pred, truth, valid = maps(shape, share, protocol.max_depth, seed=0)
        check(pred, truth, valid, protocol)
        metric, loop = DepthMetrics(protocol), pictures(pred, truth)

        def one_by_one(metric: DepthMetrics = metric, data: Maps = (pred, truth, valid)) -> None:
            for p, g, v in zip(*(torch.split(t, 1) for t in data), strict=True):
                metric.update(p, g, v)

        def as_batch(metric: DepthMetrics = metric, data: Maps = (pred, truth, valid)) -> None:
            metric.update(*data)

        def usual(loop: Sequence[tuple[Map, Map]] = loop, protocol: EvalProtocol = protocol) -> None:
            for p, g in loop:
                numpy_loop(p, g, protocol)

        times = alternate({"one": one_by_one, "batch": as_batch, "usual": usual}, repeats)
        rows.append(Row(name, "NumPy loop", times["one"] / times["usual"], goal, note="batches of 1"))
        rows.append(Row(name, "NumPy loop", times["batch"] / times["usual"], goal, note=f"batches of {BATCH}"))
    return rows


def against_torchmetrics(repeats: int) -> list[Row]:
    protocol = get_protocol("nyu_eigen_filled")
    data = maps((480, 640), 1.0, protocol.max_depth, seed=1)
    pred, mask = protocol.prepare(*data)
    metric = DepthMetrics(protocol)
    theirs = torchmetrics.MetricCollection(
        [
            torchmetrics.MeanAbsoluteError(),
            torchmetrics.MeanSquaredError(squared=False),
            torchmetrics.MeanSquaredLogError(),
            torchmetrics.MeanAbsolutePercentageError(),
            torchmetrics.LogCoshError(),
        ],
        compute_groups=False,
    )

    def usual() -> None:
        theirs.update(pred[mask], data[1][mask])

    calls: dict[str, Callable[[], object]] = {"ours": lambda: metric.update(*data), "theirs": usual}
    times = alternate(calls, repeats)
    note = f"ten errors against five, batches of {BATCH}"
    return [Row("NYU 480x640 dense", "torchmetrics", times["ours"] / times["theirs"], TORCHMETRICS_GOAL, note=note)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run all comparisons; returns the number of missed goals."""
    args = parser(__doc__ or "").parse_args(argv)
    torch.set_num_threads(1)
    repeats = 1 if args.quick else 15
    return report("metrics", against_numpy(repeats) + against_torchmetrics(repeats), quick=args.quick)


if __name__ == "__main__":
    sys.exit(main())
