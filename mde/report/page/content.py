"""What goes into a report: the methods, their results, and the images that they have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mde.errors import ConfigError, DataFormatError, ProtocolMismatchError, nearest
from mde.report.comparable import differences
from mde.report.curves import Curves, read_curves
from mde.report.results import Results
from mde.report.runs import ScoredRun, read_runs
from mde.report.samples import Sample, Samples, read_samples
from mde.report.scores import FILE as SCORES_FILE
from mde.report.scores import ImageScores

__all__ = ["Content", "Method", "Shown", "gather"]

WORST = 20
"""Images of the list of the worst."""


@dataclass(frozen=True)
class Method:
    """One run.

    Attributes:
        run: what its test found; its name is that on the page.
        curves: what its training logged; empty where it logged nothing.
        samples: the images that it kept; None where it kept none.
    """

    run: ScoredRun
    curves: Curves
    samples: Samples | None

    @property
    def name(self) -> str:
        """On the page."""
        return self.run.name

    @property
    def results(self) -> Results:
        """Of the test."""
        return self.run.results

    @property
    def scores(self) -> ImageScores | None:
        """Errors per image; None where the run has none."""
        return self.run.scores

    def errors(self) -> Mapping[str, float]:
        """abs_rel by image, of all images where there are `scores`, otherwise of those that were kept."""
        if self.scores is not None and "abs_rel" in self.scores.values:
            return dict(zip(self.scores.ids, self.scores.values["abs_rel"].tolist(), strict=True))
        return {} if self.samples is None else {image.id: image.abs_rel for image in self.samples.images}


@dataclass(frozen=True)
class Shown:
    """An image with what the methods made of it.

    Attributes:
        id: stable sample id.
        samples: by method; a method without this image, or with another truth, is not there.
    """

    id: str
    samples: dict[str, Sample]

    @property
    def truth(self) -> Sample:
        """The first method's, for picture, truth and camera."""
        return next(iter(self.samples.values()))

    @property
    def has_camera(self) -> bool:
        """Whether the camera is known."""
        return bool(np.isfinite(self.truth.intrinsics).all())


@dataclass(frozen=True)
class Content:
    """All that the page shows.

    Attributes:
        methods: in the order given; their names differ.
        gallery: ids of the images spread over the set.
        worst: (id, abs_rel by method), the largest of the first method first.
        notes: what is missing, or must be known to read the numbers.
        mismatches: by method, how its protocol or data differ from the first's; only where that was forced.
    """

    methods: Sequence[Method]
    gallery: Sequence[str]
    worst: Sequence[tuple[str, dict[str, float]]]
    notes: Sequence[str]
    mismatches: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def shown(self, sample_id: str, width: int) -> Shown | None:
        """An image of the samples at most `width` pixels wide; None where no method kept it.

        Raises:
            DataFormatError: a sample is damaged.
        """
        read = {m.name: m.samples.read(sample_id) for m in self.methods if m.samples is not None}
        found = {name: sample for name, sample in read.items() if sample is not None}
        if not found:
            return None
        truth = next(iter(found.values())).depth
        same = {name: s.thinned(width) for name, s in found.items() if np.array_equal(s.depth, truth)}
        return Shown(sample_id, same)

    @property
    def ids(self) -> list[str]:
        """Of all images on the page: the gallery, then the worst."""
        return list(dict.fromkeys([*self.gallery, *(sample_id for sample_id, _ in self.worst)]))

    def require_kept(self, ids: Sequence[str]) -> None:
        """Refuse ids that no method kept.

        Raises:
            ConfigError: counts them, and lists the first ten and what is nearest.
        """
        kept = [image.id for method in self.methods if method.samples is not None for image in method.samples.images]
        unknown = [sample_id for sample_id in ids if sample_id not in kept]
        if unknown and not kept:
            hint = "test again: `mde test` keeps some images of the set"
            raise ConfigError("none of these runs kept images (no folder samples/)", next_action=hint)
        if unknown:
            listed = ", ".join(unknown[:10]) + ("" if len(unknown) <= 10 else f" and {len(unknown) - 10} more")
            hint = f"nearest: {nearest(unknown[0], kept)}"
            raise ConfigError(f"{len(unknown)} image(s) not among those kept: {listed}", next_action=hint)


def gather(runs: Sequence[str | Path], *, force: bool = False) -> Content:
    """Read runs and check that they can stand side by side.

    Args:
        runs: as of `mde.report.runs.read_runs`, in the order of the page.
        force: put runs side by side whose protocols or data differ; `Content.mismatches` says how.

    Raises:
        ConfigError: no run is given.
        DataFormatError: results of a run are missing or damaged; all of them are named.
        ProtocolMismatchError: runs under different protocols or on different data, without `force`.
    """
    if not runs:
        raise ConfigError("no run to report", next_action="give the folder of a run")
    notes: list[str] = []
    methods = [_with_pictures(run, notes) for run in read_runs(runs)]
    mismatches = _mismatches(methods)
    if mismatches and not force:
        what = "; ".join(f"{name}: {', '.join(found)}" for name, found in mismatches.items())
        hint = f"evaluate them under the protocol and on the data of {methods[0].name}, or give --force to mark them"
        raise ProtocolMismatchError(f"not comparable with {methods[0].name}: {what}", next_action=hint)
    for method in methods:
        notes += _notes(method)
    notes += _gaps(methods)
    kept = [image.id for m in methods if m.samples is not None for image in m.samples.images if image.spread]
    return Content(methods, list(dict.fromkeys(kept)), _worst(methods), notes, mismatches)


def _mismatches(methods: Sequence[Method]) -> dict[str, list[str]]:
    found = {other.name: differences(methods[0].run, other.run) for other in methods[1:]}
    return {name: each for name, each in found.items() if each}


def _with_pictures(run: ScoredRun, notes: list[str]) -> Method:
    """What lies beside the results; a run on W&B has nothing there."""
    folder = Path(run.source).parent
    if not Path(run.source).is_file():
        return Method(run, {}, None)
    samples, curves = read_samples(folder), Curves()
    if samples is not None and samples.fingerprint != run.results.protocol.get("fingerprint"):
        notes.append(f"{run.name}: the images in samples/ are of another test (other protocol) and are left out.")
        samples = None
    if (folder / "metrics.csv").exists():
        try:
            curves = read_curves(folder)
        except (DataFormatError, ValueError, TypeError):  # a log that was cut off is no reason to have no report
            notes.append(f"{run.name}: metrics.csv is damaged, there are no curves of its training.")
    return Method(run, curves, samples)


def _notes(method: Method) -> list[str]:
    made, alignment = [], method.results.protocol.get("alignment", "none")
    if method.samples is None:
        made.append(
            f"{method.name}: no pictures: the run kept no images (folder samples/), test it again to have them."
        )
    elif method.samples.ambiguity != "metric":
        kind = method.samples.ambiguity.replace("_", " ")
        made.append(
            f"{method.name} predicts {kind}, not metres: its pictures and points are shown after the protocol's "
            f"alignment ({alignment}) to the truth of each image."
        )
    elif alignment != "none":
        made.append(f"{method.name}: shown after the protocol's alignment ({alignment}) to the truth of each image.")
    if method.scores is None:
        made.append(f"{method.name}: no errors per image ({SCORES_FILE}): the worst are those among the kept images.")
    if method.results.skipped:
        made.append(f"{method.name}: {method.results.skipped} image(s) without one pixel to score are in no average.")
    return made


def _gaps(methods: Sequence[Method]) -> list[str]:
    """Images of the gallery that a method did not keep, or whose truth is another."""
    made, first = [], methods[0].samples
    for other in methods[1:]:
        if first is None or other.samples is None:
            continue
        wanted = [image.id for image in first.images if image.spread]
        missing = [sample_id for sample_id in wanted if other.samples.find(sample_id) is None]
        if missing:
            made.append(f"{other.name}: {len(missing)} image(s) of the gallery not kept: {', '.join(missing[:10])}.")
        for sample_id in (each for each in wanted if each not in missing):
            one, two = first.read(sample_id), other.samples.read(sample_id)
            if one is not None and two is not None and not np.array_equal(one.depth, two.depth):
                made.append(f"{other.name}: the truth of {sample_id} is not that of {methods[0].name}: left out.")
    return made


def _worst(methods: Sequence[Method]) -> list[tuple[str, dict[str, float]]]:
    """Ids with the largest abs_rel of the first method, with the number of each method."""
    errors = [method.errors() for method in methods]
    finite = [(value, sample_id) for sample_id, value in errors[0].items() if math.isfinite(value)]
    chosen = [sample_id for _, sample_id in sorted(finite, key=lambda each: (-each[0], each[1]))[:WORST]]
    return [
        (sample_id, {m.name: e.get(sample_id, math.nan) for m, e in zip(methods, errors, strict=True)})
        for sample_id in chosen
    ]
