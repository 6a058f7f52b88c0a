"""Tested runs: where they are found, and how they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mde.errors import DataFormatError, MdeError
from mde.report.results import FILE, Results, add_intervals, read_results
from mde.report.scores import CONSTANT_FILE, ImageScores
from mde.report.scores import FILE as SCORES_FILE

__all__ = ["ScoredRun", "read_run", "read_runs"]

_WANDB = "wandb:"
_STAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d+)?")  # of `mde.cli.runs.new_run_folder`
_LENGTH = 19  # of its date and time; what follows tells runs of one second apart


@dataclass(frozen=True)
class ScoredRun:
    """What a test found, with its errors per image where they are there.

    Attributes:
        name: in tables.
        source: the file or the address it was read from.
        results: of the test; intervals that the file lacks are computed from `scores`.
        scores: of each image; None where there is no ``per_image.csv``.
    """

    name: str
    source: str
    results: Results
    scores: ImageScores | None = None


def read_run(run: str | Path) -> ScoredRun:
    """Read one run.

    Args:
        run: the folder of a run, of an experiment (its newest run), a ``results.json``, a folder that W&B wrote
            offline, or ``wandb:entity/project/id``; with ``NAME=`` before it to give it a name.

    Raises:
        DataFormatError: nothing there, cut off, or of a newer version.
        ConfigError: a run on W&B, and its library is not installed.
    """
    name, place = _split(str(run))
    if place.startswith(_WANDB) and not Path(place).exists():
        from mde.report.wandb_runs import read_online

        return ScoredRun(name or place, place, read_online(place.removeprefix(_WANDB)))
    path = _results_file(Path(place))
    if path.is_dir():
        from mde.report.wandb_runs import read_offline

        return ScoredRun(name or path.name, str(path), read_offline(path))
    results, scores = read_results(path), _scores(path.with_name(SCORES_FILE))
    _complete(results, scores, path)
    return ScoredRun(name or _names(path)[0], str(path), results, scores)


def read_runs(runs: Sequence[str | Path]) -> list[ScoredRun]:
    """Read several runs, each with a name of its own.

    Raises:
        DataFormatError: some cannot be read; tells all of them.
    """
    made, problems = [], []
    for run in runs:
        try:
            made.append(read_run(run))
        except MdeError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        lines = "".join(f"\n  {error}" for error in problems)
        raise DataFormatError(f"{len(problems)} of {len(runs)} runs cannot be read:{lines}")
    return _distinct(made, [bool(_split(str(run))[0]) for run in runs])


# ---- finding ---------------------------------------------------------------------------------------------------------


def _split(run: str) -> tuple[str, str]:
    """The name before ``=``, and the place; a path may have such a sign in it."""
    name, sign, place = run.partition("=")
    return (name, place) if sign and name and place and not Path(run).exists() else ("", run)


def _results_file(path: Path) -> Path:
    """The file of results of a place, or the folder of a run that W&B keeps offline."""
    if path.is_file():
        return path
    if not path.is_dir():
        hint = "give the folder of a run, its results.json, or wandb:entity/project/id"
        raise DataFormatError("no such file or folder", where=path, next_action=hint)
    if (path / FILE).is_file():
        return path / FILE
    if (path / "files").is_dir():
        return path
    tested = sorted(path.glob(f"*/{FILE}"))
    dated = [file for file in tested if _STAMP.fullmatch(file.parent.name)]
    if not dated and len(tested) != 1:
        what = f"{len(tested)} runs in it" if tested else f"no {FILE} in it"
        raise DataFormatError(what, where=path, next_action=_hint_for(path, tested))
    return max(dated or tested, key=lambda file: (file.parent.name[:_LENGTH], file.stat().st_mtime))


def _hint_for(path: Path, tested: Sequence[Path]) -> str:
    folders = [str(file.parent) for file in tested] or sorted(
        {str(file.parents[1]) for file in path.glob(f"*/*/{FILE}")}
    )
    if folders:
        more = f" and {len(folders) - 10} more" if len(folders) > 10 else ""
        return f"give one by one: {' '.join(folders[:10])}{more}"
    return "test the network: mde test --ckpt_path FILE" if any(path.rglob("*.ckpt")) else "give the folder of a run"


def _scores(path: Path) -> ImageScores | None:
    return ImageScores.read(path) if path.exists() else None


def _complete(results: Results, scores: ImageScores | None, path: Path) -> None:
    """Intervals that a file of an older version lacks."""
    if scores is not None and not results.intervals:
        add_intervals(results, scores, _scores(path.with_name(CONSTANT_FILE)))


# ---- names -----------------------------------------------------------------------------------------------------------


def _names(path: Path) -> list[str]:
    """What a run may be called, shortest first: ``runs/<experiment>/<date-time>/results.json``."""
    folder = path.resolve().parent
    parts = folder.parts[1:]
    last = -2 if _STAMP.fullmatch(folder.name) and len(parts) > 1 else -1
    return [parts[last] if parts else "run", *("/".join(parts[-n:]) for n in range(-last, len(parts) + 1))]


def _distinct(runs: Sequence[ScoredRun], named: Sequence[bool]) -> list[ScoredRun]:
    """The runs with the shortest names that differ; the same run twice gets a number."""
    choices = [
        [run.name] if given or run.source.startswith(_WANDB) else _names(Path(run.source))
        for run, given in zip(runs, named, strict=True)
    ]
    names = [each[0] for each in choices]
    for length in range(1, max(map(len, choices), default=0)):
        sources: dict[str, set[str]] = {}
        for run, name in zip(runs, names, strict=True):
            sources.setdefault(name, set()).add(run.source)
        names = [
            each[min(length, len(each) - 1)] if len(sources[name]) > 1 else name
            for name, each in zip(names, choices, strict=True)
        ]
    seen: dict[str, int] = {}
    made = []
    for run, name in zip(runs, names, strict=True):
        seen[name] = seen.get(name, 0) + 1
        made.append(replace(run, name=name if seen[name] == 1 else f"{name} ({seen[name]})"))
    return made
