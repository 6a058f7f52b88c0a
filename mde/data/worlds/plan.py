"""What the builders of all worlds share: dice, a scene under construction, random colours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mde.data.worlds.scene import Camera, Material, SceneBuilder, Vec3

__all__ = ["Plan", "plain", "scaled"]


@dataclass
class Plan:
    """Dice and the scene that they fill."""

    rng: np.random.Generator
    build: SceneBuilder

    def draw(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.rng.random()

    def pick(self, count: int) -> int:
        """Uniform in 0 ... count - 1."""
        return int(self.rng.integers(count))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.rng.random() < probability

    def color(self, dark: float = 0.1, bright: float = 0.8, saturation: float = 0.6) -> Vec3:
        """A linear colour: its largest channel lies in [dark, bright], the others down to `saturation` below it."""
        tone = 1 - saturation * self.rng.random(3)
        tone *= self.draw(dark, bright) / tone.max()
        return float(tone[0]), float(tone[1]), float(tone[2])

    def paint(self, dark: float = 0.1, bright: float = 0.8, saturation: float = 0.6) -> int:
        """A new material: plain, slightly uneven, of a random colour."""
        return self.build.material(plain(self.color(dark, bright, saturation)))

    def camera(
        self,
        size: tuple[int, int],
        position: tuple[float, float, float],
        *,
        heading: float,
        pitch: float,
        roll: float,
        fov: float,
    ) -> Camera:
        """A camera with a central principal point; angles in degrees but for `heading` (radians), `fov` horizontal."""
        height, width = size
        focal_px = width / 2 / math.tan(math.radians(fov) / 2)
        intrinsics = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])
        return Camera.aimed(intrinsics, position, heading=heading, pitch=math.radians(pitch), roll=math.radians(roll))


def plain(color: Vec3, grain: float = 0.05, size: float = 0.3) -> Material:
    """One colour with noise of relative amplitude `grain` and feature length `size` in metres."""
    return Material(base=color, grain=scaled(color, grain), grain_size=(size, size))


def scaled(color: Vec3, factor: float) -> Vec3:
    """A darker (or brighter) version of a colour."""
    return color[0] * factor, color[1] * factor, color[2] * factor
