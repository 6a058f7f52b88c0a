"""In-painting of depth by colourisation, against the form in which its code is published.

The reference builds the sparse matrix in a loop over pixels, as the toolbox of NYU Depth v2 and DenseDepth do, and
solves it by scipy's spsolve. Two frames: a Kinect's (480x640, 8 % holes) and a lidar's (375x1242, 4 % known).

Run: python -m benchmarks.bench_infill
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

from benchmarks.harness import Row, alternate, parser, report
from mde.data.colorization import colorization_weights
from mde.data.infill import infill

Frame = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8]]


def kinect(height: int, width: int) -> Frame:
    """Smooth depth with holes in patches."""
    valid = cv2.resize(np.random.default_rng(1).random((24, 32)), (width, height)) > 0.2
    return _frame(valid)


def lidar(height: int, width: int) -> Frame:
    """Single points in the lower two thirds."""
    valid = np.random.default_rng(1).random((height, width)) < 0.06
    valid[: height // 3] = False
    return _frame(valid)


def _frame(valid: NDArray[np.bool_]) -> Frame:
    """Noisy patches of 20 pixels and smooth depth."""
    rng = np.random.default_rng(0)
    height, width = valid.shape
    patches = rng.integers(0, 256, (height // 20 + 1, width // 20 + 1, 3)).astype(np.uint8)
    image = cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST)
    image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    depth = cv2.resize(rng.uniform(1, 8, (6, 8)).astype(np.float32), (width, height))
    return np.where(valid, depth, np.float32(0)), valid, image


def loop_weights(gray: NDArray[np.float64]) -> sparse.csc_matrix:
    """The matrix of weights, one pixel after another."""
    height, width = gray.shape
    rows, columns, values = [], [], []
    for y in range(height):
        for x in range(width):
            window = gray[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            squares = (window - gray[y, x]).ravel() ** 2
            places = (np.arange(max(0, y - 1), min(height, y + 2))[:, None] * width).ravel()
            cells = (places[:, None] + np.arange(max(0, x - 1), min(width, x + 2))).ravel()
            keep = cells != y * width + x
            sigma = max(0.6 * np.mean((window - np.mean(window)) ** 2), -min(squares[keep]) / np.log(0.01), 2e-6)
            weights = np.exp(-squares[keep] / sigma)
            rows += [y * width + x] * len(weights)
            columns += list(cells[keep])
            values += list(weights / np.sum(weights))
    return sparse.csc_matrix((values, (rows, columns)), shape=(gray.size, gray.size))


def published(depth: NDArray[np.float32], valid: NDArray[np.bool_], image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Loop and general solver."""
    return general(depth, valid, loop_weights(_gray(image)))


def general(depth: NDArray[np.float32], valid: NDArray[np.bool_], weights: sparse.spmatrix) -> NDArray[np.float64]:
    """The solver alone."""
    matrix = sparse.diags(1.0 + valid.ravel()) - weights
    solved = spsolve(matrix.tocsc(), np.where(valid, depth, 0).ravel() / depth.max()) * depth.max()
    return np.where(valid, depth, solved.reshape(depth.shape))


def _gray(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(image @ np.array((0.2989, 0.5870, 0.1140)) / 255)


def main(argv: Sequence[str] | None = None) -> int:
    quick = parser(__doc__ or "").parse_args(argv).quick
    shrink = 8 if quick else 1
    rows = []
    for name, (depth, valid, image) in {
        "Kinect frame": kinect(480 // shrink, 640 // shrink),
        "lidar frame": lidar(375 // shrink, 1242 // shrink),
    }.items():
        weights = colorization_weights(_gray(image))
        seconds = alternate(
            {
                "levin": lambda d=depth, v=valid, i=image: infill(d, v, i, "levin"),
                "nearest": lambda d=depth, v=valid, i=image: infill(d, v, i, "nearest"),
                "published": lambda d=depth, v=valid, i=image: published(d, v, i),
                "spsolve": lambda d=depth, v=valid, w=weights: general(d, v, w),
            },
            repeats=1 if quick else 3,
        )
        difference = np.abs(infill(depth, valid, image, "levin") - published(depth, valid, image)).max()
        note = f"{seconds['levin']:.1f} s against {seconds['published']:.1f} s; results differ by {difference:.0e} m"
        ratio = seconds["levin"] / seconds["published"]
        rows.append(Row(f"levin, {name}", "loop and spsolve", ratio, goal=0.25, note=note))
        ratio = seconds["levin"] / seconds["spsolve"]
        rows.append(Row(f"levin, {name}", "spsolve alone", ratio, goal=0.67, note=f"{seconds['spsolve']:.1f} s"))
        note = f"{1000 * seconds['nearest']:.0f} ms"
        rows.append(Row(f"nearest, {name}", "levin", seconds["nearest"] / seconds["levin"], note=note))
    return report("infill", rows, quick=quick)


if __name__ == "__main__":
    sys.exit(main())
