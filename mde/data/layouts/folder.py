"""Your own data: any folder of images with depth maps beside them (`mde.data.pairing`), and two recordings like it."""

from __future__ import annotations

from pathlib import Path

from mde.data.folder_splits import timed_recordings
from mde.data.layouts import Layout

__all__ = ["LAYOUTS"]

_NAMES = {"rgb", "color", "colors", "colour", "image", "images", "img", "train", "train.txt"}


def _is_folder(root: Path) -> bool:
    """Folders or list files of the names that `mde.data.pairing` looks for."""
    return root.is_dir() and any(path.name.lower() in _NAMES for path in root.iterdir())


def _is_tum(root: Path) -> bool:
    return root.is_dir() and bool(timed_recordings(root))


def _is_scene(root: Path) -> bool:
    return (root / "TrainSplit.txt").is_file()


LAYOUTS = (
    Layout(
        name="folder/tum",
        summary="TUM RGB-D: rgb.txt and depth.txt ('timestamp file') beside rgb/ and depth/, or folders of such",
        data_module="mde.data.folder.RGBDFolderDataModule",
        matches=_is_tum,
        settings={"encoding": "tum", "split": "blocks"},
        writer="mde.data.writers.folder:write_tum",
        configs=("folder/advised", "folder/densedepth"),
    ),
    Layout(
        name="folder/seven_scenes",
        summary="a scene of 7-Scenes: TrainSplit.txt, TestSplit.txt, seq-01/frame-000000.color.png and .depth.png",
        data_module="mde.data.folder.RGBDFolderDataModule",
        matches=_is_scene,
        settings={"encoding": "seven_scenes", "split": "sequences"},
        writer="mde.data.writers.folder:write_seven_scenes",
        configs=("folder/advised", "folder/densedepth"),
    ),
    Layout(
        name="folder/rgbd",
        summary="<split>/rgb/NAME.jpg with <split>/depth/NAME.png in millimetres, or any pairing of images and depth",
        data_module="mde.data.folder.RGBDFolderDataModule",
        matches=_is_folder,
        writer="mde.data.writers.folder:write_rgbd",
        configs=("folder/advised", "folder/densedepth"),
    ),
)
