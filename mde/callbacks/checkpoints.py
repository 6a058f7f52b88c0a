"""Checkpoints that are whole or not there: the best by a metric, and the last for going on."""

from __future__ import annotations

import errno
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mde.errors import CheckpointError

__all__ = ["AtomicCheckpointIO", "BestCheckpoint", "LastCheckpoint"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: after a full disk or a kill the previous checkpoint is still whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint to a local path.

        Raises:
            CheckpointError: the file could not be written; a previous one of this name is untouched.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            with open(partial, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise _write_error(error, target) from error


def _write_error(error: Exception, target: Path) -> CheckpointError:
    free = shutil.disk_usage(target.parent).free
    # torch's zip writer reports a short write as RuntimeError, without the errno
    full = (isinstance(error, OSError) and error.errno == errno.ENOSPC) or free < 2**20
    reason = "no space left on the device" if full else str(error).splitlines()[0]
    kept = "the previous checkpoint is whole" if target.exists() else "earlier checkpoints are whole"
    return CheckpointError(
        f"cannot write a checkpoint: {reason} ({free / 1e6:.0f} MB free); {kept}",
        where=target,
        next_action="free space, then go on with --ckpt_path last",
    )


class BestCheckpoint(ModelCheckpoint):
    """``best.ckpt``: the lowest `monitor` so far. A resumed run takes the best of the old folder along.

    Args:
        folder: where to write.
        monitor: logged metric, lower is better.
    """

    def __init__(self, folder: str | Path, monitor: str = "val/abs_rel") -> None:
        super().__init__(
            dirpath=str(folder),
            filename="best",
            monitor=monitor,
            mode="min",
            save_top_k=1,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        old = Path(state_dict.get("best_model_path") or "")
        if state_dict.get("dirpath") == self.dirpath or not old.is_file():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a moved folder without its best: the search starts anew
                super().load_state_dict(state_dict)
            if not old.is_file():
                self.best_model_path = ""
            return
        new = Path(str(self.dirpath)) / old.name
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(old, new)
        score = state_dict["best_model_score"]
        moved = {"dirpath": self.dirpath, "best_model_path": str(new), "kth_best_model_path": str(new)}
        super().load_state_dict({**state_dict, **moved, "best_k_models": {str(new): score}, "last_model_path": ""})

    @property
    def state_key(self) -> str:
        return "mde.BestCheckpoint"


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``: after every training epoch, so that a killed run loses at most the epoch it was in."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__(
            dirpath=str(folder),
            filename="last",
            save_top_k=1,
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Start anew: the file of the run it goes on from stays where it is."""

    @property
    def state_key(self) -> str:
        return "mde.LastCheckpoint"
