"""The six forms in which NYU Depth v2 circulates, and where in a folder each of them lies.

A ``find_…`` function returns what the reader of a form opens, or None: a folder has the form if it finds something, so
what is recognised can be read.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from mde.data.layouts import Layout
from mde.errors import DataFormatError

__all__ = [
    "CSV_NAMES",
    "EIGEN_NAMES",
    "LABELED_HOME",
    "LABELED_NAME",
    "LAYOUTS",
    "find_arrays",
    "find_csv",
    "find_h5",
    "find_labeled",
    "find_lists",
    "find_parquet",
    "is_bts",
]

LABELED_NAME = "nyu_depth_v2_labeled.mat"
LABELED_HOME = "https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html"
CSV_NAMES = {"train": "nyu2_train.csv", "test": "nyu2_test.csv"}
EIGEN_NAMES = {key: f"eigen_test_{key}.npy" for key in ("rgb", "depth", "crop")}
_ZIP_NAMES = ("nyu_data.zip", "archive.zip", "nyu.zip")  # DenseDepth's name, Kaggle's, and a common one
_LIST_FOLDERS = ("", "train_test_inputs", "data_splits", "../train_test_inputs", "../data_splits")
_PARQUET_PARTS = {"train": ("train",), "test": ("validation", "val", "test")}


def find_labeled(root: Path) -> Path | None:
    """The labelled set's .mat file, given itself or its folder."""
    path = root / LABELED_NAME if root.is_dir() else root
    return path if path.is_file() and path.suffix == ".mat" else None


def find_csv(root: Path) -> tuple[Path, str] | None:
    """Where DenseDepth's csv files are: (folder, "") or (ZIP archive, the folder in it).

    `root` may be that folder, one above it, or the archive.

    Raises:
        DataFormatError: `root` is a ZIP archive that cannot be read.
    """
    if root.suffix == ".zip" and root.is_file():
        return _in_zip(root)
    for inside in ("", "data", "nyu_data/data"):  # the last is how Kaggle's archive unpacks
        if any((root / inside / name).is_file() for name in CSV_NAMES.values()):
            return root / inside, ""
    archives = [root / name for name in _ZIP_NAMES if (root / name).is_file()]
    return _in_zip(archives[0]) if len(archives) == 1 else None


def find_lists(root: Path) -> dict[str, Path]:
    """The list files of BTS by split, in the root or where its users keep them."""
    found: dict[str, Path] = {}
    for split in ("train", "test"):
        for folder in _LIST_FOLDERS:
            lists = sorted((root / folder).glob(f"nyu*{split}*.txt"))
            if lists:
                found[split] = lists[0]
                break
    return found


def is_bts(root: Path) -> bool:
    """True for list files of BTS, or scene folders with its ``sync_depth_…png`` (the lists may lie elsewhere)."""
    if not root.is_dir():
        return False
    if any(list((root / folder).glob("nyu*files_with_gt*.txt")) for folder in _LIST_FOLDERS[:3]):
        return True
    homes = [root / "sync", root / "official_splits" / "test", root]
    scenes = [scene for home in homes if home.is_dir() for scene in sorted(home.iterdir())[:5] if scene.is_dir()]
    return any(next(scene.glob("sync_depth_*.png"), None) for scene in scenes)


def find_h5(root: Path) -> tuple[dict[str, list[Path]], bool] | None:
    """FastDepth's frames by part: folders of scenes (and False), or the shards of the Hugging Face copy (and True)."""
    for home in (root, root / "nyudepthv2"):
        folders = {"train": home / "train", "test": home / "val"}
        if any(next(folder.glob("*/*.h5"), None) for folder in folders.values()):
            return {part: [folder] for part, folder in folders.items() if folder.is_dir()}, False
    for home in (root, root / "data"):
        shards = {part: sorted(home.glob(f"{name}-*.tar")) for part, name in (("train", "train"), ("test", "val"))}
        if any(shards.values()):
            return shards, True
    return None


def find_parquet(root: Path) -> dict[str, list[Path]] | None:
    """Parquet files by part, as the Hugging Face hub names them (``data/train-00000-of-00009.parquet``)."""
    if root.is_file():
        return {"train": [root]} if root.suffix == ".parquet" else None
    for home in (root, root / "data", root / "default"):
        paths = sorted(home.glob("*.parquet"))
        if paths:
            return {part: [p for p in paths if p.name.startswith(names)] for part, names in _PARQUET_PARTS.items()}
    return None


def find_arrays(root: Path) -> Path | None:
    """The folder with DenseDepth's ``eigen_test_….npy``."""
    folder = root if root.is_dir() else root.parent
    return folder if (folder / EIGEN_NAMES["rgb"]).is_file() else None


def _in_zip(path: Path) -> tuple[Path, str] | None:
    try:
        with zipfile.ZipFile(path) as file:
            names = [n for n in file.namelist() if n.rpartition("/")[2] in CSV_NAMES.values()]
    except (OSError, zipfile.BadZipFile) as error:
        what = f"no ZIP archive, or a truncated one ({error})"
        raise DataFormatError(what, where=path, next_action="fetch it again") from error
    # a Mac adds shadows of all names under __MACOSX
    folders = sorted({n.rpartition("/")[0] for n in names if not n.startswith("__MACOSX")}, key=len)
    return (path, folders[0]) if folders else None


def _layout(name: str, summary: str, matches: object, writer: str, configs: tuple[str, ...] = ()) -> Layout:
    return Layout(
        name=name,
        summary=summary,
        data_module="mde.data.nyu.NYUDepthV2DataModule",
        matches=lambda root: bool(matches(root)),  # type: ignore[operator]
        writer=f"mde.data.writers.nyu:{writer}",
        settings={"layout": name},
        configs=configs,
    )


LAYOUTS = (
    _layout(
        "nyu/labeled",
        f"{LABELED_NAME}, the authors' 1449 labelled frames (2.8 GB from {LABELED_HOME})",
        find_labeled,
        "write_labeled",
        ("nyu/densedepth", "nyu/densedepth_paper3", "nyu/unet"),
    ),
    _layout(
        "nyu/densedepth",
        "data/nyu2_train.csv and its 8-bit depth, DenseDepth's and Kaggle's 50K set, unpacked or as the ZIP",
        find_csv,
        "write_densedepth",
        ("nyu/densedepth_50k",),
    ),
    _layout(
        "nyu/bts",
        "list files 'rgb depth focal' with <scene>/rgb_00045.jpg and sync_depth_00045.png, BTS's sync set",
        is_bts,
        "write_bts",
        ("nyu/densedepth_bts",),
    ),
    _layout(
        "nyu/h5",
        "train/<scene>/00001.h5 and val/official, FastDepth's set, or its tar shards",
        find_h5,
        "write_h5",
        ("nyu/densedepth_filled",),
    ),
    _layout(
        "nyu/parquet",
        "data/train-00000-of-00009.parquet, as on the Hugging Face hub",
        find_parquet,
        "write_parquet",
        ("nyu/densedepth_filled",),
    ),
    _layout(
        "nyu/eigen_npy",
        "eigen_test_rgb.npy and eigen_test_depth.npy, DenseDepth's test set",
        find_arrays,
        "write_eigen",
    ),
)
"""Layouts of this family."""
