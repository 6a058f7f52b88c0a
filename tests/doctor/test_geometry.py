"""Each fault is planted in a clean set of rendered rooms; the doctor must find it, and nothing else that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mde.data.encodings import DepthEncoding
from tests.doctor.conftest import CAMERA, COUNTS, Spoiled
from tests.doctor.planted import noted, only, serious


def as_ray(raw: NDArray[Any]) -> NDArray[Any]:
    depth = (raw / 1000).astype(np.float32)
    return DepthEncoding(0.001, "ray").from_metres(depth, np.uint16, CAMERA)


def test_distance_along_rays(data: Spoiled) -> None:
    data.change(as_ray)
    found = only(data.examine(), "ray-distance")
    assert "k = 1.0" in found.message
    assert serious(data.examine(depth_kind="ray")) == set()  # read as what it is


def test_z_that_is_read_as_distance_along_rays(data: Spoiled) -> None:
    only(data.examine(depth_kind="ray"), "divided-twice")


def test_disparity(data: Spoiled) -> None:
    data.change(lambda raw: np.round(4e6 / np.maximum(raw, 100.0)).astype(np.uint16))
    found = only(data.examine(), "inverted-depth")
    assert "planes are flat in the numbers" in found.message
    assert serious(data.examine(depth_kind="disparity", depth_scale=4000.0)) == set()


def test_depth_upside_down_in_value(data: Spoiled) -> None:
    data.change(lambda raw: np.clip(9000 - raw.astype(int), 300, None).astype(np.uint16))
    found = only(data.examine(), "inverted-depth")
    assert "the bottom is farther" in found.message


def test_shifted_depth(data: Spoiled) -> None:
    data.change(lambda raw: np.roll(raw, (-3, 5), (0, 1)))
    found = only(data.examine(), "misaligned", "warning")
    assert "-5 px across and +3 px down" in found.message


@pytest.mark.parametrize(
    ("turn", "word"),
    [(np.fliplr, "left-right"), (np.flipud, "upside down"), (lambda raw: raw[::-1, ::-1], "by 180 degrees")],
)
def test_turned_depth(data: Spoiled, turn: Callable[[NDArray[Any]], NDArray[Any]], word: str) -> None:
    data.change(lambda raw: np.ascontiguousarray(turn(raw)))
    made = data.examine()
    assert serious(made) <= {"mirrored", "inverted-depth"}  # upside down, near is at the top
    assert [word in f.message for f in made.findings if f.code == "mirrored"] == [True]


@pytest.mark.parametrize(("step", "word"), [(1, "after"), (-1, "before")])
def test_depth_of_the_neighbour(data: Spoiled, step: int, word: str) -> None:
    for split, count in COUNTS.items():
        whole = [data.depth(n, split).read_bytes() for n in range(count)]
        for n in range(count):
            # the depth of frame n now lies in file n + step
            data.replace(data.depth((n + step) % count, split), whole[n])
    found = only(data.examine(), "frame-shift")
    assert f"the depth of the frame {word}" in found.message


@pytest.mark.parametrize(
    ("camera", "severity", "said"),
    [
        ([220, 220, 127.5, 95.5], "warning", "2.00 times as large"),
        ([110, 110, 300, 47.5], "error", "principal point"),
        ([1100, 1100, 63.5, 47.5], "warning", "field of view 7 degrees"),
        ([110, 200, 63.5, 47.5], "warning", "fx/fy 0.55"),
    ],
)
def test_camera_of_another_image(data: Spoiled, camera: list[float], severity: str, said: str) -> None:
    found = only(data.examine(sample=2, intrinsics=camera), "odd-camera", severity)
    assert said in found.message
    assert found.count == 6


def test_unknown_camera_is_only_noted(data: Spoiled) -> None:
    assert noted(data.examine(intrinsics=None), "no-camera").count == 0
