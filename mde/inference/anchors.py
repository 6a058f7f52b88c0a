"""From a relative map to metres: by points of known depth, a sparse depth map, or the height of the camera.

All fits are those of `mde.alignment` in the space that the ambiguity asks for: a factor for a depth up to scale (and to
correct a metric one), a line in depth or in disparity where a shift is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mde.alignment import Fit, apply_fit, fit, require_mode
from mde.errors import ConfigError, DataFormatError
from mde.inference.result import DepthResult
from mde.types import Ambiguity

__all__ = ["Scaled", "scale_by_depth", "scale_by_height", "scale_by_points"]

_MODES = {
    Ambiguity.METRIC: "scale",
    Ambiguity.SCALE: "scale",
    Ambiguity.AFFINE_DEPTH: "scale_shift",
    Ambiguity.AFFINE_DISPARITY: "disparity_scale_shift",
}
_ENOUGH = 5  # measurements a constant: with fewer nobody can tell which is wrong (Rousseeuw & Leroy 1987, ch. 1)
_FAR = 0.999e6  # metres: `apply_fit` says 1e6 for a disparity of zero and less

_LOWER = 0.6  # the ground is looked for below this share of the height
_POINTS, _TRIES = 4096, 256
_NEAR_PLANE = 0.03  # of the distance
_UPRIGHT = 0.7  # cosine of how far the ground may lean, seen from the camera: 45 degrees


class Scaled(NamedTuple):
    """A result in metres, and how well it agrees with what was measured.

    Attributes:
        result: METRIC.
        residuals: float64 (N,), metres: the result minus each measurement. Of `scale_by_height`: distances of points of
            the ground from its plane.
        about: one line.
    """

    result: DepthResult
    residuals: NDArray[np.float64]
    about: str


def scale_by_points(
    result: DepthResult, points: Sequence[tuple[float, float, float]], mode: str | None = None
) -> Scaled:
    """Fit a result to points whose depth is known.

    Args:
        result: of any ambiguity.
        points: (x, y, metres): column and row in the upright picture, from 0 at the centre of the top-left pixel, and
            z-depth. One is enough for a factor, a line takes two.
        mode: one of `mde.alignment.MODES` that fits the ambiguity, such as "log_affine"; default least squares in the
            space of the ambiguity, robust from five points a constant on.

    Raises:
        DataFormatError: a point beside the picture or where the map says nothing, or points that contradict the map.
        ConfigError: too few points, a depth that is not above 0, a mode that does not fit.
    """
    _require_points(points, result.ambiguity)
    height, width = result.values.shape
    where = [(round(y), round(x)) for x, y, _ in points]
    for (row, column), (x, y, _) in zip(where, points, strict=True):
        if not (0 <= row < height and 0 <= column < width):
            what = f"the anchor {x:g},{y:g} lies beside the picture of {width}x{height} pixels"
            raise DataFormatError(what, where=result.source, next_action="x is the column, y the row, both from 0")
    said = np.array([result.values[place] for place in where])
    return _scaled(result, said, np.array([metres for *_, metres in points]), mode, f"{len(points)} anchors")


def scale_by_depth(
    result: DepthResult, depth: NDArray[np.float32], valid: NDArray[np.bool_], mode: str | None = None
) -> Scaled:
    """Fit a result to a measured depth map of the same view, however sparse.

    Args:
        result: of any ambiguity; it is resized to the depth map, never the other way round.
        depth: (h,w), z-depth in metres.
        valid: bool (h,w), where it was measured.
        mode: see `scale_by_points`.

    Raises:
        DataFormatError: a map of another shape than the picture, or too few depths, or they contradict the map.
    """
    (height, width), (rows, columns) = result.values.shape, depth.shape
    if abs(rows * width / (columns * height) - 1) > 0.02:
        what = f"a depth map of {columns}x{rows} pixels is not of the same view as {width}x{height}"
        raise DataFormatError(what, where=result.source, next_action="give depth of the whole upright picture")
    said = result.values
    if said.shape != depth.shape:
        said = cv2.resize(said, (columns, rows), interpolation=cv2.INTER_LINEAR)
    usable = valid & np.isfinite(said) & (depth > 0)
    return _scaled(result, said[usable], depth[usable], mode, f"{int(usable.sum())} measured depths")


def scale_by_height(result: DepthResult, metres: float) -> Scaled:
    """Scale a depth by the height of the camera above the ground.

    The plane is looked for among points of the lower two fifths of the picture: of many planes through three of them
    that are not too steep, the one near most points, then least squares on these. A plane X.m = 1 has the distance
    1/|m| from the camera.

    Args:
        result: METRIC or SCALE, with intrinsics. An unknown shift bends a plane, so that its distance says nothing.
        metres: from the ground to the camera.

    Raises:
        ConfigError: another ambiguity, or a height that is not above 0.
        DataFormatError: no intrinsics, or no plane that could be the ground.
    """
    if result.ambiguity not in (Ambiguity.METRIC, Ambiguity.SCALE):
        what = f"the height of the camera says nothing of a {result.ambiguity.unit} with an unknown shift"
        raise ConfigError(what, where="camera height", next_action="give two anchors or more")
    if not (np.isfinite(metres) and metres > 0):
        raise ConfigError(f"a camera is above the ground, got {metres:g} m", next_action="give metres above 0")
    if result.intrinsics is None:
        hint = "give the field of view (--fov), pixels (--intrinsics) or focal length and sensor (--focal)"
        raise DataFormatError("the camera is unknown", where=result.source, next_action=hint)
    points = _lower_points(result, result.intrinsics)
    plane, share = _ground(points)
    if plane is None or share < 0.3:
        what = f"no ground: at most {share:.0%} of the lower part of the picture lie in one level plane"
        raise DataFormatError(what, where=result.source, next_action="give anchors instead")
    distance = 1 / float(np.linalg.norm(plane))
    factor = metres / distance
    off = (points @ plane - 1) * metres
    near = off[np.abs(off) < _NEAR_PLANE * metres]
    tilt = np.degrees(np.arccos(min(1.0, plane[1] * distance)))
    found = f"{share:.0%} of the lower part, leaning {tilt:.0f} degrees"
    about = f"scale {factor:.4g} by the ground {metres:g} m below ({found}); {_summary(near)}"
    return Scaled(_in_metres(result, result.values * np.float32(factor), factor, "camera height"), near, about)


def _scaled(
    result: DepthResult, said: NDArray[np.float32], measured: NDArray[np.floating], mode: str | None, what: str
) -> Scaled:
    mode = mode or _mode(result.ambiguity, said.size)
    require_mode(mode, result.ambiguity)
    needed = 1 if mode in ("median", "scale", "robust_scale") else 2
    if said.size < needed or not np.isfinite(said).all():
        known = f"the map says nothing at {int((~np.isfinite(said)).sum())} of {what}"
        raise DataFormatError(known, where=result.source, next_action=f"give {needed} or more where it does")
    pred = torch.from_numpy(said.astype(np.float64)).view(1, 1, 1, -1)
    target = torch.from_numpy(measured.astype(np.float64)).view(1, 1, 1, -1)
    made = fit(pred, target, torch.ones_like(pred, dtype=torch.bool), mode)
    scale, shift = made.scale.item(), made.shift.item()
    if made.degenerate.item() or not scale > 0:
        contrary = f"{what} contradict the map: what they call far it calls near, or all depths are one"
        raise DataFormatError(contrary, where=result.source, next_action="check x, y and metres, or give more")
    residuals = apply_fit(pred, made, mode).flatten().numpy() - measured
    factor = scale if needed == 1 else None
    scaled = _in_metres(result, _applied(result, made, mode), factor, what)
    return Scaled(scaled, residuals, f"{mode} {scale:.4g}, shift {shift:.4g}, by {what}; {_summary(residuals)}")


def _applied(result: DepthResult, made: Fit, mode: str) -> NDArray[np.float32]:
    values = apply_fit(torch.from_numpy(result.values)[None, None], made, mode)[0, 0].numpy()
    return np.where(values >= _FAR, np.float32(np.inf), values)


def _in_metres(result: DepthResult, values: NDArray[np.float32], factor: float | None, what: str) -> DepthResult:
    """The result with metric values; range and standard deviation follow a factor, and a line leaves none."""
    ends, std = result.depth_range, result.std
    return replace(
        result,
        values=values.astype(np.float32, copy=False),
        ambiguity=Ambiguity.METRIC,
        depth_range=(ends[0] * factor, ends[1] * factor) if ends and factor else None,
        std=std * np.float32(factor) if std is not None and factor else None,
        model=f"{result.model}, scaled by {what}",
    )


def _mode(ambiguity: Ambiguity, count: int) -> str:
    mode = _MODES[ambiguity]
    constants = 1 if mode == "scale" else 2
    return f"robust_{mode}" if count >= _ENOUGH * constants else mode


def _summary(residuals: NDArray[np.float64]) -> str:
    off = np.abs(residuals)
    return f"residuals: median {np.median(off):.3g} m, largest {off.max():.3g} m"


def _require_points(points: Sequence[tuple[float, float, float]], ambiguity: Ambiguity) -> None:
    needed = 1 if _MODES[ambiguity] == "scale" else 2
    if len(points) < needed:
        what = f"a {ambiguity.unit} with an unknown shift takes {needed} anchors, got {len(points)}"
        what = what if needed == 2 else "no anchors"
        raise ConfigError(what, where="anchor", next_action="give --anchor x,y,metres for each point")
    for point in points:
        if not (np.isfinite(point).all() and point[2] > 0):
            x, y, metres = point
            what = f"an anchor is a pixel and a depth above 0, got {x:g},{y:g},{metres:g}"
            raise ConfigError(what, where="anchor", next_action="give x,y,metres")


def _lower_points(result: DepthResult, intrinsics: NDArray[np.float64]) -> NDArray[np.float64]:
    """Some points of the lower part, float64 (N,3), in the unit of the map: x right, y down, z forward."""
    rows, columns = np.mgrid[int(_LOWER * result.values.shape[0]) : result.values.shape[0], : result.values.shape[1]]
    z = result.values[rows, columns]
    known = np.isfinite(z) & (z > 0)
    step = max(1, int(known.sum()) // _POINTS)
    u, v, z = (each[known][::step].astype(np.float64) for each in (columns, rows, z))
    rays = np.linalg.solve(intrinsics, np.stack([u, v, np.ones_like(u)]))
    return np.asarray((rays * z).T)


def _ground(points: NDArray[np.float64]) -> tuple[NDArray[np.float64] | None, float]:
    """m of the plane X.m = 1, and the share of the points near it."""
    best: NDArray[np.float64] | None = None
    most = 0
    random = np.random.default_rng(0)  # the same picture always gets the same scale
    for _ in range(_TRIES if len(points) >= 3 else 0):
        plane = _through(points[random.choice(len(points), 3, replace=False)])
        if plane is None or plane[1] < _UPRIGHT * np.linalg.norm(plane):
            continue
        count = int(_near(points, plane).sum())
        if count > most:
            best, most = plane, count
    for _ in range(5):
        if best is None:
            return None, 0.0
        best = _through(points[_near(points, best)])
    return best, 0.0 if best is None else float(_near(points, best).mean())


def _near(points: NDArray[np.float64], plane: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(points @ plane - 1) < _NEAR_PLANE)


def _through(points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """m of the plane through three points, or the best for more; None where they lie in one line."""
    found, _, rank, _ = np.linalg.lstsq(points, np.ones(len(points)), rcond=1e-9)
    return np.asarray(found, np.float64) if rank == 3 else None
