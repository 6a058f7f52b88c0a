"""What every data module shares: the seeded order, the loaders, the evaluation protocol, the depth range."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, DistributedSampler

from mde.data.augment import Augmentation
from mde.data.dataset import DepthDataset, RawSample
from mde.data.loading import collate, depth_loader
from mde.data.prepare.manifest import fingerprint_of
from mde.data.relative import RelativeDataset
from mde.data.stages import require_rectified
from mde.data.transforms import SampleTransform, make_transform
from mde.data.writers.source import is_made
from mde.errors import ConfigError, DataFormatError, nearest
from mde.protocol import EvalProtocol, get_protocol
from mde.rebuild import Rebuildable
from mde.types import Ambiguity, Batch

if TYPE_CHECKING:
    import albumentations as A

__all__ = ["DepthDataModule", "DepthDataset", "RawSample", "SeededSampler", "collate"]

_LOADING = frozenset({"augmentations", "batch_size", "eval_batch_size", "num_workers", "cache", "preload", "truth"})
"""Settings that change no frame."""


class SeededSampler(DistributedSampler[int]):
    """The order of a training epoch, from (seed, epoch) alone, split over the ranks.

    Yields ``index + epoch * len(dataset)``, which tells `DepthDataset` the epoch. Lightning calls `set_epoch` and
    leaves a `DistributedSampler` in place.
    """

    def __init__(self, dataset: Sized, seed: int = 0) -> None:
        ready = dist.is_available() and dist.is_initialized()
        super().__init__(
            dataset,  # type: ignore[arg-type]
            num_replicas=dist.get_world_size() if ready else 1,
            rank=dist.get_rank() if ready else 0,
            shuffle=True,
            seed=seed,
        )

    def __iter__(self) -> Iterator[int]:
        offset = self.epoch * len(self.dataset)  # type: ignore[arg-type]
        return (index + offset for index in super().__iter__())


class DepthDataModule(Rebuildable, LightningDataModule, ABC):
    """Base of all data modules: three data sets, their loaders, the evaluation protocol and the depth range.

    A subclass implements `make_dataset(split)` for "train", "val" and "test", and hands the settings that it does not
    name itself on to this class (``**common``).

    Args:
        protocol: how predictions on this data are scored, by name (`mde.get_protocol`) or as an `EvalProtocol`.
        depth_range: (min, max) in metres that a network for this data should cover; codecs use it.
        image_size: (height, width) of the network's input.
        augmentations: those of `mde.data.augment` and albumentations transforms, for training; default mirroring and
            channel permutation (`mde.data.transforms.default_augmentations`).
        batch_size: training batch size per process.
        eval_batch_size: batch size in validation and test, default `batch_size`. It never changes a metric.
        num_workers: loader processes; -1 lets the command line choose for this machine (0 outside it).
        seed: of the order and the augmentation.
        cache: a folder for decoded frames (`mde.data.cache`): written on first use, then read instead of the files.
        infill: fill holes of the training depth (`mde.data.infill`), and those of the ground truth, too, only if the
            protocol's ground truth is "infilled".
        truth: what the training depth means: "metric"; "scale", known up to a factor (structure from motion, as in
            MegaDepth); "affine_depth" or "affine_disparity", depth or 1/depth up to a scale and a shift (stereo films,
            another network). Frames of a relative truth are brought into `depth_range` one by one
            (`mde.data.relative`), and a method that would need more is refused. Evaluation takes the truth as it was
            read, under a protocol that aligns.
    """

    root: str = ""  # where the files are; a data set without files has none

    def __init__(
        self,
        *,
        protocol: str | EvalProtocol,
        depth_range: tuple[float, float],
        image_size: tuple[int, int],
        augmentations: list[A.BasicTransform | A.BaseCompose | Augmentation] | None = None,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        num_workers: int = -1,
        seed: int = 0,
        cache: str | None = None,
        infill: Literal["none", "nearest", "levin"] = "none",
        truth: str = "metric",
    ) -> None:
        super().__init__()
        if batch_size < 1 or (eval_batch_size is not None and eval_batch_size < 1):
            sizes = f"{batch_size} / {eval_batch_size}"
            raise ConfigError(f"batch_size must be at least 1, got {sizes}", where="data.batch_size")
        if not 0 < depth_range[0] < depth_range[1]:
            raise ConfigError(f"depth_range needs 0 < min < max in metres, got {depth_range}", where="data.depth_range")
        self.protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
        self.truth = _known_truth(truth, self.protocol)
        self.depth_range = (float(depth_range[0]), float(depth_range[1]))
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.augmentations = augmentations
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.cache = cache
        self.infill = infill
        self._sources: dict[str, DepthDataset] = {}
        self._datasets: dict[str, DepthDataset] = {}

    @abstractmethod
    def make_dataset(self, split: str) -> DepthDataset:
        """Return the data set of "train", "val" or "test"; called once for each, when it is first needed.

        Raises:
            DatasetNotFoundError: with where it looked, what it expects and how to get it.
        """

    def dataset(self, split: str) -> DepthDataset:
        """The data set of a split, made on first use: with filled depth and from the cache, where asked for."""
        if split not in self._datasets:
            source = self._sources[split] = self._filled(self.make_dataset(split), split)
            made = source if self.cache is None else self._cached(source, split, self.cache)
            relative = split == "train" and self.truth is not Ambiguity.METRIC
            self._datasets[split] = RelativeDataset(made, self.truth, self.depth_range) if relative else made
        return self._datasets[split]

    def _filled(self, dataset: DepthDataset, split: str) -> DepthDataset:
        if self._infill_of(split) == "none":
            return dataset
        from mde.data.infill import InfilledDataset  # scipy is not needed otherwise

        folder = None if self.cache is None else Path(self.cache) / "infilled"
        return InfilledDataset(dataset, self.infill, folder)

    def _infill_of(self, split: str) -> str:
        return self.infill if split == "train" or self.protocol.ground_truth == "infilled" else "none"

    def _cached(self, dataset: DepthDataset, split: str, folder: str) -> DepthDataset:
        from mde.data.cache import cached

        name = f"{type(self).__name__.removesuffix('DataModule').lower()}-{split}"
        at_most = self.image_size if split == "train" else None
        return cached(dataset, folder, name=name, settings=self._frame_settings(dataset, split), at_most=at_most)

    def _frame_settings(self, dataset: DepthDataset, split: str) -> dict[str, Any]:
        """What the pixels of frames may depend on, besides files: every setting but those of loading."""
        made = len(dataset) > 0 and not dataset.files(0)  # and then by the seed, and at the size, that was asked for
        ignored = _LOADING if made else _LOADING | {"seed"}
        given = {key: value for key, value in self._given_args.items() if key not in ignored}
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        return {**given, "class": kind, "split": split, "infill": self._infill_of(split)}

    def require_pairs_survive(self) -> None:
        """For data modules that give stereo pairs: refuse settings under which a pair would be none.

        Raises:
            ConfigError: an augmentation turns pictures, or depth is relative.
        """
        require_rectified(self.augmentations or ())
        if self.truth is not Ambiguity.METRIC:
            what = f"stereo pairs have a baseline in metres, and the truth is {self.truth.value}"
            hint = "leave data.truth out, or set data.stereo to false"
            raise ConfigError(what, where="data.truth", next_action=hint)

    def transform(self, split: str) -> SampleTransform:
        """What a data set of this split applies to its frames: augmentation in "train", only a resize in all others."""
        return make_transform(split, self.image_size, self.augmentations)

    def facts(self) -> dict[str, Any]:
        """What a data set says of itself: layout, split, ground truth. Plain data; a subclass overrides it."""
        return {}

    def record(self) -> dict[str, Any]:
        """What results record of the data: its own `facts`, and what is the same for all.

        "infill" names how holes were filled, "train" what relative training depth means, "manifest" is the fingerprint
        that ``mde prepare`` gave the folder, and "made" says that the frames were rendered by ``mde make-data``.
        """
        record = self.facts()
        if self.truth is not Ambiguity.METRIC:
            record["train"] = {"truth": self.truth.value}
        if self.infill != "none":
            record["infill"] = self.infill
        if self.root:
            if (fingerprint := fingerprint_of(self.root)) is not None:
                record["manifest"] = fingerprint
            if is_made(self.root):
                record["made"] = True
        return record

    @property
    def truths(self) -> Mapping[str, Ambiguity]:
        """What the training depth means, by the settings in which it lies."""
        return {"data": self.truth}

    @property
    def scored(self) -> DepthDataModule:
        """The data set that is evaluated: itself, or of a mixture a part."""
        return self

    @property
    def in_memory(self) -> bool:
        """True when an item costs no decoding, so that loader processes would only add copies."""
        return self.cache is not None

    def train_median_depth(self, images: int = 200, pixels: int = 2000) -> float:
        """Median depth of the training set in metres: the best constant guess, the baseline of every result.

        Args:
            images: at most so many frames are read, evenly spread.
            pixels: at most so many valid pixels of each, evenly spread.

        Raises:
            DataFormatError: no frame has a valid pixel, or a frame cannot be read.
        """
        self.dataset("train")
        dataset = self._sources["train"]  # a cache may hold smaller frames, with another median
        values = []
        for index in np.linspace(0, len(dataset) - 1, min(images, len(dataset))).round().astype(int):
            raw = dataset.read(int(index)).checked()
            depth = raw.depth[raw.valid]
            values.append(depth[:: max(1, len(depth) // pixels)])
        known = np.concatenate(values)
        if known.size == 0:
            raise DataFormatError("the training set has no valid depth", where=type(dataset).__name__)
        return float(np.median(known))

    def setup(self, stage: str) -> None:
        for split in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}[stage]:
            self.dataset(split)

    def train_dataloader(self) -> DataLoader[Batch]:
        dataset = self.dataset("train")
        sampler = self.sampler(dataset)
        # a last batch of one picture would break batch norm; a set smaller than a batch is kept whole
        drop_last = len(sampler) >= self.batch_size
        if self.trainer is not None:
            # a resumed run starts its loader's workers before Lightning tells the sampler the epoch
            sampler.set_epoch(self.trainer.current_epoch)
        return self._loader(dataset, self.batch_size, sampler=sampler, drop_last=drop_last)

    def sampler(self, dataset: DepthDataset) -> SeededSampler:
        """The order of the training frames."""
        return SeededSampler(dataset, self.seed)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.dataset("val"), self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.dataset("test"), self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.dataset("test"), self.eval_batch_size)

    def alignment_dataloader(self) -> DataLoader[Batch]:
        """The training frames as a test sees them: in order, not augmented, the truth at its own size.

        For protocols whose alignment is fitted on the training set (`EvalProtocol.alignment_scope`).
        """
        self.dataset("train")
        dataset = copy.copy(self._sources["train"])  # a cache may hold smaller frames
        dataset.transform = self.transform("test")
        return self._loader(dataset, self.eval_batch_size)

    def _loader(
        self, dataset: DepthDataset, batch_size: int, sampler: SeededSampler | None = None, drop_last: bool = False
    ) -> DataLoader[Batch]:
        if len(dataset) == 0:
            where = type(dataset).__name__
            raise DataFormatError("the data set is empty", where=where, next_action="check the split settings")
        workers = max(self.num_workers, 0)
        if workers:
            # OpenCV would start a thread per core in every worker. Said here and not in the worker: changing the number
            # in a forked child waits for ever for the parent's threads, which the fork did not take along.
            cv2.setNumThreads(1)
        return depth_loader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            generator=torch.Generator().manual_seed(self.seed),
        )


def _known_truth(truth: str, protocol: EvalProtocol) -> Ambiguity:
    """What the word means; relative truth under a protocol that compares metres is refused."""
    known = [each.value for each in Ambiguity]
    if truth not in known:
        hint = f"nearest: {nearest(truth, known)}"
        raise ConfigError(f"unknown truth {truth!r}", where="data.truth", next_action=hint)
    if truth != Ambiguity.METRIC.value and protocol.alignment == "none":
        what = f"the truth is {truth}, and protocol {protocol.name!r} compares metres"
        hint = "give a data.protocol that aligns, such as midas_nyu, or set its alignment (mde info protocols)"
        raise ConfigError(what, where="data.protocol", next_action=hint)
    return Ambiguity(truth)
