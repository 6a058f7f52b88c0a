"""Curriculum of resolution: the early epochs see smaller pictures and cost less, the last ones see the full size."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from mde.errors import ConfigError
from mde.geometry import intrinsics_at
from mde.models import Encoder
from mde.resizing import resize_truth, resized
from mde.types import Batch

__all__ = ["ResolutionCurriculum", "resize_batch"]

_NAME = "ResolutionCurriculum"
_DEFAULT = {0.0: 0.5, 0.5: 1.0}


def resize_batch(batch: Batch, size: tuple[int, int]) -> None:
    """Make the pictures of a batch smaller, in place, with everything that belongs to their pixels.

    Pictures (`right` among them) are resized bilinearly with antialiasing, depth and mask by nearest neighbour; the
    intrinsics follow exactly, and a `baseline` is in metres and stays.

    Args:
        batch: of training: the truth has the size of the picture.
        size: (height, width).
    """
    batch["depth"], batch["valid"] = resize_truth(batch["depth"], batch["valid"], size)
    batch["intrinsics"] = intrinsics_at(batch, size)  # asks for the size of the picture as it was
    batch["image"] = resized(batch["image"], size)
    if "right" in batch:
        batch["right"] = resized(batch["right"], size)


class ResolutionCurriculum(Callback):
    """Trains on smaller pictures first; validation and test always have the full size.

    The size follows from the epoch alone, so a resumed run goes on as it would have. Related: M. Tan and Q. Le,
    "EfficientNetV2: Smaller Models and Faster Training", ICML 2021, section 4, who let regularisation grow with the
    size; here the size alone changes.

    Args:
        sizes: share of the training (from 0) -> share of the full height and width from then on; both rise, and the
            last size is 1. The default trains the first half of the epochs at half the size.
        multiple: heights and widths below the full ones are rounded to a multiple of this; None takes the patch of a
            vision transformer, and 1 for any other network.

    Raises:
        ConfigError: shares or sizes do not rise from 0 or to 1, `multiple` is below 1, or the training has no
            ``max_epochs``.
    """

    def __init__(self, sizes: Mapping[float, float] | None = None, multiple: int | None = None) -> None:
        self.sizes = dict(sorted((float(k), float(v)) for k, v in (sizes or _DEFAULT).items()))
        starts, shares = list(self.sizes), list(self.sizes.values())
        if starts[0] != 0 or starts[-1] >= 1 or shares[0] <= 0 or shares[-1] != 1 or shares != sorted(shares):
            what = f"sizes must start at 0 and rise to 1 before the end, got {self.sizes}"
            hint = "give share of the training: share of the size, such as {0: 0.5, 0.5: 1}"
            raise ConfigError(what, where=f"{_NAME}.sizes", next_action=hint)
        if multiple is not None and multiple < 1:
            hint = "leave it out, or give such as 14 for a network of patches of 14 pixels"
            raise ConfigError(f"must be at least 1, is {multiple}", where=f"{_NAME}.multiple", next_action=hint)
        self.multiple = multiple
        self._share, self._step = 1.0, 1

    def share_at(self, epoch: int, epochs: int) -> float:
        """Share of the full height and width in an epoch (from 0) of so many.

        >>> [ResolutionCurriculum({0: 0.5, 0.5: 0.75, 0.75: 1}).share_at(epoch, 4) for epoch in range(4)]
        [0.5, 0.5, 0.75, 1.0]
        """
        # the tolerance is for shares such as 0.3 of 10 epochs
        return [share for start, share in self.sizes.items() if start <= epoch / epochs + 1e-9][-1]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and (trainer.max_epochs is None or trainer.max_epochs < 1):
            hint = "set trainer.max_epochs"
            raise ConfigError("without a number of epochs there are no shares of them", where=_NAME, next_action=hint)
        self._step = _patch_of(pl_module) if self.multiple is None else self.multiple

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        share = self.share_at(trainer.current_epoch, trainer.max_epochs or 1)
        if share != self._share:
            rank_zero_info(f"{_NAME}: from epoch {trainer.current_epoch} on at {share:g} of the full size")
        self._share = share

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        if self._share < 1:
            height, width = batch["image"].shape[-2:]
            resize_batch(batch, (self._rounded(height), self._rounded(width)))

    def _rounded(self, side: int) -> int:
        return min(side, max(1, round(side * self._share / self._step)) * self._step)


def _patch_of(module: LightningModule) -> int:
    """Input pixels per feature where all features have the same, as those of a vision transformer do."""
    encoder = getattr(module, "encoder", None)
    reductions = set(encoder.reductions) if isinstance(encoder, Encoder) else set()
    return reductions.pop() if len(reductions) == 1 else 1
