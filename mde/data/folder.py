"""Any folder of images with depth maps beside them; `mde.data.pairing` says how the files may be named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray

from mde.data.base import DepthDataModule
from mde.data.dataset import DepthDataset, RawSample
from mde.data.encodings import ENCODINGS, DepthEncoding, get_encoding
from mde.data.folder_splits import SPLIT_KINDS, split_folder, timed_recordings
from mde.data.io import propose_encoding, read_depth, read_image, read_pixels, recognise_packing
from mde.data.pairing import Frame, refuse_leaks
from mde.data.transforms import SampleTransform
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.geometry import intrinsics_from_fov, intrinsics_matrix, unknown_intrinsics
from mde.protocol import EvalProtocol

__all__ = ["CameraModel", "RGBDFolderDataModule", "RGBDFolderDataset"]

_SAMPLED = 8  # frames that are looked at to judge the depth scale
_ENOUGH = 0.01  # of their pixels must lie in the depth range; a wrong unit leaves none
_SEEM_PLAIN = {name for name, encoding in ENCODINGS.items() if encoding.packing in ("rotated", "kinect")}


@dataclass(frozen=True)
class CameraModel:
    """What is known of the camera.

    Attributes:
        intrinsics: fx, fy, cx, cy in pixels of the image files.
        horizontal_fov: in degrees, instead of `intrinsics`.

    Raises:
        ConfigError: both are given, or the numbers cannot be those of a camera.
    """

    intrinsics: tuple[float, ...] | None = None
    horizontal_fov: float | None = None

    def __post_init__(self) -> None:
        if self.intrinsics is not None and self.horizontal_fov is not None:
            raise ConfigError("intrinsics and horizontal_fov are both given", where="data", next_action="give one")
        if self.intrinsics is not None and (len(self.intrinsics) != 4 or min(self.intrinsics[:2]) <= 0):
            what = f"intrinsics are [fx, fy, cx, cy] in pixels, got {list(self.intrinsics)}"
            raise ConfigError(what, where="data.intrinsics")
        if self.horizontal_fov is not None and not 0 < self.horizontal_fov < 180:
            what = f"a field of view is between 0 and 180 degrees, got {self.horizontal_fov}"
            raise ConfigError(what, where="data.horizontal_fov")

    def matrix(self, height: int, width: int, focal_px: float | None = None) -> NDArray[np.float32]:
        """The (3,3) matrix for an image of this size; NaN where nothing is known.

        A focal length alone is taken with a central principal point, which is what field of view means, too.
        """
        if self.intrinsics is not None:
            made = intrinsics_matrix(*self.intrinsics)
        elif self.horizontal_fov is not None:
            made = intrinsics_from_fov(height, width, self.horizontal_fov)
        elif focal_px is not None:
            made = intrinsics_matrix(focal_px, focal_px, (width - 1) / 2, (height - 1) / 2)
        else:
            made = unknown_intrinsics()
        return np.asarray(made.numpy())


class RGBDFolderDataset(DepthDataset):
    """Frames given by their files.

    Args:
        frames: see `find_frames` and `read_list`.
        encoding: how depth files become metres.
        transform: turns a frame into tensors.
        camera: default: unknown.
        seed: of the augmentation.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        encoding: DepthEncoding,
        transform: SampleTransform,
        camera: CameraModel | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(transform, seed)
        self.frames = list(frames)
        self.encoding = encoding
        self.camera = camera or CameraModel()

    def __len__(self) -> int:
        return len(self.frames)

    def frame_id(self, index: int) -> str:
        return self.frames[index].id

    def files(self, index: int) -> tuple[Path, ...]:
        return Path(self.frames[index].image), Path(self.frames[index].depth)

    def read(self, index: int) -> RawSample:
        frame = self.frames[index]
        image = read_image(frame.image)
        height, width = image.shape[:2]
        intrinsics = self.camera.matrix(height, width, frame.focal_px)
        depth, valid = read_depth(frame.depth, self.encoding, intrinsics)
        return RawSample(image, depth, valid, intrinsics, frame.id)


class RGBDFolderDataModule(DepthDataModule):
    """A folder of images and depth maps, split as its files are laid out.

    Args:
        root: the folder; `mde.data.pairing` says what it may look like.
        depth_scale: metres per unit of the depth files (0.001 for millimetres), or "auto": proposed from the numbers of
            the first frames, with a warning that says why.
        encoding: instead of the three ``depth_`` settings, the name of one of `mde.data.encodings.ENCODINGS`, such as
            "carla", "sun_rgbd" or "virtual_kitti".
        depth_kind: "z", "ray" (needs the camera) or "disparity" (``depth_scale`` is then focal length times baseline).
        depth_invalid: values of the depth files that mean "not measured", besides 0, NaN and infinity.
        split: "lists" (``train.txt`` …), "sequences" (``TrainSplit.txt`` and ``TestSplit.txt``, as in 7-Scenes),
            "folders" (a folder ``train`` … at the start of the frame's path), "blocks" (contiguous parts of all frames
            in order), or "auto": the first of these that the folder has.
        val_fraction, test_fraction: share of the frames in "blocks".
        guard: frames dropped between two blocks: neighbours in a video are almost equal, and would leak.
        intrinsics: [fx, fy, cx, cy] in pixels of the image files.
        horizontal_fov: in degrees, instead of `intrinsics`. With neither, the intrinsics of a batch are NaN.
        image_size: (height, width) of the network's input.
        protocol: default "kinect".
        depth_range: metres.
        common: see `DepthDataModule`.

    Without a test part the validation part is tested on, and a line in the log says so.
    """

    def __init__(
        self,
        root: str,
        depth_scale: float | Literal["auto"] = "auto",
        *,
        encoding: str | None = None,
        depth_kind: Literal["z", "ray", "disparity"] = "z",
        depth_invalid: list[float] | None = None,
        split: Literal["auto", "lists", "sequences", "folders", "blocks"] = "auto",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        guard: int = 10,
        intrinsics: list[float] | None = None,
        horizontal_fov: float | None = None,
        image_size: tuple[int, int] = (480, 640),
        protocol: str | EvalProtocol = "kinect",
        depth_range: tuple[float, float] = (0.1, 10.0),
        **common: Any,
    ) -> None:
        super().__init__(protocol=protocol, depth_range=depth_range, image_size=image_size, **common)
        if split not in SPLIT_KINDS:
            hint = f"use one of {', '.join(SPLIT_KINDS)}"
            raise ConfigError(f"unknown split {split!r}", where="data.split", next_action=hint)
        self.root = root
        self.depth_scale = depth_scale
        self.encoding = encoding
        # made now, so that a wrong setting shows before any file is read
        self._encoding = _chosen(encoding, depth_scale, depth_kind, depth_invalid)
        self._guess = encoding is None and depth_scale == "auto"
        self._camera = CameraModel(None if intrinsics is None else tuple(intrinsics), horizontal_fov)
        self._blocks = (val_fraction, test_fraction, guard)
        self.split = split
        self._frames: dict[str, list[Frame]] = {}
        self._split_kind = ""

    def facts(self) -> dict[str, Any]:
        """The encoding and the split that were found; the folder is read, if it was not yet."""
        self._look()
        return {"layout": f"folder/{self._form()}", "split": self._split_kind, "encoding": str(self._encoding)}

    def make_dataset(self, split: str) -> RGBDFolderDataset:
        self._look()
        return RGBDFolderDataset(self._frames[split], self._encoding, self.transform(split), self._camera, self.seed)

    def _look(self) -> None:
        """Find the frames of all splits and judge their encoding, once."""
        if not self._frames:
            self._split_kind, frames = self._split_frames()
            self._encoding = self._judged_encoding(frames["train"])
            self._frames = frames

    def _form(self) -> str:
        """Which layout of this family the folder has; two of them have an encoding of the same name."""
        timed = self._split_kind in ("folders", "blocks") and timed_recordings(Path(self.root))
        return "tum" if timed else "seven_scenes" if self._split_kind == "sequences" else "rgbd"

    def _split_frames(self) -> tuple[str, dict[str, list[Frame]]]:
        """The kind of split, and the frames of all three, checked: none empty, no frame in two of them."""
        root = Path(self.root)
        if not root.is_dir():
            hint = "set data.root to a folder of images and depth maps"
            raise DatasetNotFoundError("no such folder", where=root, next_action=hint)
        kind, parts = split_folder(root, self.split, *self._blocks)
        if not parts.get("test"):
            rank_zero_info(f"{root} has no test part: testing uses the validation part")
            parts["test"] = parts["val"]
        for name in ("train", "val"):
            if not parts[name]:
                hint = "add one, or set data.split to blocks (with a smaller guard for few frames)"
                raise DataFormatError(f"there are no frames in {name}", where=root, next_action=hint)
        refuse_leaks(parts)
        return kind, parts

    def _judged_encoding(self, frames: Sequence[Frame]) -> DepthEncoding:
        """The encoding, that of the layout or proposed if none was given; one without depth in range is refused."""
        if self._guess and (form := self._form()) in ENCODINGS:
            rank_zero_info(f"{self.root} has the layout folder/{form}: its depth is read as {form}")
            return ENCODINGS[form]
        picked = np.linspace(0, len(frames) - 1, min(_SAMPLED, len(frames))).round().astype(int)
        paths = [frames[i].depth for i in picked]
        pixels = [read_pixels(path) for path in paths]
        if self._guess:
            return self._proposed(pixels)
        given = self._encoding
        packed = {recognise_packing(sample) for sample in pixels}
        if given.packing == "plain" and len(packed) == 1 and (name := packed.pop()) in _SEEM_PLAIN:
            rank_zero_warn(f"{self.root}: {propose_encoding(pixels)[1]}. If so, set data.encoding: {name}")
        plain = replace(given, kind="z") if given.kind == "ray" else given
        known = np.concatenate([depth[valid] for depth, valid in (read_depth(path, plain) for path in paths)])
        low, high = self.depth_range
        if known.size and np.mean((known >= low) & (known <= high)) < _ENOUGH:
            asked = f"depth_scale={given.scale:g}" if self.encoding is None else f"encoding={self.encoding}"
            what = f"with {asked} the median depth is {np.median(known):.3g} m, not {low:g} to {high:g}"
            raise ConfigError(what, where=self.root, next_action=f"{_better(pixels)} or data.depth_range")
        return given

    def _proposed(self, pixels: Sequence[NDArray[Any]]) -> DepthEncoding:
        """The encoding that the numbers speak for, with the kind and the markers that were given."""
        given = self._encoding
        found, reason = propose_encoding(pixels)
        if found.packing == "plain":
            what = f"data.depth_scale is not given; taking {found.scale:.6g} m per unit: {reason}"
            found = DepthEncoding(found.scale, given.kind, given.invalid, name=found.name)
        else:
            what = f"data.encoding is not given; taking {found}: {reason}"
        rank_zero_warn(f"{what}. Set it, if that is wrong")
        return found


def _chosen(
    name: str | None, scale: float | Literal["auto"], kind: str, invalid: Sequence[float] | None
) -> DepthEncoding:
    """The encoding that the settings ask for; its scale does not matter for "auto"."""
    if name is None:
        if scale == "auto" and kind == "disparity":
            what = "the scale of a disparity cannot be guessed"
            raise ConfigError(what, where="data.depth_scale", next_action="set focal length (px) times baseline (m)")
        markers = DepthEncoding().invalid if invalid is None else tuple(invalid)
        return DepthEncoding(1.0 if isinstance(scale, str) else scale, kind, markers)
    if scale != "auto" or kind != "z" or invalid is not None:
        what = f"encoding={name} and depth_scale, depth_kind or depth_invalid are both given"
        raise ConfigError(what, where="data.encoding", next_action="give the name or the numbers")
    encoding = get_encoding(name)
    if encoding.per_frame:
        hint = "use the data module of this data set, or set depth_kind: disparity and depth_scale for all frames"
        raise ConfigError(f"each frame of {name} has a scale of its own", where="data.encoding", next_action=hint)
    return encoding


def _better(pixels: Sequence[NDArray[Any]]) -> str:
    found, _ = propose_encoding(pixels)
    if found.packing == "plain":
        return f"set data.depth_scale (from the numbers: {found.scale:.6g})"
    return f"set data.encoding (from the numbers: {found.name})"
