"""DenseDepth's ``nyu_test.zip``, unpacked: the 654 test frames in three arrays, read through memory maps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mde.data.dataset import DepthDataset, RawSample
from mde.data.encodings import DepthEncoding
from mde.data.formats import NUMPY_FAULTS
from mde.data.layouts.nyu import EIGEN_NAMES, find_arrays
from mde.data.nyu.base import NYUCopy
from mde.data.nyu.camera import NYU_SIZE, nyu_camera
from mde.data.transforms import SampleTransform
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.protocol import CROPS

__all__ = ["EigenArraysCopy", "NYUArraysDataset", "densedepth_crop"]

HOMEPAGE = "https://github.com/ialhashim/DenseDepth"


class NYUArraysDataset(DepthDataset):
    """Rows of ``eigen_test_rgb.npy`` (N,H,W,3) uint8 and ``eigen_test_depth.npy`` (N,H,W) float, metres.

    Args:
        folder: where the two are.
        rows: which frames, from 0.
        transform: turns a frame into tensors.
        seed: of the augmentation.
    """

    def __init__(self, folder: Path, rows: Sequence[int], transform: SampleTransform, seed: int = 0) -> None:
        super().__init__(transform, seed)
        self.folder = folder
        self.rows = [int(row) for row in rows]
        self._maps: tuple[int, NDArray[Any], NDArray[Any]] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def frame_id(self, index: int) -> str:
        return f"eigen_{self.rows[index]:05d}"

    def files(self, index: int) -> tuple[Path, ...]:
        return self.folder / EIGEN_NAMES["rgb"], self.folder / EIGEN_NAMES["depth"]

    def read(self, index: int) -> RawSample:
        """Frame `index`: image (480,640,3) and depth (480,640), metres."""
        _, images, depths = self._opened()
        row = self.rows[index]
        image = np.array(images[row])
        depth, valid = DepthEncoding().to_metres(np.asarray(depths[row], np.float32))
        return RawSample(image, depth, valid, nyu_camera(*image.shape[:2]), self.frame_id(index))

    def _opened(self) -> tuple[int, NDArray[Any], NDArray[Any]]:
        if self._maps is None or self._maps[0] != os.getpid():
            self._maps = (
                os.getpid(),
                mapped(self.folder / EIGEN_NAMES["rgb"]),
                mapped(self.folder / EIGEN_NAMES["depth"]),
            )
        return self._maps

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None}  # a memory map would be copied whole


class EigenArraysCopy(NYUCopy):
    """Test frames only; give them as ``test_root`` beside a copy to train on."""

    layout = "nyu/eigen_npy"
    truths: ClassVar = {"filled": "in-painted (it has no holes, and its authors evaluate without a mask)"}
    protocols: ClassVar = {"filled": "nyu_densedepth"}

    @property
    def folder(self) -> Path:
        """The folder with the arrays.

        Raises:
            DatasetNotFoundError: they are not there.
        """
        found = find_arrays(self.root)
        if found is None or not (found / EIGEN_NAMES["depth"]).is_file():
            names = f"{EIGEN_NAMES['rgb']} and {EIGEN_NAMES['depth']}"
            hint = f"fetch nyu_test.zip (see {HOMEPAGE}) and unpack it: arrays cannot be mapped inside a ZIP"
            raise DatasetNotFoundError(f"no {names}", where=self.root, next_action=hint)
        return found

    def scenes(self, part: str) -> Sequence[str]:
        images, depths = (mapped(self.folder / EIGEN_NAMES[key]) for key in ("rgb", "depth"))
        if images.shape != (*depths.shape, 3) or images.dtype != np.uint8 or depths.dtype.kind != "f":
            found = f"{images.dtype} {images.shape} and {depths.dtype} {depths.shape}"
            what = f"the arrays should be uint8 (N,H,W,3) and float metres (N,H,W), are {found}"
            raise DataFormatError(what, where=self.folder, next_action="fetch them again")
        self.warn_of_count(part, len(images))
        return [""] * len(images)

    def rows(self, split: str) -> tuple[str, Sequence[int]]:
        if split == "train" or not (split == "test" or self.choice.val_on_test):
            hint = "set data.root to a copy in another layout and data.test_root to this one"
            raise ConfigError(
                f"nyu/eigen_npy has test frames only, none for {split}", where=self.root, next_action=hint
            )
        self._check_crop()
        return super().rows(split)

    def make(self, part: str, rows: Sequence[int], transform: SampleTransform, seed: int) -> NYUArraysDataset:
        return NYUArraysDataset(self.folder, rows, transform, seed)

    def _check_crop(self) -> None:
        path = self.folder / EIGEN_NAMES["crop"]
        if path.is_file() and np.load(path).ravel().tolist() != densedepth_crop():
            what = f"the crop is {np.load(path).ravel().tolist()}, DenseDepth's is {densedepth_crop()}"
            raise DataFormatError(what, where=path, next_action="fetch nyu_test.zip again, or remove the file")


def densedepth_crop() -> list[int]:
    """The crop as DenseDepth writes it: first and last row, first and last column, both inside.

    >>> densedepth_crop()
    [20, 459, 24, 615]
    """
    top, bottom, left, right = CROPS["nyu_densedepth"](*NYU_SIZE)
    return [top, bottom - 1, left, right - 1]


def mapped(path: Path) -> NDArray[Any]:
    """An array on disk, of which only what is used is read.

    Raises:
        DataFormatError: it is no .npy file, or truncated.
    """
    try:
        made: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except NUMPY_FAULTS as error:
        what = f"no NumPy array, or a truncated one ({error})"
        raise DataFormatError(what, where=path, next_action="unpack nyu_test.zip again") from error
    return made
