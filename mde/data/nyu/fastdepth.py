"""FastDepth's set: one HDF5 file for each frame, in folders or in the tar shards of the Hugging Face copy.

Ma and Karaman, "Sparse-to-Dense" (ICRA 2018), made it with the authors' toolbox: depth is projected into the colour
frame and in-painted with a cross-bilateral filter. Wofk et al., "FastDepth" (ICRA 2019), publish it.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np

from mde.data.dataset import DepthDataset, RawSample
from mde.data.encodings import DepthEncoding
from mde.data.layouts.nyu import find_h5
from mde.data.nyu.base import ListedCopy
from mde.data.nyu.camera import nyu_camera
from mde.data.nyu.files import Files, Folder, Tars
from mde.data.pairing import Frame
from mde.data.transforms import SampleTransform
from mde.errors import DataFormatError, DatasetNotFoundError

__all__ = ["FastDepthCopy", "NYUH5Dataset"]

HOMEPAGE = "https://github.com/dwofk/fast-depth"


class NYUH5Dataset(DepthDataset):
    """Frames of one HDF5 file each: ``rgb`` (3,H,W) uint8 and ``depth`` (H,W) float, metres.

    Args:
        frames: `image` is the name of the file.
        files: a folder or archives.
        transform: turns a frame into tensors.
        seed: of the augmentation.
    """

    def __init__(self, frames: Sequence[Frame], files: Files, transform: SampleTransform, seed: int = 0) -> None:
        super().__init__(transform, seed)
        self.frames = list(frames)
        self.store = files

    def __len__(self) -> int:
        return len(self.frames)

    def frame_id(self, index: int) -> str:
        return self.frames[index].id

    def files(self, index: int) -> tuple[Path, ...]:
        return self.store.paths(self.frames[index].image)

    def read(self, index: int) -> RawSample:
        """Frame `index`: image (480,640,3) and depth (480,640), metres.

        Raises:
            DataFormatError: the file is broken, or holds something else.
        """
        frame = self.frames[index]
        where = self.store.where(frame.image)
        planes, stored = _arrays(self.store.read(frame.image), where)
        if planes.ndim != 3 or planes.shape[0] != 3 or planes.dtype != np.uint8 or stored.dtype.kind != "f":
            what = f"rgb is {planes.dtype} {planes.shape} and depth {stored.dtype} {stored.shape}"
            hint = "FastDepth's files hold uint8 (3,H,W) and float metres (H,W)"
            raise DataFormatError(what, where=where, next_action=hint)
        depth, valid = DepthEncoding().to_metres(stored)
        image = np.ascontiguousarray(planes.transpose(1, 2, 0))
        return RawSample(image, depth, valid, nyu_camera(*image.shape[:2]), frame.id)


class FastDepthCopy(ListedCopy):
    """``train/<scene>/00001.h5`` (47,584) and ``val/official/00001.h5`` (654)."""

    layout = "nyu/h5"
    truths: ClassVar = {"filled": "in-painted with a cross-bilateral filter (Ma and Karaman, ICRA 2018)"}
    counts: ClassVar = {"train": 47_584, "test": 654}
    lists_of = "the listing"

    def listed(self, part: str) -> tuple[list[Frame], Files]:
        places, packed = find_h5(self.root) or ({}, False)
        if not places.get(part):
            name = {"train": "train/<scene>/00001.h5", "test": "val/official/00001.h5"}[part]
            hint = f"fetch and unpack FastDepth's data (see {HOMEPAGE}), or the tar shards of its Hugging Face copy"
            raise DatasetNotFoundError(f"no {name}", where=self.root, next_action=hint)
        if packed:
            shards = Tars(places[part], ".h5")
            return [Frame(_id(part, name), name, name) for name in sorted(shards.members)], shards
        home = places[part][0]
        names = sorted(path.relative_to(home.parent).as_posix() for path in home.glob("*/*.h5"))
        return [Frame(_id(part, name), name, name) for name in names], Folder(home.parent)

    def make(self, part: str, rows: Sequence[int], transform: SampleTransform, seed: int) -> NYUH5Dataset:
        frames, files = self.frames(part)
        return NYUH5Dataset([frames[row] for row in rows], files, transform, seed)


def _id(part: str, name: str) -> str:
    """``train/kitchen_0028b/00045`` wherever the file lies."""
    folder, _, leaf = name.rpartition("/")
    return f"{'val' if part == 'test' else part}/{folder.rpartition('/')[2]}/{leaf.removesuffix('.h5')}"


def _arrays(data: bytes, where: str) -> tuple[Any, Any]:
    try:
        with h5py.File(BytesIO(data), "r") as file:
            return file["rgb"][()], file["depth"][()]
    except (OSError, KeyError, ValueError) as error:
        what = f"no HDF5 file with rgb and depth, or a truncated one ({error})"
        raise DataFormatError(what, where=where, next_action="fetch it again") from error
