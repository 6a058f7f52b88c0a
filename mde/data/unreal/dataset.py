"""Frames of the Unreal engine, one data set for all forms."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mde.data.dataset import DepthDataset, RawSample
from mde.data.encodings import DepthEncoding, get_encoding
from mde.data.folder import CameraModel
from mde.data.io import decode_image, read_array, read_image
from mde.data.transforms import SampleTransform
from mde.data.unreal.cameras import read_stereo4k, read_virtual_kitti
from mde.data.unreal.find import UnrealFrame
from mde.errors import DataFormatError

__all__ = ["DenseDepthUnrealDataset", "UnrealDataset"]


class UnrealDataset(DepthDataset):
    """Frames given by their files.

    Args:
        frames: see `mde.data.unreal.find.find_frames`.
        encoding: of depth files whose frame names no other.
        transform: turns a frame into tensors.
        camera: default: unknown. A file about the camera of a frame wins.
        clip: (near, far) in metres to which known depth is clipped; +inf is far. None: not at all.
        kind: "z" or "ray" instead of what the encoding says.
        seed: of the augmentation.
    """

    def __init__(
        self,
        frames: Sequence[UnrealFrame],
        encoding: DepthEncoding,
        transform: SampleTransform,
        camera: CameraModel | None = None,
        clip: tuple[float, float] | None = None,
        kind: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(transform, seed)
        self.frames = list(frames)
        self.encoding = encoding
        self.camera = camera or CameraModel()
        self.clip = clip
        self.kind = kind

    def __len__(self) -> int:
        return len(self.frames)

    def frame_id(self, index: int) -> str:
        return self.frames[index].id

    def files(self, index: int) -> tuple[Path, ...]:
        frame = self.frames[index]
        return tuple(Path(path) for path in dict.fromkeys((frame.image, frame.depth, frame.calibration)) if path)

    def read(self, index: int) -> RawSample:
        """Frame `index`.

        Raises:
            DataFormatError: a file cannot be read.
            ConfigError: the depth is along rays and the camera is unknown.
        """
        frame = self.frames[index]
        encoding = get_encoding(frame.encoding) if frame.encoding else self.encoding
        encoding = replace(encoding, kind=self.kind) if self.kind else encoding
        image, intrinsics, encoding, raw = self._load(frame, encoding)
        if self.clip is not None:
            raw = _clipped(raw, self.clip, encoding.scale)
        depth, valid = encoding.to_metres(raw, intrinsics)
        return RawSample(image, depth, valid, intrinsics, frame.id)

    def _load(
        self, frame: UnrealFrame, encoding: DepthEncoding
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], DepthEncoding, NDArray[Any]]:
        """Image, intrinsics, the encoding with the scale of this frame, and the numbers of the depth file."""
        image = read_image(frame.image)
        height, width = image.shape[:2]
        if encoding.per_frame:
            focal, baseline = read_stereo4k(frame.calibration)
            encoding = encoding.with_scale(focal * baseline)
            intrinsics = CameraModel().matrix(height, width, focal)
        elif frame.calibration:
            intrinsics = _virtual_kitti_camera(frame).matrix(height, width)
        else:
            intrinsics = self.camera.matrix(height, width)
        return image, intrinsics, encoding, read_array(frame.depth, encoding)


class DenseDepthUnrealDataset(UnrealDataset):
    """DenseDepth's ``unreal_data.h5``: ``x/<key>`` is an encoded image, ``y/<key>`` depth in centimetres.

    Every process opens the file itself: an HDF5 handle must not be shared by a fork. An item reads its own arrays only.
    """

    _handle: tuple[int, Any] | None = None

    def _load(
        self, frame: UnrealFrame, encoding: DepthEncoding
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], DepthEncoding, NDArray[Any]]:
        where = f"{frame.image}::{frame.id}"
        try:
            file = self._file(frame.image)
            data, raw = np.asarray(file["x"][frame.id]), np.asarray(file["y"][frame.id])
        except (OSError, KeyError) as error:
            raise DataFormatError(
                f"cannot be read ({error})", where=where, next_action="fetch the file again"
            ) from error
        image = decode_image(data.tobytes(), where)
        height, width = image.shape[:2]
        return image, self.camera.matrix(height, width), encoding, raw.reshape(raw.shape[:2])

    def _file(self, path: str) -> Any:
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = os.getpid(), h5py.File(path, "r")
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


def _clipped(raw: NDArray[Any], limits: tuple[float, float], scale: float) -> NDArray[Any]:
    """The numbers of a file within limits in metres; what is unknown (0, negative, NaN) stays so."""
    near, far = (limit / scale for limit in limits)
    return np.where(raw > 0, np.clip(raw, near, far), 0).astype(np.float32)


def _virtual_kitti_camera(frame: UnrealFrame) -> CameraModel:
    told = read_virtual_kitti(frame.calibration)
    numbers = [int(word) for word in re.findall(r"\d+", f"{frame.moment.rpartition('/')[2]} {frame.camera}")]
    key = (numbers[0], numbers[-1])
    if key not in told:
        what = f"no line for frame {key[0]} and camera {key[1]}"
        raise DataFormatError(what, where=frame.calibration, next_action="fetch the file again")
    return CameraModel(told[key])
