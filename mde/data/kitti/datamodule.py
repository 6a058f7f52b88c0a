"""KITTI's raw drives under the Eigen split, with official or velodyne ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info

from mde.data.base import DepthDataModule
from mde.data.kitti.dataset import KITTIDataset
from mde.data.kitti.drives import Drives
from mde.data.kitti.frames import GROUND_TRUTHS, LEFT, RIGHT, SCHEMES, Frame, read_list, split_frames
from mde.data.kitti.velodyne import ScanReader
from mde.errors import ConfigError, DataFormatError, nearest
from mde.protocol import PROTOCOLS, EvalProtocol, get_protocol

__all__ = ["KITTIDataModule"]

_CAMERAS = {"left": (LEFT,), "right": (RIGHT,), "both": (LEFT, RIGHT)}
_OFF_CROP = ("kitti_garg", "kitti_eigen")  # fractions of the whole frame
_PARTS = ("train", "val", "test")
_CHOICES: dict[str, Sequence[str]] = {
    "split": SCHEMES,
    "ground_truth": GROUND_TRUTHS,
    "cameras": tuple(_CAMERAS),
    "missing": ("error", "skip"),
}


class KITTIDataModule(DepthDataModule):
    """KITTI's raw drives.

    Args:
        root: folder of the days (``2011_09_26/…``). Official depth (``<drive>_sync/proj_depth/…``) is found in it and
            up to three folders below it, be it in ``train/`` and ``val/``, in ``data_depth_annotated/`` or merged.
        split: "eigen" or "monodepth2", see `mde.data.kitti.split_frames`.
        ground_truth: "official" depth maps (test: 652 images), or "velodyne" scans projected into the image (697).
        cameras: of training; validation and test use the left one, as all published lists.
        stereo: training frames are rectified pairs (image_02 and image_03), with the keys `right` and `baseline` in a
            batch; the depth of the right camera, where there is some, serves mirrored pairs. Each moment of the lists
            is one pair, whichever camera they name.
        depth_root: one more folder to look into, where the official depth lies apart from the images.
        lists: instead of `split`, list files of your own for "train", "val" and "test" in the form of BTS, monodepth or
            monodepth2. They name the cameras themselves. Without "val", validation uses "test".
        val_on_test: validate on the test part and train on all of the training part. Common, but a model chosen so has
            seen the test set.
        kb_crop: cut all frames to the benchmark crop of 352x1216, evaluation included. Otherwise frames are whole, of a
            size that depends on the day, and are evaluated one by one.
        velodyne_depth: "z" of the camera, or "x" of the lidar, which monodepth and monodepth2 evaluate on.
        velodyne_convention: "devkit", "monodepth" or "centred", see `mde.data.kitti.velodyne`.
        velodyne_cache: folder that keeps projected scans.
        missing: "error", or "skip": leave out frames without files. They are counted in the results.
        image_size: (height, width) of the network's input.
        protocol: default "kitti_eigen_garg_80" or its variant for the crop and for the ground truth.
        depth_range: metres.
        common: see `DepthDataModule`.

    Raises:
        ConfigError: a setting is unknown, or two contradict each other.
    """

    def __init__(
        self,
        root: str,
        split: Literal["eigen", "monodepth2"] = "eigen",
        ground_truth: Literal["official", "velodyne"] = "official",
        *,
        cameras: Literal["left", "right", "both"] = "left",
        stereo: bool = False,
        depth_root: str | None = None,
        lists: dict[str, str] | None = None,
        val_on_test: bool = False,
        kb_crop: bool = False,
        velodyne_depth: Literal["z", "x"] = "z",
        velodyne_convention: Literal["devkit", "monodepth", "centred"] = "devkit",
        velodyne_cache: str | None = None,
        missing: Literal["error", "skip"] = "error",
        image_size: tuple[int, int] = (352, 1216),
        protocol: str | EvalProtocol | None = None,
        depth_range: tuple[float, float] = (1.0, 80.0),
        **common: Any,
    ) -> None:
        _require_known(split=split, ground_truth=ground_truth, cameras=cameras, missing=missing)
        if lists is not None and (not lists or set(lists) - set(_PARTS) or cameras != "left"):
            what = f"lists are files for train, val and test, got {sorted(lists)} with cameras={cameras}"
            raise ConfigError(what, where="data.lists", next_action="name the cameras in the lists")
        if stereo and cameras != "left":
            what = f"a stereo pair has both cameras, got cameras={cameras}"
            raise ConfigError(
                what, where="data.cameras", next_action="leave data.cameras out, or set data.stereo to false"
            )
        if not kb_crop and common.get("eval_batch_size") is None:
            common["eval_batch_size"] = 1  # the size of a frame depends on the day
        scans = ScanReader(velodyne_depth, velodyne_convention, velodyne_cache)
        truth = _name_of(ground_truth, scans)
        chosen = _protocol(protocol, truth, kb_crop)
        super().__init__(protocol=chosen, depth_range=depth_range, image_size=image_size, **common)
        self.root, self.depth_root = root, depth_root
        self.split, self.lists, self.val_on_test = split, lists, val_on_test
        self.ground_truth, self.truth_name, self.scans = ground_truth, truth, scans
        self.cameras, self.kb_crop, self.missing = cameras, kb_crop, missing
        self.stereo = stereo
        if stereo:
            self.require_pairs_survive()
        self._drives: Drives | None = None
        self._left_out: dict[str, int] = {}

    def facts(self) -> dict[str, Any]:
        split = "lists" if self.lists is not None else self.split
        cameras = "stereo" if self.stereo else self.cameras
        facts = {"layout": "kitti/raw", "split": split, "ground_truth": self.truth_name, "cameras": cameras}
        if self.val_on_test:
            facts["validation"] = "test"
        left_out = {part: count for part, count in self._left_out.items() if count}
        return {**facts, "kb_crop": self.kb_crop, **({"left_out": left_out} if left_out else {})}

    def make_dataset(self, split: str) -> KITTIDataset:
        frames, stereo = self._frames(split), self.stereo and split == "train"
        if stereo:
            frames = list(dict.fromkeys(frame._replace(camera=LEFT) for frame in frames))
        if self._drives is None:
            self._drives = Drives(self.root, self.depth_root)
        samples, self._left_out[split] = self._drives.locate(
            frames, self.ground_truth, self.missing, split, stereo=stereo
        )
        scans = self.scans if self.ground_truth == "velodyne" else None
        dates = sorted({sample.frame.drive.split("/")[0] for sample in samples})
        calibrations = self._drives.calibrations(dates, lidar=scans is not None, stereo=stereo)
        return KITTIDataset(samples, calibrations, self.transform(split), scans, kb_crop=self.kb_crop, seed=self.seed)

    def _frames(self, split: str) -> list[Frame]:
        if self.lists is not None:
            return self._listed(split, self.lists)
        if split == "val" and self.val_on_test:
            rank_zero_info("validation uses the test frames of KITTI (val_on_test): do not choose a model by it")
        chosen = split_frames(self.split, split, self.ground_truth, val_on_test=self.val_on_test)
        cameras = _CAMERAS[self.cameras] if split == "train" else (LEFT,)
        return [Frame(drive, number, camera) for drive, number in chosen for camera in cameras]

    def _listed(self, split: str, lists: dict[str, str]) -> list[Frame]:
        parts = {part: read_list(path, self.ground_truth) for part, path in lists.items()}
        _refuse_leaks(parts)
        if split == "val" and "val" not in parts and "test" in parts:
            rank_zero_info("there is no list for val: validation uses the test list; do not choose a model by it")
            return parts["test"]
        if split not in parts:
            raise ConfigError(f"there is no list for {split}", where="data.lists", next_action=f"add {split}: FILE")
        return parts[split]


def _require_known(**settings: str) -> None:
    for key, value in settings.items():
        if value not in _CHOICES[key]:
            hint = f"nearest: {nearest(value, _CHOICES[key])}"
            raise ConfigError(f"unknown {key} {value!r}", where=f"data.{key}", next_action=hint)


def _name_of(ground_truth: str, scans: ScanReader) -> str:
    """What a protocol calls the ground truth: scores on another projection are not comparable."""
    if ground_truth == "official":
        return ground_truth
    # "monodepth" differs from "devkit" outside of all crops only
    convention = "_centred" if scans.convention == "centred" else ""
    return f"velodyne{'_x' if scans.depth == 'x' else ''}{convention}"


def _protocol(given: str | EvalProtocol | None, truth: str, kb_crop: bool) -> EvalProtocol:
    """The protocol for this ground truth; one that is for another is refused."""
    if given is None:
        base = get_protocol("kitti_eigen_garg_80_kb" if kb_crop else "kitti_eigen_garg_80")
        name = base.name if truth == "official" else f"{base.name}_{truth}"
        return get_protocol(name) if name in PROTOCOLS else replace(base, name=name, ground_truth=truth)
    protocol = get_protocol(given) if isinstance(given, str) else given
    if kb_crop and protocol.crop in _OFF_CROP:
        what = f"the crop of {protocol.name} is a share of the whole frame, and kb_crop cuts the frame"
        hint = "use kitti_eigen_garg_80_kb, or set data.kb_crop to false"
        raise ConfigError(what, where="data.protocol", next_action=hint)
    if protocol.ground_truth == "velodyne" and truth.startswith("velodyne"):
        return replace(protocol, ground_truth=truth)
    if protocol.ground_truth in GROUND_TRUTHS and protocol.ground_truth != truth:
        what = f"the protocol {protocol.name} is for {protocol.ground_truth} depth, the data gives {truth}"
        hint = "leave data.protocol out, or change data.ground_truth"
        raise ConfigError(what, where="data.protocol", next_action=hint)
    return protocol


def _refuse_leaks(parts: dict[str, list[Frame]]) -> None:
    """Raise a `DataFormatError` when a moment, be it in the left or the right camera, is in two lists."""
    moments = {part: {(frame.drive, frame.number) for frame in frames} for part, frames in parts.items()}
    names: Sequence[str] = tuple(moments)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            both = sorted(moments[first] & moments[second])
            if both:
                listed = ", ".join(f"{drive} {number}" for drive, number in both[:10])
                what = f"{len(both)} frames are in the lists of {first} and of {second}: {listed}"
                raise DataFormatError(what, where="data.lists", next_action="a frame may be in one list only")
