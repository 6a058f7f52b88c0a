"""Findings about the splits: files, ids, copies, and frames that leak from training into evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mde.data.dataset import DepthDataset
from mde.doctor.findings import CHECKS, Finding, finding
from mde.doctor.frame import frame_name
from mde.doctor.hashes import near_pairs, repeated
from mde.doctor.scan import Files
from mde.doctor.tally import SPLITS, Tally

__all__ = ["FileTally", "candidates", "check_files", "check_near", "check_sizes"]

FEW = {"train": 100, "val": 20, "test": 20}

Pair = tuple[str, int, str, int]
"""(split, index, split, index) of two frames that look alike."""


class FileTally:
    """All files of all splits: 16 bytes a frame, and the names of those that something is wrong with."""

    def __init__(self) -> None:
        self.bad: dict[str, dict[str, None]] = {}
        self.prints: dict[str, list[NDArray[np.uint64]]] = {}
        self.ids: dict[str, list[NDArray[np.uint64]]] = {}

    def add(self, files: Files) -> None:
        """Take in one run of frames."""
        for code, path in files.bad:
            self.bad.setdefault(code, {})[path] = None
        self.prints.setdefault(files.split, []).append(files.prints)
        self.ids.setdefault(files.split, []).append(files.ids)


def check_files(files: FileTally, datasets: Mapping[str, DepthDataset]) -> Iterator[Finding]:
    """Broken and missing files, ids and images that come twice."""
    for code in CHECKS:
        if code in files.bad:
            paths = files.bad[code]
            yield finding(code, f"{len(paths)} file{'s' if len(paths) > 1 else ''}, such as {next(iter(paths))}", paths)
    yield from _same_ids(files, datasets)
    copies, leaks = _copies(files, datasets)
    if copies:
        yield finding("duplicates", f"{len(copies)} images have the bytes of another one of their split", copies)
    if leaks:
        yield finding("leak", f"{len(leaks)} images have the bytes of one in another split", leaks)


def check_sizes(datasets: Mapping[str, DepthDataset]) -> Iterator[Finding]:
    """Splits with few frames."""
    few = {split: len(dataset) for split, dataset in datasets.items() if len(dataset) < FEW[split]}
    if few:
        yield finding("few-frames", ", ".join(f"{split} has {count}" for split, count in few.items()))


def candidates(tally: Tally) -> list[Pair]:
    """Decoded frames of two splits whose hashes are near: for each frame of the later split the nearest one."""
    hashes = np.array(tally.hashes, np.uint64)
    splits, indices = np.array(tally.splits), np.array(tally.indices)
    found: list[Pair] = []
    for first, second in combinations(range(len(SPLITS)), 2):
        a, b = np.flatnonzero(splits == first), np.flatnonzero(splits == second)
        for row, other in near_pairs(hashes[a], hashes[b]):
            found.append((SPLITS[first], int(indices[a[row]]), SPLITS[second], int(indices[b[other]])))
    return found


def check_near(pairs: list[Pair], datasets: Mapping[str, DepthDataset], decoded: int) -> Iterator[Finding]:
    """Pairs that were confirmed.

    Args:
        pairs: of frames of two splits.
        datasets: of the splits.
        decoded: how many frames were compared.
    """
    if not pairs:
        return
    names = [frame_name(datasets[split], index) for _, _, split, index in pairs]
    first = f"{names[0]} ({pairs[0][2]}) looks like {frame_name(datasets[pairs[0][0]], pairs[0][1])} ({pairs[0][0]})"
    text = f"{len(pairs)} frames look like one of an earlier split, of {decoded} that were decoded: {first}"
    yield finding("near-duplicates", text, names)


def _same_ids(files: FileTally, datasets: Mapping[str, DepthDataset]) -> Iterator[Finding]:
    groups = _groups(files.ids)
    names = [frame_name(datasets[group[0][0]], group[0][1]) for group in groups]
    if names:
        where = ", ".join(dict.fromkeys(f"in {' and '.join(split for split, _ in group)}" for group in groups[:20]))
        yield finding("same-id", f"{len(names)} ids come more than once: {where}", names)


def _copies(files: FileTally, datasets: Mapping[str, DepthDataset]) -> tuple[list[str], list[str]]:
    """Names of images that copy another one of their split, and of those that copy one of an earlier split."""
    inside: list[str] = []
    across: list[str] = []
    for group in _groups(files.prints, _same_bytes(datasets)):
        seen: set[str] = set()
        for split, index in group:
            target = inside if split in seen else across
            if seen:
                target.append(frame_name(datasets[split], index))
            seen.add(split)
    return inside, across


def _groups(
    values: Mapping[str, list[NDArray[np.uint64]]],
    equal: Callable[[tuple[str, int], tuple[str, int]], bool] = lambda first, second: True,
) -> list[list[tuple[str, int]]]:
    """Frames (split, index) with the same 64 bits that are `equal` to the first of their group."""
    splits = list(values)
    joined = [np.concatenate(values[split]) for split in splits]
    starts = np.cumsum([0, *map(len, joined)])
    if not joined:
        return []
    found = []
    for group in repeated(np.concatenate(joined)):
        places = np.searchsorted(starts, group, "right") - 1
        frames = [(splits[p], int(row - starts[p])) for p, row in zip(places, group, strict=True)]
        same = [frames[0], *(frame for frame in frames[1:] if equal(frames[0], frame))]
        if len(same) > 1:
            found.append(same)
    return found


def _same_bytes(datasets: Mapping[str, DepthDataset]) -> Callable[[tuple[str, int], tuple[str, int]], bool]:
    def equal(first: tuple[str, int], second: tuple[str, int]) -> bool:
        a, b = (datasets[split].files(index)[0] for split, index in (first, second))
        return a == b or a.read_bytes() == b.read_bytes()

    return equal
