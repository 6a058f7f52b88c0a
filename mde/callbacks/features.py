"""Features of a frozen encoder, kept on disk over the epochs and runs of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from mde.data import DepthDataModule
from mde.errors import ConfigError
from mde.models.encoders import Encoder
from mde.models.feature_cache import CachedFeatures, FeatureFolder

__all__ = ["FeatureCache"]

_ENOUGH = 64  # pictures of later epochs after which the share of known ones is judged
_SHARE = 0.05  # of known pictures, below which looking them up and keeping them is waste; 12 equal variants give 0.08
_SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}


class FeatureCache(Callback):
    """Computes the features of a fully frozen encoder once, and from then on only looks them up.

    Works with every method that has an `Encoder`, in training and evaluation. The network, its state dict and its
    checkpoints stay as they are without it. Augmentation should leave the pixels alone or mirror them; where it makes
    new pixels every time (crops, colour jitter), nothing is found, which is said once, and training goes on without.
    See `mde.models.feature_cache` for what a picture and an encoder are known by.

    Args:
        folder: where features are kept; may be shared by runs, encoders and processes, and deleted between runs.
        size_gb: limit to its size in gigabytes (10**9 bytes).

    Raises:
        ConfigError: the network has no `Encoder`, or the folder cannot be made.
    """

    def __init__(self, folder: str | Path, size_gb: float = 20.0) -> None:
        self.folder = folder
        self.size_gb = size_gb
        self._caches: list[CachedFeatures] = []
        self._first_epoch = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        encoders = [module for module in pl_module.modules() if isinstance(module, Encoder)]
        if not encoders:
            hint = "leave this callback out, or use a method with an encoder, such as DenseDepth"
            what = f"{type(pl_module).__name__} has no encoder whose features could be kept"
            raise ConfigError(what, where="FeatureCache", next_action=hint)
        folder = FeatureFolder(self.folder, self.size_gb, _pictures(trainer, stage))
        self._caches, self._first_epoch = [], True
        for encoder in encoders:
            encoder.cache = CachedFeatures(folder)
            self._caches.append(encoder.cache)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._first_epoch and batch_idx == 0 and not any(cache.asked for cache in self._caches):
            # no error: an encoder may have been released on the way (GradualUnfreezing) in the run that is gone on with
            rank_zero_warn(
                "FeatureCache keeps nothing now: the encoder is not frozen as a whole (frozen_stages -1; SamEncoder: "
                "trainable_blocks and lora_rank 0), has layers in training mode, or is not called by the method."
            )
        for cache in self._caches if not self._first_epoch else ():
            _judge(cache)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for cache in self._caches if self._first_epoch else ():
            cache.restart()  # in a first epoch every picture is new
        self._first_epoch = False

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for module in pl_module.modules():
            if isinstance(module, Encoder):
                module.cache = None
        self._caches = []


def _judge(cache: CachedFeatures) -> None:
    """Give up looking for pictures in training where, after the first epoch, hardly any is known."""
    if not cache.training or cache.folder.full or cache.asked < _ENOUGH or cache.found >= _SHARE * cache.asked:
        return
    cache.training = False
    rank_zero_warn(
        f"FeatureCache: after the first epoch {cache.found} of {cache.asked} pictures were known, because the "
        "augmentation makes new pixels each time. Training goes on without it. Keep augmentation to mirroring, or "
        f"leave the callback out; {cache.folder.path} may be deleted."
    )


def _pictures(trainer: Trainer, stage: str) -> int | None:
    datamodule = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, DepthDataModule):
        return None
    return sum(len(datamodule.dataset(split)) for split in _SPLITS[stage])
