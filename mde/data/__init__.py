"""Data sets: each is one file or folder with a Dataset and a DataModule. Names are imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mde.data.base import DepthDataModule
    from mde.data.dataset import DepthDataset, RawSample, RightView
    from mde.data.folder import RGBDFolderDataModule, RGBDFolderDataset
    from mde.data.kitti import KITTIDataModule, KITTIDataset, KITTISelectionDataModule
    from mde.data.mixed import MixedDataModule, MixedDataset
    from mde.data.nyu import NYUDepthV2DataModule, NYUDepthV2Dataset
    from mde.data.procedural import ProceduralDataModule, ProceduralDataset
    from mde.data.shards import ShardedDataModule, ShardedDataset
    from mde.data.shards.writer import write_shards
    from mde.data.synthia import SYNTHIADataModule, SYNTHIADataset
    from mde.data.unreal import UnrealDataModule, UnrealDataset

__all__ = [
    "DepthDataModule",
    "DepthDataset",
    "KITTIDataModule",
    "KITTIDataset",
    "KITTISelectionDataModule",
    "MixedDataModule",
    "MixedDataset",
    "NYUDepthV2DataModule",
    "NYUDepthV2Dataset",
    "ProceduralDataModule",
    "ProceduralDataset",
    "RGBDFolderDataModule",
    "RGBDFolderDataset",
    "RawSample",
    "RightView",
    "SYNTHIADataModule",
    "SYNTHIADataset",
    "ShardedDataModule",
    "ShardedDataset",
    "UnrealDataModule",
    "UnrealDataset",
    "write_shards",
]

# reading a depth map must not cost the seconds that importing Lightning takes
_HOMES = {
    "DepthDataModule": "base",
    "DepthDataset": "dataset",
    "KITTIDataModule": "kitti",
    "KITTIDataset": "kitti",
    "KITTISelectionDataModule": "kitti",
    "MixedDataModule": "mixed",
    "MixedDataset": "mixed",
    "NYUDepthV2DataModule": "nyu",
    "NYUDepthV2Dataset": "nyu",
    "ProceduralDataModule": "procedural",
    "ProceduralDataset": "procedural",
    "RGBDFolderDataModule": "folder",
    "RGBDFolderDataset": "folder",
    "RawSample": "dataset",
    "RightView": "dataset",
    "SYNTHIADataModule": "synthia",
    "SYNTHIADataset": "synthia",
    "ShardedDataModule": "shards",
    "ShardedDataset": "shards",
    "UnrealDataModule": "unreal",
    "UnrealDataset": "unreal",
    "write_shards": "shards.writer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mde.data' has no attribute {name!r}")
    return getattr(import_module(f"mde.data.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
