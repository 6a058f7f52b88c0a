"""What a ray-cast scene is made of: camera, materials, lights, and a builder that collects primitives.

World frame of all scenes: metres, x to the right, y ahead, z up, the ground near z = 0 (right-handed). The camera frame
is that of `mde.geometry`: x right, y down, z forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mde.errors import ConfigError

__all__ = [
    "BOX",
    "CYLINDER",
    "ROOM",
    "SPHERE",
    "WHEEL",
    "Camera",
    "Frame",
    "Light",
    "Material",
    "Scene",
    "SceneBuilder",
    "Sky",
]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Vec3 = tuple[float, float, float]

BOX, SPHERE, CYLINDER, WHEEL, ROOM = range(5)
"""Kinds of primitive. CYLINDER stands upright, WHEEL lies along its local x, ROOM is a box seen from within."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        intrinsics: float64 (3,3), pixels, centre of the top-left pixel at (0, 0).
        rotation: float64 (3,3), camera to world: its columns are the camera's axes in the world.
        position: float64 (3,), metres in the world.
    """

    intrinsics: F64
    rotation: F64
    position: F64

    @classmethod
    def aimed(
        cls,
        intrinsics: F64,
        position: Sequence[float],
        *,
        heading: float = 0.0,
        pitch: float = 0.0,
        roll: float = 0.0,
    ) -> Camera:
        """A camera from angles in radians: heading to the right of +y, pitch upwards, roll clockwise.

        >>> Camera.aimed(np.eye(3), (0, 0, 1.6)).rotation[:, 2]
        array([0., 1., 0.])
        """
        (ch, sh), (cp, sp), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (heading, pitch, roll))
        forward = np.array([sh * cp, ch * cp, sp])
        level_right = np.array([ch, -sh, 0.0])
        level_down = np.cross(forward, level_right)
        right, down = cr * level_right + sr * level_down, cr * level_down - sr * level_right
        return cls(
            np.asarray(intrinsics, np.float64), np.stack((right, down, forward), 1), np.asarray(position, np.float64)
        )

    def moved(self, right: float = 0.0, down: float = 0.0, forward: float = 0.0) -> Camera:
        """The same camera moved along its own axes, in metres: ``moved(right=0.12)`` is the other eye of a pair."""
        return Camera(self.intrinsics, self.rotation, self.position + self.rotation @ np.array([right, down, forward]))


@dataclass(frozen=True)
class Material:
    """A matt surface; colours are linear reflectances in [0,1], lengths are metres on the surface.

    A pattern is the two periodic line sets along u and v with period `cell` and line width `gap`, mixed by `mode`:
    "union" gives tiles, planks, bricks, window grids and stripes, "xor" a checker, "both" dashes. Real-world lengths
    are what ties the size in the image to the distance.

    Attributes:
        base: colour of the cells.
        second: colour of the lines.
        cell: period (u, v); 0 is no pattern.
        gap: width of the lines (u, v).
        mode: "union", "xor" or "both".
        shift: by how many cells each row is moved against the one below.
        tint: relative brightness variation from cell to cell.
        grain: colour amplitude of the noise.
        grain_size: length (u, v) of the noise's largest features.
        emission: linear radiance of a lamp.
    """

    base: Vec3 = (0.7, 0.7, 0.7)
    second: Vec3 = (0.0, 0.0, 0.0)
    cell: tuple[float, float] = (0.0, 0.0)
    gap: tuple[float, float] = (0.0, 0.0)
    mode: str = "union"
    shift: float = 0.0
    tint: float = 0.0
    grain: Vec3 = (0.0, 0.0, 0.0)
    grain_size: tuple[float, float] = (0.1, 0.1)
    emission: float = 0.0

    def row(self) -> list[float]:
        """The numbers that `mde.data.worlds.texture.texture` reads, in its column order."""
        if self.mode not in _MODES:
            known = ", ".join(_MODES)
            raise ConfigError(f"unknown pattern mode {self.mode!r}", where="Material.mode", next_action=f"use {known}")
        inverse = [1 / c if c > 0 else 0.0 for c in self.cell]
        duty = [min(g * i, 1.0) for g, i in zip(self.gap, inverse, strict=True)]
        grains = [1 / g for g in self.grain_size]
        colors, ends = (*self.base, *self.second, *self.grain), (*_MODES[self.mode], self.emission)
        return [*colors, *inverse, *duty, self.shift, self.tint, *grains, *ends]


# mix = a * (p + q) + b * p * q of the two line coverages p and q
_MODES: dict[str, tuple[float, float]] = {"union": (1.0, -1.0), "xor": (1.0, -2.0), "both": (0.0, 1.0)}


@dataclass(frozen=True)
class Light:
    """A lamp (a point; its light falls off with the square of the distance from the lamp) or the sun (parallel light).

    Attributes:
        vector: the lamp's position in metres, or the unit vector towards the sun.
        colour: linear; irradiance of a facing surface, for a lamp at 1 m from it.
        sun: parallel light.
    """

    vector: Vec3
    colour: Vec3
    sun: bool = False


@dataclass(frozen=True)
class Sky:
    """What rays see that hit nothing: a gradient from horizon to zenith with clouds in [0,1] of cover."""

    horizon: Vec3 = (0.75, 0.82, 0.9)
    zenith: Vec3 = (0.2, 0.4, 0.75)
    clouds: float = 0.0


@dataclass(frozen=True)
class Scene:
    """P convex primitives, their materials and their light.

    Attributes:
        kind: int64 (P,), one of BOX, SPHERE, CYLINDER, WHEEL, ROOM.
        center: float64 (P,3), metres.
        half: float64 (P,3), half extents along the local axes, metres.
        yaw: float64 (P,), radians about z, counter-clockwise from above.
        faces: int64 (P,6), indices into `materials` for -x, +x, -y, +y, -z, +z.
        casts: bool (P,), whether it casts shadows.
        materials: of all surfaces.
        lights: may be empty.
        ambient: linear light from everywhere.
        ambient_tilt: how much more of it surfaces receive that look up, and less that look down, in [0,1).
        sky: None leaves black where nothing is hit.
        far: metres; what lies farther counts as sky.
    """

    kind: NDArray[np.int64]
    center: F64
    half: F64
    yaw: F64
    faces: NDArray[np.int64]
    casts: NDArray[np.bool_]
    materials: tuple[Material, ...]
    lights: tuple[Light, ...] = ()
    ambient: Vec3 = (0.5, 0.5, 0.5)
    ambient_tilt: float = 0.0
    sky: Sky | None = None
    far: float = 1e4

    def table(self) -> F32:
        """Material parameters, float32 (columns, M)."""
        return np.array([m.row() for m in self.materials], np.float32).T.copy()

    def corners(self) -> F64:
        """Corners of the oriented bounding boxes, (P,8,3), metres."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
        local = signs * self.half[:, None]
        cos, sin = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        x, y, z = local[..., 0], local[..., 1], local[..., 2]
        return np.stack((cos * x - sin * y, sin * x + cos * y, z), -1) + self.center[:, None]


class Frame(NamedTuple):
    """Where a piece of furniture or a vehicle stands: its origin on the floor and its yaw (radians)."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    yaw: float = 0.0

    def point(self, local: Sequence[float]) -> Vec3:
        """World coordinates of a local point."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + cos * local[0] - sin * local[1], self.y + sin * local[0] + cos * local[1], self.z + local[2]


_HERE = Frame()


@dataclass
class SceneBuilder:
    """Collects primitives; every `add` places them in a `Frame`, in metres.

    >>> build = SceneBuilder()
    >>> grey = build.material(Material())
    >>> build.box((0, 5, 1), (1, 1, 2), grey)
    >>> len(build.scene().kind)
    1
    """

    rows: list[tuple[int, Vec3, Vec3, float, tuple[int, ...], bool]] = field(default_factory=list)
    materials: list[Material] = field(default_factory=list)

    def material(self, material: Material) -> int:
        """Register a material; returns its index."""
        self.materials.append(material)
        return len(self.materials) - 1

    def box(
        self,
        center: Sequence[float],
        size: Sequence[float],
        material: int | tuple[int, ...],
        frame: Frame = _HERE,
        *,
        yaw: float = 0.0,
        casts: bool = True,
        kind: int = BOX,
    ) -> None:
        """A box by local centre and full size; `material` is one index or six (-x, +x, -y, +y, -z, +z)."""
        faces = (material,) * 6 if isinstance(material, int) else material
        half = (size[0] / 2, size[1] / 2, size[2] / 2)
        self.rows.append((kind, frame.point(center), half, frame.yaw + yaw, faces, casts))

    def sphere(
        self, center: Sequence[float], radius: float, material: int, frame: Frame = _HERE, *, casts: bool = True
    ) -> None:
        """A ball."""
        self.box(center, (2 * radius,) * 3, material, frame, casts=casts, kind=SPHERE)

    def cylinder(
        self, foot: Sequence[float], radius: float, height: float, material: int, frame: Frame = _HERE
    ) -> None:
        """An upright cylinder by the centre of its lower end."""
        center = (foot[0], foot[1], foot[2] + height / 2)
        self.box(center, (2 * radius, 2 * radius, height), material, frame, kind=CYLINDER)

    def wheel(self, center: Sequence[float], radius: float, width: float, material: int, frame: Frame = _HERE) -> None:
        """A cylinder along the local x axis; it casts no shadow, for the car above does."""
        self.box(center, (width, 2 * radius, 2 * radius), material, frame, casts=False, kind=WHEEL)

    def scene(
        self,
        lights: Sequence[Light] = (),
        *,
        ambient: Vec3 = (0.5, 0.5, 0.5),
        ambient_tilt: float = 0.0,
        sky: Sky | None = None,
        far: float = 1e4,
    ) -> Scene:
        """The finished scene.

        Raises:
            ConfigError: nothing was added.
        """
        if not self.rows:
            raise ConfigError(
                "a scene needs at least one primitive", where="SceneBuilder.scene", next_action="add one first"
            )
        kind, center, half, yaw, faces, casts = zip(*self.rows, strict=True)
        return Scene(
            np.array(kind, np.int64),
            np.array(center, np.float64),
            np.array(half, np.float64),
            np.array(yaw, np.float64),
            np.array(faces, np.int64),
            np.array(casts, np.bool_),
            tuple(self.materials),
            tuple(lights),
            ambient,
            ambient_tilt,
            sky,
            far,
        )
