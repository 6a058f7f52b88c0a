"""The layout of your own data: any folder of images with depth maps beside them (`mde.data.pairing`)."""

from __future__ import annotations

from pathlib import Path

from mde.data.layouts import Layout

__all__ = ["LAYOUTS"]

_NAMES = {"rgb", "color", "colors", "colour", "image", "images", "img", "train", "train.txt"}


def _is_folder(root: Path) -> bool:
    """Folders or list files of the names that `mde.data.pairing` looks for."""
    return root.is_dir() and any(path.name.lower() in _NAMES for path in root.iterdir())


LAYOUTS = (
    Layout(
        name="folder/rgbd",
        summary="<split>/rgb/NAME.jpg with <split>/depth/NAME.png in millimetres, or any pairing of images and depth",
        data_module="mde.data.folder.RGBDFolderDataModule",
        matches=_is_folder,
        writer="mde.data.writers.folder:write_rgbd",
        configs=("folder/densedepth",),
    ),
)
