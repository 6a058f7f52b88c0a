"""The world "rooms": one furnished room, seen from within, 0.5 to 10 m.

All sizes are those of real furniture, so that the size of an object in the image tells its distance. Lamps shine from
where they hang or stand, never from the camera, and there is no haze: colour alone says nothing about depth.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from mde.data.raycast_scene import ROOM, Camera, Light, Material, Scene, SceneBuilder, Vec3
from mde.data.world_furniture import FLOOR_PIECES, WALL_PIECES, RoomPlan, picture, rug, spot, wood
from mde.data.world_plan import plain, scaled

__all__ = ["make_room"]

_EYE_LEVEL = (1.1, 1.7)  # metres: held by someone who sits, or stands
_FIELD_OF_VIEW = (55, 72)  # degrees across: from a phone (60 to 70) to a depth camera (57 to 63)
_PITCH = (-22, 4)  # degrees; down is negative
_SPAN = 9.4  # metres; the longest diagonal of a floor, so that nothing is farther than 10 m


def make_room(rng: np.random.Generator, height: int, width: int) -> tuple[Scene, Camera]:
    """A random room and a camera in it.

    Args:
        rng: the only source of randomness.
        height: of the picture, pixels.
        width: like `height`.
    """
    plan = _shell(rng)
    stand = plan.wall(plan.pick(4), plan.draw(-0.65, 0.65), plan.draw(0.5, 0.9))
    plan.eye = (stand.x, stand.y)
    if plan.chance(0.6):
        rug(plan)
    for side in range(4):
        _dress_wall(plan, side)
    for _ in range(3 + plan.pick(5)):
        FLOOR_PIECES[plan.pick(len(FLOOR_PIECES))](plan)
    lights = _lamps(plan)
    level, tone = plan.draw(0.22, 0.36), plan.draw(0.93, 1.07)
    ambient = (level * tone, level, level * (2 - tone))
    return plan.build.scene(lights, ambient=ambient, ambient_tilt=plan.draw(-0.2, 0.2)), _camera(plan, (height, width))


def _shell(rng: np.random.Generator) -> RoomPlan:
    """Floor, walls, ceiling and skirting boards."""
    width, length = float(rng.uniform(3.0, 6.5)), float(rng.uniform(3.5, 8.5))
    shrink = min(1.0, _SPAN / math.hypot(width, length))
    plan = RoomPlan(rng, SceneBuilder(), width * shrink, length * shrink, float(rng.uniform(2.4, 3.3)))
    faces = (*_walls(plan), plan.build.material(_floor(plan)), plan.build.material(_ceiling(plan)))
    plan.build.box((0, 0, plan.height / 2), (plan.width, plan.length, plan.height), faces, kind=ROOM)
    board = plan.build.material(
        plain(plan.color(0.15, 0.85, 0.2)) if plan.chance(0.5) else wood(plan.draw(0.12, 0.6), 0.5)
    )
    for side in range(4):
        span = plan.width if side % 2 == 0 else plan.length
        plan.build.box((0, 0.008, 0.04), (span, 0.016, 0.08), board, plan.wall(side, 0), casts=False)
    return plan


def _floor(plan: RoomPlan) -> Material:
    """Planks, tiles, a checker or a carpet."""
    kind, tile, base = plan.pick(4), plan.draw(0.2, 0.6), plan.color(0.25, 0.75, 0.35)
    if kind == 0:
        planks = wood(plan.draw(0.15, 0.55), plan.draw(0, 1))
        cell = (plan.draw(0.9, 1.8), plan.draw(0.08, 0.2))
        return replace(planks, second=scaled(planks.base, 0.3), cell=cell, gap=(0.004, 0.005), shift=0.37, tint=0.3)
    if kind == 1:
        joint = plan.color(0.1, 0.7, 0.1)
        return replace(plain(base, 0.12, 0.15), second=joint, cell=(tile, tile), gap=(0.008, 0.008), tint=0.12)
    if kind == 2:
        other = plan.color(0.04, 0.2, 0.4)
        return replace(plain(base, 0.08), second=other, cell=(2 * tile, 2 * tile), gap=(tile, tile), mode="xor")
    return plain(base, 0.3, 0.04)


def _ceiling(plan: RoomPlan) -> Material:
    """White, in the way of ceilings, plain or of panels."""
    white = plain(plan.color(0.65, 0.9, 0.08), 0.02, 0.5)
    if plan.chance(0.3):
        panel = plan.draw(0.5, 0.7)
        return replace(white, second=(0.4, 0.4, 0.4), cell=(panel, panel), gap=(0.015, 0.015), tint=0.04)
    return white


def _walls(plan: RoomPlan) -> list[int]:
    """Four walls of one finish, often with an accent wall of another."""
    found = [plan.build.material(_finish(plan))] * 4
    if plan.chance(0.5):
        found[plan.pick(4)] = plan.build.material(_finish(plan))
    return found


def _finish(plan: RoomPlan) -> Material:
    """Striped wallpaper, brick, tiles or plaster."""
    base, kind = plan.color(0.35, 0.9, 0.35), plan.pick(7)
    if kind == 0:
        stripe = plan.draw(0.08, 0.3)
        return replace(plain(base), second=plan.color(0.3, 0.8, 0.35), cell=(stripe, 0), gap=(stripe / 2, 0))
    if kind == 1:
        wall = Material(
            base=plan.color(0.2, 0.55, 0.6), second=(0.5, 0.48, 0.45), cell=(0.25, 0.077), gap=(0.012, 0.012)
        )
        return replace(wall, shift=0.5, tint=0.35, grain=scaled(wall.base, 0.2), grain_size=(0.05, 0.05))
    if kind == 2:
        tile = plan.draw(0.1, 0.3)
        return replace(plain(base), second=(0.8, 0.8, 0.78), cell=(tile, tile), gap=(0.005, 0.005), tint=0.1)
    return plain(base, 0.07, 0.6)


def _dress_wall(plan: RoomPlan, side: int) -> None:
    """One large thing in the middle part of a wall, pictures beside it."""
    at = plan.draw(-0.45, 0.45)
    if plan.chance(0.85):
        WALL_PIECES[plan.pick(len(WALL_PIECES))](plan, side, at)
    for beside in (at - 0.55, at + 0.55):
        if abs(beside) < 0.85 and plan.chance(0.6):
            picture(plan, side, beside)


def _lamps(plan: RoomPlan) -> list[Light]:
    """A lamp under the ceiling, and often one that stands; their power grows with the room, as one would choose it."""
    shade = plan.build.material(Material(base=(0.9, 0.85, 0.7), emission=0.8))
    x, y = plan.draw(-0.25, 0.25) * plan.width, plan.draw(-0.25, 0.25) * plan.length
    z = plan.height - plan.draw(0.25, 0.6)
    plan.build.sphere((x, y, z), 0.12, shade, casts=False)
    plan.build.box((x, y, (z + plan.height) / 2 + 0.06), (0.015, 0.015, plan.height - z - 0.12), shade, casts=False)
    lights = [Light((x, y, z), _warm(plan, plan.draw(0.8, 1.3) * (0.8 + plan.width * plan.length / 14)))]
    place = spot(plan, 0.2) if plan.chance(0.6) else None
    if place is not None:
        high, metal = plan.draw(1.3, 1.8), plan.paint(0.05, 0.5)
        plan.build.cylinder((0, 0, 0), 0.015, high, metal, place)
        plan.build.cylinder((0, 0, 0), 0.14, 0.02, metal, place)
        plan.build.sphere((0, 0, high), 0.14, shade, place, casts=False)
        lights.append(Light((place.x, place.y, high), _warm(plan, plan.draw(0.3, 0.8))))
    return lights


def _warm(plan: RoomPlan, power: float) -> Vec3:
    """White to the yellow of an incandescent lamp."""
    tone = plan.draw(0.75, 1.0)
    return power, power * (0.5 + 0.5 * tone), power * tone


def _camera(plan: RoomPlan, size: tuple[int, int]) -> Camera:
    """At its stand in the outer part of the room, looking towards something on the floor or across the middle."""
    x, y = plan.draw(-0.3, 0.3) * plan.width, plan.draw(-0.3, 0.3) * plan.length
    if plan.taken and plan.chance(0.6):
        x, y, _ = plan.taken[plan.pick(len(plan.taken))]
    # heading is clockwise from +y
    heading = math.atan2(x - plan.eye[0], y - plan.eye[1]) + plan.draw(-0.35, 0.35)
    roll = float(np.clip(plan.rng.normal(0, 2), -6, 6))
    position = (*plan.eye, plan.draw(*_EYE_LEVEL))
    return plan.camera(
        size, position, heading=heading, pitch=plan.draw(*_PITCH), roll=roll, fov=plan.draw(*_FIELD_OF_VIEW)
    )
