"""The predictions of a trained network on its own data, one frame at a time, in place of a folder of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from mde.errors import CheckpointError
from mde.models import DepthModule
from mde.models.checkpoint import find_checkpoint
from mde.protocol import EvalProtocol
from mde.report.pairs import Case, TruthSet
from mde.report.results import FILE, read_results

__all__ = ["Repredicted", "checkpoint_of"]


class Repredicted:
    """What a network predicts for a split, exactly as a test does it.

    Args:
        module: the network.
        truth: the split.
        protocol: says whether predictions of mirrored and rescaled pictures are averaged.
    """

    def __init__(self, module: DepthModule, truth: TruthSet, protocol: EvalProtocol) -> None:
        self.module, self.truth, self.protocol = module.eval(), truth, protocol

    def __iter__(self) -> Iterator[Case]:
        for item in self.truth.frames:
            with torch.no_grad():
                pred = self.module.decoded(item["image"][None].to(self.module.device), self.protocol)
            yield Case(
                str(item["id"]), pred[0, 0].float().cpu().numpy(), item["depth"][0].numpy(), item["valid"][0].numpy()
            )


def checkpoint_of(run: str | Path) -> Path:
    """The checkpoint of a run: itself, the best of a training's folder, or what a test's ``results.json`` names.

    The folder of an experiment stands for its newest run that has one.

    Raises:
        CheckpointError: there is none.
    """
    path = find_checkpoint(run)
    if path.is_file() and path.suffix == ".ckpt":
        return path
    tested = [file for file in (path / FILE, *sorted(path.glob(f"*/{FILE}"), reverse=True)) if file.is_file()]
    for named in (read_results(file).checkpoint for file in tested):
        if named and Path(named).is_file():
            return Path(named)
    raise CheckpointError(
        "no checkpoint",
        where=run,
        next_action="give a .ckpt file, or the folder of a run that has checkpoints/best.ckpt",
    )
