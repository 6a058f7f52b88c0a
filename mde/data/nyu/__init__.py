"""NYU Depth v2 in each layout in circulation: one file for each, one data module for all.

`mde.data.layouts.nyu` lists the layouts. Names are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
_HOMES = {
    "FILE_NAME": "labeled",
    "NYU_FRAMES": "splits",
    "NYU_INTRINSICS": "camera",
    "NYUDepthV2DataModule": "module",
    "NYUDepthV2Dataset": "labeled",
    "nyu_camera": "camera",
    "official_test_rows": "splits",
    "paper0_rows": "splits",
    "split_rows": "splits",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mde.data.nyu' has no attribute {name!r}")
    return getattr(import_module(f"mde.data.nyu.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
