"""Training, validation and test parts of rendered sequences, by whole scenes: neighbouring frames would leak.

In this order: the parts that the data set itself has (folders, or Hypersim's official list); the scenes that the user
names; whole scenes chosen here, on the coarsest level of folders that has at least three; and where there is but one
sequence, contiguous parts of it with frames dropped in between. Nothing is random: scenes are ordered by the SHA-256 of
their names, so that what is held out does not follow the alphabet.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mde.data.pairing import Frame, natural, split_blocks
from mde.data.unreal.find import UnrealFrame
from mde.errors import ConfigError, nearest

__all__ = ["SplitRule", "split_frames"]

Parts = dict[str, list[UnrealFrame]]
_GUARD = 10
_GUARD_SHARE = 50  # small sets: no more than one frame in so many is dropped at a border


@dataclass(frozen=True)
class SplitRule:
    """What the user decides about the parts.

    Attributes:
        val_fraction, test_fraction: share of the frames, where scenes are chosen here.
        guard: moments dropped between contiguous parts; None for 10, fewer in sequences of less than 500.
        val_scenes, test_scenes: folders of scenes, instead of a choice; with no `test_scenes` the test part is empty.

    Raises:
        ConfigError: the fractions leave nothing to train on, or only `test_scenes` are given.
    """

    val_fraction: float = 0.1
    test_fraction: float = 0.1
    guard: int | None = None
    val_scenes: tuple[str, ...] = ()
    test_scenes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shares = (self.val_fraction, self.test_fraction)
        if not (min(shares) > 0 and sum(shares) < 1) or (self.guard is not None and self.guard < 0):
            what = f"cannot split by {shares[0]}, {shares[1]} and a guard of {self.guard}"
            raise ConfigError(
                what, where="data", next_action="give shares above 0 that sum to less than 1, a guard >= 0"
            )
        if self.test_scenes and not self.val_scenes:
            raise ConfigError("test_scenes are given without val_scenes", where="data", next_action="give both")
        both = set(self.val_scenes) & set(self.test_scenes)
        if both:
            what = f"scenes in validation and test: {', '.join(sorted(both))}"
            raise ConfigError(what, where="data", next_action="name each scene once")


def split_frames(frames: Sequence[UnrealFrame], rule: SplitRule) -> tuple[Parts, dict[str, Any]]:
    """The parts "train", "val" and "test" (each may be empty), and how they were made, as plain data.

    Raises:
        ConfigError: a scene that the user names does not exist.
    """
    if rule.val_scenes:
        return _named(frames, rule)
    if any(frame.split for frame in frames):
        return _collected(frames, (frame.split for frame in frames)), {"by": "the data set's own parts"}
    for level in range(1, max((len(frame.place) for frame in frames), default=0) + 1):
        sizes = Counter("/".join(frame.place[:level]) for frame in frames)
        if len(sizes) >= 3:
            return _by_scene(frames, sizes, level, rule)
    return _in_blocks(frames, rule)


def _named(frames: Sequence[UnrealFrame], rule: SplitRule) -> tuple[Parts, dict[str, Any]]:
    places = {frame.place for frame in frames}
    known = {"/".join(place[:level]) for place in places for level in range(1, len(place) + 1)}
    wrong = [name for name in (*rule.val_scenes, *rule.test_scenes) if name not in known]
    if wrong:
        hint = f"nearest: {nearest(wrong[0], known)}" if known else "the data set has no folders of scenes"
        raise ConfigError(f"there are no frames of {', '.join(wrong)}", where="data.val_scenes", next_action=hint)

    def part(place: tuple[str, ...]) -> str:
        names = {"/".join(place[:level]) for level in range(1, len(place) + 1)}
        return "test" if names & set(rule.test_scenes) else "val" if names & set(rule.val_scenes) else "train"

    told = {"by": "named scenes", "val": list(rule.val_scenes), "test": list(rule.test_scenes)}
    return _collected(frames, (part(frame.place) for frame in frames)), told


def _by_scene(
    frames: Sequence[UnrealFrame], sizes: Counter[str], level: int, rule: SplitRule
) -> tuple[Parts, dict[str, Any]]:
    ordered = sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    test = _chosen({name: sizes[name] for name in ordered}, rule.test_fraction * len(frames), leave=2)
    left = {name: sizes[name] for name in ordered if name not in test}
    val = _chosen(left, rule.val_fraction * len(frames), leave=1)
    names = ["/".join(frame.place[:level]) for frame in frames]
    parts = _collected(frames, ("test" if n in test else "val" if n in val else "train" for n in names))
    told = {"by": f"whole scenes, level {level}", "val": sorted(val, key=natural), "test": sorted(test, key=natural)}
    return parts, told


def _chosen(sizes: dict[str, int], wanted: float, leave: int) -> set[str]:
    """Scenes, in the given order, of about the wanted number of frames; at least the smallest one."""
    chosen: set[str] = set()
    have = 0
    for name, size in sizes.items():
        if have + size / 2 < wanted and len(chosen) < len(sizes) - leave:
            chosen.add(name)
            have += size
    return chosen or {min(sizes, key=lambda name: sizes[name])}


def _in_blocks(frames: Sequence[UnrealFrame], rule: SplitRule) -> tuple[Parts, dict[str, Any]]:
    """Contiguous moments; all variants and cameras of a moment stay together."""
    moments = sorted({frame.moment for frame in frames}, key=natural)
    guard = min(_GUARD, len(moments) // _GUARD_SHARE) if rule.guard is None else rule.guard
    blocks = split_blocks([Frame(moment, "", "") for moment in moments], rule.val_fraction, rule.test_fraction, guard)
    part = {frame.id: name for name, block in blocks.items() for frame in block}
    told = {"by": "contiguous parts of one sequence", "guard": guard}
    return _collected(frames, (part.get(frame.moment, "") for frame in frames)), told


def _collected(frames: Sequence[UnrealFrame], names: Iterable[str]) -> Parts:
    parts: Parts = {"train": [], "val": [], "test": []}
    for frame, name in zip(frames, names, strict=True):
        if name in parts:
            parts[name].append(frame)
    return parts
