"""The loader of all data modules: frames travel as bytes and become the floats of a `Batch` at their end."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from mde.data.dataset import DepthDataset
from mde.data.pixels import assemble, unequal_sizes
from mde.data.transforms import PixelTransform
from mde.data.transport import PackedBatch, Receiver, Ring
from mde.types import Batch

__all__ = ["BatchDataset", "DepthLoader", "collate", "depth_loader"]


_PREFETCH = 2  # batches that each loader process works ahead, torch's own default


class BatchDataset(Dataset[Any]):
    """A data set that makes whole batches: a `Batch`, or in a loader process a `PackedBatch`.

    Args:
        dataset: what the frames come from.
        transform: that of the data set.
    """

    def __init__(self, dataset: DepthDataset, transform: PixelTransform) -> None:
        self.source = dataset
        # the same data set, whose items stop at the bytes
        self._pixels = copy.copy(dataset)
        self._pixels.transform = transform.pixels  # type: ignore[assignment]
        # The loader asks for a new batch when it hands one over, before the receiver has copied that; so a process is
        # never more than _PREFETCH batches ahead of what was copied, and one more. One is to spare.
        self._ring = Ring(_PREFETCH + 2)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Batch | PackedBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch | PackedBatch:
        frames: Iterator[Any] = (self._pixels[index] for index in indices)
        return (assemble if get_worker_info() is None else self._ring.pack)(frames, len(indices))


class DepthLoader(DataLoader[Batch]):
    """A DataLoader whose processes may hand over packed batches; what it yields is a `Batch`."""

    def __iter__(self) -> Any:
        receiver = Receiver(self.num_workers * (_PREFETCH + 2), pinned=torch.cuda.is_available())

        def received(batch: Batch | PackedBatch) -> Batch:
            return receiver.unpack(batch) if isinstance(batch, PackedBatch) else batch

        return map(received, super().__iter__())


def depth_loader(dataset: DepthDataset, **settings: Any) -> DepthLoader:
    """The loader of a data set; `settings` are those of `DataLoader`."""
    if isinstance(dataset.transform, PixelTransform):
        return DepthLoader(BatchDataset(dataset, dataset.transform), collate_fn=_as_it_is, **settings)
    return DepthLoader(dataset, collate_fn=collate, **settings)


def collate(items: list[Batch]) -> Batch:
    """Stack items; ground truth of unequal native sizes is refused with a clear error.

    Raises:
        DataFormatError: the items have different sizes.
    """
    pictures, truths = ({tuple(item[key].shape[-2:]) for item in items} for key in ("image", "depth"))
    if len(pictures) > 1 or len(truths) > 1:
        raise unequal_sizes(pictures, truths, [str(item["id"]) for item in items])

    def stack(values: list[Tensor]) -> Tensor:
        # in a loader process this stacks straight into shared memory, where torch.stack would be copied there once more
        return cast(Tensor, default_collate(values))

    batch = Batch(
        image=stack([item["image"] for item in items]),
        depth=stack([item["depth"] for item in items]),
        valid=stack([item["valid"] for item in items]),
        intrinsics=stack([item["intrinsics"] for item in items]),
        id=[str(item["id"]) for item in items],
    )
    if "labels" in items[0]:
        batch["labels"] = stack([item["labels"] for item in items])
    if "right" in items[0]:
        batch["right"] = stack([item["right"] for item in items])
        batch["baseline"] = stack([item["baseline"] for item in items])
    return batch


def _as_it_is(batch: Any) -> Any:
    """A `BatchDataset` has collated already."""
    return batch
