"""Any folder of images with depth maps beside them; `mde.data.pairing` says how the files may be named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray

from mde.data.base import DepthDataModule
from mde.data.dataset import DepthDataset, RawSample
from mde.data.io import DepthEncoding, propose_scale, read_array, read_image
from mde.data.pairing import SPLITS, Frame, find_frames, read_list, refuse_leaks, split_blocks
from mde.data.transforms import SampleTransform
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.geometry import intrinsics_from_fov, intrinsics_matrix, unknown_intrinsics
from mde.protocol import EvalProtocol

__all__ = ["CameraModel", "RGBDFolderDataModule", "RGBDFolderDataset"]

_SAMPLED = 8  # frames that are looked at to judge the depth scale
_ENOUGH = 0.01  # of their pixels must lie in the depth range; a wrong unit leaves none


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
        depth, valid = self.encoding.to_metres(read_array(frame.depth), intrinsics)
        return RawSample(image, depth, valid, intrinsics, frame.id)


class RGBDFolderDataModule(DepthDataModule):
    """A folder of images and depth maps, split as its files are laid out.

    Args:
        root: the folder; `mde.data.pairing` says what it may look like.
        depth_scale: metres per unit of the depth files (0.001 for millimetres), or "auto": proposed from the numbers of
            the first frames, with a warning that says why.
        depth_kind: "z", "ray" (needs the camera) or "disparity" (``depth_scale`` is then focal length times baseline).
        depth_invalid: values of the depth files that mean "not measured", besides 0, NaN and infinity.
        split: "lists" (``train.txt`` …), "folders" (a folder ``train`` … at the start of the frame's path), "blocks"
            (contiguous parts of all frames in order), or "auto": the first of these that the folder has.
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
        depth_kind: Literal["z", "ray", "disparity"] = "z",
        depth_invalid: list[float] | None = None,
        split: Literal["auto", "lists", "folders", "blocks"] = "auto",
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
        if split not in ("auto", "lists", "folders", "blocks"):
            hint = "use auto, lists, folders or blocks"
            raise ConfigError(f"unknown split {split!r}", where="data.split", next_action=hint)
        if depth_scale == "auto" and depth_kind == "disparity":
            what = "the scale of a disparity cannot be guessed"
            raise ConfigError(what, where="data.depth_scale", next_action="set focal length (px) times baseline (m)")
        self.root = root
        self.depth_scale = depth_scale
        # made now, so that a wrong setting shows before any file is read
        self._encoding = DepthEncoding(
            1.0 if isinstance(depth_scale, str) else depth_scale,
            depth_kind,
            DepthEncoding().invalid if depth_invalid is None else tuple(depth_invalid),
        )
        self._camera = CameraModel(None if intrinsics is None else tuple(intrinsics), horizontal_fov)
        self._blocks = (val_fraction, test_fraction, guard)
        self.split = split
        self._frames: dict[str, list[Frame]] = {}

    def make_dataset(self, split: str) -> RGBDFolderDataset:
        if not self._frames:
            self._frames = self._split_frames()
            self._encoding = self._judged_encoding(self._frames["train"])
        return RGBDFolderDataset(self._frames[split], self._encoding, self.transform(split), self._camera, self.seed)

    def _split_frames(self) -> dict[str, list[Frame]]:
        """The frames of all three splits, checked: none empty, no frame in two of them."""
        root = Path(self.root)
        if not root.is_dir():
            hint = "set data.root to a folder of images and depth maps"
            raise DatasetNotFoundError("no such folder", where=root, next_action=hint)
        if self.split == "lists" or (self.split == "auto" and (root / "train.txt").is_file()):
            parts = {s: read_list(root / f"{s}.txt") for s in SPLITS if s != "test" or (root / "test.txt").is_file()}
        else:
            frames = find_frames(root)
            parts = {s: [f for f in frames if f.id.startswith(f"{s}/")] for s in SPLITS}
            if self.split == "blocks" or (self.split == "auto" and not parts["train"]):
                parts = split_blocks(frames, *self._blocks)
        if not parts.get("test"):
            rank_zero_info(f"{root} has no test part: testing uses the validation part")
            parts["test"] = parts["val"]
        for name in ("train", "val"):
            if not parts[name]:
                hint = "add one, or set data.split to blocks (with a smaller guard for few frames)"
                raise DataFormatError(f"there are no frames in {name}", where=root, next_action=hint)
        refuse_leaks(parts)
        return parts

    def _judged_encoding(self, frames: Sequence[Frame]) -> DepthEncoding:
        """The encoding with the proposed scale filled in; a scale that leaves no depth in range is refused."""
        picked = np.linspace(0, len(frames) - 1, min(_SAMPLED, len(frames))).round().astype(int)
        raw = [read_array(frames[i].depth) for i in picked]
        given = self._encoding
        if self.depth_scale == "auto":
            scale, reason = propose_scale(raw)
            what = f"data.depth_scale is not given; taking {scale:.6g} m per unit: {reason}"
            rank_zero_warn(f"{what}. Set it, if that is wrong")
            return DepthEncoding(scale, given.kind, given.invalid)
        plain = DepthEncoding(given.scale, "z" if given.kind == "ray" else given.kind, given.invalid)
        known = np.concatenate([depth[valid] for depth, valid in map(plain.to_metres, raw)])
        low, high = self.depth_range
        if known.size and np.mean((known >= low) & (known <= high)) < _ENOUGH:
            median = f"{np.median(known):.3g} m"
            what = f"with depth_scale={given.scale:g} the median depth is {median}, not {low:g} to {high:g}"
            hint = f"set data.depth_scale (from the numbers: {propose_scale(raw)[0]:.6g}) or data.depth_range"
            raise ConfigError(what, where=self.root, next_action=hint)
        return given
