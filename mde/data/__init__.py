"""Data sets: each is one file with a Dataset and a DataModule."""

from mde.data.base import DepthDataModule, DepthDataset, RawSample
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
