"""What was measured, added up: a few numbers a frame, and maps whose size does not grow."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from mde.doctor.edges import RADIUS
from mde.doctor.frame import BINS, GRID, Measured

__all__ = ["NUMBERS", "SPLITS", "Tally"]

SPLITS = ("train", "val", "test")
NUMBERS = (
    "height",
    "width",
    "known",
    "low",
    "median",
    "high",
    "top",
    "flat",
    "at_top",
    "inside",
    "beyond",
    "rows",
    "grey",
    "border",
    "cx",
    "cy",
    "fov",
    "aspect",
    "non_finite",
    "negative",
    "distinct",
    "step",
    "scale",
    "overlap",
    "edge_scale",
    "mirror_0",
    "mirror_1",
    "mirror_2",
    "exponent",
    "patches",
    "inverse",
)
"""Measured of each frame, NaN where it does not apply; see `mde.doctor.frame` for the meaning."""


class Tally:
    """All frames that were decoded, of all splits, in the order in which they were read.

    Attributes:
        names: id of each frame that could be read.
        splits: number of its split in `SPLITS`.
        indices: its place in the split.
        hashes: 64 bits of its image.
        dtypes: how many frames have depth files of each type.
        problems: (code, id, what) of the frames that could not be read.
        histogram: pixels in `BINS` for each split, (3, bins).
        shifts: frames, sum and sum of squares of the gain in edge correlation over no shift at all.
        neighbours: gains of the frame before and of the one after.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.splits, self.indices, self.hashes = array("B"), array("q"), array("Q")
        self._numbers = {name: array("d") for name in NUMBERS}
        self.dtypes: dict[str, int] = {}
        self.problems: list[tuple[str, str, str]] = []
        self.histogram = np.zeros((len(SPLITS), len(BINS) - 1), np.int64)
        self.known = np.zeros(GRID)
        self.shift_count = 0
        self.shift_mean = np.zeros((2 * RADIUS + 1, 2 * RADIUS + 1))
        self.gain_sum, self.gain_squares = np.zeros_like(self.shift_mean), np.zeros_like(self.shift_mean)
        self.neighbours: list[tuple[float, float]] = []
        self.decoded = dict.fromkeys(SPLITS, 0)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """One of `NUMBERS` for all frames, (n,)."""
        return np.array(self._numbers[name], np.float64)

    def add(self, frame: Measured) -> None:
        """Take in one frame."""
        self.decoded[frame.split] += 1
        if frame.problem is not None:
            self.problems.append((frame.problem[0], frame.name, frame.problem[1]))
        if not frame.read or frame.planes is None:
            return
        self.names.append(frame.name)
        self.splits.append(SPLITS.index(frame.split))
        self.indices.append(frame.index)
        self.hashes.append(frame.hash)
        self.dtypes[frame.dtype] = self.dtypes.get(frame.dtype, 0) + 1
        numbers = {**frame.numbers, **frame.planes._asdict()}
        if frame.mirrored is not None:
            numbers |= {f"mirror_{i}": value for i, value in enumerate(frame.mirrored)}
        for name, column in self._numbers.items():
            column.append(numbers.get(name, float("nan")))
        if frame.histogram is not None and frame.known is not None:
            self.histogram[self.splits[-1]] += frame.histogram
            self.known += frame.known
        if frame.shifts is not None:
            self._add_shifts(frame.shifts)

    def _add_shifts(self, scores: NDArray[np.float64]) -> None:
        gain = scores - scores[RADIUS, RADIUS]
        self.shift_count += 1
        self.shift_mean += (scores - self.shift_mean) / self.shift_count
        self.gain_sum += gain
        self.gain_squares += gain**2
