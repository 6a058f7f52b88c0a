"""The examination: open, look at all files, decode a sample, weigh what was seen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mde.console import counting
from mde.data.dataset import DepthDataset
from mde.data.io import propose_scale, read_array
from mde.data.worlds.pool import usable_cores
from mde.doctor import SAMPLE
from mde.doctor.findings import Finding, finding, ordered
from mde.doctor.frame import Measured, own_files
from mde.doctor.geometry import check_geometry
from mde.doctor.numbers import Meant, check_numbers
from mde.doctor.opening import open_data
from mde.doctor.pool import in_order
from mde.doctor.scan import Files, Job, Scanner, file_jobs, frame_jobs, neighbour_jobs, sampled
from mde.doctor.splits import FileTally, Pair, candidates, check_files, check_near, check_sizes
from mde.doctor.tally import SPLITS, Tally
from mde.errors import MdeError

__all__ = ["Examination", "examine"]

_JUDGED = 8  # depth files from which a scale is proposed
_WORTH_A_PROCESS = 16  # jobs; a fork costs some tens of milliseconds


@dataclass
class Examination:
    """What the doctor saw.

    Attributes:
        root: folder or file.
        layout: its name.
        settings: arguments of the data module that were given.
        span: depths in metres that are meant to be there.
        protocol: name of the evaluation protocol.
        datasets: of the splits that could be opened.
        findings: the worst first.
        tally: what was measured of the decoded frames.
        interrupted: True if it was stopped: then the findings are those of what was seen before.
        seconds: that it took.
    """

    root: Path
    layout: str
    settings: dict[str, Any]
    span: tuple[float, float]
    protocol: str
    datasets: dict[str, DepthDataset]
    findings: list[Finding] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def errors(self) -> int:
        """Number of findings that are errors."""
        return sum(found.severity == "error" for found in self.findings)


def examine(
    root: str | Path,
    layout: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    sample: int | None = SAMPLE,
    workers: int | None = None,
) -> Examination:
    """Examine a data set. Every file is looked at; frames are decoded as far as `sample` says.

    Args:
        root: folder or file.
        layout: name of its layout; None to recognise it.
        settings: arguments of its data module, such as ``{"depth_scale": 0.001}``.
        sample: frames of each split to decode, evenly spread; None for all.
        workers: processes; None for one per core.

    Returns:
        All that was found; also after Ctrl-C, with what was seen until then.

    Raises:
        DatasetNotFoundError: there is nothing at `root`.
        ConfigError: the layout or a setting is unknown or out of range.
    """
    start = time.monotonic()
    opened = open_data(root, layout, settings)
    low, high = opened.data.depth_range
    span = (low, min(high, opened.data.protocol.max_depth))
    made = Examination(
        opened.root, opened.layout, dict(settings or {}), span, opened.data.protocol.name, opened.datasets
    )
    files, pairs = FileTally(), list[Pair]()
    try:
        _scan(made, files, pairs, sample, usable_cores() if workers is None else workers)
    except KeyboardInterrupt:
        made.interrupted = True
    made.findings = _weighed(made, opened.findings, files, pairs)
    made.seconds = time.monotonic() - start
    return made


def _weighed(made: Examination, before: list[Finding], files: FileTally, pairs: list[Pair]) -> list[Finding]:
    found = list(before)
    if made.interrupted:
        found.append(finding("interrupted", f"{len(made.tally)} frames were decoded until then"))
    meant = Meant(made.span, not made.layout.startswith("folder/"), _proposal(made.datasets))
    found += check_files(files, made.datasets)
    found += check_sizes(made.datasets)
    found += check_numbers(made.tally, meant)
    found += check_geometry(made.tally)
    found += check_near(pairs, made.datasets, len(made.tally))
    return ordered(found)


def _scan(made: Examination, files: FileTally, pairs: list[Pair], sample: int | None, workers: int) -> None:
    """All jobs: first those of the files, then the frames, then what the frames make worth asking."""
    scanner = Scanner(made.root, made.datasets, made.span)
    jobs = [*file_jobs(made.datasets), *neighbour_jobs(made.datasets), *frame_jobs(made.datasets, sample)]
    workers = min(workers, max(1, len(jobs) // _WORTH_A_PROCESS))
    with counting() as show:
        for done, result in enumerate(in_order(scanner, jobs, workers), start=1):
            show("looking", done, len(jobs))
            for part in result if isinstance(result, list) else [result]:
                if isinstance(part, Files):
                    files.add(part)
                elif isinstance(part, Measured):
                    made.tally.add(part)
                elif isinstance(part, tuple):
                    made.tally.neighbours.append(part)
    maybe = candidates(made.tally)
    compared = [Job("pair", second, (i, j), first) for first, i, second, j in maybe]
    alike = in_order(scanner, compared, min(workers, max(1, len(compared) // _WORTH_A_PROCESS)))
    with counting() as show:
        for done, (pair, same) in enumerate(zip(maybe, alike, strict=True), start=1):
            show("comparing", done, len(compared))
            pairs += [pair] * bool(same)


def _proposal(datasets: Mapping[str, DepthDataset]) -> tuple[float, str] | None:
    """The scale that the numbers in some depth files suggest."""
    split = next((name for name in SPLITS if name in datasets), None)
    maps = []
    for index in sampled(len(datasets[split]), _JUDGED) if split else ():
        try:
            maps.append(read_array(own_files(datasets[str(split)], index)[1]))
        except (MdeError, IndexError):
            continue
    try:
        return propose_scale(maps)[:2]
    except MdeError:
        return None
