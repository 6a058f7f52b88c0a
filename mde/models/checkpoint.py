"""Checkpoints that rebuild their own module.

Beside Lightning's own entries a checkpoint of this library has ``checkpoint["mde"]``: plain data that says how the
module is made, under which protocol it was scored and (when the command line trained it) on which data. `load` needs
nothing else, and reads the file with ``weights_only=True``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from mde import __version__
from mde.errors import CheckpointError
from mde.protocol import EvalProtocol
from mde.rebuild import build, without_weights

if TYPE_CHECKING:
    from mde.models.base import DepthModule

__all__ = ["KEY", "find_checkpoint", "load", "read_payload", "write_payload"]

KEY = "mde"
FORMAT = 1


def write_payload(checkpoint: dict[str, Any], model_spec: dict[str, Any], protocol: EvalProtocol | None) -> None:
    """Add the rebuild data to a Lightning checkpoint, keeping what others wrote under the same key."""
    payload = {"format": FORMAT, "version": __version__, "model": model_spec}
    payload["protocol"] = None if protocol is None else protocol.to_dict()
    checkpoint[KEY] = {**checkpoint.get(KEY, {}), **payload}


def find_checkpoint(path: str | Path, first: str = "best.ckpt") -> Path:
    """The file that is meant: of a run's folder its checkpoint, of an experiment's folder that of its newest run.

    Args:
        path: a file, the folder of a run (``runs/quickstart/<date-time>``) or of an experiment (``runs/quickstart``);
            anything else comes back as it is.
        first: "best.ckpt" or "last.ckpt"; the other one where it is missing.
    """
    path = Path(path)
    runs = [path, *sorted(path.glob("*/"), reverse=True)] if path.is_dir() else []
    files = [run / "checkpoints" / name for run in runs for name in (first, "best.ckpt", "last.ckpt")]
    return next((file for file in files if file.is_file()), path)


def read_payload(path: str | Path) -> dict[str, Any]:
    """The rebuild data of a checkpoint file.

    Raises:
        CheckpointError: no such file, not a checkpoint, or one of another library.
    """
    return cast(dict[str, Any], _read(path)[KEY])


def load(path: str | Path, device: str | torch.device = "cpu") -> DepthModule:
    """Make the module that a checkpoint holds, ready to predict.

    Args:
        path: a ``.ckpt`` file of this library, or the folder of a run or an experiment (`find_checkpoint`); nothing
            beside it is read, no network is used.
        device: where to put the weights.

    Raises:
        CheckpointError: no such file, not a checkpoint of this library, or its class cannot be found.
    """
    checkpoint = _read(path)
    payload = checkpoint[KEY]
    if payload.get("format", 0) > FORMAT:
        raise CheckpointError(
            f"written by mde {payload.get('version')}, newer than this {__version__}",
            where=path,
            next_action="upgrade mde",
        )
    with without_weights():
        module = cast("DepthModule", build(payload["model"]))
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights do not fit the module ({str(error).splitlines()[-1].strip()})", where=path
        ) from error
    if payload.get("protocol"):
        module.protocol = EvalProtocol.from_dict(payload["protocol"])
    return module.to(device).eval()


def _read(path: str | Path) -> dict[str, Any]:
    path = find_checkpoint(path)
    if not path.is_file():
        raise CheckpointError(
            "no such checkpoint", where=path, next_action="look under runs/<name>/<date-time>/checkpoints"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # there is no end to what an unpickler raises on bytes that are no pickle
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"not a readable checkpoint ({reason})", where=path, next_action="the file may be cut off: copy it again"
        ) from error
    if not isinstance(checkpoint, dict) or KEY not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(
            "not a checkpoint of this library: it does not say how its module is made",
            where=path,
            next_action="weights of other projects go into an encoder: --model.encoder.weights FILE",
        )
    return checkpoint
