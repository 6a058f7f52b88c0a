"""Furniture of the rooms, in real sizes (metres): what stands on the floor and what stands or hangs at the walls."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from mde.data.worlds.plan import Plan, plain, scaled
from mde.data.worlds.scene import Frame, Material

__all__ = ["FLOOR_PIECES", "WALL_PIECES", "RoomPlan", "picture", "rug", "spot", "wood"]


@dataclass
class RoomPlan(Plan):
    """The room, and the discs of its floor that are taken.

    Attributes:
        width: metres along x; the room is centred at the origin.
        length: metres along y.
        height: metres.
        eye: where the camera stands.
        taken: (x, y, radius) of all that stands on the floor.
    """

    width: float
    length: float
    height: float
    eye: tuple[float, float] = (0.0, 0.0)
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def free(self, x: float, y: float, radius: float) -> bool:
        """Whether a disc on the floor keeps clear of all others and of the camera; if so, it is taken."""
        near_eye = math.hypot(x - self.eye[0], y - self.eye[1]) < radius + _CLEARANCE
        if near_eye or any(math.hypot(x - a, y - b) < radius + r for a, b, r in self.taken):
            return False
        self.taken.append((x, y, radius))
        return True

    def wall(self, side: int, along: float, out: float = 0.0) -> Frame:
        """A frame on wall 0 ... 3, local y into the room; `along` in [-1,1] of its half width, `out` in metres."""
        depth, span = (self.length, self.width) if side % 2 == 0 else (self.width, self.length)
        yaw = side * math.pi / 2
        x, y = along * span / 2, out - depth / 2
        return Frame(math.cos(yaw) * x - math.sin(yaw) * y, math.sin(yaw) * x + math.cos(yaw) * y, 0.0, yaw)


_CLEARANCE = 0.45  # metres that furniture keeps from the camera


def wood(level: float, red: float) -> Material:
    """Grain along u; `level` is the brightness, `red` in [0,1] goes from oak to ash."""
    base = (level, level * (0.62 + 0.15 * red), level * (0.3 + 0.2 * red))
    return Material(base=base, grain=(0.2 * level, 0.13 * level, 0.07 * level), grain_size=(0.9, 0.05))


def _any_wood(plan: Plan) -> Material:
    return wood(plan.draw(0.15, 0.6), plan.draw(0, 1))


def _wooden(plan: Plan) -> int:
    return plan.build.material(_any_wood(plan))


# --------------------------------------------------------------------------------------------------------- at the walls


def door(plan: RoomPlan, side: int, at: float) -> None:
    """A door of 0.88 x 2.0 m in its frame; the floor before it stays free."""
    frame = plan.wall(side, at)
    leaf = _any_wood(plan) if plan.chance(0.5) else plain(plan.color(0.3, 0.85, 0.4))
    panels = plan.build.material(replace(leaf, second=scaled(leaf.base, 0.55), cell=(0.44, 1.0), gap=(0.02, 0.02)))
    trim = plan.paint(0.3, 0.9, 0.2)
    plan.build.box((0, 0.01, 1.04), (1.04, 0.02, 2.08), trim, frame, casts=False)
    plan.build.box((0, 0.02, 1.0), (0.88, 0.04, 2.0), panels, frame, casts=False)
    plan.build.sphere((0.36, 0.07, 1.0), 0.035, plan.paint(0.2, 0.6), frame)
    x, y, _ = frame.point((0, 0.5, 0))
    plan.free(x, y, 0.5)


def window(plan: RoomPlan, side: int, at: float) -> None:
    """A window with its sill, by day or by night, perhaps with curtains."""
    wide, high, sill = plan.draw(0.8, 1.8), plan.draw(0.9, 1.4), plan.draw(0.8, 1.0)
    day = plan.draw(0.05, 0.35)
    pane = Material(
        base=(0.5, 0.65, 0.8),
        second=(0.75, 0.75, 0.75),
        cell=(wide / 2, high / (1 + plan.pick(2))),
        gap=(0.06, 0.06),
        grain=(0.1, 0.1, 0.05),
        grain_size=(0.5, 0.5),
        emission=day,
    )
    frame = plan.wall(side, at)
    plan.build.box((0, 0.01, sill + high / 2), (wide, 0.02, high), plan.build.material(pane), frame, casts=False)
    plan.build.box((0, 0.1, sill - 0.02), (wide + 0.2, 0.2, 0.04), plan.paint(0.5, 0.9, 0.1), frame)
    if plan.chance(0.6):
        cloth = plain(plan.color(0.2, 0.8, 0.7))
        folds = plan.build.material(replace(cloth, second=scaled(cloth.base, 0.6), cell=(0.09, 0), gap=(0.04, 0)))
        for end in (-1, 1):
            plan.build.box((end * (wide / 2 + 0.12), 0.12, 1.15), (0.36, 0.06, 2.25), folds, frame)


def picture(plan: RoomPlan, side: int, at: float) -> None:
    """A framed abstract painting."""
    wide, high, up = plan.draw(0.3, 0.9), plan.draw(0.3, 0.8), plan.draw(1.35, 1.7)
    red, green, blue = plan.color(0.15, 0.5, 0.9)
    art = Material(
        base=plan.color(0.2, 0.7, 0.8),
        second=plan.color(0.03, 0.6, 0.3),
        cell=(wide, high),
        gap=(0.06, 0.06),
        grain=(red - 0.1, green - 0.2, 0.2 - blue),
        grain_size=(plan.draw(0.08, 0.3), plan.draw(0.08, 0.3)),
    )
    plan.build.box((0, 0.012, up), (wide, 0.024, high), plan.build.material(art), plan.wall(side, at), casts=False)


def bookshelf(plan: RoomPlan, side: int, at: float) -> None:
    """Two sides, a back, boards every third of a metre or so, and books."""
    wide, deep, high = plan.draw(0.7, 1.3), 0.32, plan.draw(1.0, 2.0)
    frame = _against_wall(plan, side, at, wide, deep)
    if frame is None:
        return
    board, back = _wooden(plan), plan.paint(0.1, 0.4)
    for end in (-1, 1):
        plan.build.box((end * (wide / 2 - 0.012), 0, high / 2), (0.024, deep, high), board, frame)
    plan.build.box((0, 0.01 - deep / 2, high / 2), (wide - 0.05, 0.02, high), back, frame)
    shelves = round(high / 0.36)
    gap = (high - 0.024) / shelves
    for level in range(shelves + 1):
        z = level * gap + 0.012
        plan.build.box((0, 0, z), (wide - 0.05, deep, 0.024), board, frame)
        if level < shelves and plan.chance(0.8):
            _books(plan, frame, wide - 0.06, z + 0.012, gap)


def _books(plan: RoomPlan, frame: Frame, wide: float, z: float, gap: float) -> None:
    share, tall = plan.draw(0.3, 0.95), gap * plan.draw(0.6, 0.85)
    spines = Material(
        base=plan.color(0.1, 0.5, 0.8),
        second=(0.05, 0.05, 0.05),
        cell=(0.035, 0),
        gap=(0.004, 0),
        tint=0.9,
        grain=(0.15, 0.05, 0.1),
    )
    start = plan.draw(-1, 1) * (1 - share) * wide / 2
    plan.build.box((start, 0.02, z + tall / 2), (share * wide, 0.2, tall), plan.build.material(spines), frame)


def cabinet(plan: RoomPlan, side: int, at: float) -> None:
    """A chest of drawers, with a vase or a television on it."""
    wide, deep, high = plan.draw(0.8, 1.6), plan.draw(0.4, 0.55), plan.draw(0.5, 1.1)
    frame = _against_wall(plan, side, at, wide, deep)
    if frame is None:
        return
    body = _any_wood(plan) if plan.chance(0.6) else plain(plan.color(0.2, 0.85))
    drawers = replace(body, second=(0.04, 0.03, 0.03), cell=(wide / 2, high / 3), gap=(0.012, 0.012))
    plan.build.box((0, 0, high / 2), (wide, deep, high), plan.build.material(drawers), frame)
    if plan.chance(0.35):
        plan.build.box((0, -0.05, high + 0.3), (min(0.9, wide), 0.05, 0.52), plan.paint(0.02, 0.05), frame)
    elif plan.chance(0.7):
        vase(plan, frame, plan.draw(-0.3, 0.3) * wide, 0.0, high)


def _against_wall(plan: RoomPlan, side: int, at: float, wide: float, deep: float) -> Frame | None:
    frame = plan.wall(side, at, deep / 2 + 0.02)
    return frame if plan.free(frame.x, frame.y, max(wide, deep) / 2) else None


# --------------------------------------------------------------------------------------------------------- on the floor


def spot(plan: RoomPlan, radius: float) -> Frame | None:
    """A free place for something of this radius, turned at random; None if a few tries find none."""
    for _ in range(8):
        x, y = (plan.draw(-1, 1) * max(span / 2 - radius - 0.05, 0) for span in (plan.width, plan.length))
        if plan.free(x, y, radius):
            return Frame(x, y, 0.0, plan.draw(-math.pi, math.pi))
    return None


def rug(plan: RoomPlan) -> None:
    """A patterned rug near the middle of the room; furniture may stand on it."""
    wide, long = plan.draw(1.2, 2.2), plan.draw(1.6, 3.0)
    pile = plain(plan.color(0.15, 0.7, 0.8), 0.35, 0.05)
    cell, gap = (wide / 3, long / 4), (wide / 9, long / 12)
    woven = replace(pile, second=plan.color(0.1, 0.8, 0.8), cell=cell, gap=gap, mode="xor")
    place = Frame(plan.draw(-0.2, 0.2) * plan.width, plan.draw(-0.2, 0.2) * plan.length, 0, plan.draw(-0.2, 0.2))
    plan.build.box((0, 0, 0.006), (wide, long, 0.012), plan.build.material(woven), place, casts=False)


def table(plan: RoomPlan) -> None:
    """A coffee table, or a dining table with chairs; vases on it."""
    wide, deep, high = plan.draw(0.7, 1.6), plan.draw(0.6, 0.9), plan.draw(0.4, 0.76)
    place = spot(plan, max(wide, deep) * 0.6)
    if place is None:
        return
    surface = _wooden(plan) if plan.chance(0.7) else plan.paint()
    plan.build.box((0, 0, high - 0.02), (wide, deep, 0.04), surface, place)
    for x in (-1, 1):
        for y in (-1, 1):
            foot = (x * (wide / 2 - 0.05), y * (deep / 2 - 0.05), (high - 0.04) / 2)
            plan.build.box(foot, (0.05, 0.05, high - 0.04), surface, place)
    for _ in range(plan.pick(3)):
        vase(plan, place, plan.draw(-0.35, 0.35) * wide, plan.draw(-0.3, 0.3) * deep, high)
    for side in (-1, 1):
        if high > 0.6 and plan.chance(0.7):
            _chair(plan, place, side * (deep / 2 + 0.2), 0.0 if side < 0 else math.pi)


def _chair(plan: RoomPlan, dining: Frame, out: float, turn: float) -> None:
    x, y, _ = dining.point((plan.draw(-0.15, 0.15), out, 0))
    inside = abs(x) < plan.width / 2 - 0.3 and abs(y) < plan.length / 2 - 0.3
    if not inside or math.hypot(x - plan.eye[0], y - plan.eye[1]) < 0.3 + _CLEARANCE:
        return
    place, frame = Frame(x, y, 0, dining.yaw + turn), _wooden(plan)
    plan.build.box((0, 0, 0.44), (0.42, 0.42, 0.04), frame, place)
    plan.build.box((0, -0.2, 0.75), (0.42, 0.03, 0.3), frame, place)
    for a in (-0.19, 0.19):
        plan.build.box((a, -0.2, 0.42), (0.035, 0.035, 0.84), frame, place)
        plan.build.box((a, 0.19, 0.21), (0.035, 0.035, 0.42), frame, place)


def sofa(plan: RoomPlan) -> None:
    """An armchair or a sofa with seat cushions and a pillow."""
    wide = plan.draw(0.8, 2.0)
    place = spot(plan, wide * 0.55)
    if place is None:
        return
    cloth = plan.build.material(plain(plan.color(0.08, 0.6, 0.7), 0.25, 0.03))
    plan.build.box((0, 0, 0.2), (wide, 0.85, 0.4), cloth, place)
    plan.build.box((0, -0.36, 0.6), (wide, 0.16, 0.42), cloth, place)
    for end in (-1, 1):
        plan.build.box((end * (wide / 2 - 0.08), 0, 0.48), (0.16, 0.85, 0.18), cloth, place)
        plan.build.box((end * (wide / 4 - 0.04), 0.07, 0.45), (wide / 2 - 0.12, 0.68, 0.1), cloth, place)
    plan.build.box((wide * 0.2, -0.2, 0.65), (0.38, 0.14, 0.36), plan.paint(0.1, 0.6, 0.8), place, yaw=0.2)


def stool(plan: RoomPlan) -> None:
    """A round stool on one leg."""
    place = spot(plan, 0.25)
    if place is not None:
        high, body = plan.draw(0.4, 0.7), _wooden(plan)
        plan.build.cylinder((0, 0, high - 0.05), 0.19, 0.05, body, place)
        plan.build.cylinder((0, 0, 0.02), 0.03, high - 0.07, body, place)
        plan.build.cylinder((0, 0, 0), 0.17, 0.02, body, place)


def toys(plan: RoomPlan) -> None:
    """Striped balls."""
    for _ in range(1 + plan.pick(3)):
        radius = plan.draw(0.06, 0.3)
        place = spot(plan, radius)
        if place is not None:
            slice_ = radius * math.pi / 2
            first, second = plan.color(0.2, 0.8, 0.9), plan.color(0.2, 0.8, 0.9)
            ball = plan.build.material(Material(base=first, second=second, cell=(slice_, 0), gap=(slice_ / 2, 0)))
            plan.build.sphere((0, 0, radius), radius, ball, place)


def plant(plan: RoomPlan) -> None:
    """A pot with a stem and round clumps of leaves."""
    place = spot(plan, 0.3)
    if place is None:
        return
    leaves = plan.build.material(Material(base=(0.08, 0.25, 0.05), grain=(0.08, 0.18, 0.05), grain_size=(0.08, 0.08)))
    plan.build.cylinder((0, 0, 0), 0.16, 0.32, plan.paint(0.2, 0.7), place)
    plan.build.cylinder((0, 0, 0.3), 0.02, 0.6, _wooden(plan), place)
    for _ in range(2 + plan.pick(4)):
        at = (plan.draw(-0.14, 0.14), plan.draw(-0.14, 0.14), plan.draw(0.45, 1.1))
        plan.build.sphere(at, plan.draw(0.1, 0.22), leaves, place)


def crate(plan: RoomPlan) -> None:
    """A cardboard box, perhaps with another on top."""
    size = plan.draw(0.25, 0.6)
    place = spot(plan, size * 0.7)
    if place is not None:
        card = replace(plain((0.45, 0.3, 0.17), 0.1, 0.1), second=(0.6, 0.5, 0.35), cell=(size, 0), gap=(0.05, 0))
        plan.build.box((0, 0, size * 0.4), (size, size, size * 0.8), plan.build.material(card), place)
        if plan.chance(0.4):
            top, turn = plan.build.material(replace(card, base=plan.color())), plan.draw(-1, 1)
            plan.build.box((0, 0, size * 1.05), (size * 0.6, size * 0.7, size * 0.5), top, place, yaw=turn)


def vase(plan: RoomPlan, place: Frame, x: float, y: float, z: float) -> None:
    """A vase or a mug at a local point."""
    clay, radius = plan.paint(0.2, 0.85, 0.9), plan.draw(0.04, 0.1)
    if plan.chance(0.5):
        plan.build.sphere((x, y, z + radius), radius, clay, place)
        plan.build.cylinder((x, y, z + 1.8 * radius), radius * 0.4, radius, clay, place)
    else:
        plan.build.cylinder((x, y, z), radius * 0.6, radius * 3, clay, place)


WALL_PIECES = (door, window, window, bookshelf, cabinet, cabinet)
FLOOR_PIECES = (table, table, sofa, sofa, stool, toys, plant, crate)
