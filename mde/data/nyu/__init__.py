"""NYU Depth v2 in each layout in circulation: one file for each, one data module for all.

`mde.data.layouts.nyu` lists the layouts. Names are imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mde.lazy import lazily

if TYPE_CHECKING:
    from mde.data.nyu.camera import NYU_INTRINSICS, nyu_camera
    from mde.data.nyu.labeled import FILE_NAME, NYUDepthV2Dataset
    from mde.data.nyu.module import NYUDepthV2DataModule
    from mde.data.nyu.splits import NYU_FRAMES, official_test_rows, paper0_rows, split_rows

__all__ = [
    "FILE_NAME",
    "NYU_FRAMES",
    "NYU_INTRINSICS",
    "NYUDepthV2DataModule",
    "NYUDepthV2Dataset",
    "nyu_camera",
    "official_test_rows",
    "paper0_rows",
    "split_rows",
]

# a writer needs the camera and not the seconds that importing Lightning takes
_NAMES = {
    "camera": ("NYU_INTRINSICS", "nyu_camera"),
    "labeled": ("FILE_NAME", "NYUDepthV2Dataset"),
    "module": ("NYUDepthV2DataModule",),
    "splits": ("NYU_FRAMES", "official_test_rows", "paper0_rows", "split_rows"),
}

__getattr__, __dir__ = lazily(__name__, _NAMES)
