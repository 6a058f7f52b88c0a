"""The world "street": a road between houses, from a car or the pavement, 2 to 80 m and beyond, under an open sky.

Storeys, cars, lanes, poles and trees have their real sizes. The sky is what no ray hits: it has no depth. The street is
bright with sun or dull under cloud, but there is no haze: colour alone says nothing about depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mde.data.raycast_scene import Camera, Frame, Light, Material, Scene, SceneBuilder, Sky, Vec3
from mde.data.world_plan import Plan, plain

__all__ = ["make_street"]

_LANE = (2.9, 3.7)  # metres
_STOREY = (2.8, 3.5)  # metres
_BEHIND, _END = -25.0, 260.0  # metres along the road; it begins behind the camera, for shadows and wide views
_FAR = 300.0  # metres; the ground beyond counts as sky
_DETAIL = 60.0  # metres; farther cars have no wheels and lights, which would be smaller than a pixel
_EYE_LEVEL = (1.2, 2.2)  # metres: a car's or a pedestrian's


@dataclass
class StreetPlan(Plan):
    """The cross section of the street, and the materials of all cars.

    Attributes:
        lane: width of a lane, metres.
        lanes: their number.
        pavement: width, metres, kerb included.
        kerb: height, metres.
        glass: material of car windows.
        rubber: of tyres.
        lamps: of tail and head lights.
    """

    lane: float
    lanes: int
    pavement: float
    kerb: float
    glass: int = 0
    rubber: int = 0
    lamps: tuple[int, int] = (0, 0)

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> StreetPlan:
        """A random street without anything on it."""
        plan = cls(
            rng,
            SceneBuilder(),
            rng.uniform(*_LANE),
            int(rng.integers(2, 5)),
            rng.uniform(2.5, 4.5),
            rng.uniform(0.1, 0.18),
        )
        pillars = Material(base=(0.03, 0.04, 0.05), second=(0.1, 0.1, 0.1), cell=(1.1, 0), gap=(0.08, 0))
        plan.glass, plan.rubber = plan.build.material(pillars), plan.build.material(plain((0.025, 0.025, 0.025)))
        tail, head = Material(base=(0.5, 0.02, 0.02), emission=0.03), Material(base=(0.8, 0.8, 0.75), emission=0.03)
        plan.lamps = (plan.build.material(tail), plan.build.material(head))
        return plan

    @property
    def half_road(self) -> float:
        """Half the width between the kerbs, metres."""
        return self.lane * self.lanes / 2


def make_street(rng: np.random.Generator, height: int, width: int) -> tuple[Scene, Camera]:
    """A random street and a camera on it.

    Args:
        rng: the only source of randomness.
        height: of the picture, pixels.
        width: like `height`.
    """
    plan = StreetPlan.drawn(rng)
    camera = _camera(plan, (height, width))
    _ground(plan)
    for side in (-1, 1):
        _facades(plan, side)
        _roadside(plan, side, float(camera.position[0]))
    _cross_end(plan)
    _traffic(plan, float(camera.position[0]))
    _people(plan, float(camera.position[0]))
    return _finish(plan), camera


def _finish(plan: StreetPlan) -> Scene:
    """Sun or cloud, and the sky that goes with it."""
    sunny = plan.chance(0.75)
    azimuth, elevation = plan.draw(-math.pi, math.pi), math.radians(plan.draw(30, 70))
    towards = (math.cos(elevation) * math.sin(azimuth), math.cos(elevation) * math.cos(azimuth), math.sin(elevation))
    power, warm = plan.draw(0.9, 1.4), plan.draw(0.75, 0.95)
    lights = [Light(towards, (power, power * (0.5 + 0.5 * warm), power * warm), sun=True)] if sunny else []
    level = plan.draw(0.35, 0.5) if sunny else plan.draw(0.8, 1.1)
    if sunny:
        sky = Sky(plan.color(0.7, 0.9, 0.15), (plan.draw(0.1, 0.25), plan.draw(0.3, 0.45), 0.75), plan.draw(0, 0.9))
    else:
        sky = Sky((0.75, 0.77, 0.8), (0.5, 0.53, 0.58), plan.draw(0.2, 0.7))
    ambient = (level * plan.draw(0.85, 0.95), level * 0.95, level)
    return plan.build.scene(lights, ambient=ambient, ambient_tilt=0.25, sky=sky, far=_FAR)


# ---------------------------------------------------------------------------------------------------- road and houses


def _ground(plan: StreetPlan) -> None:
    """Road, kerbs, pavements, and the earth behind the houses."""
    grey = plan.draw(0.07, 0.2)
    asphalt = Material(base=(grey, grey, grey * 1.05), grain=(0.35 * grey,) * 3, grain_size=(0.25, 0.6))
    period = plan.draw(6, 12)
    dashed = replace(asphalt, second=(0.75, 0.75, 0.72), cell=(plan.lane, period), gap=(0.14, 3.0), mode="both")
    middle, span = (_BEHIND + _END) / 2, _END - _BEHIND
    plan.build.box((0, middle, -0.5), (2 * plan.half_road, span, 1), plan.build.material(dashed), casts=False)
    size, joint = plan.draw(0.4, 1.0), (0.12, 0.12, 0.12)
    flags = replace(
        plain(plan.color(0.2, 0.5, 0.15), 0.1), second=joint, cell=(size, size), gap=(0.015, 0.015), tint=0.15
    )
    stone = plan.build.material(Material(base=(0.42, 0.42, 0.42), second=(0.1, 0.1, 0.1), cell=(1.0, 0), gap=(0.02, 0)))
    paving, earth = plan.build.material(flags), plan.build.material(plain((0.16, 0.15, 0.1), 0.35))
    line = plan.half_road + plan.pavement
    for side in (-1, 1):
        pavement = (side * (plan.half_road + plan.pavement / 2), middle, plan.kerb / 2)
        plan.build.box(pavement, (plan.pavement, span, plan.kerb), (stone,) * 4 + (paving,) * 2, casts=False)
        plan.build.box((side * (line + _FAR / 2), middle, -0.5), (_FAR, span, 1.1), earth, casts=False)
    if plan.chance(0.5):
        _crossing(plan, plan.draw(6, 40))


def _crossing(plan: StreetPlan, y: float) -> None:
    stripes = Material(base=(0.75, 0.75, 0.73), second=(0.13, 0.13, 0.13), cell=(1.0, 0), gap=(0.5, 0))
    plan.build.box((0, y, 0.004), (2 * plan.half_road, 3.0, 0.008), plan.build.material(stripes), casts=False)


def _facades(plan: StreetPlan, side: int) -> None:
    line = plan.half_road + plan.pavement
    y = _BEHIND + plan.draw(-8, 0)
    while y < _END - 30:
        front = plan.draw(8, 26)
        if plan.chance(0.85):
            _house(plan, side, line + (plan.draw(0, 3) if plan.chance(0.25) else 0.0), y, front)
        elif plan.chance(0.6):
            _hedge(plan, side * line, y, front)
        y += front + (plan.draw(2, 9) if plan.chance(0.2) else 0.0)


def _house(plan: StreetPlan, side: int, line: float, y: float, front: float) -> None:
    storey, floors = plan.draw(*_STOREY), 2 + plan.pick(5)
    bays = max(2, round(front / plan.draw(1.8, 3.5)))
    high, deep = floors * storey, plan.draw(9, 14)
    wall = plan.color(0.2, 0.75, 0.45)
    glass = Material(
        base=(0.09, 0.12, 0.16),
        second=wall,
        cell=(front / bays, storey),
        gap=(front / bays * plan.draw(0.35, 0.65), storey * plan.draw(0.4, 0.6)),
        tint=0.7,
        grain=(0.025, 0.025, 0.025),
        grain_size=(1.5, 1.5),
    )
    windows = plan.build.material(glass)
    blank = plan.build.material(_brick(wall) if plan.chance(0.4) else plain(wall, 0.1, 1.0))
    roof = plan.paint(0.08, 0.3, 0.4)
    faces = (windows, windows, blank, blank, roof, roof)
    x = side * (line + deep / 2)
    plan.build.box((x, y + front / 2, high / 2), (deep, front, high), faces)
    plan.build.box((x, y + front / 2, high + 0.15), (deep + 0.5, front, 0.3), roof)  # the eaves
    if plan.chance(0.4):
        _shop(plan, side * line, y, front, storey)
    if plan.chance(0.3):
        for level in range(1, floors):
            plan.build.box((side * (line - 0.45), y + front * 0.3, level * storey), (0.9, 2.4, 0.12), roof)
            plan.build.box((side * (line - 0.87), y + front * 0.3, level * storey + 0.5), (0.05, 2.4, 0.9), blank)


def _brick(color: Vec3) -> Material:
    joint = (color[0] * 0.6 + 0.1, color[1] * 0.6 + 0.1, color[2] * 0.6 + 0.1)
    return Material(base=color, second=joint, cell=(0.25, 0.077), gap=(0.012, 0.012), shift=0.5, tint=0.3)


def _shop(plan: StreetPlan, x: float, y: float, front: float, storey: float) -> None:
    """A shop front: dark panes between posts, and an awning."""
    posts = plan.color(0.1, 0.6, 0.8)
    panes = Material(base=(0.05, 0.06, 0.07), second=posts, cell=(2.2, storey), gap=(0.2, 0.8), tint=0.5)
    plan.build.box((x, y + front / 2, storey / 2), (0.3, front * 0.9, storey * 0.95), plan.build.material(panes))
    if plan.chance(0.5):
        cloth = Material(base=plan.color(0.3, 0.7, 0.9), second=(0.8, 0.8, 0.78), cell=(1.0, 0.6), gap=(0.0, 0.3))
        out = -math.copysign(0.8, x)
        plan.build.box((x + out, y + front / 2, 2.7), (1.5, front * 0.7, 0.1), plan.build.material(cloth))


def _hedge(plan: StreetPlan, x: float, y: float, front: float) -> None:
    leaf = Material(base=(0.07, 0.2, 0.05), grain=(0.06, 0.12, 0.04), grain_size=(0.25, 0.25))
    high = plan.draw(0.8, 2.2)
    plan.build.box((x + math.copysign(0.4, x), y + front / 2, high / 2), (0.8, front, high), plan.build.material(leaf))


def _cross_end(plan: StreetPlan) -> None:
    """Often the street ends at a house across it."""
    if plan.chance(0.6):
        y, front, storey = plan.draw(60, 240), 40.0, plan.draw(*_STOREY)
        wall = plan.color(0.25, 0.7, 0.4)
        glass = Material(base=(0.1, 0.13, 0.17), second=wall, cell=(2.5, storey), gap=(1.3, 1.5), tint=0.5)
        high = storey * int(plan.rng.integers(3, 7))
        plan.build.box((0, y + 6, high / 2), (front, 12, high), plan.build.material(glass))


# -------------------------------------------------------------------------------------------- what stands and drives


def _roadside(plan: StreetPlan, side: int, eye: float) -> None:
    """Lamp posts, trees, signs, bollards, railings and parked cars along one kerb."""
    edge = side * (plan.half_road + 0.6)
    away = abs(eye - edge) > 1.0
    spacing, trees = plan.draw(18, 35), plan.chance(0.55)
    metal, bark, leaf = plan.paint(0.05, 0.4, 0.2), plan.paint(0.08, 0.2, 0.4), _leaves(plan)
    for y in np.arange(plan.draw(2.5, spacing), 140, spacing):
        _lamp_post(plan, side, edge, float(y), metal)
        if trees and (away or y > 6):
            _tree(plan, edge, float(y) + spacing / 2, bark, leaf)
    if plan.chance(0.7):
        _sign(plan, edge, plan.draw(4, 30), metal)
    if plan.chance(0.5):
        _railing(plan, edge - side * 0.35, plan.draw(3, 20), metal)
    elif plan.chance(0.5):
        for y in np.arange(plan.draw(3, 8), 40, 2.5):
            plan.build.cylinder((edge - side * 0.3, float(y), plan.kerb), 0.06, 0.9, metal)
    if plan.chance(0.75):
        _parked(plan, side, eye)


def _lamp_post(plan: StreetPlan, side: int, x: float, y: float, metal: int) -> None:
    high = plan.draw(5, 8)
    plan.build.cylinder((x, y, plan.kerb), 0.08, high, metal)
    plan.build.box((x - side * 0.8, y, high + plan.kerb), (1.6, 0.07, 0.07), metal)
    plan.build.box((x - side * 1.5, y, high + plan.kerb - 0.06), (0.5, 0.25, 0.1), metal)


def _leaves(plan: StreetPlan) -> int:
    warm = plan.draw(0, 0.15)
    return plan.build.material(
        Material(base=(0.07 + warm, 0.2, 0.04), grain=(0.06, 0.13, 0.03), grain_size=(0.35, 0.35))
    )


def _tree(plan: StreetPlan, x: float, y: float, bark: int, leaf: int) -> None:
    trunk, crown = plan.draw(2.0, 3.2), plan.draw(0.9, 1.6)
    plan.build.cylinder((x, y, plan.kerb), plan.draw(0.09, 0.2), trunk + 0.4, bark)
    for _ in range(int(plan.rng.integers(2, 5))):
        at = (x + plan.draw(-0.6, 0.6), y + plan.draw(-0.6, 0.6), trunk + crown * plan.draw(0.6, 1.6))
        plan.build.sphere(at, crown * plan.draw(0.6, 1.0), leaf)


def _sign(plan: StreetPlan, x: float, y: float, metal: int) -> None:
    plan.build.cylinder((x, y, plan.kerb), 0.03, 2.6, metal)
    plate = Material(base=plan.color(0.3, 0.7, 0.95), second=(0.8, 0.8, 0.8), cell=(0.6, 0.6), gap=(0.12, 0.12))
    plan.build.box((x, y - 0.05, 2.4 + plan.kerb), (0.6, 0.03, 0.6), plan.build.material(plate))


def _railing(plan: StreetPlan, x: float, y: float, metal: int) -> None:
    """Thin bars, the hardest things to see the depth of."""
    posts, step = int(plan.rng.integers(5, 12)), 1.2
    for i in range(posts):
        plan.build.box((x, y + i * step, plan.kerb + 0.5), (0.05, 0.05, 1.0), metal)
    long = (posts - 1) * step
    for z in (0.45, 1.0):
        plan.build.box((x, y + long / 2, plan.kerb + z), (0.04, long, 0.04), metal)


def _parked(plan: StreetPlan, side: int, eye: float) -> None:
    x = side * (plan.half_road - 1.0)
    y = plan.draw(5, 14) if abs(eye - x) < 2.0 else plan.draw(-3, 6)
    while y < 70:
        if plan.chance(0.7):
            _car(plan, Frame(x, y, 0, math.pi if side < 0 else 0.0))
        y += plan.draw(5.4, 8)


def _traffic(plan: StreetPlan, eye: float) -> None:
    """Cars in the inner lanes; those on the left come towards the viewer."""
    for lane in range(1, plan.lanes - 1) if plan.lanes > 2 else range(2):
        x = (lane + 0.5) * plan.lane - plan.half_road
        y = plan.draw(9, 40)
        while y < 120:
            if plan.lanes > 2 or plan.chance(0.3):
                (_van if plan.chance(0.2) else _car)(plan, Frame(x, y, 0, math.pi if x < 0 else 0.0))
            y += plan.draw(12, 60)


def _car(plan: StreetPlan, frame: Frame) -> None:
    """A saloon or hatchback of 3.7 to 4.8 m, nose towards local +y."""
    long, wide, belt = plan.draw(3.7, 4.8), plan.draw(1.65, 1.85), plan.draw(0.85, 0.98)
    paint = plan.paint(0.03, 0.75, 0.85)
    cabin, shift = long * plan.draw(0.45, 0.6), plan.draw(-0.35, -0.1)
    plan.build.box((0, 0, (0.2 + belt) / 2), (wide, long, belt - 0.2), paint, frame)
    plan.build.box((0, shift, belt + 0.22), (wide * 0.86, cabin, 0.46), (plan.glass,) * 4 + (paint,) * 2, frame)
    plan.build.box((0, shift, belt + 0.46), (wide * 0.84, cabin * 0.86, 0.05), paint, frame)
    _details(plan, frame, wide, long, belt, 0.31)


def _van(plan: StreetPlan, frame: Frame) -> None:
    long, wide, high = plan.draw(4.8, 6.5), plan.draw(1.9, 2.1), plan.draw(2.0, 2.9)
    paint = plan.paint(0.1, 0.85, 0.4)
    plan.build.box((0, -0.4, (0.3 + high) / 2), (wide, long - 0.8, high - 0.3), paint, frame)
    plan.build.box((0, long / 2 - 0.4, 0.75), (wide * 0.97, 0.8, 0.9), paint, frame)
    plan.build.box((0, long / 2 - 0.79, 1.6), (wide * 0.9, 0.06, 0.7), plan.glass, frame)
    _details(plan, frame, wide, long, 0.95, 0.36)


def _details(plan: StreetPlan, frame: Frame, wide: float, long: float, belt: float, radius: float) -> None:
    """Lights and wheels; these cast no shadow, as the body above does."""
    if frame.y > _DETAIL:
        return
    for x in (-1, 1):
        for y, lamp in zip((-1, 1), plan.lamps, strict=True):
            plan.build.box((x * wide * 0.4, y * long / 2, belt - 0.2), (0.25, 0.06, 0.13), lamp, frame, casts=False)
            plan.build.wheel((x * (wide / 2 - 0.08), y * long * 0.31, radius), radius, 0.2, plan.rubber, frame)


def _people(plan: StreetPlan, eye: float) -> None:
    """Walkers of 1.5 to 1.9 m on the pavements."""
    for _ in range(int(plan.rng.integers(0, 6))):
        side = -1 if plan.chance(0.5) else 1
        x, y = side * (plan.half_road + plan.draw(0.9, 0.3 + plan.pavement * 0.9)), plan.draw(4, 45)
        tall = plan.draw(1.5, 1.9)
        frame = Frame(x, y, plan.kerb, plan.draw(-3, 3))
        if math.hypot(x - eye, y) > 2.5:
            plan.build.box((0, 0, tall * 0.24), (0.3, 0.2, tall * 0.48), plan.paint(0.03, 0.3), frame)
            plan.build.box((0, 0, tall * 0.66), (0.44, 0.24, tall * 0.36), plan.paint(0.05, 0.7, 0.9), frame)
            plan.build.sphere((0, 0, tall - 0.12), 0.12, plan.paint(0.15, 0.6, 0.4), frame)


def _camera(plan: StreetPlan, size: tuple[int, int]) -> Camera:
    """In the right half of the road, or on a pavement, looking along the street."""
    if plan.chance(0.75):
        x, base = plan.draw(0.5, plan.half_road - 1.0), 0.0
    else:
        side = 1 if plan.chance(0.5) else -1
        x, base = side * (plan.half_road + plan.draw(1.2, plan.pavement - 1.3)), plan.kerb
    position = (x, 0.0, base + plan.draw(*_EYE_LEVEL))
    roll = float(np.clip(plan.rng.normal(0, 1.2), -4, 4))
    heading = math.radians(plan.draw(-18, 18))
    return plan.camera(size, position, heading=heading, pitch=plan.draw(-6, 5), roll=roll, fov=plan.draw(55, 90))
