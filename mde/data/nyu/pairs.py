"""Pictures with depth maps in files: DenseDepth's csv set and the list files of BTS."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from mde.data.dataset import DepthDataset, RawSample
from mde.data.encodings import ENCODINGS, DepthEncoding
from mde.data.io import decode_array, decode_image
from mde.data.layouts.nyu import CSV_NAMES, find_csv, find_lists
from mde.data.nyu.base import ListedCopy
from mde.data.nyu.camera import nyu_camera
from mde.data.nyu.files import Files, Folder, Zip
from mde.data.nyu.splits import official_test_rows, paper0_rows
from mde.data.pairing import Frame
from mde.data.transforms import SampleTransform
from mde.errors import DataFormatError, DatasetNotFoundError

__all__ = ["BtsCopy", "DENSEDEPTH_8BIT", "DenseDepthCopy", "NYUPairsDataset"]

DENSEDEPTH_8BIT = DepthEncoding(10 / 255, invalid=())
"""255 is 10 m in the training depth of DenseDepth's set, the same for all frames (its issues 41 and 146)."""
DENSEDEPTH_HOME = "https://github.com/ialhashim/DenseDepth"
BTS_HOME = "https://github.com/cleinc/bts"
_STORED: dict[str, tuple[DepthEncoding, np.dtype[Any]]] = {
    "train": (DENSEDEPTH_8BIT, np.dtype(np.uint8)),
    "test": (ENCODINGS["millimetres"], np.dtype(np.uint16)),
}


class NYUPairsDataset(DepthDataset):
    """Frames given by an image file and a depth file of one integer type.

    Args:
        frames: `image` and `depth` are names in `files`.
        files: a folder or an archive.
        encoding: how depth files become metres.
        stored: type of their numbers; any other means that somebody encoded them anew, in another unit.
        transform: turns a frame into tensors.
        seed: of the augmentation.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        files: Files,
        encoding: DepthEncoding,
        stored: np.dtype[Any],
        transform: SampleTransform,
        seed: int = 0,
    ) -> None:
        super().__init__(transform, seed)
        self.frames = list(frames)
        self.store = files
        self.encoding = encoding
        self.stored = stored

    def __len__(self) -> int:
        return len(self.frames)

    def frame_id(self, index: int) -> str:
        return self.frames[index].id

    def files(self, index: int) -> tuple[Path, ...]:
        return self.store.paths(self.frames[index].image, self.frames[index].depth)

    def read(self, index: int) -> RawSample:
        """Frame `index`: image (480,640,3) and depth (480,640), metres.

        Raises:
            DataFormatError: a file is not there, broken, or holds numbers of another type.
        """
        frame = self.frames[index]
        image = decode_image(self.store.read(frame.image), self.store.where(frame.image))
        raw = self._raw_depth(frame)
        depth, valid = self.encoding.to_metres(raw)
        height, width = image.shape[:2]
        return RawSample(image, depth, valid, nyu_camera(height, width, frame.focal_px), frame.id)

    def _raw_depth(self, frame: Frame) -> NDArray[Any]:
        where = self.store.where(frame.depth)
        raw = decode_array(self.store.read(frame.depth), Path(frame.depth).suffix, where)
        if raw.dtype != self.stored:
            unit = f"{self.stored} with {self.encoding.scale:.4g} m per unit"
            what = f"the depth is {raw.dtype}, and this layout has {unit}: it was encoded anew"
            hint = "fetch the original, or read it as a folder (RGBDFolderDataModule) with its own depth_scale"
            raise DataFormatError(what, where=where, next_action=hint)
        return raw


class DenseDepthCopy(ListedCopy):
    """``data/nyu2_train.csv`` and ``data/nyu2_test.csv`` with their pictures, unpacked or inside the ZIP archive."""

    layout = "nyu/densedepth"
    truths: ClassVar = {
        "filled": "training depth in-painted and quantised to 39 mm (8 bits); that test depth is in-painted is not "
        "documented, but it has no holes"
    }
    schemes = ("official", "paper0")
    counts: ClassVar = {"train": 50_688, "test": 654}
    lists_of = "the csv file"

    def rows(self, split: str) -> tuple[str, Sequence[int]]:
        if self.choice.scheme != "paper0":
            return super().rows(split)
        own = "test" if split == "val" and self.choice.val_on_test else split
        return "train", paper0_rows(len(self.scenes("train")), own, self.choice.chunks)

    def facts(self) -> dict[str, Any]:
        if self.choice.scheme != "paper0":
            return super().facts()
        chunks = "all rows as one" if self.choice.chunks is None else list(self.choice.chunks)
        held = "the next 9 % of the rows, which share scenes with training"
        held = "the test frames" if self.choice.val_on_test else held
        return {**super().facts(), "chunks": chunks, "validation": held}

    def listed(self, part: str) -> tuple[list[Frame], Files]:
        found = find_csv(self.root)
        if found is None:
            hint = f"fetch DenseDepth's nyu_data.zip (see {DENSEDEPTH_HOME}) and set data.root to it or to its folder"
            raise DatasetNotFoundError(f"no {CSV_NAMES[part]}", where=self.root, next_action=hint)
        path, inside = found
        files: Files = Zip(path, inside) if inside or path.is_file() else Folder(path)
        if files.absent([CSV_NAMES[part]]):
            hint = f"take it from DenseDepth's nyu_data.zip (see {DENSEDEPTH_HOME})"
            raise DatasetNotFoundError(f"there is no {CSV_NAMES[part]}", where=files.where(""), next_action=hint)
        where = files.where(CSV_NAMES[part])
        lines = files.read(CSV_NAMES[part]).decode("utf-8-sig").splitlines()
        return [_csv_frame(row, f"{where}:{n}") for n, row in enumerate(csv.reader(lines), 1) if row], files

    def make(self, part: str, rows: Sequence[int], transform: SampleTransform, seed: int) -> NYUPairsDataset:
        frames, files = self.frames(part)
        return NYUPairsDataset([frames[row] for row in rows], files, *_STORED[part], transform, seed)


class BtsCopy(ListedCopy):
    """List files ``rgb depth focal`` with the pictures of BTS: 24,231 training frames, 654 test frames.

    The training pictures are below the root or ``sync``, the test pictures below ``official_splits/test``, ``test``
    or the root, whichever holds the first listed frame.
    """

    layout = "nyu/bts"
    truths: ClassVar = {"raw": "as the Kinect measured it, projected into the colour frame, in millimetres"}
    counts: ClassVar = {"train": 24_231, "test": 654}
    lists_of = "the list file"
    homes: ClassVar = {
        "train": ("", "sync", "train"),
        "test": ("official_splits/test", "test", "../official_splits/test", "sync", ""),
    }

    def listed(self, part: str) -> tuple[list[Frame], Files]:
        path = self._list(part)
        lines = enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1)
        frames = [_list_frame(line.split(), f"{path}:{n}") for n, line in lines if line.strip()]
        homes = [Folder(self.root / home) for home in self.homes[part]]
        files = next((home for frame in frames for home in homes if not home.absent([frame.image])), homes[0])
        if part == "test" and len(frames) == self.counts["test"] and not self.made:
            self._compare(frames)
        return frames, files

    def make(self, part: str, rows: Sequence[int], transform: SampleTransform, seed: int) -> NYUPairsDataset:
        frames, files = self.frames(part)
        stored = np.dtype(np.uint16)
        return NYUPairsDataset([frames[row] for row in rows], files, ENCODINGS["millimetres"], stored, transform, seed)

    def _list(self, part: str) -> Path:
        given = (self.choice.lists or {}).get(part)
        path = Path(given) if given else find_lists(self.root).get(part)
        if path is not None and not path.is_file() and (self.root / path).is_file():
            path = self.root / path
        if path is None or not path.is_file():
            name = f"nyudepthv2_{part}_files_with_gt.txt"
            hint = f"copy {name} there from train_test_inputs of {BTS_HOME}, or set data.lists to {{{part}: FILE}}"
            raise DatasetNotFoundError(f"no list file for {part}", where=path or self.root, next_action=hint)
        return path

    def _compare(self, frames: Sequence[Frame]) -> None:
        """Frame numbers of the test list are rows of the labelled set: say when they are not the official ones."""
        numbers = {int(digits) for frame in frames if (digits := frame.id.rpartition("_")[2]).isdigit()}
        strangers = numbers ^ set(official_test_rows())
        if strangers:
            what = f"its frame numbers and the official test part differ in {len(strangers)} frames"
            rank_zero_warn(f"{self._list('test')}: {what}; results are not comparable with published ones")


def _csv_frame(row: Sequence[str], where: str) -> Frame:
    """``data/nyu2_train/kitchen_0028b_out/1.jpg,….png``, with names relative to the folder of the csv file."""
    if len(row) < 2:
        raise DataFormatError(f"cannot read {','.join(row)!r}", where=where, next_action="a line is 'image,depth'")
    image, depth = (cell.strip().replace("\\", "/").lstrip("/").removeprefix("data/") for cell in row[:2])
    return Frame(image.rpartition(".")[0].removesuffix("_colors"), image, depth)


def _list_frame(words: Sequence[str], where: str) -> Frame:
    """``/kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579``; the slash is no root."""
    try:
        image, depth = (word.lstrip("/") for word in words[:2])
        focal_px = float(words[2]) if len(words) > 2 else None
        if focal_px is not None and not 0 < focal_px < float("inf"):
            raise ValueError
    except ValueError as error:
        hint = "a line is 'rgb depth focal', the focal length in pixels"
        raise DataFormatError(f"cannot read {' '.join(words)!r}", where=where, next_action=hint) from error
    return Frame(image.rpartition(".")[0], image, depth, focal_px)
