"""Results of runs that are on Weights & Biases, or in the folder that it wrote offline."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mde.errors import ConfigError, DataFormatError
from mde.report.results import FILE, Results, read_results
from mde.report.statistics import Interval
from mde.report.wandb_log import read_summary

__all__ = ["read_offline", "read_online"]

_SUMMARY = "wandb-summary.json"


def read_online(path: str, api: Any = None) -> Results:
    """Read a run from its server: its ``results.json`` if it was uploaded, else its summary.

    Args:
        path: entity/project/id.
        api: as of ``wandb.Api()``, which is the default.

    Raises:
        ConfigError: wandb is not installed, or the path has another form.
        DataFormatError: the server cannot be reached, there is no such run, or it was not tested.
    """
    if len([part for part in path.split("/") if part]) != 3:
        raise ConfigError(f"not a run on W&B: {path!r}", next_action="write wandb:entity/project/id")
    try:
        run = (_api() if api is None else api).run(path)
        with tempfile.TemporaryDirectory() as folder:
            if any(file.name == FILE for file in run.files([FILE])):
                run.file(FILE).download(root=folder, replace=True)
                return read_results(Path(folder) / FILE)
        return _from_summary(dict(run.summary), f"wandb:{path}")
    except (ConfigError, DataFormatError):
        raise
    except Exception as error:  # wandb raises what its server, its login and requests do
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "check the path, the network and `wandb login`, or give the local folder of the run"
        raise DataFormatError(f"W&B gave no run ({reason})", where=f"wandb:{path}", next_action=hint) from error


def read_offline(folder: Path) -> Results:
    """Read the summary in a folder ``wandb/offline-run-…`` or ``wandb/run-…``.

    Raises:
        DataFormatError: it has no summary, or the run was not tested.
    """
    files = folder / "files"
    try:
        if (files / FILE).is_file():
            return read_results(files / FILE)
        log = next(folder.glob("*.wandb"), None)
        if log is not None and not (files / _SUMMARY).is_file():  # W&B 0.31 has the summary in its log alone
            return _from_summary(read_summary(log), folder)
        summary = json.loads((files / _SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = "give the results.json of the run, or `wandb sync` the folder and give wandb:entity/project/id"
        raise DataFormatError(f"no summary of W&B ({error})", where=folder, next_action=hint) from error
    return _from_summary(summary, folder)


def _api() -> Any:
    try:
        import wandb
    except ImportError as error:
        hint = 'pip install "mde[wandb]", or give the local folder of the run'
        raise ConfigError("runs on W&B need its library", where="wandb", next_action=hint) from error
    return wandb.Api()


def _from_summary(summary: Mapping[str, Any], where: object) -> Results:
    """The way back from `mde.callbacks.panels.summary_of`, as far as there is one."""
    numbers = {key: float(value) for key, value in summary.items() if _is_number(value)}
    metrics = _below("test/", numbers)
    rate = metrics.pop("images_per_second", None)
    if not metrics:
        raise DataFormatError("the run has no test/… in its summary", where=where, next_action="test it: mde test")
    return Results(
        metrics=metrics,
        protocol={key: summary[f"protocol/{key}"] for key in ("name", "fingerprint") if f"protocol/{key}" in summary},
        images=int(numbers.get("data/images", 0)),
        skipped=int(numbers.get("data/skipped", 0)),
        degenerate=int(numbers.get("data/degenerate", 0)),
        intervals={
            name: Interval(numbers[f"test/{name}/low"], numbers[f"test/{name}/high"])
            for name in metrics
            if {f"test/{name}/low", f"test/{name}/high"} <= numbers.keys()
        },
        baseline=_below("constant/", numbers) or None,
        extra=_below("extra/", numbers),
        model=str(summary.get("method", "")),
        data=str(summary.get("data/name", "")),
        parameters={"total": int(numbers["parameters"])} if "parameters" in numbers else {},
        weights_hash=summary.get("weights"),
        images_per_second=rate,
    )


def _below(head: str, numbers: Mapping[str, float]) -> dict[str, float]:
    """What stands directly below a head, by the rest of its name."""
    found = {key.removeprefix(head): value for key, value in numbers.items() if key.startswith(head)}
    return {key: value for key, value in found.items() if "/" not in key}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
