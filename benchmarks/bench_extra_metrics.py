"""Metrics beyond the ten errors, per picture of 480x640: ours against the same formula in plain NumPy.

The formulas are written as evaluators usually have them: whole maps, one pass for each threshold, range or fraction.
Values are compared first. Rows without a goal say what a metric costs beside `DepthMetrics`.

Run: python -m benchmarks.bench_extra_metrics
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from benchmarks.bench_metrics import nine_errors
from benchmarks.harness import Row, alternate, parser, report
from mde.geometry import intrinsics_from_fov
from mde.metrics import DepthMetrics
from mde.metrics.boundary import EdgeErrors, boundary_f1
from mde.metrics.normals import PlaneErrors, normal_errors
from mde.metrics.points import point_errors
from mde.metrics.ranges import RangeErrors
from mde.metrics.uncertainty import uncertainty_scores
from mde.protocol import EvalProtocol

Map = NDArray[np.float64]
Maps = tuple[Tensor, Tensor, Tensor]

GOALS = {"boundary F1": 0.8, "normals": 0.8, "points": 0.05, "uncertainty": 0.7, "ranges": 1.3}
EDGES = (0.0, 2.0, 5.0, 10.0)
POINTS = 10_000


def scene(height: int, width: int) -> tuple[Maps, Tensor]:
    """A room-like map of slanted patches with noise, a prediction, a mask of all pixels, and a std; (1,1,H,W)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 1, 6, 8, generator=generator) * 7 + 1
    truth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="nearest")
    truth = truth * (1 + 0.2 * torch.linspace(0, 1, width))
    blurred = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    noise = 0.01 * torch.randn(truth.shape, generator=generator)
    pred = (0.7 * truth + 0.3 * blurred) * noise.exp()  # softer edges than the truth, as a network has them
    std = 0.1 * truth * (0.3 * torch.randn(truth.shape, generator=generator)).exp()
    return (pred, truth, truth > 0), std


def numpy_f1(p: Map, g: Map) -> float:
    """Depth Pro's score, its four directions pooled, a pass over the maps for each threshold."""
    thresholds = np.linspace(1.05, 1.25, 10)
    scores = []
    for t in thresholds:
        both = predicted = true = 0
        for a, b in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
            for first, second in ((a, b), (b, a)):
                in_p, in_g = p[first] / p[second] > t, g[first] / g[second] > t
                both += np.count_nonzero(in_p & in_g)
                predicted += np.count_nonzero(in_p)
                true += np.count_nonzero(in_g)
        precision, recall = both / predicted, both / true
        scores.append(2 * precision * recall / (precision + recall))
    return float(np.average(scores, weights=thresholds))


def numpy_normals(p: Map, g: Map, camera: Map) -> float:
    """Mean angle in degrees where the truth does not break."""
    v, u = np.mgrid[: p.shape[0], : p.shape[1]].astype(np.float64)
    rays = np.stack(((u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1], np.ones_like(u)), -1)
    normals = []
    for depth in (p, g):
        points = rays * depth[..., None]
        normal = np.cross(points[2:, 1:-1] - points[:-2, 1:-1], points[1:-1, 2:] - points[1:-1, :-2])
        normals.append(normal / np.linalg.norm(normal, axis=-1, keepdims=True))
    q = 1 / g
    bends = [
        np.abs(q[1:-1, :-2] + q[1:-1, 2:] - 2 * q[1:-1, 1:-1]),
        np.abs(q[:-2, 1:-1] + q[2:, 1:-1] - 2 * q[1:-1, 1:-1]),
    ]
    kept = np.maximum(*bends) <= 0.05 * q[1:-1, 1:-1]
    cosine = (normals[0] * normals[1]).sum(-1)[kept]
    return float(np.degrees(np.arccos(cosine.clip(-1, 1))).mean())


def numpy_chamfer(p: Map, g: Map, camera: Map) -> float:
    """All points against all points, through trees."""
    v, u = np.mgrid[: p.shape[0], : p.shape[1]].astype(np.float64)
    rays = np.stack(((u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1], np.ones_like(u)), -1)
    a, b = ((rays * depth[..., None]).reshape(-1, 3) for depth in (p, g))
    return float((cKDTree(b).query(a)[0].mean() + cKDTree(a).query(b)[0].mean()) / 2)


def numpy_sparsification(p: Map, g: Map, std: Map) -> float:
    """AUSE of rmse by slices of sorted pixels, and those of abs_rel and delta1, which are made along with it."""
    p, g, std = p.ravel(), g.ravel(), std.ravel()
    ratio = np.maximum(p / g, g / p)
    errors: dict[str, tuple[Map, Callable[[Map], float]]] = {
        "abs_rel": (np.abs(p - g) / g, lambda e: float(e.mean())),
        "rmse": (np.abs(p - g), lambda e: float(np.sqrt((e**2).mean()))),
        "delta1": (ratio, lambda e: float((e >= 1.25).mean())),
    }
    areas = {}
    for name, (error, mean) in errors.items():
        curves = []
        for order in (std, error):
            ranked = error[np.argsort(order)]
            curves.append([mean(ranked[: -(-p.size * k // 50)]) for k in range(50, 0, -1)] + [0.0])
        areas[name] = np.trapezoid(np.subtract(*curves), dx=1 / 50)
    return float(areas["rmse"])


def numpy_ranges(p: Map, g: Map) -> float:
    """Nine errors of each range, its pixels by a boolean index; returns the rmse of the second."""
    rows = [nine_errors(p[m], g[m]) for m in ((g >= a) & (g < b) for a, b in pairwise(EDGES))]
    return rows[1]["rmse"]


def measure(height: int, width: int, repeats: int) -> list[Row]:
    """All rows of one size."""
    (pred, truth, valid), std = scene(height, width)
    camera = intrinsics_from_fov(height, width, 60.0)[None]
    p, g, s = (each[0, 0].double().numpy() for each in (pred, truth, std))
    k = camera[0].double().numpy()

    def ranges() -> float:
        metric = RangeErrors(EDGES)
        metric.update(pred, truth, valid)
        return float(metric.compute()["2-5"]["rmse"])

    pairs: dict[str, tuple[Callable[[], float], Callable[[], float], float]] = {
        "boundary F1": (lambda: float(boundary_f1(pred, truth, valid)["f1"]), lambda: numpy_f1(p, g), 1e-9),
        "normals": (
            lambda: float(normal_errors(pred, truth, valid, camera)["mean"]),
            lambda: numpy_normals(p, g, k),
            1e-4,
        ),
        # ours draws points: fewer points are farther apart, so that only the order of size can agree
        "points": (
            lambda: float(point_errors(pred, truth, valid, camera, points=POINTS)["chamfer"]),
            lambda: numpy_chamfer(p, g, k),
            1.0,
        ),
        "uncertainty": (
            lambda: float(uncertainty_scores(pred, truth, valid, std)["ause_rmse"]),
            lambda: numpy_sparsification(p, g, s),
            1e-9,
        ),
        "ranges": (ranges, lambda: numpy_ranges(g=g, p=p), 1e-5),
    }
    rows = []
    plain = DepthMetrics(EvalProtocol())
    for name, (ours, reference, tolerance) in pairs.items():
        difference = abs(ours() - reference())
        if not difference <= tolerance:
            raise SystemExit(f"{name}: {ours()} is not {reference()}")
        calls = {"ours": ours, "numpy": reference, "plain": lambda: plain.update(pred, truth, valid)}
        seconds = alternate(calls, repeats)
        note = f"{1e3 * seconds['ours']:.1f} ms; value differs by {difference:.0e}"
        rows.append(
            Row(f"{name} {height}x{width}", "NumPy", seconds["ours"] / seconds["numpy"], GOALS[name], note=note)
        )
        rows.append(Row(f"{name} {height}x{width}", "the ten errors", seconds["ours"] / seconds["plain"]))
    for name, metric in (("edges", EdgeErrors()), ("planes", PlaneErrors())):
        needs = {"intrinsics": camera} if metric.needs else {}
        calls = {
            "ours": lambda metric=metric, needs=needs: metric.update(pred, truth, valid, **needs),
            "plain": lambda: plain.update(pred, truth, valid),
        }
        seconds = alternate(calls, repeats)
        note = f"{1e3 * seconds['ours']:.1f} ms"
        rows.append(Row(f"{name} {height}x{width}", "the ten errors", seconds["ours"] / seconds["plain"], note=note))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    args = parser(__doc__ or "").parse_args(argv)
    if args.quick:
        return report("extra_metrics", measure(48, 64, repeats=1), quick=True)
    return report("extra_metrics", measure(480, 640, repeats=7), quick=False)


if __name__ == "__main__":
    sys.exit(main())
