"""Intermediate activations of the decoder during the training (paper 3, figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from mde.callbacks.sinks import logger_sinks
from mde.errors import ConfigError
from mde.models import Decoder, DepthModule
from mde.report import activation_figure
from mde.types import Batch

__all__ = ["DecoderActivations"]

_NAME = "DecoderActivations"


class DecoderActivations(Callback):
    """Writes ``activations/epoch_000.png``, ... into the run's folder: the mean activation of each decoder level.

    The picture is always the first one of the validation set, so that epochs can be compared; the same picture goes to
    TensorBoard or W&B where one of them logs. It shows early whether the levels before the output learn anything (paper
    3, section IV.C).

    Args:
        every: epochs between two pictures.

    Raises:
        ConfigError: `every` is below 1, or the network has no decoder of levels.
    """

    def __init__(self, every: int = 1) -> None:
        if every < 1:
            raise ConfigError(f"every must be at least 1, got {every}", where=_NAME)
        self.every = every

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        _decoder(pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        epoch = trainer.current_epoch
        wanted = batch_idx == dataloader_idx == 0 and trainer.is_global_zero and not trainer.sanity_checking
        if not wanted or epoch % self.every or not isinstance(pl_module, DepthModule):
            return
        levels = _levels(pl_module, batch["image"][:1])
        truth = batch["depth"][0], batch["valid"][0]
        figure = activation_figure(batch["image"][0], *truth, levels, title=f"{batch['id'][0]}, epoch {epoch}")
        folder = Path(trainer.default_root_dir) / "activations"
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"epoch_{epoch:03d}.png", dpi=90)
        for sink in logger_sinks(trainer):
            sink.picture("val/activations", figure, trainer.global_step)


@torch.no_grad()
def _levels(module: DepthModule, image: Tensor) -> list[Tensor]:
    """What the decoder gives for one picture, each (C,h,w), coarse to fine."""
    seen: list[Sequence[Tensor]] = []
    hook = _decoder(module).register_forward_hook(lambda _module, _inputs, levels: seen.append(levels))
    try:
        module.raw(image)
    finally:
        hook.remove()
    return [level[0] for level in seen[0]]


def _decoder(module: LightningModule) -> nn.Module:
    decoder = getattr(module, "decoder", None)
    if not isinstance(decoder, Decoder):
        hint = "use it with DenseDepth, UNet or ResNetDepth"
        raise ConfigError(f"{type(module).__name__} has no decoder of levels", where=_NAME, next_action=hint)
    return decoder
