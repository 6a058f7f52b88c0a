"""From relative maps to metres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mde.data.io import write_depth
from mde.errors import ConfigError, DataFormatError
from mde.inference.anchors import scale_by_depth, scale_by_height, scale_by_points
from mde.inference.measured import measured_depth
from mde.inference.result import DepthResult
from mde.types import Ambiguity
from tests.inference.results import room

SIZE = (48, 64)
CAMERA = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])


def truth(seed: int = 0) -> NDArray[np.float32]:
    """Metres, smooth in x and y, different at every pixel."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return (2 + 0.05 * x + 0.03 * y + np.sin(x / 9 + seed)).astype(np.float32)


def said(ambiguity: Ambiguity, scale: float, shift: float) -> DepthResult:
    """What a perfect network of this ambiguity says of `truth`."""
    metres = truth().astype(np.float64)
    values = {
        Ambiguity.METRIC: metres / scale,
        Ambiguity.SCALE: metres / scale,
        Ambiguity.AFFINE_DEPTH: (metres - shift) / scale,
        Ambiguity.AFFINE_DISPARITY: (1 / metres - shift) / scale,
    }[ambiguity]
    return DepthResult(values.astype(np.float32), ambiguity, depth_range=(0.1, 10.0), model="net", source="a.jpg")


def anchors(count: int, seed: int = 0) -> list[tuple[float, float, float]]:
    random = np.random.default_rng(seed)
    places = random.choice(SIZE[0] * SIZE[1], count, replace=False)
    return [(float(p % SIZE[1]), float(p // SIZE[1]), float(truth().ravel()[p])) for p in places]


@pytest.mark.parametrize("ambiguity", list(Ambiguity))
@given(scale=st.floats(0.1, 10), shift=st.floats(-1, 1), count=st.integers(2, 30), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_exact_anchors_give_the_truth(ambiguity: Ambiguity, scale: float, shift: float, count: int, seed: int) -> None:
    made = scale_by_points(said(ambiguity, scale, shift), anchors(count, seed))
    assert made.result.ambiguity is Ambiguity.METRIC
    depths = [metres for *_, metres in anchors(count, seed)]
    if max(depths) - min(depths) > 0.5:  # else rounding of the map is stretched over all of it
        np.testing.assert_allclose(made.result.values, truth(), rtol=2e-3)
    assert np.abs(made.residuals).max() < 1e-3
    assert made.result.model == f"net, scaled by {count} anchors"
    assert f"by {count} anchors; residuals: median" in made.about


@pytest.mark.parametrize("ambiguity", list(Ambiguity))
def test_a_third_of_the_anchors_may_be_wrong(ambiguity: Ambiguity) -> None:
    points = anchors(30)
    wrong = [(x, y, metres * 3) if index % 3 == 0 else (x, y, metres) for index, (x, y, metres) in enumerate(points)]
    made = scale_by_points(said(ambiguity, 2.0, 0.1), wrong)
    np.testing.assert_allclose(made.result.values, truth(), rtol=1e-3)
    assert np.sort(np.abs(made.residuals))[:20].max() < 1e-2 < np.sort(np.abs(made.residuals))[20:].min()


def test_x_is_the_column_and_y_the_row() -> None:
    values = np.ones(SIZE, np.float32)
    values[5, 40] = 2.0
    result = DepthResult(values, Ambiguity.SCALE)
    assert scale_by_points(result, [(40, 5, 8.0)]).result.values[0, 0] == pytest.approx(4.0)
    assert scale_by_points(result, [(5, 40, 8.0)]).result.values[0, 0] == pytest.approx(8.0)


def test_range_and_deviation_follow_a_factor_and_not_a_line() -> None:
    scaled = scale_by_points(room(), [(15, 12, 3.0)]).result  # the room says 2 m there
    assert scaled.depth_range == pytest.approx((0.15, 15.0))
    np.testing.assert_allclose(scaled.std, room().values * 0.05 * 1.5, rtol=1e-6)
    assert np.isnan(scaled.values[0, 0])
    line = scale_by_points(room(Ambiguity.AFFINE_DEPTH), [(15, 12, 3.0), (1, 20, 5.0)]).result
    assert line.depth_range is None
    assert line.std is None
    np.testing.assert_allclose(line.values[12, 15], 3.0, rtol=1e-6)
    log = scale_by_points(room(), [(15, 12, 3.0), (1, 20, 12.0)], mode="log_affine").result
    assert (log.values[12, 15], log.values[20, 1]) == pytest.approx((3.0, 12.0), rel=1e-5)


def test_a_disparity_of_zero_and_less_is_too_far_to_say() -> None:
    values = np.linspace(-0.5, 1, 48, dtype=np.float32).reshape(6, 8)
    made = scale_by_points(DepthResult(values, Ambiguity.AFFINE_DISPARITY), [(7, 5, 1.0), (4, 4, 1 / values[4, 4])])
    np.testing.assert_array_equal(np.isposinf(made.result.values), values <= 1e-6)


@pytest.mark.parametrize(
    ("ambiguity", "points", "says"),
    [
        (Ambiguity.SCALE, [], "no anchors"),
        (Ambiguity.AFFINE_DISPARITY, [(1, 1, 2.0)], "takes 2 anchors, got 1"),
        (Ambiguity.SCALE, [(1, 1, 0.0)], "depth above 0"),
        (Ambiguity.SCALE, [(1, float("nan"), 1.0)], "depth above 0"),
    ],
)
def test_anchors_that_can_be_none_stop_the_work(
    ambiguity: Ambiguity, points: list[tuple[float, float, float]], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        scale_by_points(room(ambiguity), points)


@pytest.mark.parametrize(
    ("ambiguity", "points", "says"),
    [
        (Ambiguity.SCALE, [(32, 1, 2.0)], "beside the picture of 32x24"),
        (Ambiguity.SCALE, [(-1, 1, 2.0)], "beside the picture"),
        (Ambiguity.SCALE, [(0, 0, 2.0)], "says nothing at 1 of 1 anchors"),
        (Ambiguity.AFFINE_DEPTH, [(15, 12, 5.0), (1, 20, 3.0)], "contradict"),
        (Ambiguity.AFFINE_DEPTH, [(1, 20, 5.0), (2, 20, 3.0)], "contradict"),
    ],
)
def test_anchors_that_do_not_suit_a_picture_say_so(
    ambiguity: Ambiguity, points: list[tuple[float, float, float]], says: str
) -> None:
    with pytest.raises(DataFormatError, match=says):
        scale_by_points(room(ambiguity), points)


def test_a_mode_must_fit_what_the_numbers_are() -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        scale_by_points(room(Ambiguity.AFFINE_DISPARITY), [(15, 12, 3.0), (1, 20, 5.0)], mode="log_affine")


# ---- measured maps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ambiguity", list(Ambiguity))
def test_a_sparse_map_gives_the_truth(ambiguity: Ambiguity) -> None:
    valid = np.random.default_rng(0).random(SIZE) < 0.02
    depth = np.where(valid, truth(), 0)
    depth[::7] *= 5  # a seventh of it is wrong
    made = scale_by_depth(said(ambiguity, 3.0, 0.05), depth.astype(np.float32), valid)
    np.testing.assert_allclose(made.result.values, truth(), rtol=1e-3)
    half = truth().reshape(24, 2, 32, 2).mean((1, 3)).astype(np.float32)
    smaller = scale_by_depth(said(ambiguity, 3.0, 0.05), half, half > 0)
    np.testing.assert_allclose(smaller.result.values, truth(), rtol=1e-2)
    with pytest.raises(DataFormatError, match="not of the same view"):
        scale_by_depth(said(ambiguity, 1.0, 0.0), depth[:20], valid[:20])
    with pytest.raises(DataFormatError, match=r"0 measured depths\b"):
        scale_by_depth(said(ambiguity, 1.0, 0.0), depth, valid & False)


def test_measured_maps_are_found_and_say_what_they_are(tmp_path: Path) -> None:
    write_depth(tmp_path / "sub" / "a.png", truth(), 0.001, np.uint16)
    depth, valid = measured_depth(tmp_path, "sub/a.jpg", 0.001)
    np.testing.assert_allclose(depth, truth(), atol=6e-4)
    assert valid.all()
    with pytest.raises(ConfigError, match="--sparse-encoding"):
        measured_depth(tmp_path, "sub/a.jpg")
    with pytest.raises(DataFormatError, match="no depth map b with any"):
        measured_depth(tmp_path, "b.jpg", 0.001)
    with pytest.raises(DataFormatError, match="cannot be read"):
        measured_depth(tmp_path / "c.png", "b.jpg")
    own = room().save(tmp_path / "room.npz")
    depth, valid = measured_depth(own, "whatever.jpg")
    np.testing.assert_array_equal(valid, np.isfinite(room().values))
    np.testing.assert_array_equal(depth[valid], room().values[valid])
    with pytest.raises(DataFormatError, match="is no measured depth"):
        measured_depth(room(Ambiguity.SCALE).save(tmp_path / "relative.npz"), "a.jpg")


# ---- the height of the camera ----------------------------------------------------------------------------------------


def street(height: float, pitch: float = 0.0, roll: float = 0.0, clutter: float = 0.0) -> NDArray[np.float32]:
    """z-depth of level ground `height` metres below a camera, sky of 80 m, and a share of random pixels."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    rays = np.stack([(x - 31.5) / 50, (y - 23.5) / 50, np.ones(SIZE)])
    a, b = np.radians([pitch, roll])
    down = np.array([-np.sin(b), np.cos(a) * np.cos(b), np.sin(a) * np.cos(b)])  # of the world, seen by the camera
    along = np.tensordot(down, rays, 1)
    depth = np.where(along > 1e-3, height / np.maximum(along, 1e-3), 80.0).clip(0, 80)
    random = np.random.default_rng(0)
    return np.where(random.random(SIZE) < clutter, random.uniform(1, 5, SIZE), depth).astype(np.float32)


@pytest.mark.parametrize("ambiguity", [Ambiguity.METRIC, Ambiguity.SCALE])
@pytest.mark.parametrize(("pitch", "roll", "clutter"), [(0, 0, 0), (10, 3, 0.1), (25, -8, 0.3)])
def test_the_ground_gives_the_scale(ambiguity: Ambiguity, pitch: float, roll: float, clutter: float) -> None:
    seen = street(1.65, pitch, roll, clutter)
    made = scale_by_height(DepthResult(seen / 7, ambiguity, intrinsics=CAMERA, model="net"), 1.65)
    np.testing.assert_allclose(made.result.values, seen, rtol=5e-3)
    assert made.result.ambiguity is Ambiguity.METRIC
    assert made.result.model == "net, scaled by camera height"
    lean = np.degrees(np.arccos(np.cos(np.radians(pitch)) * np.cos(np.radians(roll))))
    assert f"leaning {lean:.0f} degrees" in made.about


def test_without_ground_or_camera_there_is_no_scale() -> None:
    wall = DepthResult(np.full(SIZE, 3, np.float32), Ambiguity.SCALE, intrinsics=CAMERA, source="a.jpg")
    with pytest.raises(DataFormatError, match=r"no ground.*a\.jpg"):
        scale_by_height(wall, 1.65)
    nothing = DepthResult(np.full(SIZE, np.nan, np.float32), Ambiguity.SCALE, intrinsics=CAMERA)
    with pytest.raises(DataFormatError, match="no ground"):
        scale_by_height(nothing, 1.65)
    with pytest.raises(DataFormatError, match="camera is unknown"):
        scale_by_height(DepthResult(street(1.65), Ambiguity.SCALE), 1.65)
    for height, ambiguity, says in ((0.0, Ambiguity.SCALE, "above the ground"), (1.0, Ambiguity.AFFINE_DEPTH, "shift")):
        with pytest.raises(ConfigError, match=says):
            scale_by_height(DepthResult(street(1.65), ambiguity, intrinsics=CAMERA), height)
