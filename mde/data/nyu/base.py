"""What the layouts have in common: a copy of the data set on disk, with its parts, its splits and its ground truth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.utilities import rank_zero_warn

from mde.data.dataset import DepthDataset
from mde.data.nyu.files import Files
from mde.data.nyu.splits import NYU_TEST_FRAMES, held_out
from mde.data.pairing import Frame
from mde.data.transforms import SampleTransform
from mde.data.writers.source import is_made
from mde.errors import ConfigError, DataFormatError

__all__ = ["Choice", "ListedCopy", "NYUCopy"]


@dataclass(frozen=True)
class Choice:
    """What a user chose of a copy; see `mde.data.nyu.module.NYUDepthV2DataModule`."""

    scheme: str = "official"
    depth: str | None = None
    chunks: tuple[int, ...] | None = None
    lists: Mapping[str, str] | None = None
    missing: str = "error"
    val_on_test: bool = False


class NYUCopy(ABC):
    """The data set in one layout.

    Attributes:
        layout: its name.
        truths: what kinds of depth it holds ("filled", "raw"), the default first, and how we know.
        protocols: the default protocol of each kind.
        schemes: what ``split`` may be.
        counts: frames of each part in the real data set.

    Raises:
        ConfigError: the layout does not have the depth or the split that was chosen.
    """

    layout: ClassVar[str]
    truths: ClassVar[Mapping[str, str]]
    protocols: ClassVar[Mapping[str, str]] = {"raw": "nyu_eigen", "filled": "nyu_eigen_filled"}
    schemes: ClassVar[tuple[str, ...]] = ("official",)
    counts: ClassVar[Mapping[str, int]] = {"test": NYU_TEST_FRAMES}

    def __init__(self, root: Path, choice: Choice) -> None:
        self.root = root
        self.choice = choice
        self.kind = self.kind_of(choice.depth)
        if choice.scheme not in self.schemes:
            what = f"the layout {self.layout} has no split {choice.scheme!r}"
            raise ConfigError(what, where="data.split", next_action=f"use {' or '.join(self.schemes)}")

    @classmethod
    def kind_of(cls, depth: str | None) -> str:
        """The kind of depth that is read; None is the default."""
        if depth is not None and depth not in cls.truths:
            what = f"the layout {cls.layout} holds no {depth} depth, only {' and '.join(cls.truths)}"
            hint = "leave data.depth out, or use a copy in nyu/labeled, which has both"
            raise ConfigError(what, where="data.depth", next_action=hint)
        return depth or next(iter(cls.truths))

    @property
    def made(self) -> bool:
        """True for a rendered copy, which has few frames."""
        return is_made(self.root) or is_made(self.root.parent)

    @abstractmethod
    def scenes(self, part: str) -> Sequence[str]:
        """The scene of each row of "train" or "test"."""

    @abstractmethod
    def make(self, part: str, rows: Sequence[int], transform: SampleTransform, seed: int) -> DepthDataset:
        """The data set of some rows of a part."""

    def rows(self, split: str) -> tuple[str, Sequence[int]]:
        """In which part the frames of a split are, and which rows of it."""
        if split == "test" or (split == "val" and self.choice.val_on_test):
            return "test", range(len(self.scenes("test")))
        scenes = self.scenes("train")
        rows = range(len(scenes))
        chosen = set() if self.choice.val_on_test else self.validation_rows(scenes)
        return "train", [row for row in rows if (row in chosen) == (split == "val")]

    def validation_rows(self, scenes: Sequence[str]) -> set[int]:
        """The training rows that are held out."""
        return held_out(range(len(scenes)), scenes)

    def dataset(self, split: str, transform: SampleTransform, seed: int) -> DepthDataset:
        """The data set of "train", "val" or "test"."""
        part, rows = self.rows(split)
        if not rows:
            hint = "check data.root, or make the set larger"
            raise DataFormatError(f"there are no frames for {split}", where=self.root, next_action=hint)
        return self.make(part, rows, transform, seed)

    def facts(self) -> dict[str, Any]:
        """Plain data for the results."""
        held = "the test frames" if self.choice.val_on_test else "whole rooms of the training frames"
        return {
            "layout": self.layout,
            "split": self.choice.scheme,
            "ground_truth": f"{self.kind}: {self.truths[self.kind]}",
            "validation": held,
        }

    def warn_of_count(self, part: str, found: int) -> None:
        """Say when a part of a real copy does not have as many frames as it should."""
        expected = self.counts.get(part, found)
        if found != expected and not self.made:
            reason = "results are not comparable with published ones" if part == "test" else "the copy is not complete"
            rank_zero_warn(f"{self.root}: {found} {part} frames instead of {expected}: {reason}")


class ListedCopy(NYUCopy):
    """A copy whose frames are files that a list names."""

    lists_of: ClassVar[str] = "the list"

    def __init__(self, root: Path, choice: Choice) -> None:
        super().__init__(root, choice)
        self.absent: dict[str, int] = {}
        self._found: dict[str, tuple[list[Frame], Files]] = {}

    @abstractmethod
    def listed(self, part: str) -> tuple[list[Frame], Files]:
        """All frames that the list of a part names, and where they are."""

    def scenes(self, part: str) -> Sequence[str]:
        return [frame.id.rpartition("/")[0].rpartition("/")[2] for frame in self.frames(part)[0]]

    def frames(self, part: str) -> tuple[list[Frame], Files]:
        """The frames of a part that are there, and where they are."""
        if part not in self._found:
            self._found[part] = self._present(part)
        return self._found[part]

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "frames_missing": dict(self.absent)}

    def _present(self, part: str) -> tuple[list[Frame], Files]:
        frames, files = self.listed(part)
        self.warn_of_count(part, len(frames))
        missing = set(files.absent(_names(frames)))
        if not missing:
            return frames, files
        there = [frame for frame in frames if frame.image not in missing and frame.depth not in missing]
        told = sorted(files.where(name) for name in missing)
        what = f"{len(missing)} files that {self.lists_of} of {part} names are missing"
        if not there or (self.choice.missing == "error" and not self.made):
            more = f" and {len(told) - 10} more" if len(told) > 10 else ""
            hint = "complete the copy, or set data.missing to skip"
            if not there:
                hint = "none is there: is data.root the folder that the paths in the list start from?"
            raise DataFormatError(f"{what}: {', '.join(told[:10])}{more}", where=self.root, next_action=hint)
        if not self.made:
            rank_zero_warn(f"{self.root}: {what}; {len(frames) - len(there)} of {len(frames)} frames are left out")
        self.absent[part] = len(frames) - len(there)
        return there, files


def _names(frames: Iterable[Frame]) -> Iterable[str]:
    return (name for frame in frames for name in (frame.image, frame.depth))
