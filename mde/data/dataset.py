"""What one data set is: frames as they were read, and items as a network wants them.

A data set is a class with two methods, ``__len__`` and ``read(index) -> RawSample``; everything else happens here and
in `mde.data.base`.

Randomness is stateless. An item's augmentation is drawn from (seed, epoch, index) and the order of an epoch from
(seed, epoch); so a run that was killed and resumed sees the same pictures as one that was not, and the number of loader
workers changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mde.errors import DataFormatError
from mde.types import Batch

if TYPE_CHECKING:
    from mde.data.transforms import SampleTransform

__all__ = ["DepthDataset", "RawSample"]


@dataclass
class RawSample:
    """One RGB-D frame as it was read, before any transform. Arrays may be read-only.

    Attributes:
        image: uint8 (H,W,3), RGB.
        depth: float32 (H,W), z-depth in metres, 0 where unknown.
        valid: bool (H,W).
        intrinsics: float32 (3,3), pixels of `image`; NaN where unknown.
        id: stable name of the sample, unique within the data set.
        labels: uint8 (H,W), semantic class of each pixel, where the data set has them and was asked for them.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    valid: NDArray[np.bool_]
    intrinsics: NDArray[np.float32]
    id: str
    labels: NDArray[np.uint8] | None = None

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
        if self.labels is not None and (self.labels.shape != self.depth.shape or self.labels.dtype != np.uint8):
            found = f"{self.labels.dtype} {self.labels.shape}"
            raise DataFormatError(f"labels must be uint8 like depth {self.depth.shape}, are {found}", where=self.id)
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

    def frame_id(self, index: int) -> str:
        """The id of frame `index`; data sets that know it without reading the frame override this."""
        return self.read(index).id

    def files(self, index: int) -> tuple[Path, ...]:
        """The files that frame `index` is read from: the image, then the depth map, then any other.

        One file, where all frames lie in one archive; none, where frames are made and not read.
        """
        return ()

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
