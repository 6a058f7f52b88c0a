"""The contract of every layout that a simulator or a plugin of the engine writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mde.data.base import DepthDataModule
from mde.data.layouts import get_layout
from mde.data.writers.unreal import write_airsim
from tests.data.layout_contract import LayoutContract


class TestPaper1(LayoutContract):
    layout = "unreal/paper1"


class TestAirSim(LayoutContract):
    layout = "unreal/airsim"


class TestAirSimAlongRays(TestAirSim):
    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        root = folder / "data"
        if not root.exists():
            root.mkdir(parents=True)
            self.written = write_airsim(root, self.count, self.source, self.size, depth_type=2)
        return get_layout(self.layout).make(root, **{"image_size": self.image_size, **settings})


class TestEasySynth(LayoutContract):
    layout = "unreal/easysynth"
    relative = 2**-10  # float16


class TestCarla(LayoutContract):
    layout = "unreal/carla"
    step = 1000 / (2**24 - 1)
