"""The pass before a test that finds the constants of a whole set (`EvalProtocol.alignment_scope`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import torch
from torch.utils.data import DataLoader

from mde.alignment import Fit, GlobalFit
from mde.errors import ConfigError
from mde.protocol import EvalProtocol
from mde.types import Batch

if TYPE_CHECKING:
    from mde.models.base import DepthModule

__all__ = ["OffersAlignmentFrames", "find_constants"]


@runtime_checkable
class OffersAlignmentFrames(Protocol):
    """A data module whose training frames can be seen as those of a test."""

    def alignment_dataloader(self) -> DataLoader[Batch]:
        """The training frames in the order of the set, not augmented, with the truth at its own size."""


def find_constants(module: DepthModule, protocol: EvalProtocol, loader: Any, batches: float) -> Fit:
    """One fit for the whole set that the protocol names; each process sees its share, all get the same constants.

    Args:
        module: with a trainer; its predictions are those of the test, test-time averaging included.
        protocol: its `alignment_scope` is "set" or "train".
        loader: of the test.
        batches: how many of its batches the test takes.

    Raises:
        ConfigError: the training frames are needed, and the data module does not offer them.
    """
    whole = GlobalFit(protocol.alignment, protocol.alignment_pooling)
    own = protocol.alignment_scope == "set"
    for index, batch in _batches(loader, batches) if own else _training_batches(module):
        batch = module.trainer.strategy.batch_to_device(batch)
        with module.trainer.precision_plugin.forward_context():
            pred = module.decoded(batch["image"], protocol)
        depth, valid = batch["depth"], batch["valid"]
        resized = protocol.resized(pred, depth, valid, module.ambiguity)
        whole.update(resized, depth, protocol.mask(depth, valid), module.counted(index, loader) if own else None)
    made = _joined(whole).compute()
    return Fit(*(constant.to(module.device) for constant in made))


def _batches(loader: Any, batches: float) -> Iterator[tuple[int, Batch]]:
    limit = None if batches == float("inf") else int(batches)
    return enumerate(islice(cast(Iterable[Batch], loader), limit))


def _training_batches(module: DepthModule) -> Iterator[tuple[int, Batch]]:
    """This process's share: every n-th batch."""
    trainer = module.trainer
    datamodule = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, OffersAlignmentFrames):
        what = f"{type(datamodule).__name__} offers no training frames to find the constants on"
        hint = "give it alignment_dataloader(), or set alignment_scope to set"
        raise ConfigError(what, where="protocol.alignment_scope", next_action=hint)
    yield from islice(enumerate(datamodule.alignment_dataloader()), trainer.global_rank, None, trainer.world_size)


def _joined(own: GlobalFit) -> GlobalFit:
    """What all processes found together."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    whole = GlobalFit(own.mode, own.pooling)
    for each in found:
        whole.merge(each)
    return whole
