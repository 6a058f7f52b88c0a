"""The jobs of a worker: looking at a run of files, measuring frames, comparing neighbours and pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mde.data.dataset import DepthDataset
from mde.doctor.files import look
from mde.doctor.frame import Measured, measure_frame, measure_neighbours, own_files, roles
from mde.doctor.hashes import similar

__all__ = ["Files", "Job", "Scanner", "file_jobs", "frame_jobs", "neighbour_jobs", "sampled"]

_RUN = 256  # frames whose files are one job
_FRAMES = 4
_PROBES = 12  # frames of a split that are compared with their neighbours


class Job(NamedTuple):
    """`kind` is "files", "frames", "neighbours" or "pair"; `indices` are frames of `split`, those of a pair (row of
    `other`, row of `split`)."""

    kind: str
    split: str
    indices: tuple[int, ...]
    other: str = ""


@dataclass
class Files:
    """What a run of frames looks like on disk.

    Attributes:
        split: of the frames.
        bad: (code, path) of each file that something is wrong with.
        prints: fingerprints of the images, uint64 (n,); 0 where there is none.
        ids: 64 bits of the ids, uint64 (n,); 0 where an id cannot be told without reading the frame.
    """

    split: str
    prints: NDArray[np.uint64]
    ids: NDArray[np.uint64]
    bad: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Scanner:
    """Does jobs; it travels to each worker once.

    Attributes:
        root: paths are told relative to it.
        datasets: of the splits.
        span: depths in metres that are meant to be there.
    """

    root: Path
    datasets: Mapping[str, DepthDataset]
    span: tuple[float, float]

    def __call__(self, job: Job) -> Files | list[Measured] | list[tuple[float, float]] | bool:
        dataset = self.datasets[job.split]
        if job.kind == "files":
            return self._look(job, dataset)
        if job.kind == "frames":
            return [measure_frame(dataset, job.split, index, self.span) for index in job.indices]
        if job.kind == "neighbours":
            found = [measure_neighbours(dataset, index) for index in job.indices]
            return [gains for gains in found if gains is not None]
        first, second = job.indices
        return similar(self.datasets[job.other].read(first).image, dataset.read(second).image)

    def _look(self, job: Job, dataset: DepthDataset) -> Files:
        start, stop = job.indices
        made = Files(job.split, np.zeros(stop - start, np.uint64), np.zeros(stop - start, np.uint64))
        named = type(dataset).frame_id is not DepthDataset.frame_id
        for row, index in enumerate(range(start, stop)):
            files = dataset.files(index)
            if index > 0 and files == dataset.files(index - 1):
                files = ()  # an archive, looked at once
            if named:
                made.ids[row] = _digest(dataset.frame_id(index))
            for path, role in zip(files, roles(len(files)), strict=True):
                if len(files) > 2 and role == "other" and index > 0 and path in dataset.files(0):
                    continue  # a calibration file that frames share
                code, fingerprint = look(Path(path), role)
                if code:
                    made.bad.append((code, shown(path, self.root)))
                if role == "image" and own_files(dataset, index):
                    made.prints[row] = fingerprint
        return made


def shown(path: str | Path, root: Path) -> str:
    """A path relative to the root, where it is below it."""
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return str(path)


def sampled(count: int, sample: int | None) -> list[int]:
    """Frames to decode: all, or `sample` of them evenly spread."""
    if sample is None or sample >= count:
        return list(range(count))
    return [int(i) for i in np.unique(np.linspace(0, count - 1, sample).round().astype(int))]


def file_jobs(datasets: Mapping[str, DepthDataset]) -> Iterator[Job]:
    """All frames of all splits."""
    for split, dataset in datasets.items():
        for start in range(0, len(dataset), _RUN):
            yield Job("files", split, (start, min(start + _RUN, len(dataset))))


def frame_jobs(datasets: Mapping[str, DepthDataset], sample: int | None) -> Iterator[Job]:
    """The frames to decode, a few in a job."""
    for split, dataset in datasets.items():
        picked = sampled(len(dataset), sample)
        for start in range(0, len(picked), _FRAMES):
            yield Job("frames", split, tuple(picked[start : start + _FRAMES]))


def neighbour_jobs(datasets: Mapping[str, DepthDataset]) -> Iterator[Job]:
    """Frames that have two neighbours, evenly spread."""
    for split, dataset in datasets.items():
        for index in sampled(len(dataset) - 2, _PROBES) if len(dataset) > 2 else ():
            yield Job("neighbours", split, (index + 1,))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
