"""NYU Depth v2, the labelled set of 1449 Kinect frames, read from the original ``nyu_depth_v2_labeled.mat``.

Silberman et al., "Indoor Segmentation and Support Inference from RGBD Images", ECCV 2012. The file is MATLAB v7.3,
hence HDF5, and MATLAB's order of axes arrives reversed: a frame is stored as (3,640,480). Depth comes twice: "raw" as
the Kinect measured it, projected into the colour frame, 0 where nothing came back; and "filled", in-painted by the
authors' colorization. Published tables of the 654 test images use raw depth (BTS, AdaBins, Marigold) or filled depth
(DenseDepth): the protocol's name says which.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import h5py
import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from mde.data.base import DepthDataModule
from mde.data.dataset import DepthDataset, RawSample
from mde.data.io import masked_depth
from mde.data.transforms import SampleTransform
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.geometry import intrinsics_matrix, resize_intrinsics
from mde.protocol import EvalProtocol

__all__ = [
    "NYU_FRAMES",
    "NYU_INTRINSICS",
    "NYUDepthV2DataModule",
    "NYUDepthV2Dataset",
    "official_test_rows",
    "split_rows",
]

NYU_FRAMES = 1449
NYU_INTRINSICS = (518.85790117450188, 519.46961112127485, 325.58244941119034, 253.73616633400465)
"""fx, fy, cx, cy of the colour camera in pixels of 640x480, from the toolbox of the authors (camera_params.m).

The lens distorts (k1 = 0.208, k2 = -0.586, k3 = 0.499, p1 = 0.0072, p2 = 0.0010), and the frames are not undistorted:
away from the centre the pinhole model is off by several pixels.
"""
FILE_NAME = "nyu_depth_v2_labeled.mat"
HOMEPAGE = "https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html"
VAL_SHARE = 0.1  # of the official training part; the authors define no validation part

# testNdxs of the authors' splits.mat: 654 frame numbers, counted from 1; the other 795 are for training
_TEST_FRAMES = """
    1-2 9 14-18 21 28-43 46-47 56-57 59-63 76-79 84-91 117-119 125-129 131-134 137 153-155 167-169 171-176 180-202
    207-212 220-222 250 264 271-273 279-285 296-302 310-312 315-317 325-335 351-352 355-364 384-390 395-397 411-414
    430-435 441-448 462-466 469-477 508-513 515-526 531-533 537-539 549-551 555-571 579-583 591-594 603-607 612-613
    617-621 633-638 644-645 650-651 656-658 663-664 668-673 676-681 686-690 693-694 697-699 706-713 717-718 724-728
    731-734 743-744 759-787 800-804 810-814 821-823 833-846 850-852 857-862 869-871 906-908 917-919 926-928 932-935
    945-947 959-962 965-967 970-977 991-995 1001-1004 1010-1012 1021-1023 1032-1034 1038-1039 1048-1049 1052-1053
    1057-1058 1075-1084 1088-1096 1098-1104 1106-1109 1117-1119 1123-1131 1135-1136 1144-1158 1162-1167 1170-1171
    1174-1176 1179-1184 1192-1196 1201-1212 1216-1220 1226-1230 1233-1235 1247-1250 1254-1265 1275-1280 1285-1295
    1297-1299 1302-1308 1314-1315 1329-1332 1335-1340 1347-1349 1353-1356 1364-1365 1368-1369 1384-1391 1394-1401
    1407-1414 1421-1424 1430-1433 1441-1449
"""
_DEPTH_KEYS = {"raw": "rawDepths", "filled": "depths"}
_PROTOCOLS = {"raw": "nyu_eigen", "filled": "nyu_eigen_filled"}


def official_test_rows() -> list[int]:
    """Rows (from 0) of the 654 official test frames.

    >>> rows = official_test_rows()
    >>> len(rows), rows[:3], rows[-1]
    (654, [0, 1, 8], 1448)
    """
    spans = [[int(number) for number in span.split("-")] for span in _TEST_FRAMES.split()]
    return [frame - 1 for span in spans for frame in range(span[0], span[-1] + 1)]


def split_rows(split: str, scheme: str, scenes: Sequence[str], *, val_on_test: bool = False) -> list[int]:
    """Rows (from 0) of a split.

    Args:
        split: "train", "val" or "test".
        scheme: "official": the authors' 795 training and 654 test frames; validation takes whole scenes of the
            training part, some 10 % of its frames, because neighbours of one scene in both would leak. "paper3": frames
            1 to 1000, the next 224 and the last 225 in the order of the file, which mixes official training and test.
        scenes: name of the scene of each row.
        val_on_test: validate on the test part and train on all 795, as much of the literature does.

    Raises:
        ConfigError: the split or the scheme is unknown.
    """
    if split not in ("train", "val", "test") or scheme not in ("official", "paper3"):
        what = f"unknown split {split!r} of {scheme!r}"
        raise ConfigError(what, where="data.split", next_action="use official or paper3")
    if scheme == "paper3":
        parts = {"train": (0, 1000), "val": (1000, 1224), "test": (1224, NYU_FRAMES)}
        return list(range(*parts["test" if val_on_test and split == "val" else split]))
    test = official_test_rows()
    if split == "test" or (split == "val" and val_on_test):
        return test
    train = sorted(set(range(NYU_FRAMES)) - set(test))
    held_out = set() if val_on_test else set(_held_out(train, scenes))
    return [row for row in train if (row in held_out) == (split == "val")]


def _held_out(rows: Sequence[int], scenes: Sequence[str]) -> list[int]:
    """About `VAL_SHARE` of the rows as whole rooms, spread evenly over the file; the same ones every time."""
    rooms: dict[str, list[int]] = {}
    for row in rows:
        # kitchen_0028a and kitchen_0028b are two walks through one room
        rooms.setdefault(re.sub(r"(?<=\d)[a-z]+$", "", scenes[row]), []).append(row)
    seen = 0
    chosen: list[int] = []
    for members in rooms.values():
        seen += len(members)
        if len(chosen) + len(members) / 2 <= VAL_SHARE * seen:
            chosen += members
    return chosen


class NYUDepthV2Dataset(DepthDataset):
    """Some rows of the labelled set.

    An item reads its own row only. Every process opens the file itself: an HDF5 handle must not be shared by a fork.

    Args:
        path: the .mat file.
        rows: which frames, from 0.
        depth: "filled" or "raw".
        transform: turns a frame into tensors.
        seed: of the augmentation.
    """

    def __init__(
        self, path: str | Path, rows: Sequence[int], depth: str, transform: SampleTransform, seed: int = 0
    ) -> None:
        super().__init__(transform, seed)
        self.path = str(path)
        self.rows = [int(row) for row in rows]
        self.depth_key = _DEPTH_KEYS[depth]
        self._handle: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> RawSample:
        """Frame `index`: image (480,640,3) and depth (480,640), metres.

        Raises:
            DataFormatError: the row cannot be read, as from a file that was not fetched to its end.
        """
        row = self.rows[index]
        try:
            file = self._file()
            planes, stored = file["images"][row], file[self.depth_key][row]
        except (OSError, KeyError, ValueError) as error:
            raise _broken(self.path, f"frame {row} cannot be read ({error})") from error
        image = cv2.merge([cv2.transpose(plane) for plane in planes])
        depth = cv2.transpose(stored.astype(np.float32, copy=False))
        valid = np.isfinite(depth) & (depth > 0)
        intrinsics = _camera(*depth.shape)
        return RawSample(image, masked_depth(depth, valid, out=depth), valid, intrinsics, f"nyu_{row:05d}")

    def _file(self) -> Any:
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = os.getpid(), h5py.File(self.path, "r")
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


class NYUDepthV2DataModule(DepthDataModule):
    """NYU Depth v2, labelled set.

    Args:
        root: ``nyu_depth_v2_labeled.mat``, or the folder that holds it.
        split: "official" (795 / 654) or "paper3" (1000 / 224 / 225); see `split_rows`.
        depth: "filled" (dense) or "raw" (with holes), for training and for evaluation.
        val_on_test: validate on the test part. Common, but a model chosen so has seen the test set.
        image_size: (height, width) of the network's input.
        protocol: default "nyu_eigen" for raw depth, "nyu_eigen_filled" for filled.
        depth_range: metres, (0.1, 10); the ground truth is clipped to 10 m by its authors.
        common: see `DepthDataModule`.
    """

    def __init__(
        self,
        root: str,
        split: Literal["official", "paper3"] = "official",
        depth: Literal["filled", "raw"] = "filled",
        *,
        val_on_test: bool = False,
        image_size: tuple[int, int] = (480, 640),
        protocol: str | EvalProtocol | None = None,
        depth_range: tuple[float, float] = (0.1, 10.0),
        **common: Any,
    ) -> None:
        if depth not in _DEPTH_KEYS:
            raise ConfigError(f"unknown depth {depth!r}", where="data.depth", next_action="use filled or raw")
        protocol = protocol or _PROTOCOLS[depth]
        super().__init__(protocol=protocol, depth_range=depth_range, image_size=image_size, **common)
        self.root = root
        self.split = split
        self.depth = depth
        self.val_on_test = val_on_test

    def make_dataset(self, split: str) -> NYUDepthV2Dataset:
        path = _find(self.root)
        rows = split_rows(split, self.split, _scene_names(path, self.depth), val_on_test=self.val_on_test)
        if split == "val" and self.val_on_test:
            rank_zero_info("validation uses the test frames of NYU Depth v2 (val_on_test): do not choose a model by it")
        return NYUDepthV2Dataset(path, rows, self.depth, self.transform(split), self.seed)


def _find(root: str) -> Path:
    path = Path(root)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        raise DatasetNotFoundError(
            f"NYU Depth v2 expects the labelled data set as {FILE_NAME}",
            where=path,
            next_action=f"fetch it (about 2.8 GB) from {HOMEPAGE} and set data.root to it or to its folder",
        )
    return path


def _scene_names(path: Path, depth: str) -> list[str]:
    """Scene of each row, after a look at whether this is the file that it should be."""
    try:
        with h5py.File(path, "r") as file:
            for key in ("images", _DEPTH_KEYS[depth]):
                if len(file[key]) != NYU_FRAMES:
                    raise _broken(path, f"{key} holds {len(file[key])} frames instead of {NYU_FRAMES}")
            # each entry refers to an array of character codes
            return ["".join(map(chr, np.ravel(file[ref]))) for ref in np.ravel(file["scenes"])]
    except (OSError, KeyError, ValueError) as error:
        raise _broken(path, f"no {FILE_NAME} ({error})") from error


def _broken(path: str | Path, what: str) -> DataFormatError:
    return DataFormatError(what, where=path, next_action=f"fetch the file again from {HOMEPAGE}")


def _camera(height: int, width: int) -> NDArray[np.float32]:
    """The matrix for frames of this size: files of reduced copies exist."""
    return np.asarray(resize_intrinsics(intrinsics_matrix(*NYU_INTRINSICS), width / 640, height / 480).numpy())
