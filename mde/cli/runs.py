"""Run folders: every run gets one of its own, ``<root>/<name>/<date-time>``, and none touches another's."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from mde.errors import CheckpointError

__all__ = ["discard_empty_run_folder", "last_checkpoint", "new_run_folder"]

_VARIABLE = "MDE_RUN_FOLDER"  # rank 0 makes the folder, the processes that Lightning starts inherit its name


def new_run_folder(root: str | Path, name: str) -> Path:
    """Make a new, empty folder; two runs that start in the same second get two folders."""
    if "LOCAL_RANK" in os.environ and _VARIABLE in os.environ:
        return Path(os.environ[_VARIABLE])
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    number = 1
    while True:
        folder = Path(root) / name / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            os.environ[_VARIABLE] = str(folder)
            return folder


def discard_empty_run_folder() -> None:
    """Remove this process's run folder if nothing was written into it: a command that failed before it began."""
    folder = os.environ.pop(_VARIABLE, None)
    if folder is not None:
        with suppress(OSError):  # not empty, or made by another
            Path(folder).rmdir()


def last_checkpoint(root: str | Path, name: str) -> Path:
    """The newest ``last.ckpt`` of the runs of this name.

    Raises:
        CheckpointError: no run of this name has one.
    """
    found = (Path(root) / name).glob("*/checkpoints/last.ckpt")
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        raise CheckpointError(
            "no run to go on with: no last.ckpt",
            where=Path(root) / name,
            next_action="start one without --ckpt_path, or give the checkpoint's path",
        )
    return newest
