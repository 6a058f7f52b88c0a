"""Stops a training run whose loss became NaN or infinite, before it can overwrite a good checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from mde.errors import NonFiniteLossError

__all__ = ["FiniteLossGuard"]


class FiniteLossGuard:
    """Keeps the losses of the last steps with their sample ids, and the mean over the epoch.

    On a CPU every loss is looked at at once. On an accelerator looking means waiting for it, so it looks at the last
    `every` losses together; `check` looks at the rest, and runs before a checkpoint is written.
    """

    def __init__(self, every: int = 25) -> None:
        self.every = every
        self._recent: list[tuple[Tensor, list[str]]] = []
        self._sum: Tensor | None = None
        self._count = 0
        self._folder: str | Path = "."

    def add(self, loss: Tensor, ids: list[str], folder: str | Path) -> None:
        """Note the loss of a step.

        Raises:
            NonFiniteLossError: a noted loss is not finite; its sample ids are in ``<folder>/nonfinite_batch.json``.
        """
        self._folder = folder
        value = loss.detach().float()
        self._recent.append((value, list(ids)))
        self._sum = value.clone() if self._sum is None else self._sum + value
        self._count += 1
        if value.device.type == "cpu" or len(self._recent) >= self.every:
            self.check()

    def epoch_mean(self, folder: str | Path) -> Tensor:
        """Mean loss since the last call; starts anew.

        Raises:
            NonFiniteLossError: as `add`.
        """
        self._folder = folder
        self.check()
        mean = torch.zeros(()) if self._sum is None else self._sum / self._count
        self._sum, self._count = None, 0
        return mean

    def check(self) -> None:
        """Look at the losses that nobody has looked at yet.

        Raises:
            NonFiniteLossError: as `add`.
        """
        recent, self._recent = self._recent, []
        if not recent or bool(torch.isfinite(torch.stack([loss for loss, _ in recent])).all()):
            return
        loss, ids = next((value, names) for value, names in recent if not bool(torch.isfinite(value)))
        path = Path(self._folder) / "nonfinite_batch.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"loss": str(float(loss)), "ids": ids}, indent=1) + "\n")
        raise NonFiniteLossError(
            f"the training loss is {float(loss)} for the batch {', '.join(ids[:4])}{', …' if len(ids) > 4 else ''}",
            where=path,
            next_action="look at these samples, lower the learning rate or clip gradients; "
            "continue from the last good checkpoint with --ckpt_path last",
        )
