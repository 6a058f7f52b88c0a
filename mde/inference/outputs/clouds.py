"""Point clouds and meshes of a depth map: coloured points in the camera frame, PLY and GLB files for viewers.

Points are in metres, x right, y down, z forward (the camera frame of OpenCV). Files for viewers have y up and z towards
the viewer, as glTF demands: there a point at depth d lies at z = -d.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mde.data.formats.notes import NOTE_KEY
from mde.errors import ConfigError
from mde.geometry import unproject
from mde.types import Ambiguity

if TYPE_CHECKING:
    from mde.inference.result import DepthResult

__all__ = ["MESH_RATIO", "Cloud", "depth_cloud", "depth_mesh", "glb_bytes", "ply_bytes", "require_metric"]

MESH_RATIO = 1.1
"""A mesh is cut where the depths of neighbouring pixels differ by more than this factor."""

_TO_VIEWER = np.array([1, -1, -1], np.float32)
_POINTS, _TRIANGLES = 0, 4  # glTF 2.0, 3.7.2.1: modes of a primitive
_FLOAT, _UINT16, _UINT32 = 5126, 5123, 5125  # types of a component
_VERTICES, _INDICES = 34962, 34963  # targets of a buffer view


class Cloud(NamedTuple):
    """Coloured points, and where it is a mesh its triangles.

    Attributes:
        points: float32 (N,3), metres, in the camera frame: x right, y down, z forward.
        colours: uint8 (N,3), RGB.
        triangles: uint32 (M,3), numbers of points, counter-clockwise as the camera sees them; None for points alone.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8]
    triangles: NDArray[np.uint32] | None = None

    @property
    def in_viewer(self) -> NDArray[np.float32]:
        """The points as viewers have them: y up, z towards the viewer."""
        return self.points * _TO_VIEWER


def require_metric(ambiguity: Ambiguity, scale: float | None = None, where: object = None) -> None:
    """Raise a `ConfigError` unless the map, with a scale where one is given, is in metres."""
    if ambiguity is Ambiguity.METRIC and scale is None:
        return
    if ambiguity is Ambiguity.SCALE and scale is not None and 0 < scale < np.inf:
        return
    if ambiguity is Ambiguity.METRIC:
        what, hint = "this map is in metres already", "leave the scale out"
    elif ambiguity is Ambiguity.SCALE:
        what = f"this output is in metres, and the map is {ambiguity.unit}"
        hint = "give a scale above 0 in metres per unit, or scale anchors, or take a metric network"
    else:
        what = f"this output is in metres, and the map is {ambiguity.unit} with an unknown scale and shift"
        hint = "give scale anchors, or take a metric network"
    raise ConfigError(what, where=where, next_action=hint)


def depth_cloud(
    result: DepthResult,
    intrinsics: NDArray[np.float64] | None = None,
    *,
    scale: float | None = None,
    max_ratio: float | None = None,
) -> Cloud:
    """As `DepthResult.to_points`."""
    depth = _metres(result, scale)
    known = np.isfinite(depth) & (depth > 0)
    if max_ratio is not None:
        _require_ratio(max_ratio)
        known &= _spread(np.where(known, depth, np.float32(np.nan))) <= max_ratio
    return Cloud(_places(depth, result, intrinsics)[known], _colours(result)[known])


def depth_mesh(result: DepthResult, max_ratio: float = MESH_RATIO) -> Cloud:
    """The map as a surface: two triangles between four neighbouring pixels, none across an edge or a hole.

    Args:
        result: metric, with a known camera.
        max_ratio: a triangle whose corners' depths differ by more than this factor is left out.

    Returns:
        The corners that belong to a triangle, and the triangles.

    Raises:
        ConfigError: as of `depth_cloud`.
    """
    _require_ratio(max_ratio)
    depth = _metres(result, None)
    number = np.arange(depth.size, dtype=np.int64).reshape(depth.shape)
    corners = number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:]  # both left ones, then both right ones
    upper_left, lower_left, upper_right, lower_right = (corner.ravel() for corner in corners)
    triangles = np.concatenate(
        [np.stack((upper_left, lower_left, upper_right), 1), np.stack((upper_right, lower_left, lower_right), 1)]
    )
    at = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan)).ravel()[triangles]
    triangles = triangles[at.max(1) <= max_ratio * at.min(1)]  # False for NaN
    used, triangles = np.unique(triangles, return_inverse=True)
    places, colours = _places(depth, result, None).reshape(-1, 3), _colours(result).reshape(-1, 3)
    return Cloud(places[used], colours[used], triangles.reshape(-1, 3).astype(np.uint32))


def ply_bytes(cloud: Cloud, note: str = "") -> bytes:
    """A binary PLY file of the points: x, y, z as float32 (y up, z towards the viewer), red, green, blue as bytes."""
    kinds: Any = [(name, "<f4") for name in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")]
    rows = np.empty(len(cloud.points), dtype=kinds)
    for name, column in zip("xyz", cloud.in_viewer.T, strict=True):
        rows[name] = column
    for name, column in zip(("red", "green", "blue"), cloud.colours.T, strict=True):
        rows[name] = column
    comments = "comment metres; x right, y up, depth is -z\n" + (f"comment {NOTE_KEY} {note}\n" if note else "")
    properties = "".join(f"property {'float' if kind == '<f4' else 'uchar'} {name}\n" for name, kind in kinds)
    head = f"ply\nformat binary_little_endian 1.0\n{comments}element vertex {len(rows)}\n{properties}end_header\n"
    return head.encode("ascii") + rows.tobytes()


def glb_bytes(cloud: Cloud, note: str = "") -> bytes:
    """A binary glTF 2.0 file of points or of a mesh, in its own colours without light and shade.

    Raises:
        ConfigError: there is no point; glTF has no empty arrays.
    """
    if len(cloud.points) == 0:
        hint = "lower min_confidence, or leave this format out"
        raise ConfigError("no pixel has a depth: there is nothing to write", where="glb", next_action=hint)
    places = np.ascontiguousarray(cloud.in_viewer, "<f4")
    bounds = {"min": places.min(0).tolist(), "max": places.max(0).tolist()}
    arrays = [
        (places, {"componentType": _FLOAT, "type": "VEC3", **bounds}),
        (_linear(cloud.colours), {"componentType": _UINT16, "type": "VEC4", "normalized": True}),
    ]
    primitive: dict[str, Any] = {"attributes": {"POSITION": 0, "COLOR_0": 1}, "material": 0, "mode": _POINTS}
    if cloud.triangles is not None:
        arrays.append((cloud.triangles.astype("<u4").reshape(-1), {"componentType": _UINT32, "type": "SCALAR"}))
        primitive |= {"indices": 2, "mode": _TRIANGLES}
    return _glb(arrays, primitive, note)


def _glb(arrays: list[tuple[NDArray[Any], dict[str, Any]]], primitive: dict[str, Any], note: str) -> bytes:
    views, accessors, at = [], [], 0
    for number, (array, kind) in enumerate(arrays):
        target = _INDICES if number == 2 else _VERTICES
        views.append({"buffer": 0, "byteOffset": at, "byteLength": array.nbytes, "target": target})
        accessors.append({"bufferView": number, "count": len(array), **kind})
        at += array.nbytes
    scene = {
        "asset": {"version": "2.0", "generator": "mde", "extras": json.loads(note or "{}")},
        "extensionsUsed": ["KHR_materials_unlit"],
        "materials": [{"extensions": {"KHR_materials_unlit": {}}, "doubleSided": True}],
        "buffers": [{"byteLength": at}],
        "bufferViews": views,
        "accessors": accessors,
        "meshes": [{"primitives": [primitive]}],
        "nodes": [{"mesh": 0}],
        "scenes": [{"nodes": [0]}],
        "scene": 0,
    }
    text = json.dumps(scene, separators=(",", ":")).encode("ascii")
    chunks = _chunk(b"JSON", text, b" ") + _chunk(b"BIN\0", b"".join(array.tobytes() for array, _ in arrays), b"\0")
    return b"glTF" + (2).to_bytes(4, "little") + (12 + len(chunks)).to_bytes(4, "little") + chunks


def _chunk(kind: bytes, content: bytes, filler: bytes) -> bytes:
    content += filler * (-len(content) % 4)
    return len(content).to_bytes(4, "little") + kind + content


def _linear(colours: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """sRGB bytes as linear RGBA, uint16 (N,4): glTF's vertex colours are linear (IEC 61966-2-1 says how)."""
    value = np.arange(256) / 255
    table = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    made = np.full((len(colours), 4), 65535, "<u2")
    made[:, :3] = np.rint(table * 65535).astype("<u2")[colours]
    return made


def _metres(result: DepthResult, scale: float | None) -> NDArray[np.float32]:
    require_metric(result.ambiguity, scale, where=result.source or None)
    return result.values if scale is None else result.values * np.float32(scale)


def _places(
    depth: NDArray[np.float32], result: DepthResult, intrinsics: NDArray[np.float64] | None
) -> NDArray[np.float32]:
    """Points (H,W,3) of all pixels."""
    camera = result.intrinsics if intrinsics is None else intrinsics
    if camera is None or not np.isfinite(camera).all():
        hint = "give fx, fy, cx, cy in pixels, or the field of view of the camera"
        where = result.source or None
        raise ConfigError(
            "a point cloud needs the camera's intrinsics, which are unknown", where=where, next_action=hint
        )
    z = torch.from_numpy(np.array(depth, np.float64))[None, None]
    made = unproject(z, torch.from_numpy(np.array(camera, np.float64))[None])
    return made[0].permute(1, 2, 0).to(torch.float32).numpy()


def _colours(result: DepthResult) -> NDArray[np.uint8]:
    return result.colorize() if result.image is None else result.image


def _spread(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Largest depth of a pixel and its eight neighbours, as a factor of the smallest; holes do not count."""
    around, hole = np.ones((3, 3), np.uint8), np.isnan(depth)
    high = cv2.dilate(np.where(hole, np.float32(0), depth), around)
    low = cv2.erode(np.where(hole, np.float32(np.inf), depth), around)
    return np.asarray(high / low)


def _require_ratio(ratio: float) -> None:
    if not ratio > 1:
        what = f"an edge is a factor above 1 between neighbouring depths, got {ratio:g}"
        raise ConfigError(what, where="max_ratio", next_action=f"{MESH_RATIO:g} is usual")
