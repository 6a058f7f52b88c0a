"""The frames of a folder, in one walk over its files: no file is opened but AirSim's records and one HDF5 index."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import h5py

from mde.data.pairing import natural
from mde.data.unreal.forms import Form, Pair
from mde.errors import DataFormatError, DatasetNotFoundError

__all__ = ["RECORD", "UnrealFrame", "find_frames", "h5_file"]

RECORD = "airsim_rec.txt"
HYPERSIM_SPLIT = "metadata_images_split_scene_v1.csv"
"""The authors' split of Hypersim, in ``evermotion_dataset/analysis`` of their repository; used if it is in the root."""
# img_[vehicle_]camera_type_nanoseconds: RecordingFile.cpp; types of ImageCaptureBase: 0 scene, 1 planar, 2 perspective
_RECORDED = re.compile(r"img_(?P<view>.+)_(?P<type>\d+)_(?P<time>\d+)\.(?:png|pfm|npy|jpg)")
_AIRSIM_DEPTH = {"1": "airsim_planar", "2": "airsim_perspective"}


@dataclass(frozen=True)
class UnrealFrame:
    """One image with its depth map.

    Attributes:
        id: path of the image in the root, without suffix; of an archive, the key.
        image: path of the file.
        depth: path of the file.
        place: folders of the scene, from coarse to fine.
        moment: the same for all variants and cameras of one moment.
        camera: name of the camera.
        calibration: path of a file about the camera.
        encoding: of its depth, where that differs between the frames of one form.
        split: "train", "val" or "test" where the form says so.
    """

    id: str
    image: str
    depth: str
    place: tuple[str, ...] = ()
    moment: str = ""
    camera: str = ""
    calibration: str = ""
    encoding: str = ""
    split: str = ""


def find_frames(root: Path, name: str, form: Form, cameras: str | None = None) -> tuple[list[UnrealFrame], list[str]]:
    """Frames in natural order, and the depth (and calibration) files that are missing.

    Args:
        root: folder of the data set, or the HDF5 file.
        name: of the form.
        form: what is looked for.
        cameras: regular expression for the cameras to read; None for the form's.

    Raises:
        DatasetNotFoundError: there is nothing at `root`.
        DataFormatError: an archive or a record cannot be read.
    """
    if not root.exists():
        raise DatasetNotFoundError("no such file or folder", where=root, next_action="set data.root to the data set")
    if name == "densedepth_h5":
        return _in_archive(h5_file(root)), []
    files = set(_paths(root))
    found = _recorded(root, files) if name == "airsim" else _paired(files, form.pairs)
    wanted = re.compile(cameras or form.camera)
    frames = sorted((f for f in found if not f.camera or wanted.fullmatch(f.camera)), key=lambda f: natural(f.id))
    if name == "hypersim" and HYPERSIM_SPLIT in files:
        frames = _official(root / HYPERSIM_SPLIT, frames)
    needed = [path for frame in frames for path in dict.fromkeys((frame.depth, frame.calibration)) if path]
    missing = [path for path in dict.fromkeys(needed) if path not in files]
    gone = set(missing)
    whole = [f for f in frames if f.depth not in gone and f.calibration not in gone]
    return [_absolute(root, frame) for frame in whole], missing


def h5_file(root: Path) -> Path:
    """The file itself, or the only HDF5 file of a folder."""
    if root.is_file():
        return root
    found = sorted([*root.glob("*.h5"), *root.glob("*.hdf5")])
    if len(found) != 1:
        what = f"{len(found)} HDF5 files in the folder" if found else "no HDF5 file in the folder"
        raise DatasetNotFoundError(what, where=root, next_action="set data.root to the file, such as unreal_data.h5")
    return found[0]


def _paths(root: Path) -> Iterator[str]:
    """Relative paths of all files; linked folders are entered, each real folder once."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        at = os.path.relpath(folder, root).replace(os.sep, "/")
        yield from names if at == "." else (f"{at}/{name}" for name in names)


def _paired(files: Iterable[str], pairs: Iterable[Pair]) -> Iterator[UnrealFrame]:
    rules = [(re.compile(pair.image), pair) for pair in pairs]
    for path in files:
        for pattern, pair in rules:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            told = {key: value or "" for key, value in match.groupdict().items()}
            place = told.get("place", "")
            yield UnrealFrame(
                id=path.rpartition(".")[0],
                image=path,
                depth=match.expand(pair.depth),
                place=tuple(place.split("/")) if place else (),
                moment=f"{place}/{told['name']}",
                camera=told.get("camera", ""),
                calibration=match.expand(pair.calibration),
                split=told.get("split", ""),
            )


def _recorded(root: Path, files: Iterable[str]) -> Iterator[UnrealFrame]:
    """AirSim: each row of a record names the files of one moment, ``a.png;b.pfm``, in the folder ``images``."""
    for record in sorted(path for path in files if path.rpartition("/")[2] == RECORD):
        at = record.removesuffix(RECORD)
        with (root / record).open(newline="", errors="replace") as lines:
            table = csv.DictReader(lines, delimiter="\t")
            if "ImageFile" not in (table.fieldnames or ()):
                hint = "it should be the tab-separated file of AirSim's recorder"
                raise DataFormatError("no column ImageFile", where=root / record, next_action=hint)
            for row in table:
                yield from _moment(at, str(row["ImageFile"] or ""))


def _moment(at: str, listed: str) -> Iterator[UnrealFrame]:
    """The frames of one row: each view's image with its depth, planar before perspective."""
    views: dict[str, dict[str, str]] = {}
    for file in listed.split(";"):
        match = _RECORDED.fullmatch(file.strip())
        if match:
            views.setdefault(match["view"], {})[match["type"]] = match[0]
    for view, taken in views.items():
        kind = next((kind for kind in _AIRSIM_DEPTH if kind in taken), None)
        if "0" in taken and kind:
            place = at.strip("/")
            yield UnrealFrame(
                id=f"{at}images/{taken['0']}".rpartition(".")[0],
                image=f"{at}images/{taken['0']}",
                depth=f"{at}images/{taken[kind]}",
                place=tuple(place.split("/")) if place else (),
                moment=f"{at}{listed}",
                camera=view,
                encoding=_AIRSIM_DEPTH[kind],
            )


def _official(path: Path, frames: Iterable[UnrealFrame]) -> list[UnrealFrame]:
    """Hypersim's own split, without the frames that its authors exclude."""
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    try:
        split = {
            f"{row['scene_name']}/{row['camera_name']}/{int(row['frame_id']):04d}": row["split_partition_name"]
            for row in rows
            if row["included_in_public_release"] == "True"
        }
    except (KeyError, ValueError) as error:
        hint = "fetch it from the repository of Hypersim, or take it away"
        raise DataFormatError(f"cannot be read ({error})", where=path, next_action=hint) from error
    found = []
    for frame in frames:
        key = f"{frame.place[0]}/{frame.camera}/{frame.moment.rpartition('/')[2]}"
        if key in split:
            found.append(replace(frame, split=split[key]))
    return found


def _in_archive(path: Path) -> list[UnrealFrame]:
    try:
        with h5py.File(path, "r") as file:
            images, depths = set(file["x"]), set(file["y"])
    except (OSError, KeyError) as error:
        hint = "it should hold the groups x (encoded images) and y (depth), as DenseDepth's unreal_data.h5"
        raise DataFormatError(f"cannot be read ({error})", where=path, next_action=hint) from error
    lonely = sorted(images ^ depths, key=natural)
    if lonely:
        what = f"{len(lonely)} keys are not in both x and y: {', '.join(lonely[:10])}"
        raise DataFormatError(what, where=path, next_action="fetch or export the file again")
    return [UnrealFrame(key, str(path), str(path), moment=key) for key in sorted(images, key=natural)]


def _absolute(root: Path, frame: UnrealFrame) -> UnrealFrame:
    base = os.fspath(root)
    calibration = os.path.join(base, frame.calibration) if frame.calibration else ""
    image, depth = os.path.join(base, frame.image), os.path.join(base, frame.depth)
    return replace(frame, image=image, depth=depth, calibration=calibration)
