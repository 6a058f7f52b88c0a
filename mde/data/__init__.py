"""Data sets: each is one file or folder with a Dataset and a DataModule. Names are imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mde.data.base import DepthDataModule
    from mde.data.dataset import DepthDataset, RawSample
    from mde.data.folder import RGBDFolderDataModule, RGBDFolderDataset
    from mde.data.nyu import NYUDepthV2DataModule, NYUDepthV2Dataset
    from mde.data.procedural import ProceduralDataModule, ProceduralDataset

__all__ = [
    "DepthDataModule",
    "DepthDataset",
    "NYUDepthV2DataModule",
    "NYUDepthV2Dataset",
    "ProceduralDataModule",
    "ProceduralDataset",
    "RGBDFolderDataModule",
    "RGBDFolderDataset",
    "RawSample",
]

# reading a depth map must not cost the seconds that importing Lightning takes
_HOMES = {
    "DepthDataModule": "base",
    "DepthDataset": "dataset",
    "NYUDepthV2DataModule": "nyu",
    "NYUDepthV2Dataset": "nyu",
    "ProceduralDataModule": "procedural",
    "ProceduralDataset": "procedural",
    "RGBDFolderDataModule": "folder",
    "RGBDFolderDataset": "folder",
    "RawSample": "dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mde.data' has no attribute {name!r}")
    return getattr(import_module(f"mde.data.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
