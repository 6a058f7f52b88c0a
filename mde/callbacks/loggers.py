"""Loggers beside the CSV of every run: made by name, placed in the folder of the run, and closed after it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from mde.errors import ConfigError

__all__ = ["PROJECT", "closing", "make_loggers", "place_loggers"]

PROJECT = "mde"
"""On W&B, where neither a setting nor WANDB_PROJECT names one."""


def make_loggers(names: str, folder: Path) -> list[Logger]:
    """Loggers by name, which write into the folder of the run.

    A run on W&B is named as its folder, ``<experiment>/<date-time>``. Project, team and mode are those of W&B's own
    variables WANDB_PROJECT (else "mde"), WANDB_ENTITY and WANDB_MODE.

    Args:
        names: of "wandb" and "tensorboard", with commas between them; "" gives none.
        folder: of the run.

    Raises:
        ConfigError: another name, or a package is not installed.
    """
    made = []
    for name in filter(None, (each.strip() for each in names.split(","))):
        if name not in _MAKERS:
            hint = f"use one or both of {', '.join(_MAKERS)}, such as --run.log wandb"
            raise ConfigError(f"unknown logger {name!r}", where="--run.log", next_action=hint)
        try:
            made.append(_MAKERS[name](folder))
        except ModuleNotFoundError as error:
            hint = f"pip install 'mde[{name}]'"
            raise ConfigError(f"{name} is not installed", where="--run.log", next_action=hint) from error
    return made


def place_loggers(given: Any, folder: Path) -> None:
    """Let W&B loggers of a configuration write into the folder of the run, where they name no place of their own.

    Lightning's default is the current folder. A missing name and project become those of `make_loggers`.

    Args:
        given: ``trainer.logger`` as parsed, before it is instantiated: a namespace of class_path and init_args, a list
            of them, or anything else, which stays. Changed in place.
        folder: of the run.
    """
    for each in given if isinstance(given, list) else [given]:
        if str(getattr(each, "class_path", "")).rpartition(".")[2] == WandbLogger.__name__:
            arguments = each.init_args
            if arguments.get("save_dir") in (None, ".") and arguments.get("dir") is None:
                arguments["save_dir"] = str(folder)
            arguments["name"] = arguments.get("name") or _run_name(folder)
            arguments["project"] = arguments.get("project") or _project()


@contextmanager
def closing(loggers: Sequence[Logger]) -> Iterator[None]:
    """End the run on W&B afterwards, as failed if the block raises: the next one of this process gets its own.

    Lightning leaves it open until the process ends.
    """
    code = 1
    try:
        yield
        code = 0
    finally:
        if any(isinstance(logger, WandbLogger) for logger in loggers):
            import wandb

            if wandb.run is not None:
                wandb.finish(exit_code=code)


def _run_name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def _project() -> str:
    return os.environ.get("WANDB_PROJECT", PROJECT)


def _wandb(folder: Path) -> Logger:
    return WandbLogger(name=_run_name(folder), project=_project(), save_dir=folder)


def _tensorboard(folder: Path) -> Logger:
    return TensorBoardLogger(folder, name="tensorboard", version="")


_MAKERS = {"wandb": _wandb, "tensorboard": _tensorboard}
