"""NYU Depth v2, the labelled set of 1449 Kinect frames, read from the original ``nyu_depth_v2_labeled.mat``.

Silberman et al., "Indoor Segmentation and Support Inference from RGBD Images", ECCV 2012. The file is MATLAB v7.3,
hence HDF5, and MATLAB's order of axes arrives reversed: a frame is stored as (3,640,480). Depth comes twice: "raw" as
the Kinect measured it, projected into the colour frame, 0 where nothing came back; and "filled", in-painted by the
authors' colorization. Published tables of the 654 test images use raw depth (BTS, AdaBins, Marigold) or filled depth
(DenseDepth): the protocol's name says which.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import h5py
import numpy as np

from mde.data.dataset import DepthDataset, RawSample
from mde.data.encodings import DepthEncoding
from mde.data.layouts.nyu import LABELED_HOME, LABELED_NAME, find_labeled
from mde.data.nyu.base import Choice, NYUCopy
from mde.data.nyu.camera import nyu_camera
from mde.data.nyu.splits import NYU_FRAMES, official_test_rows, split_rows
from mde.data.transforms import SampleTransform
from mde.errors import DataFormatError, DatasetNotFoundError

__all__ = ["DEPTH_KEYS", "FILE_NAME", "SPLITS_NAME", "LabeledCopy", "NYUDepthV2Dataset"]

FILE_NAME = LABELED_NAME
SPLITS_NAME = "splits.mat"
DEPTH_KEYS = {"raw": "rawDepths", "filled": "depths"}


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
        self.depth_key = DEPTH_KEYS[depth]
        self._handle: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def frame_id(self, index: int) -> str:
        return f"nyu_{self.rows[index]:05d}"

    def files(self, index: int) -> tuple[Path, ...]:
        return (Path(self.path),)

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
        depth, valid = DepthEncoding().to_metres(cv2.transpose(stored.astype(np.float32, copy=False)))
        return RawSample(image, depth, valid, nyu_camera(*depth.shape), self.frame_id(index))

    def _file(self) -> Any:
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = os.getpid(), h5py.File(self.path, "r")
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


class LabeledCopy(NYUCopy):
    """The labelled set; a made one has fewer frames, and ``splits.mat`` beside it says which are for what."""

    layout = "nyu/labeled"
    truths: ClassVar = {
        "filled": "in-painted by the authors' colorization",
        "raw": "as the Kinect measured it, projected into the colour frame",
    }
    schemes = ("official", "paper3")

    def __init__(self, root: Path, choice: Choice) -> None:
        super().__init__(root, choice)
        self._scenes: list[str] = []

    @property
    def path(self) -> Path:
        """The .mat file.

        Raises:
            DatasetNotFoundError: it is not there.
        """
        found = find_labeled(self.root)
        if found is None:
            raise DatasetNotFoundError(
                f"NYU Depth v2 expects the labelled data set as {FILE_NAME}",
                where=self.root,
                next_action=f"fetch it (about 2.8 GB) from {LABELED_HOME} and set data.root to it or to its folder",
            )
        return found

    def scenes(self, part: str) -> Sequence[str]:
        if not self._scenes:
            test, everything = self._own_test()
            self._scenes = _scene_names(self.path, self.kind, len(everything) or NYU_FRAMES)
            if test is not None:
                self.warn_of_count("test", len(test))
        return self._scenes

    def rows(self, split: str) -> tuple[str, Sequence[int]]:
        scenes = self.scenes("all")
        test, everything = self._own_test()
        choice = self.choice
        if len(everything) == NYU_FRAMES and test != official_test_rows():
            hint = "remove it: the official split is built in"
            where = self.path.with_name(SPLITS_NAME)
            raise DataFormatError("these are not the authors' test frames", where=where, next_action=hint)
        rows = split_rows(split, choice.scheme, scenes, val_on_test=choice.val_on_test, test_rows=test)
        return "all", rows

    def make(self, part: str, rows: Sequence[int], transform: SampleTransform, seed: int) -> NYUDepthV2Dataset:
        return NYUDepthV2Dataset(self.path, rows, self.kind, transform, seed)

    def facts(self) -> dict[str, Any]:
        if self.choice.scheme != "paper3":
            return super().facts()
        held = "the test frames" if self.choice.val_on_test else "rows 1001 to 1224"
        return {**super().facts(), "validation": f"{held}; training and test mix the official parts"}

    def _own_test(self) -> tuple[list[int] | None, list[int]]:
        """Test rows and all rows of the ``splits.mat`` beside the file, if there is one."""
        path = self.path.with_name(SPLITS_NAME)
        if not path.is_file():
            return None, []
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError

        try:
            parts = loadmat(path)
            train, test = ([int(n) - 1 for n in np.ravel(parts[key])] for key in ("trainNdxs", "testNdxs"))
        except (OSError, KeyError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
            hint = "remove it: the official split is built in"
            raise DataFormatError(f"no splits of NYU ({error})", where=path, next_action=hint) from error
        return sorted(test), sorted(train + test)


def _scene_names(path: Path, depth: str, frames: int) -> list[str]:
    """Scene of each row, after a look at whether this is the file that it should be."""
    try:
        with h5py.File(path, "r") as file:
            for key in ("images", DEPTH_KEYS[depth]):
                if len(file[key]) != frames:
                    raise _broken(path, f"{key} holds {len(file[key])} frames instead of {frames}")
            # each entry refers to an array of character codes
            return ["".join(map(chr, np.ravel(file[ref]))) for ref in np.ravel(file["scenes"])]
    except (OSError, KeyError, ValueError) as error:
        raise _broken(path, f"no {FILE_NAME} ({error})") from error


def _broken(path: str | Path, what: str) -> DataFormatError:
    return DataFormatError(what, where=path, next_action=f"fetch the file again from {LABELED_HOME}")
