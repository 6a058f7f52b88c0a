"""Gradual unfreezing: the encoder's stages join the training one after the other, the coarsest first."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch import Callback, LightningModule, Trainer

from mde.errors import ConfigError
from mde.models import Encoder

__all__ = ["GradualUnfreezing"]

_NAME = "GradualUnfreezing"


class GradualUnfreezing(Callback):
    """Changes how many stages of the encoder are frozen at the start of given epochs.

    J. Howard and S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, section 3.3. The
    encoder starts with its own ``frozen_stages``. What is ever thawed is in the optimizer from the beginning, in the
    group that `DepthModule.group_of` gives it: an optimizer passes by what has no gradient. So schedules keep their
    groups, and a resumed run needs nothing but its epoch.

    Args:
        stages: epoch (from 0) -> `frozen_stages` from then on, such as ``{2: 3, 4: 0}``.

    Raises:
        ConfigError: no epoch or a negative one is given, the network has no `Encoder`, its encoder is not frozen at the
            start, a number of stages is out of range, or the run has several processes.
    """

    def __init__(self, stages: Mapping[int, int]) -> None:
        if not stages or min(stages) < 0:
            hint = "give epoch: frozen stages, such as {2: 3, 4: 0}"
            raise ConfigError(f"stages need epochs from 0 on, got {dict(stages)}", where=_NAME, next_action=hint)
        self.stages = {int(epoch): int(count) for epoch, count in stages.items()}
        self._first = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if trainer.world_size > 1:  # they exchange the gradients of what was trained when they started, and no others
            raise ConfigError("works in one process only", where=_NAME, next_action="use --trainer.devices 1")
        encoder = _encoder(pl_module)
        self._first = encoder.frozen_stages
        if self._first == 0:
            hint = "give it frozen_stages -1"
            raise ConfigError("the encoder is not frozen at the start", where=_NAME, next_action=hint)
        least = min(len(encoder.channels) if count == -1 else count for count in self.stages.values())
        encoder.freeze(min(least, self._first))  # for the optimizer, which is made next

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        encoder = _encoder(pl_module)
        reached = [epoch for epoch in self.stages if epoch <= trainer.current_epoch]
        count = self.stages[max(reached)] if reached else self._first
        if encoder.frozen_stages != (len(encoder.channels) if count == -1 else count):
            encoder.freeze(count)
            pl_module.train(pl_module.training)  # a method may have its own idea of what stays in evaluation mode


def _encoder(module: LightningModule) -> Encoder:
    encoder = getattr(module, "encoder", None)
    if not isinstance(encoder, Encoder):
        hint = "use a method with an encoder, such as DenseDepth"
        raise ConfigError(f"{type(module).__name__} has no encoder of stages", where=_NAME, next_action=hint)
    return encoder
