"""Faster steps: compiled networks and channels-last weights. docs/training.md has what they gave where."""

from __future__ import annotations

import os
import shutil

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from mde.codecs import DepthCodec
from mde.errors import ConfigError
from mde.losses import DepthLoss

__all__ = ["ChannelsLast", "Compile", "network_parts"]


class Compile(Callback):
    """Compiles the parts of the network (encoder, decoder, heads) with ``torch.compile``, in place.

    In place means that names in the state dict stay: checkpoints are those of a run without it. The first steps of
    training and of validation take as long as the compiler does. On a CPU it made steps slower (docs/training.md).

    Args:
        mode: as of ``torch.compile``: "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs".
        dynamic: one program for all sizes; None lets torch decide at the second size.

    Raises:
        ConfigError: the run is on a CPU and there is no C++ compiler, which torch needs there.
    """

    def __init__(self, mode: str = "default", dynamic: bool | None = None) -> None:
        self.mode = mode
        self.dynamic = dynamic

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.strategy.root_device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
            hint = "install g++, set CXX to another one, or leave Compile out"
            raise ConfigError("torch.compile needs a C++ compiler on a CPU", where="Compile", next_action=hint)
        for part in network_parts(pl_module):
            part.compile(mode=self.mode, dynamic=self.dynamic)


class ChannelsLast(Callback):
    """Keeps the network's weights channels-last, as convolutions of most devices like it. Values stay the same.

    DenseDepth and UNet do so by themselves.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for part in network_parts(pl_module):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def network_parts(module: LightningModule) -> list[nn.Module]:
    """The parts with weights: codec and loss are arithmetic that switches autocast, and have none."""
    parts = [part for part in module.children() if not isinstance(part, DepthCodec | DepthLoss)]
    return [part for part in parts if next(part.parameters(), None) is not None]
