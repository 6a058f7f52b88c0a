"""SYNTHIA-RAND-CITYSCAPES: 9400 pictures of a rendered city, with depth and the classes of Cityscapes.

Ros et al., "The SYNTHIA Dataset", CVPR 2016. Paper 2 trains on it. Depth is a 16-bit PNG of three equal channels in
centimetres; PIL would silently cut it to 8 bits. Classes are the red channel of another 16-bit PNG. The camera, the
classes and the split are in `mde.data.synthia_facts`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from mde.data.base import DepthDataModule
from mde.data.dataset import DepthDataset, RawSample
from mde.data.encodings import masked_depth
from mde.data.io import read_depth, read_image, read_pixels
from mde.data.synthia_facts import (
    FOLDER,
    SPLITS,
    SYNTHIA_CLASSES,
    SYNTHIA_FRAMES,
    SYNTHIA_INTRINSICS,
    class_masks,
    read_split,
    split_frames,
    write_split,
)
from mde.data.transforms import SampleTransform
from mde.data.writers.source import is_made
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.geometry import intrinsics_matrix, resize_intrinsics
from mde.protocol import EvalProtocol

__all__ = [
    "SYNTHIA_CLASSES",
    "SYNTHIA_FRAMES",
    "SYNTHIA_INTRINSICS",
    "SYNTHIADataModule",
    "SYNTHIADataset",
    "class_masks",
    "read_labels",
    "split_frames",
    "write_split",
]

HOMEPAGE = "https://synthia-dataset.net"
_SKY = 1
_LISTED = 10


class SYNTHIADataset(DepthDataset):
    """Some frames.

    Args:
        root: the folder with RGB, Depth and GT.
        numbers: of the frames.
        transform: turns a frame into tensors.
        labels: add the class ids.
        mask_sky: mark sky as unknown by the labels, too, where there are some; the depth of the sky is unknown anyway.
        seed: of the augmentation.
    """

    def __init__(
        self,
        root: str | Path,
        numbers: Sequence[int],
        transform: SampleTransform,
        labels: bool = False,
        mask_sky: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(transform, seed)
        self.folders = {kind: str(path) for kind, path in _folders(Path(root)).items()}
        self.numbers = [int(number) for number in numbers]
        self.labels = labels
        self.mask_sky = mask_sky and Path(self.folders["labels"]).is_dir()

    def __len__(self) -> int:
        return len(self.numbers)

    def frame_id(self, index: int) -> str:
        return f"{self.numbers[index]:07d}"

    def files(self, index: int) -> tuple[Path, ...]:
        kinds = ("image", "depth", "labels") if self.labels else ("image", "depth")
        return tuple(self._file(kind, index) for kind in kinds)

    def read(self, index: int) -> RawSample:
        """Frame `index`: image (760,1280,3), depth (760,1280) in metres, and the class ids if they were asked for.

        Raises:
            DataFormatError: a file cannot be read, or holds 8 bits.
        """
        image = read_image(self._file("image", index))
        depth, valid = read_depth(self._file("depth", index), "synthia")
        labels = None
        if self.labels or (self.mask_sky and self._file("labels", index).is_file()):
            labels = read_labels(self._file("labels", index))
            if labels.shape != depth.shape:
                what = f"labels {labels.shape} and depth {depth.shape} differ"
                raise DataFormatError(what, where=self.frame_id(index), next_action="unpack the archive again")
            if self.mask_sky:
                valid &= labels != _SKY
                depth = masked_depth(depth, valid, out=depth)
        height, width = image.shape[:2]
        scaled = resize_intrinsics(intrinsics_matrix(*SYNTHIA_INTRINSICS), width / 1280, height / 760)
        return RawSample(
            image, depth, valid, np.asarray(scaled.numpy()), self.frame_id(index), labels if self.labels else None
        )

    def _file(self, kind: str, index: int) -> Path:
        return Path(self.folders[kind], f"{self.numbers[index]:07d}.png")


def read_labels(path: str | Path) -> NDArray[np.uint8]:
    """Class ids (H,W) of a file of GT/LABELS: the red channel of 16-bit colour; green numbers the instances.

    Raises:
        DataFormatError: the file cannot be read, or is not of this kind.
    """
    pixels = read_pixels(path)
    if pixels.dtype != np.uint16 or pixels.ndim != 3:
        what = f"labels are 16-bit colour, this file is {pixels.dtype} {pixels.shape}"
        hint = "take GT/LABELS as it was published: GT/COLOR, or a copy that PIL wrote, holds no class ids"
        raise DataFormatError(what, where=path, next_action=hint)
    red = pixels[..., 2]  # OpenCV's order is blue, green, red
    if red.max() not in SYNTHIA_CLASSES:
        what = f"class {red.max()} is not one of 0 to {len(SYNTHIA_CLASSES) - 1}"
        raise DataFormatError(what, where=path, next_action="take GT/LABELS as it was published")
    return red.astype(np.uint8)


class SYNTHIADataModule(DepthDataModule):
    """SYNTHIA-RAND-CITYSCAPES.

    Args:
        root: RAND_CITYSCAPES, or the folder that holds it.
        split_csv: a file ``frame,split`` (see `write_split`) instead of the split of `split_frames`.
        split_seed: of that split.
        labels: add class ids to the frames; they arrive as ``batch["labels"]`` in evaluation, see `class_masks`.
        mask_sky: mark sky as unknown by the labels, too, where there are some. Costs a third file per frame; False
            leaves it to the depth, whose largest number means sky.
        missing: frames that are not there are an "error", or "skip" leaves them out, with a warning. In a made data set
            they are always left out.
        image_size: (height, width) of the network's input.
        protocol: default "synthia_80".
        depth_range: metres; paper 2 uses 80 m as the end.
        common: see `DepthDataModule`.
    """

    def __init__(
        self,
        root: str,
        *,
        split_csv: str | None = None,
        split_seed: int = 0,
        labels: bool = False,
        mask_sky: bool = True,
        missing: Literal["error", "skip"] = "error",
        image_size: tuple[int, int] = (380, 640),
        protocol: str | EvalProtocol = "synthia_80",
        depth_range: tuple[float, float] = (1.0, 80.0),
        **common: Any,
    ) -> None:
        super().__init__(protocol=protocol, depth_range=depth_range, image_size=image_size, **common)
        if missing not in ("error", "skip"):
            raise ConfigError(f"unknown missing {missing!r}", where="data.missing", next_action="use error or skip")
        self.root = root
        self.split_csv = split_csv
        self.split_seed = split_seed
        self.labels = labels
        self.mask_sky = mask_sky
        self.missing = missing
        self._parts: dict[str, list[int]] = {}
        self._missing = 0

    def make_dataset(self, split: str) -> SYNTHIADataset:
        self._find()
        folder, numbers = _find_root(self.root), self._parts[split]
        return SYNTHIADataset(folder, numbers, self.transform(split), self.labels, self.mask_sky, self.seed)

    def facts(self) -> dict[str, Any]:
        """Layout, the split and where it comes from, frames in each part, frames that are missing."""
        self._find()
        source = {"csv": self.split_csv} if self.split_csv else {"by": "permutation of 9400", "seed": self.split_seed}
        return {
            "layout": "synthia/rand_cityscapes",
            "split": source,
            "frames": {name: len(part) for name, part in self._parts.items()},
            "missing": self._missing,
            "ground_truth": "rendered",
            **({"classes": {str(k): name for k, name in SYNTHIA_CLASSES.items()}} if self.labels else {}),
        }

    def _find(self) -> None:
        """The frames of each part that are there."""
        if self._parts:
            return
        root = _find_root(self.root)
        drawn = {split: split_frames(split, self.split_seed) for split in SPLITS}
        wanted = read_split(self.split_csv) if self.split_csv else drawn
        lacking = _lacking(root, [number for part in wanted.values() for number in part], self.labels)
        made = is_made(root) or is_made(root.parent)
        if lacking and not made:
            self._refuse_or_warn(root, lacking)
        gone = {number for number, _ in lacking}
        parts = {split: [number for number in part if number not in gone] for split, part in wanted.items()}
        for split, part in parts.items():
            if not part:
                hint = "fetch the missing files, or give split_csv with frames that are there"
                raise DataFormatError(f"no frame of the {split} part is there", where=root, next_action=hint)
        self._parts, self._missing = parts, len(gone)

    def _refuse_or_warn(self, root: Path, lacking: Sequence[tuple[int, str]]) -> None:
        names = [f"{kind}/{number:07d}.png" for number, kind in lacking]
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        what = f"{len(names)} files are missing: {', '.join(names[:_LISTED])}{more}"
        if self.missing == "error":
            hint = f"unpack the archive again (from {HOMEPAGE}), or set data.missing to skip"
            raise DataFormatError(what, where=root, next_action=hint)
        rank_zero_warn(f"{root}: {what}. Their frames are left out")


def _find_root(root: str) -> Path:
    """The folder with RGB and Depth: the one given, or RAND_CITYSCAPES in it."""
    given = Path(root)
    for path in (given, given / FOLDER):
        if (path / "RGB").is_dir() and (path / "Depth").is_dir():
            return path
    raise DatasetNotFoundError(
        f"SYNTHIA-RAND-CITYSCAPES expects {FOLDER} with RGB, Depth and GT/LABELS",
        where=given,
        next_action=f"fetch SYNTHIA_RAND_CITYSCAPES (some 20 GB) from {HOMEPAGE} and set data.root to {FOLDER}",
    )


def _folders(root: Path) -> dict[str, Path]:
    """Where images, depth and labels lie; some unpackers make Depth/Depth."""
    nested = root / "Depth" / "Depth"
    return {
        "image": root / "RGB",
        "depth": nested if nested.is_dir() else root / "Depth",
        "labels": root / "GT" / "LABELS",
    }


def _lacking(root: Path, numbers: Sequence[int], labels: bool) -> list[tuple[int, str]]:
    """(frame, folder) of each file that is not there; one listing per folder, not a look at each file."""
    found = []
    for kind, folder in _folders(root).items():
        if kind == "labels" and not labels:
            continue
        there = set(os.listdir(folder)) if folder.is_dir() else set()
        at = folder.relative_to(root).as_posix()
        found += [(number, at) for number in numbers if f"{number:07d}.png" not in there]
    return sorted(found)
