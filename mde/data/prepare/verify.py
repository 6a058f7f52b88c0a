"""Is a data set complete and readable? Looks at what lies in a folder, whoever put it there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mde.data.base import DepthDataModule
from mde.data.dataset import DepthDataset
from mde.data.layouts import Layout, recognise
from mde.data.prepare.catalog import KnownData
from mde.data.prepare.download import checksums
from mde.data.prepare.expected import EIGHT_BIT, FRAMES, FREE_FORMS, UNPUBLISHED
from mde.data.prepare.files import human_size, some
from mde.data.writers import is_made
from mde.errors import MdeError

__all__ = ["SPLITS", "Finding", "Thoroughness", "Verdict", "describe", "verify"]

SPLITS = ("train", "val", "test")
_PNG_HEAD = 25  # signature, and IHDR up to its bit depth (PNG specification, 11.2.1)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        wrong: something is missing or broken.
        what: the sentence.
    """

    wrong: bool
    what: str


@dataclass(frozen=True)
class Thoroughness:
    """How much is read.

    Attributes:
        frames: of each split, evenly spread.
        full: read all frames, and compare checksums where they are known.
        splits: only these are verified.
    """

    frames: int = 12
    full: bool = False
    splits: tuple[str, ...] = SPLITS

    def indices(self, dataset: DepthDataset) -> Sequence[int]:
        """The frames to read."""
        count = len(dataset)
        if self.full or count <= self.frames:
            return range(count)
        return [int(i) for i in np.unique(np.linspace(0, count - 1, self.frames).round())]


@dataclass
class Verdict:
    """What was found.

    Attributes:
        layout: of the folder.
        made: its frames were rendered by ``mde make-data``; nobody expects them to be complete.
        counts: frames of each split that could be opened.
        findings: in the order in which they were made.
        files: all files that the frames are read from.
    """

    layout: Layout
    made: bool
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not any(finding.wrong for finding in self.findings)

    def note(self, what: str, *, wrong: bool = False) -> None:
        """Add a finding; the same one only once."""
        finding = Finding(wrong, what)
        if finding not in self.findings:
            self.findings.append(finding)


def verify(
    root: Path,
    known: KnownData,
    thoroughness: Thoroughness | None = None,
    track: Callable[[Iterable[int], str], Iterable[int]] = lambda indices, label: indices,
) -> Verdict:
    """Verify a folder or file: number of frames, files, and a sample of the frames.

    Args:
        root: what the user calls the data set.
        known: which data set it should be.
        thoroughness: how much is read.
        track: wraps the frames that are read, for a progress bar.

    Raises:
        DatasetNotFoundError: there is nothing at `root`.
        DataFormatError: it is in none of the known forms of this data set.
    """
    thoroughness = thoroughness or Thoroughness()
    verdict = Verdict(recognise(root, known.family), is_made(root))
    _published_files(root, known, thoroughness.full, verdict)
    named = {name for splits in FRAMES.get(verdict.layout.name, {}) for name in splits.split("+")} or set(SPLITS)
    datasets = dict(_open(root, [split for split in thoroughness.splits if split in named], verdict))
    _compare_counts(verdict)
    for split, dataset in datasets.items():
        _files(split, dataset, verdict)
        indices = thoroughness.indices(dataset)
        _frames(split, dataset, track(indices, f"reading {split}"), verdict)
        _depth_bits(split, dataset, indices, verdict)
    verdict.files = list(dict.fromkeys(verdict.files))
    return verdict


def _published_files(root: Path, known: KnownData, full: bool, verdict: Verdict) -> None:
    """Size, and on request checksum, of files that are used as they were published."""
    folder = root if root.is_dir() else root.parent
    for file in known.files:
        path = folder / file.name
        if verdict.made or file.unpacks or file.sha256 is None or not path.is_file():
            continue
        size = path.stat().st_size
        if size != file.size:
            verdict.note(f"{path.name} has {size} bytes, published are {file.size}", wrong=True)
        elif full:
            right = checksums(path)["sha256"] == file.sha256
            verdict.note(f"{path.name}: its SHA-256 is {'' if right else 'not '}the published one", wrong=not right)


def _open(root: Path, splits: Sequence[str], verdict: Verdict) -> Iterator[tuple[str, DepthDataset]]:
    """The data sets, of what is there where files are missing; why some cannot be opened goes into the verdict."""
    refused: dict[str, list[str]] = {}
    modules = list(_modules(root, verdict.layout))
    for split in splits:
        for module in modules:
            try:
                dataset = module.dataset(split)
            except MdeError as error:
                refused.setdefault(str(error), []).append(split)
                continue
            verdict.counts[split] = len(dataset)
            yield split, dataset
            break
    for reason, names in refused.items():
        verdict.note(f"{', '.join(dict.fromkeys(names))}: {reason}", wrong=True)


def _modules(root: Path, layout: Layout) -> Iterator[DepthDataModule]:
    """The data module; then one that leaves frames out whose files are missing, where there is such a thing."""
    yield layout.make(root)
    try:
        yield layout.make(root, missing="skip")
    except TypeError:
        return


def _compare_counts(verdict: Verdict) -> None:
    if verdict.made:
        verdict.note("made by `mde make-data`: rendered frames, and only some; their number is not verified")
        return
    for splits, expected in FRAMES.get(verdict.layout.name, {}).items():
        names = splits.split("+")
        if not all(name in verdict.counts for name in names):
            continue
        found = sum(verdict.counts[name] for name in names)
        if found != expected:
            gap = f"{expected - found} are missing" if found < expected else f"{found - expected} too many"
            verdict.note(f"{splits}: {found} frames instead of {expected}, {gap}", wrong=True)
        else:
            verdict.note(f"{splits}: all {expected} frames")


def _files(split: str, dataset: DepthDataset, verdict: Verdict) -> None:
    """Every file of every frame exists and is not empty; nothing is read."""
    paths = list(dict.fromkeys(path for index in range(len(dataset)) for path in dataset.files(index)))
    missing = [str(path) for path in paths if not path.is_file()]
    empty = [str(path) for path in paths if path.is_file() and not path.stat().st_size]
    if missing:
        verdict.note(f"{split}: {len(missing)} of {len(paths)} files are missing: {some(missing)}", wrong=True)
    if empty:
        verdict.note(f"{split}: {len(empty)} files are empty: {some(empty)}", wrong=True)
    verdict.files += [path for path in paths if path.is_file()]


def _frames(split: str, dataset: DepthDataset, indices: Iterable[int], verdict: Verdict) -> None:
    sizes: Counter[str] = Counter()
    broken, blank, read = [], [], 0
    for index in indices:
        read += 1
        try:
            raw = dataset.read(index).checked()
        except (MdeError, OSError, ValueError, KeyError) as error:
            broken.append(str(error))
            continue
        sizes[f"{raw.image.shape[1]}x{raw.image.shape[0]}"] += 1
        if not raw.valid.any():
            blank.append(raw.id)
    if broken:
        verdict.note(f"{split}: {len(broken)} of {read} frames cannot be read: {some(broken)}", wrong=True)
    if blank and (verdict.layout.name, split) not in UNPUBLISHED:
        verdict.note(f"{split}: {len(blank)} of {read} frames have no depth at all: {some(blank)}", wrong=True)
    if sizes:
        found = ", ".join(size for size, _ in sizes.most_common())
        verdict.note(f"{split}: {read - len(broken)} of {len(dataset)} frames read, {found}")


def _depth_bits(split: str, dataset: DepthDataset, indices: Iterable[int], verdict: Verdict) -> None:
    """Depth PNGs of 8 bits are copies that went through a picture program, unless they were published so."""
    name = verdict.layout.name
    if name in EIGHT_BIT:
        return
    maps = [path for index in indices for path in dataset.files(index)[1:2] if path.suffix.lower() == ".png"]
    shallow = [str(path) for path in maps if _is_shallow(path)]
    if shallow:
        what = f"{split}: depth of 8 bits where 16 are expected in {len(shallow)} of {len(maps)} files: {some(shallow)}"
        verdict.note(what, wrong=name not in FREE_FORMS)


def _is_shallow(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_HEAD)
    except OSError:
        return False  # is found missing elsewhere
    return len(head) == _PNG_HEAD and head[24] <= 8


def describe(verdict: Verdict) -> list[str]:
    """The verdict in lines for people."""
    counts = ", ".join(f"{count} {split}" for split, count in verdict.counts.items()) or "none"
    size = human_size(sum(path.stat().st_size for path in verdict.files))
    head = f"layout {verdict.layout.name}, frames: {counts}, {len(verdict.files)} files of {size}"
    return [head, *(f"  {'WRONG' if f.wrong else 'ok':<6} {f.what}" for f in verdict.findings)]
