"""KITTI: raw drives under the Eigen split, and the images of the depth benchmark. Names are imported when first used.

Geiger et al., "Vision meets Robotics: The KITTI Dataset", IJRR 2013 (the drives); Uhrig et al., "Sparsity Invariant
CNNs", 3DV 2017 (the official depth maps and the benchmark); Eigen et al., "Depth Map Prediction from a Single Image
using a Multi-Scale Deep Network", NeurIPS 2014 (the split).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mde.lazy import lazily

if TYPE_CHECKING:
    from mde.data.kitti.calibration import Calibration, nominal_calibration, read_calibration
    from mde.data.kitti.datamodule import KITTIDataModule
    from mde.data.kitti.dataset import KITTIDataset
    from mde.data.kitti.frames import HELD_OUT_DRIVES, Frame, eigen_frames, has_official_depth, read_list, split_frames
    from mde.data.kitti.selection import KITTISelectionDataModule, KITTISelectionDataset
    from mde.data.kitti.submission import export_submission
    from mde.data.kitti.velodyne import ScanReader, project_velodyne, read_scan

__all__ = [
    "Calibration",
    "Frame",
    "HELD_OUT_DRIVES",
    "KITTIDataModule",
    "KITTIDataset",
    "KITTISelectionDataModule",
    "KITTISelectionDataset",
    "ScanReader",
    "eigen_frames",
    "export_submission",
    "has_official_depth",
    "nominal_calibration",
    "project_velodyne",
    "read_calibration",
    "read_list",
    "read_scan",
    "split_frames",
]

# the lists and the projection are of use without the seconds that importing Lightning takes
_NAMES = {
    "calibration": ("Calibration", "nominal_calibration", "read_calibration"),
    "datamodule": ("KITTIDataModule",),
    "dataset": ("KITTIDataset",),
    "frames": ("Frame", "HELD_OUT_DRIVES", "eigen_frames", "has_official_depth", "read_list", "split_frames"),
    "selection": ("KITTISelectionDataModule", "KITTISelectionDataset"),
    "submission": ("export_submission",),
    "velodyne": ("ScanReader", "project_velodyne", "read_scan"),
}

__getattr__, __dir__ = lazily(__name__, _NAMES)
