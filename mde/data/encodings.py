"""What the numbers of a depth file mean: the encodings in use, by name, and the way to metres and back.

An encoding says how the channels of a pixel hold a number (`mde.data.formats.packings`), its scale, its kind (z, ray or
disparity), and what means "not measured". The table of named encodings is `ENCODINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mde.data.formats.packings import PACKINGS
from mde.errors import ConfigError, nearest
from mde.geometry import ray_to_z

__all__ = ["ENCODINGS", "DepthEncoding", "Metres", "get_encoding", "masked_depth"]

KINDS = ("z", "ray", "disparity")
Metres = tuple[NDArray[np.float32], NDArray[np.bool_]]


@dataclass(frozen=True)
class DepthEncoding:
    """How the numbers of a depth file become metres.

    Attributes:
        scale: metres per unit of the file; for disparities focal length (px) times baseline (m), so that depth is
            ``scale / value``.
        kind: "z" (distance along the optical axis), "ray" (distance along the viewing ray, as AirSim's
            DepthPerspective), or "disparity".
        invalid: values of the file that mean "not measured", besides 0, negative numbers, NaN and infinity. The default
            is that of a saturated 16-bit map, which marks missing pixels in 7-Scenes and the sky in Virtual KITTI.
        far: metres, of the kind in the file; from here on nothing was measured: sky, or the end of a renderer's range.
        packing: how channels hold one number per pixel, a name of `mde.data.formats.packings.PACKINGS`.
        files: suffixes of the files that have it, the usual one first; empty for all.
        dtypes: of the pixels in such files, the usual one first; empty for all.
        pfm_from_top: its PFM files begin with the top row; the format wants the bottom row first.
        per_frame: every frame has a scale of its own, see `with_scale`.
        name: that of `ENCODINGS`.
        source: who uses it.

    Raises:
        ConfigError: the scale is not positive and finite, or the kind or the packing is unknown.
    """

    scale: float = 1.0
    kind: str = "z"
    invalid: tuple[float, ...] = (65535.0,)
    far: float = float("inf")
    packing: str = "plain"
    files: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    pfm_from_top: bool = False
    per_frame: bool = False
    name: str = field(default="", compare=False)
    source: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ConfigError(f"a depth scale is metres per unit, above 0, got {self.scale}", where="depth_scale")
        if self.kind not in KINDS:
            raise ConfigError(f"unknown kind of depth {self.kind!r}", next_action=f"use one of {', '.join(KINDS)}")
        if self.packing not in PACKINGS:
            raise ConfigError(f"unknown packing {self.packing!r}", next_action=f"use one of {', '.join(PACKINGS)}")
        if not self.far > 0:
            raise ConfigError(f"the far limit is in metres, above 0, got {self.far}", where="far")

    def __str__(self) -> str:
        """Name, unit and kind, for messages and for the facts of a result.

        >>> str(ENCODINGS["kitti"]), str(DepthEncoding(0.01, "ray"))
        ('kitti (z, 0.00390625 m per unit)', 'ray, 0.01 m per unit')
        """
        unit = "focal length times baseline" if self.kind == "disparity" else "m per unit"
        numbers = f"{self.kind}, {self.scale:.9g} {unit}"
        return f"{self.name} ({numbers})" if self.name else numbers

    @property
    def dtype(self) -> type[np.generic]:
        """Of the numbers (not of the pixels) in a usual file of this encoding."""
        usual = np.dtype(self.dtypes[0]).type if self.dtypes else np.float32
        return PACKINGS[self.packing].numbers or usual

    def with_scale(self, scale: float) -> DepthEncoding:
        """This encoding with the scale of one frame, such as its focal length (px) times its baseline (m)."""
        return replace(self, scale=scale, per_frame=False)

    def to_metres(self, raw: NDArray[Any], intrinsics: NDArray[np.float32] | None = None) -> Metres:
        """Turn the numbers of a file into z-depth.

        Args:
            raw: (H,W), integer or float, in units of the file, unpacked.
            intrinsics: (3,3), pixels of `raw`; only needed for ``kind="ray"``.

        Returns:
            Depth float32 (H,W) in metres, 0 where unknown, and the mask, bool (H,W).

        Raises:
            ConfigError: the depth is along rays and the camera is unknown, or the scale of the frame is missing.

        >>> depth, valid = DepthEncoding(1 / 256).to_metres(np.array([[0, 384, 65535]], np.uint16))
        >>> depth.tolist(), valid.tolist()
        ([[0.0, 1.5, 0.0]], [[False, True, False]])
        """
        if self.per_frame:
            hint = "read the files with with_scale(focal_px * baseline), or with the data module of the data set"
            raise ConfigError("each frame has a scale of its own", where=self.name, next_action=hint)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            valid = self._measured(raw)
            if self.kind == "disparity":
                depth = (self.scale / raw.astype(np.float64)).astype(np.float32)
            else:
                depth = np.multiply(raw, np.float32(self.scale), dtype=np.float32)
        if raw.dtype.kind == "f" or self.kind == "disparity":
            valid &= np.isfinite(depth) & (depth > 0)  # overflow and underflow of float32 included
        # unsigned numbers without a marker among them: what is unknown is 0 already
        if raw.dtype.kind != "u" or self.kind == "disparity" or np.count_nonzero(raw > 0) != np.count_nonzero(valid):
            depth = masked_depth(depth, valid, out=depth)
        return (_ray_to_z(depth, intrinsics) if self.kind == "ray" else depth), valid

    def from_metres(
        self,
        depth: NDArray[np.float32],
        dtype: type[np.generic] = np.float32,
        intrinsics: NDArray[np.float32] | None = None,
    ) -> NDArray[Any]:
        """The way back from `to_metres`: (H,W) numbers for a file, not yet packed; unknown pixels become 0.

        Args:
            depth: float32 (H,W), z-depth in metres, 0 where unknown.
            dtype: of the file; integers are rounded and saturate.
            intrinsics: (3,3), only needed for ``kind="ray"``.
        """
        known = depth > 0
        metres = _z_to_ray(depth, intrinsics) if self.kind == "ray" else depth
        with np.errstate(divide="ignore", over="ignore"):
            raw = self.scale / metres if self.kind == "disparity" else metres.astype(np.float64) / self.scale
            if np.issubdtype(dtype, np.integer):
                raw = np.clip(np.round(raw), 0, np.iinfo(np.dtype(dtype)).max)
            return np.where(known, raw, 0).astype(dtype)

    def _measured(self, raw: NDArray[Any]) -> NDArray[np.bool_]:
        """Where the number stands for a distance; a limit of an integer map lies half a unit before it."""
        valid: NDArray[np.bool_] = raw > 0  # False for NaN
        whole = raw.dtype.kind != "f"
        for marker in self.invalid:
            if not whole:
                valid &= raw != marker
            elif marker == int(marker):  # as a float it would make all of raw float64
                valid &= raw != int(marker)
        if self.far < float("inf"):
            limit = self.scale / self.far if self.kind == "disparity" else self.far / self.scale
            if whole:
                limit = np.floor(limit + 0.5) if self.kind == "disparity" else np.ceil(limit - 0.5)
            bound = int(limit) if whole else float(limit)
            valid &= raw > bound if self.kind == "disparity" else raw < bound
        return valid


_PNG: dict[str, Any] = {"files": (".png",)}
_16_BIT: dict[str, Any] = {**_PNG, "dtypes": ("uint16",)}
_NOT_BYTES: dict[str, Any] = {"dtypes": ("uint16", "int32", "uint32", "float32", "float64", "float16", "int64")}
_FLOAT: dict[str, Any] = {"dtypes": ("float32", "float16", "float64")}
_HALF_MAX = 65504.0  # largest float16: what Unreal's render targets hold for the sky
_AIRSIM: dict[str, Any] = {
    "invalid": (_HALF_MAX, 65535.0),
    "far": _HALF_MAX,  # rounding of rays misses the exact number
    "files": (".pfm", ".npy"),
    "pfm_from_top": True,
    **_FLOAT,
}
_TABLE: dict[str, DepthEncoding] = {
    "metres": DepthEncoding(source="floats of most renderers, and of DIODE, FastDepth's NYU, MegaDepth's kind"),
    "millimetres": DepthEncoding(1 / 1000, **_NOT_BYTES, source="ScanNet, Redwood, RealSense, BTS' NYU"),
    "centimetres": DepthEncoding(1 / 100, **_NOT_BYTES, source="unit of Unreal and of many 16-bit exports"),
    "kitti": DepthEncoding(1 / 256, **_NOT_BYTES, source="KITTI depth development kit (Uhrig et al., 3DV 2017)"),
    "tum": DepthEncoding(1 / 5000, **_NOT_BYTES, source="TUM RGB-D (Sturm et al., IROS 2012), ICL-NUIM, Bonn"),
    "matterport": DepthEncoding(1 / 4000, **_NOT_BYTES, source="Matterport3D (Chang et al., 3DV 2017): 0.25 mm"),
    "seven_scenes": DepthEncoding(1 / 1000, **_16_BIT, source="7-Scenes (Shotton et al., CVPR 2013); 65535 invalid"),
    "sun_rgbd": DepthEncoding(
        1 / 1000, invalid=(), packing="rotated", **_16_BIT, source="SUN RGB-D toolbox (Song et al., CVPR 2015)"
    ),
    "nyu_raw_kinect": DepthEncoding(
        351.3,
        "disparity",
        (),
        packing="kinect",
        files=(".pgm",),
        dtypes=("uint16",),
        source="raw NYU Depth v2; depth_rel2depth_abs.m of its toolbox: 351.3 / (1092.5 - r), 2047 invalid",
    ),
    "densedepth_8bit": DepthEncoding(
        10 / 255, invalid=(), **_PNG, dtypes=("uint8",), source="DenseDepth's NYU training files, 255 = 10 m"
    ),
    "densedepth_16bit": DepthEncoding(1 / 1000, **_16_BIT, source="DenseDepth's NYU test files, millimetres"),
    "densedepth_unreal": DepthEncoding(
        1 / 100,
        files=(".h5", ".hdf5", ".npy"),
        **_FLOAT,
        source="DenseDepth's Unreal set, cm; its loader clips to 0.1-10 m: set depth_range",
    ),
    "synthia": DepthEncoding(
        1 / 100, packing="equal", **_16_BIT, source="SYNTHIA-RAND (Ros et al., CVPR 2016), cm; 65535 is far"
    ),
    "virtual_kitti": DepthEncoding(
        1 / 100, **_16_BIT, source="Virtual KITTI 1 and 2 (Gaidon et al., CVPR 2016), cm; 655.35 m is sky"
    ),
    "carla": DepthEncoding(
        1000 / (2**24 - 1),
        invalid=(),
        far=1000.0,
        packing="rgb24",
        **_PNG,
        dtypes=("uint8",),
        source="CARLA's depth camera: (R + 256 G + 65536 B) / (2^24 - 1) km",
    ),
    "tartanair_v1": DepthEncoding(
        far=1000.0, files=(".npy",), **_FLOAT, source="TartanAir (Wang et al., IROS 2020), the sky near 10 km"
    ),
    "tartanair_v2": DepthEncoding(
        far=1000.0, packing="float_bytes", **_PNG, dtypes=("uint8",), source="TartanAir V2, modalities.html"
    ),
    "airsim_planar": DepthEncoding(
        **_AIRSIM, source="AirSim, image_apis.md: DepthPlanar; writePFMfile starts at the top"
    ),
    "airsim_perspective": DepthEncoding(
        kind="ray", **_AIRSIM, source="AirSim, image_apis.md: DepthPerspective, along rays"
    ),
    "hypersim": DepthEncoding(
        1.0,
        "ray",
        files=(".hdf5", ".h5", ".npy"),
        dtypes=("float16", "float32", "float64"),
        source="Hypersim (Roberts et al., ICCV 2021), depth_meters.hdf5, along rays; field of view 60 degrees",
    ),
    "unreal_cm": DepthEncoding(
        1 / 100,
        invalid=(_HALF_MAX, 65535.0),
        files=(".exr", ".npy", ".npz", ".pfm", ".tif", ".tiff"),
        **_FLOAT,
        source="scene depth of the Unreal engine, centimetres",
    ),
    "unrealstereo4k": DepthEncoding(
        1.0,
        "disparity",
        (),
        far=1000.0,
        per_frame=True,
        files=(".npy",),
        **_FLOAT,
        source="UnrealStereo4K (Tosi et al., CVPR 2021): disparity in px; scale = focal length times baseline",
    ),
}
ENCODINGS: Mapping[str, DepthEncoding] = MappingProxyType({k: replace(v, name=k) for k, v in _TABLE.items()})
"""Named encodings."""


def get_encoding(encoding: DepthEncoding | str | float) -> DepthEncoding:
    """An encoding from its name, from its scale in metres per unit, or as it is.

    Raises:
        ConfigError: there is none of this name, or the scale is not positive.

    >>> get_encoding("kitti").scale == get_encoding(1 / 256).scale
    True
    """
    if isinstance(encoding, DepthEncoding):
        return encoding
    if isinstance(encoding, str):
        if encoding not in ENCODINGS:
            hint = f"nearest: {nearest(encoding, ENCODINGS)}; or give metres per unit"
            raise ConfigError(f"unknown depth encoding {encoding!r}", next_action=hint)
        return ENCODINGS[encoding]
    return DepthEncoding(scale=encoding)


def masked_depth(
    depth: NDArray[np.float32], valid: NDArray[np.bool_], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """A copy of `depth`, float32, with exact zeros outside of the mask, even where there was NaN.

    >>> masked_depth(np.array([2.5, np.nan], np.float32), np.array([True, False])).tolist()
    [2.5, 0.0]
    """
    # bits times 0 or 1: safe for NaN and some ten times as fast as np.where or cv2.copyTo
    bits = None if out is None else out.view(np.int32)
    return np.multiply(depth.view(np.int32), valid, out=bits, dtype=np.int32).view(np.float32)


def _z_to_ray(depth: NDArray[np.float32], intrinsics: NDArray[np.float32] | None) -> NDArray[np.float32]:
    rays = _ray_to_z(np.ones_like(depth), intrinsics)
    return np.asarray(depth / rays)


def _ray_to_z(distance: NDArray[np.float32], intrinsics: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if intrinsics is None or np.isnan(intrinsics).any():
        raise ConfigError("depth along rays needs the camera", next_action="give intrinsics or horizontal_fov")
    z = ray_to_z(torch.from_numpy(distance)[None, None], torch.from_numpy(intrinsics)[None])
    return np.asarray(z[0, 0].numpy())
