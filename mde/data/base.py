"""What every data set shares: the item, the seeded order, the DataModule.

A data set is a class with two methods, ``__len__`` and ``read(index) -> RawSample``; everything else happens here.

Randomness is stateless. An item's augmentation is drawn from (seed, epoch, index) and the order of an epoch from
(seed, epoch); so a run that was killed and resumed sees the same pictures as one that was not, and the number of loader
workers changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, default_collate

from mde.errors import ConfigError, DataFormatError
from mde.protocol import EvalProtocol, get_protocol
from mde.rebuild import Rebuildable
from mde.types import Batch

if TYPE_CHECKING:
    from mde.data.transforms import SampleTransform

__all__ = ["DepthDataModule", "DepthDataset", "RawSample", "SeededSampler"]


@dataclass
class RawSample:
    """One RGB-D frame as it was read, before any transform. Arrays may be read-only.

    Attributes:
        image: uint8 (H,W,3), RGB.
        depth: float32 (H,W), z-depth in metres, 0 where unknown.
        valid: bool (H,W).
        intrinsics: float32 (3,3), pixels of `image`; NaN where unknown.
        id: stable name of the sample, unique within the data set.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    valid: NDArray[np.bool_]
    intrinsics: NDArray[np.float32]
    id: str

    def checked(self) -> RawSample:
        """Return self, or raise a `DataFormatError` that names the sample and what is wrong with it."""
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            found = f"{self.image.dtype} {self.image.shape}"
            raise DataFormatError(f"image must be uint8 (H,W,3), is {found}", where=self.id)
        if self.depth.shape != self.valid.shape or self.depth.ndim != 2:
            raise DataFormatError(f"depth {self.depth.shape} and valid {self.valid.shape} differ", where=self.id)
        if self.depth.dtype != np.float32 or self.valid.dtype != np.bool_:
            raise DataFormatError(
                f"depth must be float32 and valid bool, are {self.depth.dtype} and {self.valid.dtype}", where=self.id
            )
        (height, width), (rows, columns) = self.image.shape[:2], self.depth.shape
        if (height, width) != (rows, columns):
            raise DataFormatError(
                f"depth is {columns}x{rows}, image is {width}x{height}",
                where=self.id,
                next_action="register the depth to the image; both must have the same size",
            )
        return self


class DepthDataset(Dataset[Batch], ABC):
    """Base of all data sets: ``dataset[i]`` is one item of a `Batch` (without the batch dimension).

    Args:
        transform: turns a `RawSample` into tensors; see `mde.data.transforms`.
        seed: of the augmentation.
    """

    def __init__(self, transform: SampleTransform, seed: int = 0) -> None:
        self.transform = transform
        self.seed = seed

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> RawSample:
        """Read frame `index` from disk (or make it)."""

    def __getitem__(self, index: int) -> Batch:
        """The item `index`; `index + epoch * len(self)` is the same frame with the augmentation of that epoch."""
        if index < 0:
            index += len(self)
        if index < 0:
            raise IndexError(index)
        epoch, frame = divmod(index, len(self))
        rng_seed = int(np.random.SeedSequence((self.seed, epoch, frame)).generate_state(1)[0])
        return self.transform(self.read(frame).checked(), rng_seed)

    def __iter__(self) -> Iterator[Batch]:
        return (self[i] for i in range(len(self)))


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

    A subclass implements `make_dataset(split)` for "train", "val" and "test" and passes its settings on.

    Args:
        protocol: how predictions on this data are scored, by name (`mde.get_protocol`) or as an `EvalProtocol`.
        depth_range: (min, max) in metres that a network for this data should cover; codecs use it.
        image_size: (height, width) of the network's input.
        batch_size: training batch size per process.
        eval_batch_size: batch size in validation and test, default `batch_size`. It never changes a metric.
        num_workers: loader processes; -1 lets the command line choose for this machine (0 outside it).
        seed: of the order and the augmentation.
    """

    def __init__(
        self,
        *,
        protocol: str | EvalProtocol,
        depth_range: tuple[float, float],
        image_size: tuple[int, int],
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        num_workers: int = -1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or (eval_batch_size is not None and eval_batch_size < 1):
            sizes = f"{batch_size} / {eval_batch_size}"
            raise ConfigError(f"batch_size must be at least 1, got {sizes}", where="data.batch_size")
        if not 0 < depth_range[0] < depth_range[1]:
            raise ConfigError(f"depth_range needs 0 < min < max in metres, got {depth_range}", where="data.depth_range")
        self.protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
        self.depth_range = (float(depth_range[0]), float(depth_range[1]))
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = num_workers
        self.seed = seed
        self._datasets: dict[str, DepthDataset] = {}

    @abstractmethod
    def make_dataset(self, split: str) -> DepthDataset:
        """Return the data set of "train", "val" or "test"; called once for each, when it is first needed.

        Raises:
            DatasetNotFoundError: with where it looked, what it expects and how to get it.
        """

    def dataset(self, split: str) -> DepthDataset:
        """The data set of a split, made on first use."""
        if split not in self._datasets:
            self._datasets[split] = self.make_dataset(split)
        return self._datasets[split]

    @property
    def in_memory(self) -> bool:
        """True when an item costs no decoding, so that loader processes would only add copies."""
        return False

    def train_median_depth(self, images: int = 200, pixels: int = 2000) -> float:
        """Median depth of the training set in metres: the best constant guess, the baseline of every result.

        Args:
            images: at most so many frames are read, evenly spread.
            pixels: at most so many valid pixels of each, evenly spread.

        Raises:
            DataFormatError: no frame has a valid pixel, or a frame cannot be read.
        """
        dataset = self.dataset("train")
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
        # a last batch of one picture would break batch norm; a set smaller than a batch is kept whole
        drop_last = len(dataset) >= self.batch_size
        sampler = SeededSampler(dataset, self.seed)
        if self.trainer is not None:
            # a resumed run starts its loader's workers before Lightning tells the sampler the epoch
            sampler.set_epoch(self.trainer.current_epoch)
        return self._loader(dataset, self.batch_size, sampler=sampler, drop_last=drop_last)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.dataset("val"), self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.dataset("test"), self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.dataset("test"), self.eval_batch_size)

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
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            collate_fn=collate,
            generator=torch.Generator().manual_seed(self.seed),
        )


def collate(items: list[Batch]) -> Batch:
    """Stack items; ground truth of unequal native sizes is refused with a clear error.

    Raises:
        DataFormatError: the items have different sizes.
    """
    sizes = {tuple(item["depth"].shape[-2:]) for item in items}
    if len(sizes) > 1:
        raise DataFormatError(
            f"frames of different sizes in one batch: {sorted(sizes)}",
            where=", ".join(str(item["id"]) for item in items[:4]),
            next_action="set data.eval_batch_size to 1",
        )

    def stack(values: list[Tensor]) -> Tensor:
        # in a loader process this stacks straight into shared memory, where torch.stack would be copied there once more
        return cast(Tensor, default_collate(values))

    return Batch(
        image=stack([item["image"] for item in items]),
        depth=stack([item["depth"] for item in items]),
        valid=stack([item["valid"] for item in items]),
        intrinsics=stack([item["intrinsics"] for item in items]),
        id=[str(item["id"]) for item in items],
    )
