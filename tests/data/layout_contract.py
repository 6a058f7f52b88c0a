"""What every layout promises, on top of `DataModuleContract`: what its writer wrote is what its data module reads.

class TestBts(LayoutContract):
    layout = "nyu/bts"
    size = (48, 64)
    step = 0.001
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mde.data.base import DepthDataModule
from mde.data.layouts import get_layout, recognise
from mde.data.writers import FrameSource, mark, rendered, smooth
from tests.data.contract import DataModuleContract


class LayoutContract(DataModuleContract):
    """Subclass it with the name of a layout.

    Attributes:
        layout: its name.
        size: (height, width) of the written frames; None for the true size.
        count: number of training frames.
        step: metres between two numbers that the files can hold; `relative` of the depth is allowed on top of it.
        source: where frames come from.
        settings: arguments of the data module beyond those of the layout.
    """

    layout = ""
    size: tuple[int, int] | None = (24, 32)
    image_size = (24, 32)
    count = 6
    step = 1e-5
    relative = 1e-5
    source: FrameSource = staticmethod(smooth)
    settings: dict[str, Any] = {}

    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        layout = get_layout(self.layout)
        root = folder / "data"
        if not root.exists():
            root.mkdir(parents=True)
            self.written = layout.load_writer()(root, self.count, self.source, self.size)
        return layout.make(root, **{"image_size": self.image_size, **self.settings, **settings})

    def test_is_recognised(self, data: DepthDataModule, tmp_path: Path) -> None:
        assert recognise(tmp_path / "data").name == self.layout
        assert data.facts() == data.facts()

    def test_reads_what_was_written(self, data: DepthDataModule) -> None:
        seen = 0
        for split in ("train", "val", "test"):
            dataset = data.dataset(split)
            for index in range(len(dataset)):
                raw = dataset.read(index)
                assert dataset.frame_id(index) == raw.id
                height, width = raw.depth.shape
                camera = None if np.isnan(raw.intrinsics).any() else raw.intrinsics
                truth = self.source(self.written[raw.id], height, width, camera)
                assert raw.valid.any()
                error = np.abs(raw.depth - truth.depth)[raw.valid]
                assert (error <= 0.51 * self.step + self.relative * truth.depth[raw.valid]).all()
                assert not raw.valid[truth.depth == 0].any()
                difference = np.abs(raw.image.astype(float) - truth.image).mean()
                assert difference < 12  # JPEG
                seen += 1
        assert seen == len(self.written)

    def test_the_camera_is_the_one_that_the_depth_was_seen_with(self, data: DepthDataModule, tmp_path: Path) -> None:
        """Rendered again through the camera that was read, the scene has the depth that was read."""
        layout, rooms = get_layout(self.layout), rendered("rooms")
        root = tmp_path / "rendered"
        root.mkdir()
        written = layout.load_writer()(root, self.count, rooms, self.size)
        mark(root, self.layout, {})
        dataset = layout.make(root, **{"image_size": self.image_size, **self.settings}).dataset("test")
        raw = dataset.read(next(i for i in range(len(dataset)) if dataset.frame_id(i) in written))
        if np.isnan(raw.intrinsics).any():
            return  # this layout does not know its camera, and says so
        truth = rooms(written[raw.id], *raw.depth.shape, raw.intrinsics).depth
        error = np.abs(raw.depth - truth)[raw.valid]
        allowed = 0.51 * self.step + (self.relative + 1e-3) * truth[raw.valid]
        assert (error <= allowed).mean() > 0.97  # edges move with the last digit of a camera

    def test_files_are_there(self, data: DepthDataModule) -> None:
        for path in data.dataset("train").files(0):
            assert path.is_file()
