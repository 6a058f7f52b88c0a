"""A rendered copy of each layout is clean: what the doctor says of real data is then about the data."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mde.data.layouts import get_layout, layouts
from mde.data.writers import SourceFrame, mark, rendered
from mde.doctor import examine

COUNT = 8


@lru_cache(maxsize=64)
def _frame(world: str, index: int, height: int, width: int, camera: bytes, right: float) -> SourceFrame:
    intrinsics = np.frombuffer(camera, np.float32).reshape(3, 3) if camera else None
    return rendered(world)(index, height, width, intrinsics, right)


class _Kept:
    """Frames of a rendered world; several layouts ask for the same ones."""

    def __init__(self, world: str) -> None:
        self.world = world

    def __call__(
        self, index: int, height: int, width: int, intrinsics: NDArray[np.float32] | None = None, right: float = 0.0
    ) -> SourceFrame:
        camera = b"" if intrinsics is None else np.ascontiguousarray(intrinsics, np.float32).tobytes()
        return _frame(self.world, index, height, width, camera, right)


@pytest.mark.parametrize("name", list(layouts()))
def test_a_made_set_is_clean(name: str, tmp_path: Path) -> None:
    layout = get_layout(name)
    root = tmp_path / "data"
    root.mkdir()
    size = (75, 240) if name.startswith("kitti") else (72, 96)
    try:
        layout.load_writer()(root, COUNT, _Kept(layout.world), size)
    except ImportError as error:  # an optional package
        pytest.skip(str(error))
    mark(root, name, {})
    made = examine(root, workers=1)
    assert [(f.code, f.message) for f in made.findings if f.severity != "info"] == []
    assert made.layout == name
    assert "made-data" in {f.code for f in made.findings}
    assert len(made.tally) >= COUNT
    assert sum(made.tally.decoded.values()) == sum(map(len, made.datasets.values())) == len(made.tally)
    low, high = made.span
    assert low < np.median(made.tally["median"]) < high
