"""Frames of the Unreal engine: paper 1's set, and what simulators and data sets of that kind export.

`mde.data.unreal.forms.FORMS` is the table of all forms. The layout is recognised by looking, or given by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from mde.data.base import DepthDataModule
from mde.data.encodings import DepthEncoding, get_encoding
from mde.data.folder import CameraModel
from mde.data.layouts import get_layout, recognise
from mde.data.unreal.dataset import DenseDepthUnrealDataset, UnrealDataset
from mde.data.unreal.find import UnrealFrame, find_frames
from mde.data.unreal.forms import FORMS, Form
from mde.data.unreal.splits import SplitRule, split_frames
from mde.errors import ConfigError, DataFormatError, nearest
from mde.protocol import EvalProtocol

__all__ = ["FORMS", "Form", "UnrealDataModule", "UnrealDataset"]

_LISTED = 10


class UnrealDataModule(DepthDataModule):
    """Rendered frames in one of the forms of `mde.data.unreal.forms.FORMS`.

    Splits never divide a scene, and are the same every time; see `mde.data.unreal.splits`. `facts` says what was held
    out. Without a test part the validation part is tested on, and a line in the log says so.

    Args:
        root: the folder (or HDF5 file).
        layout: name of the form, or "auto": recognised.
        far: what lies at or beyond the limit to which the authors clip (20 m in paper 1's set, 10 m in DenseDepth's):
            "clip", as they do: it is trained on as if it were at the limit; "invalid": it is unknown. A protocol whose
            cap is the limit scores neither. Forms without such a limit are not touched.
        depth_kind: "z" or "ray", instead of what the form says. Nobody knows it of paper 1's set; z is assumed.
        depth_scale: metres per unit of the depth files, instead of what the form says: for EasySynth its "depth range"
            if that is not 100 m, or 0.01 for scene depth in centimetres.
        cameras: regular expression for the names of the cameras to read, such as "left|right"; default one camera, and
            all of AirSim, EasySynth and Hypersim.
        horizontal_fov: in degrees, instead of what the form says.
        intrinsics: [fx, fy, cx, cy] in pixels of the images, the centre of the first pixel at (0, 0); likewise, and
            instead of Virtual KITTI's files.
        val_scenes, test_scenes: folders of scenes to hold out, instead of a choice.
        val_fraction, test_fraction: share of the frames, where scenes are chosen.
        guard: frames dropped between parts of a single sequence; default 10, fewer if it is short.
        missing: images without depth are an "error", or "skip" leaves them out, with a warning.
        image_size: (height, width) of the network's input; default what suits the form.
        protocol: default "unreal_20" indoors and for paper 1, "unreal_80" outdoors, "rooms" for DenseDepth's set.
        depth_range: metres; default what suits the form.
        common: see `DepthDataModule`.

    Raises:
        ConfigError: a setting is unknown, or depth is along rays and no camera is known.
        DatasetNotFoundError: there is nothing at `root`, and the layout is not given.
        DataFormatError: the layout is not recognised.
    """

    def __init__(
        self,
        root: str,
        layout: str = "auto",
        *,
        far: Literal["clip", "invalid"] = "clip",
        depth_kind: Literal["z", "ray"] | None = None,
        depth_scale: float | None = None,
        cameras: str | None = None,
        horizontal_fov: float | None = None,
        intrinsics: list[float] | None = None,
        val_scenes: list[str] | None = None,
        test_scenes: list[str] | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        guard: int | None = None,
        missing: Literal["error", "skip"] = "error",
        image_size: tuple[int, int] | None = None,
        protocol: str | EvalProtocol | None = None,
        depth_range: tuple[float, float] | None = None,
        **common: Any,
    ) -> None:
        self.layout = recognise(root, "unreal").name.partition("/")[2] if layout == "auto" else layout
        if self.layout not in FORMS:
            hint = f"nearest: {nearest(self.layout, FORMS)}"
            raise ConfigError(f"unknown layout {layout!r}", where="data.layout", next_action=hint)
        self.form = FORMS[self.layout]
        super().__init__(
            protocol=protocol or self.form.protocol,
            depth_range=depth_range or self.form.depth_range,
            image_size=image_size or self.form.image_size,
            **common,
        )
        _require("far", far, ("clip", "invalid"))
        _require("missing", missing, ("error", "skip"))
        if depth_kind is not None:
            _require("depth_kind", depth_kind, ("z", "ray"))
        self.root = root
        self.far = far
        self.depth_kind = depth_kind
        self.cameras = cameras
        self.missing = missing
        given = horizontal_fov is not None or intrinsics is not None
        fov = horizontal_fov if given else self.form.fov
        self._camera = CameraModel(None if intrinsics is None else tuple(intrinsics), fov)
        self._encoding = self._settled(depth_scale, camera_known=given or fov is not None)
        if given and not self._encoding.per_frame:
            self.form = replace(self.form, pairs=tuple(replace(pair, calibration="") for pair in self.form.pairs))
        self._rule = SplitRule(val_fraction, test_fraction, guard, tuple(val_scenes or ()), tuple(test_scenes or ()))
        self._parts: dict[str, list[UnrealFrame]] = {}
        self._facts: dict[str, Any] = {}

    def make_dataset(self, split: str) -> UnrealDataset:
        self._find()
        made = DenseDepthUnrealDataset if self.layout == "densedepth_h5" else UnrealDataset
        clip = self.form.limits if self.far == "clip" else None
        frames = self._parts[split]
        return made(frames, self._encoding, self.transform(split), self._camera, clip, self.depth_kind, self.seed)

    def facts(self) -> dict[str, Any]:
        """Layout, how the parts were made and what is in them, how depth was read, and what was left out."""
        self._find()
        return dict(self._facts)

    def _settled(self, depth_scale: float | None, camera_known: bool) -> DepthEncoding:
        """The encoding with the settings of the user."""
        encoding = get_encoding(self.form.encoding)
        if depth_scale is not None:
            if encoding.per_frame:
                what = "the scale of a disparity comes with each frame"
                raise ConfigError(what, where="data.depth_scale", next_action="leave depth_scale out")
            encoding = encoding.with_scale(depth_scale)
        if self.far == "invalid" and self.form.limits:
            encoding = replace(encoding, far=self.form.limits[1])
        if self.depth_kind == "ray" and not camera_known:
            what = "depth along rays needs the camera"
            raise ConfigError(what, where="data.depth_kind", next_action="give horizontal_fov or intrinsics")
        if self.depth_kind is not None and encoding.kind == "disparity":
            what = "this layout holds disparities"
            raise ConfigError(what, where="data.depth_kind", next_action="leave depth_kind out")
        return encoding

    def _find(self) -> None:
        if self._parts:
            return
        frames, missing = find_frames(Path(self.root), self.layout, self.form, self.cameras)
        self._refuse_or_skip(missing)
        if not frames:
            hint = f"it should be {get_layout(f'unreal/{self.layout}').summary}"
            chosen = f" of cameras {self.cameras!r}" if self.cameras else ""
            raise DataFormatError(f"there are no frames{chosen}", where=self.root, next_action=hint)
        parts, told = split_frames(frames, self._rule)
        for name in ("train", "val"):
            if not parts[name]:
                hint = "add scenes, name val_scenes, or lower val_fraction and guard"
                raise DataFormatError(
                    f"there are no frames in {name} of {len(frames)}", where=self.root, next_action=hint
                )
        if not parts["test"]:
            rank_zero_info(f"{self.root} has no test part: testing uses the validation part")
            told = {**told, "test_is_val": True}
            parts["test"] = parts["val"]
        self._facts = {**self._described(frames), "split": told, "missing": len(missing)}
        self._facts["frames"] = {name: len(part) for name, part in parts.items()}
        self._parts = parts

    def _described(self, frames: Sequence[UnrealFrame]) -> dict[str, Any]:
        named = {frame.encoding for frame in frames if frame.encoding} or {self._encoding.name or "metres"}
        kinds = {get_encoding(name).kind for name in named} if frames[0].encoding else {self._encoding.kind}
        limits = {"limits_m": list(self.form.limits), "far": self.far} if self.form.limits else {}
        return {
            "layout": f"unreal/{self.layout}",
            "encoding": sorted(named),
            "depth_in_files": [self.depth_kind] if self.depth_kind else sorted(kinds),
            **limits,
        }

    def _refuse_or_skip(self, missing: Sequence[str]) -> None:
        if not missing:
            return
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        what = f"{len(missing)} depth or camera files are missing: {', '.join(missing[:_LISTED])}{more}"
        if self.missing == "error":
            hint = "fetch them, or set data.missing to skip"
            raise DataFormatError(what, where=self.root, next_action=hint)
        rank_zero_warn(f"{what}. Their images are left out")


def _require(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"unknown {key} {value!r}", where=f"data.{key}", next_action=f"use {' or '.join(known)}")
