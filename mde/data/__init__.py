"""Data sets: each is one file or folder with a Dataset and a DataModule. Names are imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mde.lazy import lazily

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
_NAMES = {
    "base": ("DepthDataModule",),
    "dataset": ("DepthDataset", "RawSample", "RightView"),
    "folder": ("RGBDFolderDataModule", "RGBDFolderDataset"),
    "kitti": ("KITTIDataModule", "KITTIDataset", "KITTISelectionDataModule"),
    "mixed": ("MixedDataModule", "MixedDataset"),
    "nyu": ("NYUDepthV2DataModule", "NYUDepthV2Dataset"),
    "procedural": ("ProceduralDataModule", "ProceduralDataset"),
    "shards": ("ShardedDataModule", "ShardedDataset"),
    "shards.writer": ("write_shards",),
    "synthia": ("SYNTHIADataModule", "SYNTHIADataset"),
    "unreal": ("UnrealDataModule", "UnrealDataset"),
}

__getattr__, __dir__ = lazily(__name__, _NAMES)
