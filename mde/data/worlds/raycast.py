"""A ray caster in NumPy: colour and exact z-depth of scenes made of boxes, spheres, cylinders and one room.

The image is cut into square tiles. A primitive meets only the rays of the tiles that its corners can touch, and the
(primitive, tile) pairs of one kind are intersected together: the cost follows the covered pixels and not the number of
objects. Shadows go the same way, with rays from the lamp to the hit points. Rays have z = 1 in the camera frame, so the
ray parameter *is* the z-depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mde.data.worlds.geometry import ID_BITS, Geometry, nearest, surface
from mde.data.worlds.light import received
from mde.data.worlds.scene import Camera, Scene, Vec3
from mde.data.worlds.texture import clouds, texture
from mde.errors import ConfigError

__all__ = ["Camera", "Scene", "render"]

F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

_T = TypeVar("_T", bound=np.generic)

_BAND = 32768  # rays in flight: temporaries of this size stay in the cache


def render(scene: Scene, camera: Camera, height: int, width: int) -> tuple[NDArray[np.uint8], F32, Mask]:
    """Render one picture.

    Args:
        scene: what there is; at most 65535 primitives.
        camera: its intrinsics are in pixels of this picture.
        height: pixels.
        width: pixels.

    Returns:
        sRGB image uint8 (H,W,3); z-depth of the pixel centres float32 (H,W), metres, 0 where nothing was hit; and
        bool (H,W), where something was.

    Raises:
        ConfigError: the size is not positive, or there are too many primitives.
    """
    if height < 1 or width < 1 or len(scene.kind) >= 1 << ID_BITS:
        raise ConfigError(f"cannot render {len(scene.kind)} primitives at {height}x{width}", where="raycast.render")
    tiles = _Tiles.of(height, width)
    geometry = Geometry.of(scene)
    rays = tiles.rays(camera)
    seen = tiles.touched(geometry.corners, camera)
    color = np.empty_like(rays)
    depth, patch = np.empty(rays[:1].shape, np.float32), np.empty(rays[:1].shape, np.int64)
    step = max(1, _BAND // tiles.side**2)
    for start in range(0, rays.shape[1], step):
        band = slice(start, start + step)
        color[:, band], depth[0, band], patch[0, band] = _shade(scene, geometry, camera, rays[:, band], seen[:, band])
    depth_map = tiles.untile(depth)[0]
    linear = _soften_edges(tiles.untile(color), tiles.untile(patch)[0])
    return _encode(linear), depth_map, depth_map > 0


@dataclass(frozen=True)
class _Tiles:
    """The picture, padded to whole square tiles."""

    height: int
    width: int
    side: int
    rows: int
    columns: int

    @classmethod
    def of(cls, height: int, width: int) -> _Tiles:
        side = 8 if height * width < 100_000 else 16  # measured: fewer, larger batches pay off in large pictures
        return cls(height, width, side, -(-height // side), -(-width // side))

    def rays(self, camera: Camera) -> F32:
        """World directions of all pixel centres with unit z in the camera, (3, tiles, side * side)."""
        inverse = np.linalg.inv(camera.intrinsics)
        u, v = np.arange(self.columns * self.side), np.arange(self.rows * self.side)
        matrix = camera.rotation @ inverse
        grid = matrix[:, 0, None, None] * u + matrix[:, 1, None, None] * v[:, None] + matrix[:, 2, None, None]
        cut = grid.astype(np.float32).reshape(3, self.rows, self.side, self.columns, self.side)
        return np.ascontiguousarray(cut.swapaxes(2, 3)).reshape(3, self.rows * self.columns, self.side**2)

    def untile(self, values: NDArray[_T]) -> NDArray[_T]:
        """(C, tiles, side * side) back to (C,H,W)."""
        cut = values.reshape(-1, self.rows, self.columns, self.side, self.side).swapaxes(2, 3)
        return cut.reshape(-1, self.rows * self.side, self.columns * self.side)[:, : self.height, : self.width]

    def touched(self, corners: NDArray[np.float64], camera: Camera) -> Mask:
        """Which primitive may be seen in which tile, (P, tiles); never misses one.

        A box lies outside a column of tiles if all its corners are on the outer side of one of the two planes through
        the camera that bound the column; so boxes that reach behind the camera need no clipping.
        """
        points = (corners - camera.position) @ camera.rotation @ camera.intrinsics.T
        ahead = points[..., 2].max(1) > 0
        columns = self._strips(points[..., 0], points[..., 2], self.columns)
        rows = self._strips(points[..., 1], points[..., 2], self.rows)
        return (rows[:, :, None] & columns[:, None, :] & ahead[:, None, None]).reshape(len(corners), -1)

    def _strips(self, across: NDArray[np.float64], z: NDArray[np.float64], count: int) -> Mask:
        edges = np.arange(count + 1) * self.side - 0.5
        side = across[:, :, None] - edges * z[:, :, None]
        return (side.max(1)[:, :-1] >= 0) & (side.min(1)[:, 1:] <= 0)


def _shade(
    scene: Scene, geometry: Geometry, camera: Camera, rays: F32, seen: Mask
) -> tuple[F32, F32, NDArray[np.int64]]:
    """Linear colour (3,T,K), depth (T,K) and a number that changes where the surface does (T,K) for a band of tiles."""
    depth, prim = nearest(scene, geometry, camera, rays, seen)
    hit = prim >= 0
    prim = np.maximum(prim, 0)
    flat = rays.reshape(3, -1)
    offset = flat * depth.reshape(-1)
    points = (offset + camera.position.astype(np.float32)[:, None]).reshape(rays.shape)
    normal, face, uv, foot = surface(scene, geometry, camera, flat, offset, depth.reshape(-1), prim.reshape(-1))
    material = scene.faces.ravel().take(prim.reshape(-1) * 6 + face)
    albedo, glow = texture(geometry.table, material, uv[0], uv[1], foot[0], foot[1], prim.reshape(-1))
    light = _column(scene.ambient) * (1 + np.float32(scene.ambient_tilt) * normal[2])
    normal = normal.reshape(rays.shape)
    for source in scene.lights:
        strength = received(scene, geometry, source, points, normal, prim, hit)
        light = light + _column(source.colour) * strength.reshape(-1)
    color = (albedo * light + glow).reshape(rays.shape)
    if not hit.all():
        color = np.where(hit, color, _sky(scene, rays))
    return color, depth, np.where(hit, prim * 6 + face.reshape(hit.shape), -1)


def _column(values: Vec3) -> F32:
    return np.array(values, np.float32)[:, None]


def _sky(scene: Scene, rays: F32) -> F32:
    """Linear colour (3,T,K) by direction alone."""
    if scene.sky is None:
        return np.zeros_like(rays)
    up = rays[2] / np.sqrt((rays * rays).sum(0))
    height = np.maximum(up, np.float32(0.02))
    low, high = (_column(c)[..., None] for c in (scene.sky.horizon, scene.sky.zenith))
    color = low + (high - low) * np.sqrt(height)
    if scene.sky.clouds > 0:
        scale = np.float32(1.5) / (height + np.float32(0.15))
        cover = clouds(rays[0] * scale, rays[1] * scale) * np.float32(scene.sky.clouds)
        color = color + cover * (np.float32(0.9) - color)
    return color


# ---------------------------------------------------------------------------------------------------------------- image


def _soften_edges(color: F32, patch: NDArray[np.int64]) -> F32:
    """Average 3x3 pixels (binomial weights) where the surface changes, which hides the steps of one ray per pixel."""
    edge = np.zeros(patch.shape, np.bool_)
    across, down = patch[:, 1:] != patch[:, :-1], patch[1:] != patch[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    rows, columns = np.nonzero(edge)
    padded = np.pad(color, ((0, 0), (1, 1), (1, 1)), mode="edge")
    total = np.zeros((3, len(rows)), np.float32)
    for i, weight_i in enumerate((0.25, 0.5, 0.25)):
        for j, weight_j in enumerate((0.25, 0.5, 0.25)):
            total += padded[:, rows + i, columns + j] * np.float32(weight_i * weight_j)
    out = color.copy()
    out[:, rows, columns] = total
    return out


_LEVELS = 4096


def _srgb_table() -> NDArray[np.uint8]:
    """sRGB code of linear values (IEC 61966-2-1), in steps finer than the codes."""
    x = np.arange(_LEVELS) / (_LEVELS - 1)
    return np.round(255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)).astype(np.uint8)


_SRGB = _srgb_table()


def _encode(linear: F32) -> NDArray[np.uint8]:
    """Linear (3,H,W) to sRGB uint8 (H,W,3), clipped at 1."""
    level = np.clip(linear, 0, 1) * np.float32(_LEVELS - 1) + np.float32(0.5)
    return np.ascontiguousarray(np.moveaxis(_SRGB.take(level.astype(np.intp)), 0, 2))
