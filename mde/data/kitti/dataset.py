"""Frames of KITTI's drives, read with their calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mde.data.dataset import DepthDataset, RawSample, RightView
from mde.data.io import read_depth, read_image
from mde.data.kitti.calibration import Calibration
from mde.data.kitti.drives import Sample
from mde.data.kitti.frames import RIGHT, Frame
from mde.data.kitti.velodyne import ScanReader
from mde.data.transforms import SampleTransform
from mde.errors import DataFormatError
from mde.protocol import CROPS

__all__ = ["KITTIDataset", "kb_cropped"]


class KITTIDataset(DepthDataset):
    """Frames given by their files.

    Args:
        samples: see `mde.data.kitti.drives.Drives.locate`; those with a right picture are read as stereo pairs.
        calibrations: date -> calibration.
        transform: turns a frame into tensors.
        scans: projects lidar scans; None: the depth files are official depth maps (uint16, 1/256 m).
        kb_crop: cut to the benchmark crop of 352x1216, see `kb_cropped`.
        seed: of the augmentation.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        calibrations: Mapping[str, Calibration],
        transform: SampleTransform,
        scans: ScanReader | None = None,
        *,
        kb_crop: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(transform, seed)
        self.samples = list(samples)
        self.calibrations = dict(calibrations)
        self.scans = scans
        self.kb_crop = kb_crop

    def __len__(self) -> int:
        return len(self.samples)

    def frame_id(self, index: int) -> str:
        return self.samples[index].frame.id

    def files(self, index: int) -> tuple[Path, ...]:
        _, *names = self.samples[index]
        return tuple(Path(name) for name in dict.fromkeys(names) if name is not None)

    def read(self, index: int) -> RawSample:
        """Frame `index`: image (H,W,3) and sparse depth (H,W), metres; H and W depend on the day, unless `kb_crop`.

        Raises:
            DataFormatError: a file cannot be read, or the image has not the size that the calibration is for.
        """
        sample = self.samples[index]
        frame, calibration = sample.frame, self.calibrations[sample.frame.drive.split("/")[0]]
        image = _read_image(sample.image, calibration)
        depth = self._depth(sample.depth, frame, calibration, image.shape[:2])
        camera = calibration.intrinsics(frame.camera)
        raw = RawSample(image, depth, depth > 0, camera, frame.id, right=self._right(sample, calibration))
        return kb_cropped(raw.checked()) if self.kb_crop else raw

    def _depth(self, path: str, frame: Frame, calibration: Calibration, size: tuple[int, int]) -> NDArray[np.float32]:
        if self.scans is None:
            return read_depth(path, "kitti")[0]
        return self.scans.read(path, calibration.projection(frame.camera), size, frame.id)

    def _right(self, sample: Sample, calibration: Calibration) -> RightView | None:
        if sample.right is None:
            return None
        image, frame = _read_image(sample.right, calibration), sample.frame._replace(camera=RIGHT)
        path = sample.right_depth
        depth = None if path is None else self._depth(path, frame, calibration, image.shape[:2])
        return RightView(image, calibration.baseline, depth)


def _read_image(path: str, calibration: Calibration) -> NDArray[np.uint8]:
    image = read_image(path)
    size = image.shape[:2]
    if size != calibration.size:
        what = f"the image is {size} (height, width), the calibration of {calibration.where} is for {calibration.size}"
        hint = "use KITTI's frames at their native size; data.image_size resizes them for the network"
        raise DataFormatError(what, where=path, next_action=hint)
    return image


def kb_cropped(raw: RawSample) -> RawSample:
    """The benchmark crop of a frame: the bottom 352 rows and the middle 1216 columns; the intrinsics follow.

    Raises:
        DataFormatError: the frame is smaller than the crop.
    """
    try:
        top, bottom, left, right = CROPS["kitti_kb"](*raw.depth.shape)
    except DataFormatError as error:
        what = f"a frame of {raw.depth.shape} is smaller than the benchmark crop of KITTI, 352x1216"
        raise DataFormatError(what, where=raw.id, next_action="set data.kb_crop to false") from error
    window = np.s_[top:bottom, left:right]
    intrinsics = raw.intrinsics.copy()
    intrinsics[:2, 2] -= (left, top)
    other = raw.right
    if other is not None:
        depth = None if other.depth is None else other.depth[window]
        other = RightView(other.image[window], other.baseline, depth)
    return RawSample(raw.image[window], raw.depth[window], raw.valid[window], intrinsics, raw.id, right=other)
