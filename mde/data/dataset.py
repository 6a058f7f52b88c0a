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

__all__ = ["DepthDataset", "RawSample", "RightView"]


@dataclass
class RightView:
    """What the right camera of a rectified stereo pair saw; its intrinsics and orientation are those of the left one.

    Attributes:
        image: uint8 (H,W,3), RGB.
        baseline: metres above 0 by which this camera stands to the right of the left one.
        depth: float32 (H,W), z-depth of this camera in metres, 0 where unknown; None where nothing is known.
    """

    image: NDArray[np.uint8]
    baseline: float
    depth: NDArray[np.float32] | None = None


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
        right: the other view of a stereo pair, whose left picture is `image`, where the data set was asked for pairs.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    valid: NDArray[np.bool_]
    intrinsics: NDArray[np.float32]
    id: str
    labels: NDArray[np.uint8] | None = None
    right: RightView | None = None

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
        if self.right is not None:
            _check_right(self.right, self)
        return self


def _check_right(right: RightView, left: RawSample) -> None:
    """Raise a `DataFormatError` unless this is the other view of a rectified pair."""
    if right.image.shape != left.image.shape or right.image.dtype != np.uint8:
        raise DataFormatError(
            f"the right image is {right.image.dtype} {right.image.shape}, the left one uint8 {left.image.shape}",
            where=left.id,
            next_action="give rectified pairs, whose pictures have the same size",
        )
    depth = right.depth
    if depth is not None and (depth.shape != left.depth.shape or depth.dtype != np.float32):
        found = f"{depth.dtype} {depth.shape}"
        raise DataFormatError(f"the right depth must be float32 {left.depth.shape}, is {found}", where=left.id)
    if not 0 < right.baseline < np.inf:
        raise DataFormatError(
            f"the right camera must stand to the right of the left one, got a baseline of {right.baseline} m",
            where=left.id,
            next_action="check which picture is the left one, and the calibration",
        )


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


class ChangedDataset(DepthDataset):
    """Base of data sets that read another one and change its frames: the same frames, files, transform and seed."""

    def __init__(self, dataset: DepthDataset) -> None:
        super().__init__(dataset.transform, dataset.seed)
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def frame_id(self, index: int) -> str:
        return self.dataset.frame_id(index)

    def files(self, index: int) -> tuple[Path, ...]:
        return self.dataset.files(index)
