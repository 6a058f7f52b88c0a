"""Averaged weights: Lightning's callback, made safe for a test after the training."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from mde.errors import ConfigError

__all__ = ["AveragedWeights"]


class AveragedWeights(EMAWeightAveraging):
    """Exponential moving average of the weights and of batch norm's statistics: what is validated, saved and tested.

    B. Polyak and A. Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992. A checkpoint's
    ``state_dict``, and so `mde.load`, has the averages; the weights to go on from lie beside it.

    Lightning's own callback, when it meets such a checkpoint in a test that follows the training, fills the network
    with the weights to go on from; this one leaves the averages in.

    Args:
        decay: share of the old average that a step keeps, in [0, 1); it reaches back about 1 / (1 - decay) steps.
        first_step: optimizer step from which on it averages; until then the average is the start.

    Raises:
        ConfigError: `decay` is out of range.
    """

    def __init__(self, decay: float = 0.999, first_step: int = 0) -> None:
        if not 0 <= decay < 1:
            hint = "0.99 suits thousands of steps, 0.999 ten times as many"
            raise ConfigError(f"decay is in [0, 1), got {decay}", where="AveragedWeights", next_action=hint)
        super().__init__(decay=decay, update_starting_at_step=first_step)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn is TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
