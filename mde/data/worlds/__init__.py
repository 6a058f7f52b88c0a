"""The worlds of the procedural data set, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from mde.data.worlds.rooms import make_room
from mde.data.worlds.scene import Camera, Scene
from mde.data.worlds.street import make_street
from mde.errors import ConfigError, nearest

__all__ = ["BASELINES", "DEPTH_RANGES", "WORLDS", "make_scene"]

WORLDS: Mapping[str, Callable[[np.random.Generator, int, int], tuple[Scene, Camera]]] = MappingProxyType(
    {"rooms": make_room, "street": make_street}
)
DEPTH_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType({"rooms": (0.3, 10.0), "street": (1.0, 80.0)})
"""Metres that a network for each world should cover."""
BASELINES: Mapping[str, float] = MappingProxyType({"rooms": 0.12, "street": 0.54})
"""Metres between the cameras of a stereo pair: those of a camera for rooms (ZED, 12 cm), and of KITTI's car (54 cm)."""


def make_scene(world: str, rng: np.random.Generator, height: int, width: int) -> tuple[Scene, Camera]:
    """A random scene of a world, and a camera in it.

    Args:
        world: "rooms" or "street".
        rng: the only source of randomness.
        height: of the picture that the camera will take, pixels; scene and viewpoint do not depend on it.
        width: like `height`.

    Raises:
        ConfigError: there is no such world.

    >>> scene, camera = make_scene("rooms", np.random.default_rng(0), 96, 128)
    >>> camera.intrinsics[:, 2]
    array([63.5, 47.5,  1. ])
    """
    if world not in WORLDS:
        raise ConfigError(f"unknown world {world!r}", where="world", next_action=f"nearest: {nearest(world, WORLDS)}")
    return WORLDS[world](rng, height, width)
