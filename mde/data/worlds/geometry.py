"""Where rays meet the primitives of a scene, in batches of (primitive, tile) pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mde.data.worlds.scene import BOX, CYLINDER, ROOM, SPHERE, WHEEL, Camera, Scene

__all__ = ["ID_BITS", "NEAR", "Geometry", "batches", "interval", "nearest", "surface"]

F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
Ints = NDArray[np.intp]
Vectors = tuple[F32, F32, F32] | F32
"""Three arrays x, y, z."""

ID_BITS = 16
"""Low bits of a packed hit: the primitive. Above them stand the depth's float32 bits, which sort as the depth does."""
NEAR = 1e-3
"""Metres; nothing is seen closer."""
_BATCH = 32768  # rays at a time: temporaries of this size stay in the cache
_GRAZING = np.float32(1e-4)  # the flattest angle at which footprints still grow; all texture is faded out before
_NOTHING = np.iinfo(np.int64).max
_TINY = np.float32(1e-20)  # turns 0 into a divisor that keeps products finite in float32


@dataclass(frozen=True)
class Geometry:
    """The primitives of a scene as float32 columns."""

    center: NDArray[np.float64]  # (3,P), metres
    half: F32  # (3,P), metres
    cos: F32  # (P,), of the yaw
    sin: F32
    corners: NDArray[np.float64]  # (P,8,3), metres
    table: F32  # (columns, M), the materials

    @classmethod
    def of(cls, scene: Scene) -> Geometry:
        """The columns of a scene."""
        cos, sin = np.cos(scene.yaw).astype(np.float32), np.sin(scene.yaw).astype(np.float32)
        half = np.ascontiguousarray(scene.half.T, np.float32)
        return cls(np.ascontiguousarray(scene.center.T), half, cos, sin, scene.corners(), scene.table())

    def local(self, vectors: Vectors, ids: Ints) -> tuple[F32, F32, F32]:
        """Turn world vectors (three arrays) into the frames of their primitives; `ids` broadcasts against them."""
        cos, sin = self.cos.take(ids), self.sin.take(ids)
        return cos * vectors[0] + sin * vectors[1], cos * vectors[1] - sin * vectors[0], vectors[2]

    def world(self, vectors: Vectors, ids: Ints) -> F32:
        """The way back from `local`, stacked: (3, ...)."""
        cos, sin = self.cos.take(ids), self.sin.take(ids)
        return np.stack((cos * vectors[0] - sin * vectors[1], sin * vectors[0] + cos * vectors[1], vectors[2]))

    def seen_from(self, position: NDArray[np.float64]) -> F32:
        """One world point in the frames of all primitives, from their centres: (3,P), subtracted in float64."""
        x, y, z = position[:, None] - self.center
        return np.stack((self.cos * x + self.sin * y, self.cos * y - self.sin * x, z)).astype(np.float32)


def _slab(origin: F32, direction: F32, half: F32) -> tuple[F32, F32]:
    """Entry and exit of the space between two parallel planes at -half and +half."""
    inverse = np.reciprocal(direction + _TINY)
    middle, reach = origin * inverse, np.abs(inverse) * half
    return -reach - middle, reach - middle


def _dot(first: Sequence[F32], second: Sequence[F32]) -> F32:
    total = first[0] * second[0]
    for a, b in zip(first[1:], second[1:], strict=True):
        total = total + a * b
    return total


def _round(origin: Sequence[F32], direction: Sequence[F32], radius: F32) -> tuple[F32, F32]:
    """Entry and exit of a sphere (three coordinates) or an endless cylinder (two)."""
    square: F32 = _dot(direction, direction) + _TINY
    middle: F32 = -_dot(origin, direction) / square
    # the squared distance from the centre to the line, from the nearest point: exact for small far objects too
    nearest_point = [o + middle * d for o, d in zip(origin, direction, strict=True)]
    inside = radius * radius - _dot(nearest_point, nearest_point)
    reach = np.sqrt(np.abs(inside) / square)
    return middle - reach, np.where(inside > 0, middle + reach, np.float32(-np.inf))


def interval(kind: int, origin: Vectors, direction: Vectors, half: F32) -> tuple[F32, F32]:
    """Where rays enter and leave a primitive in its own frame; the exit lies before the entry where they miss.

    Args:
        kind: of all primitives in this batch.
        origin: three arrays (pairs, 1 or rays).
        direction: three arrays (pairs, 1 or rays).
        half: (3, pairs, 1).
    """
    if kind == SPHERE:
        return _round(list(origin), list(direction), half[0])
    if kind in (CYLINDER, WHEEL):
        axis = 2 if kind == CYLINDER else 0
        others = [i for i in range(3) if i != axis]
        spans = [_round([origin[i] for i in others], [direction[i] for i in others], half[others[0]])]
        spans.append(_slab(origin[axis], direction[axis], half[axis]))
    else:
        spans = [_slab(origin[i], direction[i], half[i]) for i in range(3)]
    near, far = spans[0]
    for entry, leave in spans[1:]:
        near, far = np.maximum(near, entry, out=entry), np.minimum(far, leave, out=leave)
    return near, far


def batches(scene: Scene, mask: Mask, rays: int) -> Iterator[tuple[int, Ints, Ints]]:
    """The pairs of a (P, tiles) mask by kind and in pieces: (kind, tiles in ascending order, primitives).

    Args:
        scene: of P primitives.
        mask: which pairs to visit.
        rays: of one tile.
    """
    step = max(1, _BATCH // rays)
    for kind in (BOX, SPHERE, CYLINDER, WHEEL, ROOM):
        members = np.flatnonzero(scene.kind == kind)
        tile, which = np.nonzero(mask[members].T)
        for start in range(0, len(tile), step):
            yield kind, tile[start : start + step], members[which[start : start + step]]


def nearest(scene: Scene, geometry: Geometry, camera: Camera, rays: F32, seen: Mask) -> tuple[F32, Ints]:
    """Depth (0 where nothing) and primitive (-1 where nothing) of the first hits, both (tiles, rays)."""
    best = np.full(rays.shape[1:], _NOTHING, np.int64)
    eye = geometry.seen_from(camera.position)
    for kind, tile, prim in batches(scene, seen, rays.shape[2]):
        direction = geometry.local(rays.take(tile, axis=1), prim[:, None])
        near, far = interval(kind, eye[:, prim, None], direction, geometry.half[:, prim, None])
        depth, hit = (far, far > NEAR) if kind == ROOM else (near, (near < far) & (near > NEAR))
        packed = (
            np.where(hit & (depth < scene.far), depth, np.float32(np.inf)).view(np.int32).astype(np.int64) << ID_BITS
        )
        packed |= prim[:, None]
        first = np.flatnonzero(np.diff(tile, prepend=-1))
        rows = tile[first]
        best[rows] = np.minimum(best[rows], np.minimum.reduceat(packed, first, axis=0))
    depth = (best >> ID_BITS).astype(np.int32).view(np.float32)
    missed = ~(depth < np.float32(np.inf))  # _NOTHING unpacks to a NaN
    return np.where(missed, np.float32(0), depth), np.where(missed, -1, best & ((1 << ID_BITS) - 1))


def surface(
    scene: Scene, geometry: Geometry, camera: Camera, rays: F32, offset: F32, depth: F32, prim: Ints
) -> tuple[F32, Ints, F32, F32]:
    """Outward normal (3,N), face (N,), texture coordinates (2,N) and pixel footprint (2,N), both in metres."""
    point = geometry.seen_from(camera.position).take(prim, axis=1) + np.stack(geometry.local(offset, prim))
    ray = np.stack(geometry.local(rays, prim))
    half = geometry.half.take(prim, axis=1)
    kind = scene.kind.take(prim)
    axis = np.argmax(np.abs(point) - half, axis=0)
    on = np.stack([axis == i for i in range(3)])
    sign = np.where((point * on).sum(0) > 0, np.float32(1), np.float32(-1))
    face = 2 * axis + (sign > 0)
    normal = on * np.where(kind == ROOM, -sign, sign)
    slope = np.abs(ray) / np.maximum(np.abs((ray * on).sum(0)), _GRAZING)
    first, second = on[0], on[2]
    corner = point + half
    uv = np.stack((np.where(first, corner[1], corner[0]), np.where(second, corner[1], corner[2])))
    lean = np.stack((np.where(first, slope[1], slope[0]), np.where(second, slope[1], slope[2])))
    pixel = depth / np.float32(camera.intrinsics[0, 0])
    foot = pixel * np.sqrt(1 + lean * lean)
    _curve(kind, point, half, ray, pixel, normal, face, uv, foot)
    return geometry.world(normal, prim), face, uv, foot


def _curve(
    kind: Ints, point: F32, half: F32, ray: F32, pixel: F32, normal: F32, face: Ints, uv: F32, foot: F32
) -> None:
    """Overwrite normal, face, texture coordinates and footprint on the round sides of spheres, cylinders and wheels."""
    for shape, (a, b, c) in ((SPHERE, (0, 1, 2)), (CYLINDER, (0, 1, 2)), (WHEEL, (1, 2, 0))):
        at = np.flatnonzero(kind == shape)
        p, h = point.take(at, axis=1), half.take(at, axis=1)
        if shape != SPHERE:
            side = np.hypot(p[a], p[b]) - h[a] > np.abs(p[c]) - h[c]
            at, p, h = at[side], p[:, side], h[:, side]
        if not len(at):
            continue
        n = p / h[a]
        if shape != SPHERE:
            n[c] = 0
        r = ray.take(at, axis=1)
        cosine = np.abs((n * r).sum(0)) / np.sqrt((r * r).sum(0))
        normal[:, at] = n
        face[at] = 2 * c
        uv[0, at] = np.arctan2(p[b], p[a]) * h[a]
        uv[1, at] = p[c] + h[c]
        foot[:, at] = pixel[at] / np.maximum(cosine, np.float32(0.05))
