"""``mde dashboard``: the workspace on W&B that compares runs."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mde.cli.arguments import Parser
from mde.errors import ConfigError, nearest

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

__all__ = ["make_parser", "run"]

_SWEEP = Path(__file__).parent.parent / "configs" / "wandb" / "sweep.yaml"
_OFFLINE = "without a login the spec is there by --dry-run"


def run(words: Sequence[str]) -> int:
    """Build the workspace and save it as a view of the project, or print its spec.

    Raises:
        ConfigError: the extra is not installed, a metric is unknown, nobody is logged in, or W&B refuses.
    """
    options = make_parser().parse_args(list(words))
    if options.print_sweep:
        print(_SWEEP.read_text(), end="")
        return 0
    entity, project = _place(options.project)
    workspace = _build(entity, project, options)
    if options.dry_run:
        spec = json.dumps(workspace._to_model().model_dump(by_alias=True, exclude_none=True), indent=2)
        _write(spec, options.output)
    else:
        _save(workspace)
    return 0


def _build(entity: str, project: str, options: argparse.Namespace) -> Workspace:
    try:
        from mde.cli.workspace import METRICS, build_workspace
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("mde"):
            raise
        what = f"the dashboard needs the package {error.name}"
        raise ConfigError(what, where="mde dashboard", next_action="pip install 'mde[dashboard]'") from error
    from mde.metrics import NAMES

    metrics = tuple(options.metrics.split(",")) if options.metrics else METRICS
    if unknown := [name for name in metrics if name not in NAMES]:
        hint = f"nearest: {nearest(unknown[0], NAMES)}"
        raise ConfigError(f"unknown metric {unknown[0]!r}", where="--metrics", next_action=hint)
    return build_workspace(entity, project, options.name, metrics, options.protocol)


def _place(given: str | None) -> tuple[str, str]:
    """Team and project; the team may be "" for the user's own."""
    team, slash, project = (given or "").rpartition("/")
    if "/" in team or (slash and not (team and project)):
        raise ConfigError(f"not a project: {given!r}", where="PROJECT", next_action="write PROJECT or TEAM/PROJECT")
    # as the runs are placed, see mde.callbacks.loggers
    return team or os.environ.get("WANDB_ENTITY", ""), project or os.environ.get("WANDB_PROJECT", "mde")


def _save(workspace: Workspace) -> None:
    import wandb

    try:
        if not workspace.entity:
            workspace.entity = wandb.Api().default_entity or ""
        workspace.save()
    except wandb.errors.UsageError as error:
        hint = f"wandb login, or set WANDB_API_KEY; {_OFFLINE}"
        raise ConfigError("not logged in to W&B", where="mde dashboard", next_action=hint) from error
    except (wandb.errors.Error, OSError, ValueError) as error:
        hint = f"check the network, the login (wandb login --verify) and the project's name; {_OFFLINE}"
        what = f"W&B did not take the workspace: {' '.join(str(error).split())}"
        place = f"{workspace.entity}/{workspace.project}"
        raise ConfigError(what, where=place, next_action=hint) from error


def _write(spec: str, path: Path | None) -> None:
    if path is None:
        print(spec)
    else:
        path.write_text(f"{spec}\n")
        print(f"Written: {path}")


def make_parser() -> Parser:
    made = Parser(
        "dashboard",
        "Make a workspace on W&B that compares methods: bars of each method on each data set, errors by range, "
        "pictures, curves and the table of runs. Runs under different protocols never share a bar.",
        [
            "mde dashboard my-team/depth --protocol nyu_eigen",
            "mde dashboard --dry-run",
            "mde dashboard --print-sweep > sweep.yaml && wandb sweep sweep.yaml",
        ],
        "Runs are sent by `mde fit --run.log wandb` and `mde test --run.log wandb`.",
    )
    made.add_argument(
        "project",
        nargs="?",
        metavar="[TEAM/]PROJECT",
        help="default: WANDB_ENTITY and WANDB_PROJECT, else your own team and mde",
    )
    made.add_argument("--name", default="Methods", help="of the view (default Methods)")
    made.add_argument("--metrics", metavar="A,B", help="bars and columns; the first orders the runs (abs_rel,rmse,...)")
    made.add_argument("--protocol", help="name or fingerprint; default: runs of all protocols, apart from each other")
    made.add_argument("--dry-run", action="store_true", help="print the spec of the workspace; needs no network")
    made.add_argument("-o", "--output", type=Path, metavar="FILE", help="where --dry-run writes the spec")
    made.add_argument("--print-sweep", action="store_true", help="print a sweep for `wandb sweep` to copy and change")
    return made
