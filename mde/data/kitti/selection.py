"""The images of KITTI's depth benchmark: ``data_depth_selection.zip``, all of 352x1216.

1000 validation images with official depth (``val_selection_cropped``), and 500 anonymous test images whose depth only
KITTI's server knows (``test_depth_prediction_anonymous``): predict them and upload what `export_submission` writes.
Uhrig et al., "Sparsity Invariant CNNs", 3DV 2017.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from mde.data.base import DepthDataModule
from mde.data.dataset import DepthDataset, RawSample
from mde.data.io import read_depth, read_image
from mde.data.kitti.drives import DEPTH_PAGE
from mde.data.transforms import SampleTransform
from mde.data.writers.source import is_made
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.geometry import unknown_intrinsics
from mde.protocol import EvalProtocol

__all__ = ["FOLDERS", "KITTISelectionDataModule", "KITTISelectionDataset"]

FOLDERS = {"val": "val_selection_cropped", "test": "test_depth_prediction_anonymous"}
_COUNTS = {FOLDERS["val"]: 1000, FOLDERS["test"]: 500}
_ABOVE = ("", "depth_selection", "data_depth_selection", "data_depth_selection/depth_selection")


class _Files(NamedTuple):
    image: Path
    depth: Path | None
    intrinsics: Path


class KITTISelectionDataset(DepthDataset):
    """One folder of the selection.

    Args:
        folder: with ``image/``, ``intrinsics/`` and, for the validation images, ``groundtruth_depth/``.
        transform: turns a frame into tensors.
        seed: of the augmentation.

    Raises:
        DatasetNotFoundError: depth maps are missing; all are counted and the first are listed.
    """

    def __init__(self, folder: str | Path, transform: SampleTransform, seed: int = 0) -> None:
        super().__init__(transform, seed)
        self.folder = Path(folder)
        self.frames = _find(self.folder)

    def __len__(self) -> int:
        return len(self.frames)

    def frame_id(self, index: int) -> str:
        return self.frames[index].image.stem

    def files(self, index: int) -> tuple[Path, ...]:
        frame = self.frames[index]
        return (frame.image,) if frame.depth is None else (frame.image, frame.depth)

    def read(self, index: int) -> RawSample:
        """Frame `index`: image (352,1216,3) and depth (352,1216), metres, all unknown for the anonymous images.

        Raises:
            DataFormatError: a file cannot be read.
        """
        frame = self.frames[index]
        image = read_image(frame.image)
        if frame.depth is None:
            depth, valid = np.zeros(image.shape[:2], np.float32), np.zeros(image.shape[:2], np.bool_)
        else:
            depth, valid = read_depth(frame.depth, "kitti")
        return RawSample(image, depth, valid, _read_intrinsics(frame.intrinsics), frame.image.stem)


class KITTISelectionDataModule(DepthDataModule):
    """The images of KITTI's depth benchmark: to validate, test and predict; there is nothing to train on.

    Args:
        root: ``depth_selection`` or the folder above it.
        part: what testing and predicting use: "val", the 1000 images with ground truth, or "test", the 500 anonymous
            ones, which can be predicted only. Validation uses the 1000.
        image_size: (height, width) of the network's input.
        protocol: default "kitti_official": every measured pixel counts, as on KITTI's server.
        depth_range: metres.
        common: see `DepthDataModule`.

    Raises:
        ConfigError: the part is unknown.
    """

    def __init__(
        self,
        root: str,
        part: Literal["val", "test"] = "val",
        *,
        image_size: tuple[int, int] = (352, 1216),
        protocol: str | EvalProtocol = "kitti_official",
        depth_range: tuple[float, float] = (1.0, 80.0),
        **common: Any,
    ) -> None:
        if part not in FOLDERS:
            raise ConfigError(f"unknown part {part!r}", where="data.part", next_action="use val or test")
        super().__init__(protocol=protocol, depth_range=depth_range, image_size=image_size, **common)
        self.root, self.part = root, part
        self._left_out: dict[str, int] = {}

    def facts(self) -> dict[str, Any]:
        truth = "official" if self.part == "val" else "none"
        facts = {"layout": "kitti/depth_selection", "split": FOLDERS[self.part], "ground_truth": truth}
        left_out = {name: count for name, count in self._left_out.items() if count and not is_made(self.root)}
        return {**facts, **({"left_out": left_out} if left_out else {})}

    def setup(self, stage: str) -> None:
        if stage == "test" and self.part == "test":
            hint = "mde predict, then mde.data.kitti.export_submission for KITTI's server; or set data.part to val"
            raise DataFormatError("the anonymous test images have no ground truth", where=self.root, next_action=hint)
        super().setup(stage)

    def make_dataset(self, split: str) -> KITTISelectionDataset:
        if split == "train":
            hint = "train on the raw drives (mde.data.kitti.KITTIDataModule), then test on this"
            raise DatasetNotFoundError("KITTI's selection has no training part", where=self.root, next_action=hint)
        folder = FOLDERS["val" if split == "val" else self.part]
        places = [Path(self.root, above, folder) for above in _ABOVE] + [Path(self.root)]
        for place in places:
            if place.name == folder and (place / "image").is_dir():
                made = KITTISelectionDataset(place, self.transform(split), self.seed)
                self._left_out[folder] = max(0, _COUNTS[folder] - len(made))
                if self._left_out[folder] and not is_made(self.root):
                    rank_zero_warn(f"{place}: {len(made)} images, the benchmark has {_COUNTS[folder]}")
                return made
        hint = f"fetch data_depth_selection.zip from {DEPTH_PAGE}, and set data.root to its depth_selection folder"
        raise DatasetNotFoundError(f"there is no folder {folder} with images", where=self.root, next_action=hint)


def _find(folder: Path) -> list[_Files]:
    """The images in order, each with its depth map where the folder has depth maps."""
    with_depth = folder.name == FOLDERS["val"]
    depths = _names(folder / "groundtruth_depth") if with_depth else set()
    frames, missing = [], []
    for name in sorted(_names(folder / "image")):
        depth = name.replace("_sync_image_", "_sync_groundtruth_depth_")
        if with_depth and depth not in depths:
            missing.append(depth)
        path = folder / "groundtruth_depth" / depth if with_depth else None
        frames.append(_Files(folder / "image" / name, path, (folder / "intrinsics" / name).with_suffix(".txt")))
    if missing:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        what = f"{len(missing)} of {len(frames)} depth maps are missing: {', '.join(missing[:10])}{more}"
        hint = "unpack data_depth_selection.zip again"
        raise DatasetNotFoundError(what, where=folder / "groundtruth_depth", next_action=hint)
    return frames


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.png")}


def _read_intrinsics(path: Path) -> NDArray[np.float32]:
    """The (3,3) matrix of nine numbers; NaN where the folder has none."""
    if not path.is_file():
        return np.asarray(unknown_intrinsics().numpy())
    try:
        return np.array(path.read_text().split(), np.float32).reshape(3, 3)
    except ValueError as error:
        hint = "unpack data_depth_selection.zip again"
        raise DataFormatError(
            "nine numbers are expected (fx 0 cx 0 fy cy 0 0 1)", where=path, next_action=hint
        ) from error
