"""Layouts of KITTI: the raw drives, and the images of the depth benchmark."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mde.data.layouts import Layout

__all__ = ["LAYOUTS"]

_DAY_OR_DRIVE = re.compile(r"\d{4}_\d\d_\d\d(_drive_\d{4}_(sync|extract))?")
_SELECTION = {"val_selection_cropped", "test_depth_prediction_anonymous"}
_LOOKED_AT = 100  # names in a folder


def _names(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in islice(entries, _LOOKED_AT) if entry.is_dir())
    except OSError:  # no folder, or not ours to read
        return


def _has(root: Path, wanted: re.Pattern[str]) -> bool:
    """True if the folder, or one in it, holds a folder of such a name."""
    names = list(_names(root))
    return any(wanted.fullmatch(name) for name in names) or any(
        wanted.fullmatch(below) for name in names for below in _names(root / name)
    )


def _is_raw(root: Path) -> bool:
    return _has(root, _DAY_OR_DRIVE)


def _is_selection(root: Path) -> bool:
    return root.name in _SELECTION or _has(root, re.compile("|".join(_SELECTION)))


LAYOUTS = (
    Layout(
        name="kitti/raw",
        summary="2011_09_26/2011_09_26_drive_0001_sync/image_02/data/*.png, with official depth maps or lidar scans",
        data_module="mde.data.kitti.KITTIDataModule",
        matches=_is_raw,
        writer="mde.data.writers.kitti:write_raw",
        world="street",
        configs=("kitti/densedepth", "kitti/densedepth_velodyne", "kitti/stereo", "kitti/stereo_semi"),
    ),
    Layout(
        name="kitti/depth_selection",
        summary="val_selection_cropped/ and test_depth_prediction_anonymous/ of KITTI's depth benchmark",
        data_module="mde.data.kitti.KITTISelectionDataModule",
        matches=_is_selection,
        writer="mde.data.writers.kitti:write_selection",
        world="street",
    ),
)
