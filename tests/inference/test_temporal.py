"""Smoothing over time, on rendered rooms of known depth: less flicker, no more error, no smear."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mde.data.worlds import make_scene
from mde.data.worlds.raycast import render
from mde.data.worlds.scene import Material, SceneBuilder
from mde.errors import ConfigError
from mde.inference.flow import Motion, motion
from mde.inference.temporal import SMOOTHERS, FlickerMeter, FlowSmoothing, ScaleLock, make_smoother
from mde.types import Ambiguity

SIZE = (96, 128)
FRAMES = 24
F32 = NDArray[np.float32]


class Filmed(NamedTuple):
    images: list[NDArray[np.uint8]]
    depths: list[F32]
    motions: list[Motion | None]


def filmed(images: list[NDArray[np.uint8]], depths: list[F32]) -> Filmed:
    return Filmed(images, depths, [None, *(motion(a, b) for a, b in pairwise(images))])


@lru_cache
def walk(seed: int, speed: float = 0.02, turn: float = 0.008) -> Filmed:
    """A camera that goes forward through a room, metres and radians a frame."""
    scene, camera = make_scene("rooms", np.random.default_rng(seed), *SIZE)
    images, depths = [], []
    for index in range(FRAMES):
        cos, sin = np.cos(turn * index), np.sin(turn * index)
        around = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        position = camera.position + speed * index * camera.rotation[:, 2]
        image, depth, _ = render(scene, replace(camera, position=position, rotation=around @ camera.rotation), *SIZE)
        images.append(image)
        depths.append(depth)
    return filmed(images, depths)


def noisy(truth: list[F32], scale: float, pixel: float, seed: int = 0) -> list[F32]:
    """Each frame by a random factor, and by soft random spots."""
    random = np.random.default_rng(seed)
    made = []
    for depth in truth:
        spots = cv2.resize(random.normal(0, pixel, (12, 16)), SIZE[::-1])
        made.append((depth * np.exp(random.normal(0, scale) + spots)).astype(np.float32))
    return made


def smoothed(
    name: str, maps: list[F32], film: Filmed, ambiguity: Ambiguity = Ambiguity.METRIC
) -> tuple[list[F32], float]:
    smoother, meter, made = make_smoother(name, ambiguity), FlickerMeter(ambiguity), []
    for index, (values, moved) in enumerate(zip(maps, film.motions, strict=True)):
        made.append(values if smoother is None else smoother(values, index / 30, moved))
        meter.add(made[-1], moved)
    assert meter.value is not None
    return made, meter.value


def error(maps: list[F32], truth: list[F32]) -> float:
    return float(np.mean([np.abs(each / depth - 1).mean() for each, depth in zip(maps, truth, strict=True)]))


@pytest.mark.parametrize("seed", [0, 3])
def test_flow_follows_the_camera(seed: int) -> None:
    """The frame before, warped, looks like this one where it is said to be seen."""
    film = walk(seed)
    for index in (1, FRAMES - 1):
        moved = film.motions[index]
        assert moved is not None
        assert moved.seen.mean() > 0.8
        assert not moved.is_cut
        before, now = (film.images[i].astype(np.float32).mean(2) for i in (index - 1, index))
        off, still = np.abs(moved.warp(before) - now)[moved.seen], np.abs(before - now)[moved.seen]
        assert off.mean() < 0.6 * still.mean()
        assert np.isnan(moved.warp(before)[~np.isfinite(moved.warp(before))]).all()


@pytest.mark.parametrize("fine", [True, False])
def test_flow_in_large_pictures_is_in_their_pixels(fine: bool) -> None:
    random = np.random.default_rng(0)
    wide = cv2.GaussianBlur(random.integers(0, 256, (480, 700, 3), dtype=np.uint8), (0, 0), 6)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    moved = motion(np.ascontiguousarray(wide[:, 8:648]), np.ascontiguousarray(wide[:, :640]), fine)
    inner = moved.back[60:-60, 60:-60]  # 8 pixels to the right: it was 8 pixels to the left
    np.testing.assert_allclose(np.median(inner, (0, 1)), (-8, 0), atol=0.3)
    assert moved.seen[60:-60, 60:-60].mean() > 0.9


@pytest.mark.parametrize("name", ["scale", "flow"])
@pytest.mark.parametrize("seed", [0, 1, 3])
def test_a_perfect_prediction_stays(name: str, seed: int) -> None:
    film = walk(seed)
    made, flickers = smoothed(name, film.depths, film)
    assert error(made, film.depths) < 0.005
    assert flickers <= smoothed("none", film.depths, film)[1] * 1.01
    still = Filmed([film.images[0]] * 9, [film.depths[0]] * 9, [None, *[motion(*[film.images[0]] * 2)] * 8])
    made, flickers = smoothed(name, still.depths, still)
    np.testing.assert_allclose(made[-1], film.depths[0], rtol=1e-5)
    assert flickers < 1e-5


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_flicker_falls_and_so_does_the_error(seed: int) -> None:
    film = walk(seed)
    maps = noisy(film.depths, 0.05, 0.05)
    plain, scale, flow = (smoothed(name, maps, film) for name in SMOOTHERS)
    rightly = smoothed("none", film.depths, film)[1]  # as the camera moves
    assert error(scale[0], film.depths) < error(plain[0], film.depths)
    assert error(flow[0], film.depths) < 0.97 * error(scale[0], film.depths)
    assert scale[1] - rightly < 0.85 * (plain[1] - rightly)
    assert flow[1] - rightly < 0.7 * (scale[1] - rightly)


@pytest.mark.parametrize(
    ("ambiguity", "made_from"),
    [
        (Ambiguity.SCALE, lambda depth, a, b: a * depth),
        (Ambiguity.AFFINE_DEPTH, lambda depth, a, b: a * depth + b),
        (Ambiguity.AFFINE_DISPARITY, lambda depth, a, b: a / depth + b),
    ],
)
@pytest.mark.parametrize("name", ["scale", "flow"])
def test_relative_maps_keep_one_scale_and_one_shift(name: str, ambiguity: Ambiguity, made_from: object) -> None:
    assert callable(made_from)
    film, random = walk(1), np.random.default_rng(0)
    maps = [
        made_from(depth, np.float32(np.exp(random.normal(0, 0.2))), np.float32(random.normal(0, 0.1))).astype(
            np.float32
        )
        for depth in film.depths
    ]
    steady = [made_from(depth, np.float32(1), np.float32(0)) for depth in film.depths]
    rightly = smoothed("none", steady, film, ambiguity)[1]
    before, after = (smoothed(each, maps, film, ambiguity)[1] for each in ("none", name))
    assert after - rightly < 0.35 * (before - rightly)


def test_the_correction_of_metres_is_bounded() -> None:
    film = walk(0)
    maps = [depth * np.float32(2 if index % 2 else 1) for index, depth in enumerate(film.depths)]
    made, _ = smoothed("scale", maps, film)
    factors = [np.median(new / old) for new, old in zip(made, maps, strict=True)]
    assert max(factors) <= np.exp(0.1) + 1e-4
    assert min(factors) >= np.exp(-0.1) - 1e-4
    assert max(factors) > 1.05


def moving_box(texture: int = 7) -> Filmed:
    """A box that crosses in front of a wall, with wallpaper on both."""
    images, depths = [], []
    for index in range(FRAMES):
        build = SceneBuilder()
        wall = build.material(Material(base=(0.7, 0.6, 0.5), second=(0.3, 0.3, 0.4), cell=(0.3, 0.2), gap=(0.1, 0.08)))
        box = build.material(Material(base=(0.2, 0.5, 0.3), second=(0.6, 0.2, 0.2), cell=(0.1, 0.13), gap=(0.05, 0.04)))
        build.box((0, 6, 0), (12, 0.2, 8), wall)
        build.box((-0.9 + 0.06 * index, 3, 0), (0.9, 0.4, 1.0), box)
        _, camera = make_scene("rooms", np.random.default_rng(texture), *SIZE)
        ahead = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
        image, depth, _ = render(build.scene(), replace(camera, position=np.zeros(3), rotation=ahead), *SIZE)
        images.append(image)
        depths.append(depth)
    return filmed(images, depths)


def test_the_edges_of_a_moving_thing_are_not_smeared() -> None:
    film = moving_box()
    maps = noisy(film.depths, 0.03, 0.03)
    band = []
    for index in range(FRAMES):  # within three pixels of where its edge is, or was in the frames before
        box = np.stack([depth < 4.5 for depth in film.depths[max(0, index - 3) : index + 1]]).astype(np.uint8)
        edges = [cv2.morphologyEx(each, cv2.MORPH_GRADIENT, np.ones((7, 7), np.uint8)) for each in box]
        band.append(np.any(edges, 0))
    for name in ("scale", "flow"):
        perfect = smoothed(name, film.depths, film)[0]
        for source, made in ((film.depths, perfect), (maps, smoothed(name, maps, film)[0])):
            before, after = (
                np.mean(
                    [
                        np.abs(each / depth - 1)[where].mean()
                        for each, depth, where in zip(s, film.depths, band, strict=True)
                    ]
                )
                for s in (source, made)
            )
            assert after <= before + 0.003, name
        worst = [np.abs(each / depth - 1).max() for each, depth in zip(perfect, film.depths, strict=True)]
        assert max(worst) < 0.1, name  # front and back are a factor of two apart


def test_a_cut_begins_anew() -> None:
    rooms = [walk(seed, 0.02, 0.0) for seed in (0, 1)]
    images, depths = (rooms[0][i][:8] + rooms[1][i][:8] for i in (0, 1))
    film = filmed(images, depths)
    cuts = [moved is not None and moved.is_cut for moved in film.motions]
    assert cuts == [index == 8 for index in range(16)]
    maps = noisy(depths, 0.05, 0.0)
    for name in ("scale", "flow"):
        made, value = smoothed(name, maps, film)
        np.testing.assert_array_equal(made[8], maps[8])
        alone, _ = smoothed(name, maps[8:], filmed(images[8:], depths[8:]))
        np.testing.assert_allclose(made[-1], alone[-1], rtol=1e-5)
        assert value < 0.05
    assert FlickerMeter(Ambiguity.METRIC).value is None


def test_holes_stay_holes_and_nothing_comes_out_of_them() -> None:
    film = walk(0)
    maps = noisy(film.depths, 0.05, 0.02)
    for each in maps:
        each[20:30, 40:60] = np.nan
        each[0, 0] = np.inf
    for name in ("scale", "flow"):
        made, value = smoothed(name, maps, film)
        assert np.isfinite(value)
        for new, old in zip(made, maps, strict=True):
            np.testing.assert_array_equal(np.isfinite(new), np.isfinite(old))
        assert (
            error([np.where(np.isfinite(m), m, d) for m, d in zip(made, film.depths, strict=True)], film.depths) < 0.06
        )
    nothing = np.full(SIZE, np.nan, np.float32)
    for smoother in (ScaleLock(Ambiguity.METRIC), FlowSmoothing(Ambiguity.AFFINE_DEPTH)):
        for moved in film.motions[:3]:
            assert np.isnan(smoother(nothing, 0.0, moved)).all()


def test_time_counts_and_not_the_number_of_frames() -> None:
    """Frames that are far apart in time are smoothed less; a longer memory smooths more."""
    film = walk(0, 0.0, 0.0)
    maps = noisy(film.depths, 0.05, 0.0)

    def rest(seconds: float, rate: float) -> float:
        lock = ScaleLock(Ambiguity.METRIC, seconds)
        made = [
            lock(values, index / rate, moved)
            for index, (values, moved) in enumerate(zip(maps, film.motions, strict=True))
        ]
        levels = [float(np.median(each / depth)) for each, depth in zip(made, film.depths, strict=True)]
        return float(np.abs(np.diff(levels))[8:].mean())

    assert rest(1.0, 30) < rest(0.2, 30) < rest(0.2, 2)


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown smoothing 'kalman'.*none, scale, flow"):
        make_smoother("kalman", Ambiguity.METRIC)
    assert make_smoother("none", Ambiguity.METRIC) is None
    with pytest.raises(ConfigError, match="above 0 s"):
        ScaleLock(Ambiguity.METRIC, 0)
    for wrong in ({"share": 0.0}, {"share": 2.0}, {"jump": 0.0}):
        with pytest.raises(ConfigError, match="smooth nothing"):
            FlowSmoothing(Ambiguity.METRIC, **wrong)
