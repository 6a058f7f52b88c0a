"""Finding the files of KITTI's drives in whatever folders they were unpacked to.

The archives overlap and people merge them in many ways. So a drive's folder, ``<date>_drive_<NNNN>_sync``, is looked
for in the root and up to three folders below it (``2011_09_26/``, ``raw/2011_09_26/``, ``data_depth_annotated/train/``,
``val/``, …); it may appear several times, and each file may lie in any of them. Every folder of images is listed once:
asking for 23,000 files one by one takes minutes on a network disk.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.utilities import rank_zero_warn

from mde.data.kitti.calibration import CAMERA_FILE, Calibration, nominal_calibration, read_calibration
from mde.data.kitti.frames import LEFT, RIGHT, Frame, drive_folder
from mde.data.writers.source import is_made
from mde.errors import DatasetNotFoundError

__all__ = ["Drives", "Sample"]

RAW_PAGE = "https://www.cvlibs.net/datasets/kitti/raw_data.php"
DEPTH_PAGE = "https://www.cvlibs.net/datasets/kitti/eval_depth_all.php"
_DATE = re.compile(r"\d{4}_\d\d_\d\d")
_DRIVE = re.compile(r"\d{4}_\d\d_\d\d_drive_\d{4}_(sync|extract)")
_LEVELS = 3
_LISTED = 10  # file names in a message


class Sample(NamedTuple):
    """A frame with its files: `depth` is an official depth map, or a lidar scan. Those of the right camera in pairs."""

    frame: Frame
    image: str
    depth: str
    right: str | None = None
    right_depth: str | None = None


class Drives:
    """The drives below one or two folders.

    Args:
        root: of the images, and of everything else that lies there.
        depth_root: one more folder to look into.

    Raises:
        DatasetNotFoundError: a folder does not exist, or holds no drives.
    """

    def __init__(self, root: str | Path, depth_root: str | Path | None = None) -> None:
        self.root = Path(root)
        self._folders: dict[str, list[Path]] = {}
        self._days: dict[str, list[Path]] = {}
        self._listings: dict[tuple[str, str], dict[int, str]] = {}
        self._told: set[str] = set()
        for folder, key in ((root, "root"), (depth_root, "depth_root")):
            if folder is not None:
                if not Path(folder).is_dir():
                    hint = f"set data.{key} to the folder that holds the drives"
                    raise DatasetNotFoundError("no such folder", where=folder, next_action=hint)
                self._scan(Path(folder), _LEVELS)
        if not any(name.endswith("_sync") for name in self._folders):
            raise self._nothing()

    def locate(
        self,
        frames: Sequence[Frame],
        ground_truth: str,
        missing: str = "error",
        split: str = "",
        *,
        stereo: bool = False,
    ) -> tuple[list[Sample], int]:
        """The files of frames, and how many frames were left out because a file of theirs is missing.

        Args:
            frames: which.
            ground_truth: "official" or "velodyne".
            missing: "error", or "skip": leave them out with a warning. In a made data set they are left out quietly.
            split: for messages.
            stereo: find the right picture of each frame, which is of the left camera, and the depth of the right camera
                where there is some.

        Raises:
            DatasetNotFoundError: files are missing; all are counted and the first are listed.
        """
        found: list[Sample] = []
        lost: list[Frame] = []
        for frame in frames:
            image, depth, other = self._image(frame), self._depth(frame, ground_truth), frame._replace(camera=RIGHT)
            right = self._image(other) if stereo else None
            if image and depth and (right or not stereo):
                right_depth = self._depth(other, ground_truth) if stereo else None
                found.append(Sample(frame, image, depth, right, right_depth))
            else:
                lost.append(frame)
        if lost and (not found or not (missing == "skip" or is_made(self.root))):
            raise self._incomplete(lost, len(frames), ground_truth, split, stereo=stereo)
        if lost and not is_made(self.root):
            what = f"{len(lost)} of {len(frames)} frames of {split} have no files and are left out (data.missing=skip)"
            rank_zero_warn(f"{self.root}: {what}")
        return found, 0 if is_made(self.root) else len(lost)

    def calibrations(
        self, dates: Sequence[str], *, lidar: bool = False, stereo: bool = False
    ) -> dict[str, Calibration]:
        """The calibration of each day; with a warning from `NOMINAL` where its file is absent.

        Raises:
            DataFormatError: a file cannot be read, or the lidar's place (`lidar`) or the distance of the cameras
                (`stereo`) is asked for and not known.
        """
        folders = {d: next((f for f in self._days.get(d, ()) if (f / CAMERA_FILE).is_file()), None) for d in dates}
        made = {date: read_calibration(f) if f else nominal_calibration(date) for date, f in folders.items()}
        if stereo:
            for calibration in made.values():
                _ = calibration.baseline  # says what is missing
        absent = {date for date, folder in folders.items() if folder is None}
        if lidar:
            for calibration in made.values():
                calibration.projection(LEFT)  # says what is missing
        elif absent - self._told:
            self._told |= absent
            rank_zero_warn(f"{self.root}: no {CAMERA_FILE} for {', '.join(sorted(absent))}; the camera is as published")
        return made

    # -------------------------------------------------------------------------------------------------------- folders

    def _scan(self, folder: Path, levels: int) -> None:
        if _DATE.fullmatch(folder.name):
            self._days.setdefault(folder.name, []).append(folder)
        with os.scandir(folder) as entries:
            folders = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
        for name in folders:
            if _DRIVE.fullmatch(name):
                self._folders.setdefault(name, []).append(folder / name)
            elif levels > 0:
                self._scan(folder / name, levels - 1)

    def _files(self, drive: str, inside: str) -> dict[int, str]:
        """Frame number -> file in the folder `inside` of a drive; of two pictures of a frame the PNG."""
        key = drive, inside
        if key not in self._listings:
            found: dict[int, str] = {}
            for place in reversed(self._folders.get(drive_folder(drive), ())):
                folder = place / inside
                # sorted, so that .png comes after .jpg
                names = sorted(os.listdir(folder)) if folder.is_dir() else []
                stems = {int(stem): f"{folder}/{name}" for name in names if (stem := _stem(name)).isdigit()}
                found.update(stems)
            self._listings[key] = found
        return self._listings[key]

    def _image(self, frame: Frame) -> str | None:
        return self._files(frame.drive, f"image_0{frame.camera}/data").get(frame.number)

    def _depth(self, frame: Frame, ground_truth: str) -> str | None:
        if ground_truth == "velodyne":
            return self._files(frame.drive, "velodyne_points/data").get(frame.number)
        return self._files(frame.drive, f"proj_depth/groundtruth/image_0{frame.camera}").get(frame.number)

    # ------------------------------------------------------------------------------------------------------- messages

    def _nothing(self) -> DatasetNotFoundError:
        hint = f"fetch drives (synced+rectified) from {RAW_PAGE}, and set data.root to the folder of the days"
        if any(name.endswith("_extract") for name in self._folders):
            hint = f"these are unsynced drives (_extract); {hint}"
        elif any(_DRIVE.fullmatch(part) for part in self.root.absolute().parts):
            hint = "set data.root to the folder above the days (2011_09_26, …), and not to one drive"
        what = "no drives of KITTI (2011_09_26/2011_09_26_drive_0001_sync, …) in this folder or up to three below it"
        return DatasetNotFoundError(what, where=self.root, next_action=hint)

    def _incomplete(
        self, lost: list[Frame], of: int, ground_truth: str, split: str, *, stereo: bool
    ) -> DatasetNotFoundError:
        names = []
        for frame in lost:
            views = [frame, frame._replace(camera=RIGHT)] if stereo else [frame]
            names += [_image_name(view) for view in views if not self._image(view)]
            names += [] if self._depth(frame, ground_truth) else [_depth_name(frame, ground_truth)]
        names = list(dict.fromkeys(names))  # a scan serves both cameras
        maps = sum("/proj_depth/" in name for name in names)
        drives = list(dict.fromkeys(frame.drive for frame in lost))
        what = (
            f"{len(lost)} of {of} frames of KITTI's {split} part lack files, in {len(drives)} drives; "
            f"{len(names)} files are missing: {_first(names)}"
        )
        fetch = [f"fetch the drives {_first(drives)} from {RAW_PAGE}"] if maps < len(names) else []
        fetch += [f"fetch data_depth_annotated.zip from {DEPTH_PAGE} into it or into data.depth_root"] if maps else []
        skip = "" if len(lost) == of else ", or set data.missing to skip"
        if _DATE.fullmatch(self.root.name):
            fetch = [f"set data.root to {self.root.parent}, the folder above the days"]
        return DatasetNotFoundError(what, where=self.root, next_action=" and ".join(fetch) + skip)


def _first(items: Sequence[str]) -> str:
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(items[:_LISTED]) + more


def _stem(name: str) -> str:
    stem, _, suffix = name.partition(".")
    return stem if suffix in ("png", "jpg", "bin") else ""


def _image_name(frame: Frame) -> str:
    date = frame.drive.split("/")[0]
    return f"{date}/{drive_folder(frame.drive)}/image_{frame.camera:02d}/data/{frame.number:010d}.png"


def _depth_name(frame: Frame, ground_truth: str) -> str:
    folder, date = drive_folder(frame.drive), frame.drive.split("/")[0]
    if ground_truth == "velodyne":
        return f"{date}/{folder}/velodyne_points/data/{frame.number:010d}.bin"
    return f"{folder}/proj_depth/groundtruth/image_{frame.camera:02d}/{frame.number:010d}.png"
