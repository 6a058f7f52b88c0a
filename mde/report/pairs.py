"""Predictions beside their truth, one frame at a time: memory does not depend on the number of frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.data.encodings import DepthEncoding, Metres, get_encoding
from mde.data.io import read_depth
from mde.data.pairing import listed, role_and_key
from mde.errors import DataFormatError
from mde.protocol import CROPS
from mde.report.predictions import PredictionFolder, find_maps
from mde.types import Ambiguity

if TYPE_CHECKING:
    from mde.data import DepthDataModule

__all__ = ["Case", "Noticed", "PairedFolder", "Placement", "Truth", "TruthFolder", "TruthSet", "Unusable"]

Unusable = Literal["error", "skip"]
Placement = Literal["whole", "kitti_kb"]
_KB = (352, 1216)  # of KITTI's benchmark crop, see `mde.protocol.CROPS`


class Truth(Protocol):
    """Ground truth, frame by frame."""

    def __len__(self) -> int: ...

    def frame_id(self, index: int) -> str:
        """Stable name of a frame."""

    def measured(self, index: int) -> Metres:
        """Depth float32 (H,W), metres, 0 where unknown, and the mask, bool (H,W)."""


class TruthFolder:
    """Ground truth in a folder of depth files.

    Args:
        root: the folder; pictures in it are left out by their names (``rgb/``, ``_image``, …).
        encoding: of the depth files: a name of `mde.data.encodings.ENCODINGS`, metres per unit, or a `DepthEncoding`.

    Raises:
        DatasetNotFoundError: no such folder, or no file that can hold a map.
        ConfigError: the encoding is unknown.
    """

    def __init__(self, root: str | Path, encoding: DepthEncoding | str | float) -> None:
        self.encoding = get_encoding(encoding)
        found = find_maps(Path(root), skip=lambda path: role_and_key(path)[0] == "image")
        self._ids, self._paths = list(found), list(found.values())

    def __len__(self) -> int:
        return len(self._ids)

    def frame_id(self, index: int) -> str:
        return self._ids[index]

    def measured(self, index: int) -> Metres:
        return read_depth(self._paths[index], self.encoding)


class TruthSet:
    """Ground truth of a split of a data module, at its native size.

    Args:
        data: the data module.
        split: "test", "val" or "train".
    """

    def __init__(self, data: DepthDataModule, split: str = "test") -> None:
        self.data, self.split = data, split
        self.frames = data.dataset(split)

    def __len__(self) -> int:
        return len(self.frames)

    def frame_id(self, index: int) -> str:
        return self.frames.frame_id(index)

    def measured(self, index: int) -> Metres:
        frame = self.frames.read(index).checked()
        return frame.depth, frame.valid


class Case(NamedTuple):
    """One frame to score.

    Attributes:
        id: of the frame.
        pred: float32 (h,w), of any size, in the unit of its ambiguity.
        depth: float32 (H,W), metres, 0 where unknown.
        valid: bool (H,W).
    """

    id: str
    pred: NDArray[np.float32]
    depth: NDArray[np.float32]
    valid: NDArray[np.bool_]

    @property
    def prediction(self) -> Tensor:
        """(1,1,h,w)."""
        return torch.from_numpy(self.pred)[None, None]

    @property
    def target(self) -> tuple[Tensor, Tensor]:
        """The truth as (1,1,H,W) tensors: depth and mask."""
        # a copy where needed: frames may be read-only, which torch warns of
        depth, valid = (np.require(array, requirements=["C", "W"]) for array in (self.depth, self.valid))
        return torch.from_numpy(depth)[None, None], torch.from_numpy(valid)[None, None]


@dataclass
class Noticed:
    """What was met while reading.

    Attributes:
        unusable: reason by frame id: missing, unreadable, of the wrong size, without a usable number.
        resized: frames whose prediction has another size than the truth.
        not_positive: frames whose depth is zero or less somewhere, where no fit could make it positive.
    """

    unusable: dict[str, str] = field(default_factory=dict)
    resized: int = 0
    not_positive: int = 0

    def refuse(self, where: object) -> None:
        """Raise a `DataFormatError` that counts what cannot be scored and names the first ten, if there is any."""
        if self.unusable:
            raise DataFormatError(
                listed("predictions cannot be scored", [f"{k} ({v})" for k, v in self.unusable.items()]),
                where=where,
                next_action="write them again, or leave these frames out: --unusable skip",
            )


class PairedFolder:
    """The frames of a truth with the predictions of a folder, read one at a time.

    Args:
        folder: the predictions.
        truth: what they are scored against.
        by_order: pair by order and not by name.
        placement: "kitti_kb" for predictions of KITTI's benchmark crop alone: they are put to its place in the frame;
            "whole" stretches every prediction over the frame.
        unusable: "error" refuses a folder in which a prediction is missing or cannot be scored; "skip" leaves these
            frames out.

    Raises:
        DataFormatError: predictions are missing.
    """

    def __init__(
        self,
        folder: PredictionFolder,
        truth: Truth,
        *,
        by_order: bool = False,
        placement: Placement = "whole",
        unusable: Unusable = "error",
    ) -> None:
        self.folder, self.truth, self.placement, self.unusable = folder, truth, placement, unusable
        self.ids = [truth.frame_id(index) for index in range(len(truth))]
        self.pairing = folder.pair(self.ids, by_order)
        self.noticed = Noticed(dict.fromkeys(self.pairing.missing, "missing"))
        if not self.pairing.files or (self.pairing.missing and unusable == "error"):
            raise DataFormatError(self._missing(), where=folder.root, next_action=self._missing_hint())

    def _missing(self) -> str:
        if self.pairing.files:
            return listed(f"of {len(self.ids)} predictions are missing", self.pairing.missing)
        frame, name = self.ids[0], next(iter(self.folder.files))
        return f"no file has the name of a frame: the frames are {frame!r}, …, the files are {name!r}, …"

    def _missing_hint(self) -> str:
        if self.pairing.files:
            return "predict them, or skip what is missing (--unusable skip), which is another set of images"
        return "name the files as the frames, or pair them by order (--by-order)"

    def __iter__(self) -> Iterator[Case]:
        """All frames that can be scored; what cannot is noted, and after the last an error, unless it is skipped."""
        self.noticed = Noticed(dict.fromkeys(self.pairing.missing, "missing"))
        for index, frame in enumerate(self.ids):
            if frame not in self.pairing.files:
                continue
            depth, valid = self.truth.measured(index)
            try:
                pred = self._read(self.pairing.files[frame], depth.shape)
            except DataFormatError as error:
                self.noticed.unusable[frame] = str(error)
                continue
            yield Case(frame, pred, depth, valid)
        if self.unusable == "error":
            self.noticed.refuse(self.folder.root)

    def _read(self, path: Path, size: tuple[int, ...]) -> NDArray[np.float32]:
        values = self.folder.read(path)
        if not np.isfinite(values).any():
            raise DataFormatError("it has no finite number")
        if self.folder.ambiguity in (Ambiguity.METRIC, Ambiguity.SCALE):
            if not (values > 0).any():
                raise DataFormatError("it has no positive number")
            self.noticed.not_positive += bool((values <= 0).any())
        if values.shape == size:
            return values
        if self.placement == "kitti_kb" and values.shape == _KB:
            return _in_frame(values, size)
        self.noticed.resized += 1
        _require_resizable(values.shape, size)
        return values


def _in_frame(values: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """KITTI's benchmark crop at its place in the frame, NaN around it: a pixel that counts there is an error."""
    top, bottom, left, right = CROPS["kitti_kb"](*size)
    frame = np.full(size, np.nan, np.float32)
    frame[top:bottom, left:right] = values
    return frame


def _require_resizable(found: tuple[int, ...], size: tuple[int, ...]) -> None:
    what = f"it is {found[0]}x{found[1]} (rows x columns), the truth {size[0]}x{size[1]}"
    if found == size[::-1]:
        raise DataFormatError(f"{what}: transposed")
    if found == _KB and size[0] in range(_KB[0], 400) and size[1] in range(_KB[1], 1300):
        raise DataFormatError(f"{what}: KITTI's benchmark crop is not the whole frame; say so by --placement kitti_kb")
