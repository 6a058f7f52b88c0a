"""Light and shadow: what each lamp and the sun send to the points that are seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mde.data.worlds.geometry import NEAR, Geometry, batches, interval
from mde.data.worlds.scene import ROOM, Light, Scene

__all__ = ["received"]

F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
Ints = NDArray[np.intp]

_GRAZE = 1e-3  # fraction of a shadow ray next to the surface that is not tested: touching objects do not shadow a seam
_LAMP_RADIUS = 0.2  # metres; keeps the inverse square finite next to a lamp


def received(scene: Scene, geometry: Geometry, light: Light, points: F32, normal: F32, prim: Ints, hit: Mask) -> F32:
    """Cosine times falloff of one light at all points, 0 in its shadow; (T,K)."""
    vector = np.array(light.vector, np.float32)[:, None, None]
    way = vector if light.sun else vector - points
    facing = (normal * way).sum(0)
    if not light.sun:
        square = np.maximum((way * way).sum(0), np.float32(_LAMP_RADIUS**2))
        facing /= square * np.sqrt(square)
    lit = hit & (facing > 0)
    mask = (_under_sun if light.sun else _behind_lamp)(geometry.corners, light, points, lit)
    mask &= (scene.casts & (scene.kind != ROOM))[:, None]
    # from the lamp to the point, or from the point towards the sun
    start = geometry.seen_from(np.zeros(3) if light.sun else np.asarray(light.vector))
    for kind, tile, caster in batches(scene, mask, prim.shape[1]):
        half, ids, origin = geometry.half[:, caster, None], caster[:, None], start[:, caster, None]
        target = geometry.local(points.take(tile, axis=1) - (0 if light.sun else vector), ids)
        if light.sun:
            direction = geometry.local(vector, ids)
            seen_point = (target[0] + origin[0], target[1] + origin[1], target[2] + origin[2])
            entry, leave = interval(kind, seen_point, direction, half)
            dark = (entry < leave) & (leave > NEAR)
        else:
            entry, leave = interval(kind, origin, target, half)
            dark = (entry < leave) & (entry < 1 - _GRAZE) & (leave > 0)
        dark &= prim.take(tile, axis=0) != ids  # a convex object never shadows its own lit side
        rows, columns = np.nonzero(dark)
        lit[tile[rows], columns] = False
    return np.where(lit, facing, np.float32(0))


def _bounds(values: F32, lit: Mask) -> tuple[F32, F32]:
    """Smallest and largest of (C,T,K) values over the lit rays of each tile, (C,T); an empty range if none is."""
    return np.where(lit, values, np.float32(np.inf)).min(2), np.where(lit, values, np.float32(-np.inf)).max(2)


def _under_sun(corners: NDArray[np.float64], light: Light, points: F32, lit: Mask) -> Mask:
    """Which primitive may shadow which tile, (P,T): their outlines as seen from the sun overlap."""
    axes = np.linalg.svd(np.asarray(light.vector)[None])[2]  # rows: towards the sun (up to sign), and two across
    axes[0] = light.vector
    x, y, z = points
    low, high = _bounds(np.stack([row[0] * x + row[1] * y + row[2] * z for row in axes.astype(np.float32)]), lit)
    outline = corners @ axes.T
    least, most = outline.min(1), outline.max(1)
    across = [(least[:, i, None] <= high[i] + NEAR) & (most[:, i, None] >= low[i] - NEAR) for i in (1, 2)]
    return across[0] & across[1] & (most[:, 0, None] > low[0])


def _behind_lamp(corners: NDArray[np.float64], light: Light, points: F32, lit: Mask) -> Mask:
    """Which primitive may shadow which tile, (P,T): it touches the box and the cone from the lamp around the tile."""
    low, high = _bounds(points, lit)
    some = np.isfinite(low[0])
    low, high = np.where(some, low, 0).T, np.where(some, high, 0).T
    lamp = np.asarray(light.vector)
    least, most = corners.min(1)[:, None], corners.max(1)[:, None]
    overlap = ((least <= np.maximum(high, lamp)) & (most >= np.minimum(low, lamp))).all(2)
    middle, radius = corners.mean(1) - lamp, np.linalg.norm(corners[:, 7] - corners[:, 0], axis=1) / 2
    axis, spread = (low + high) / 2 - lamp, np.linalg.norm(high - low, axis=1) / 2
    length = np.linalg.norm(axis, axis=1) + 1e-9
    along = middle @ (axis / length[:, None]).T
    foot = np.clip(along, 0, length)
    apart = np.sqrt(np.maximum((middle**2).sum(1)[:, None] - foot * (2 * along - foot), 0))
    # the cone's radius grows linearly; at the farthest point where it can still meet the object it is this wide
    reach = np.clip((along + radius[:, None]) / np.maximum(length - spread, 1e-9), 0, 1) * spread
    return overlap & (apart <= reach + radius[:, None]) & some
