"""Colours: near is bright, equal values are equal colours, what has no place on the scale is marked."""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.errors import ConfigError
from mde.inference import DepthResult
from mde.inference.outputs import COLOURS, ColourScale
from mde.inference.outputs.colour import MARKS, palette
from mde.inference.outputs.pictures import depth_panel, side_picture, std_picture, ticks
from mde.types import Ambiguity
from tests.inference.results import room

KINDS = ("linear", "log", "reciprocal")
# G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency", 2009: severity 1, linear RGB
BLIND = {
    "none": np.eye(3),
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}


def one_row(values, ambiguity=Ambiguity.METRIC, **more):
    return DepthResult(np.array([values], np.float32), ambiguity, **more)


def lab(colours, sight="none"):
    """CIE Lab (N,3) of sRGB bytes as somebody of this sight sees them."""
    value = np.asarray(colours, np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ np.asarray(BLIND[sight]).T
    linear = np.clip(linear, 0, 1)
    seen = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(seen.astype(np.float32)[None], cv2.COLOR_RGB2LAB)[0].astype(np.float64)


@pytest.mark.parametrize("name", COLOURS)
def test_the_maps_are_those_of_matplotlib(name):
    drawn = palette(name)[len(MARKS) :].astype(int)
    places = np.linspace(0, 255, len(drawn)).round().astype(int)
    assert np.abs(drawn - matplotlib.colormaps[name](places, bytes=True)[:, :3]).max() <= 1


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("sight", BLIND)
def test_brightness_rises_and_marks_stand_out_for_every_sight(name, sight):
    seen = lab(palette(name), sight)
    assert (np.diff(seen[len(MARKS) :: 8, 0]) > 0).all()
    marks = seen[: len(MARKS)]
    away = np.linalg.norm(seen[len(MARKS) :, None] - marks, axis=2).min(0)
    assert away.min() > 10, dict(zip(MARKS, away, strict=True))  # a difference of 2 is just noticed
    assert min(np.linalg.norm(marks[i] - marks[j]) for i in range(3) for j in range(i)) > 10


@settings(deadline=None)
@given(
    st.lists(st.floats(0.25, 90, width=32), min_size=2, max_size=30), st.sampled_from(KINDS), st.sampled_from(COLOURS)
)
def test_near_is_never_darker_than_far(depths, kind, colours):
    picture = one_row(sorted(depths)).colorize(ColourScale(0.25, 100, kind, colours))
    assert (np.diff(lab(picture[0])[:, 0]) <= 0.1).all()  # of 100: the map, in steps of a byte


def test_a_large_disparity_is_near_and_bright():
    scale = ColourScale(0.0, 1.0)
    depth, disparity = one_row([0.1, 0.9]), one_row([0.9, 0.1], Ambiguity.AFFINE_DISPARITY)
    np.testing.assert_array_equal(depth.colorize(scale), disparity.colorize(scale))
    assert lab(disparity.colorize(scale)[0])[:, 0].argmax() == 0


@pytest.mark.parametrize("kind", KINDS)
@given(place=st.floats(0, 1))
def test_positions_are_the_inverse_of_the_kind(kind, place):
    low, high = 0.5, 80.0
    value = {
        "linear": low + place * (high - low),
        "log": low * (high / low) ** place,
        "reciprocal": 1 / (1 / low + place * (1 / high - 1 / low)),
    }[kind]
    assert ColourScale(low, high, kind).positions(np.array([value]))[0] == pytest.approx(place, abs=1e-5)


def test_one_scale_gives_equal_depths_equal_colours_in_all_pictures():
    first, second = room(), room(values=np.full((24, 32), 4, np.float32), std=None)
    scale = ColourScale.of([first, second])
    assert (first.colorize(scale)[-1, -1] == second.colorize(scale)[0, 0]).all()
    assert (scale.vmin, scale.vmax, scale.clip) == (2, 4, True)
    assert (first.colorize()[-1, -1] != second.colorize()[0, 0]).any()  # each on its own


def test_no_depth_and_beyond_the_scale_are_marked():
    none, nearer, farther = (np.array(MARKS[name].colour) for name in ("none", "nearer", "farther"))
    values = [np.nan, 0.0, -1.0, 0.4, 0.5, 10.0, 10.1, np.inf]
    fixed = one_row(values).colorize(ColourScale(0.5, 10))[0]
    for pixel, mark in zip(fixed, [none, none, none, nearer, None, None, farther, farther], strict=True):
        assert mark is None or (pixel == mark).all()
    np.testing.assert_array_equal(fixed[4:6], palette("viridis")[[255, 3]])
    clipped = one_row(values).colorize(ColourScale(0.5, 10, clip=True))[0]
    np.testing.assert_array_equal(clipped[[3, 6]], fixed[[4, 5]])
    assert (clipped[7] == farther).all()
    disparity = one_row([-1.0, 0.0, 1.0, 2.0], Ambiguity.AFFINE_DISPARITY).colorize(ColourScale(0, 1))[0]
    assert (disparity[0] == farther).all()
    assert (disparity[3] == nearer).all()


def test_the_legend_names_what_occurs_and_the_bar_its_ends():
    panel = depth_panel(one_row([np.nan, 1.0, 20.0]), ColourScale(0.5, 10))
    assert panel.bar.marks == ("none", "farther")
    assert (panel.bar.title, panel.bar.unit) == ("depth (m)", " m")
    relative = depth_panel(one_row([1.0, 20.0], Ambiguity.AFFINE_DISPARITY)).bar
    assert (relative.title, relative.unit, relative.marks) == ("relative disparity", "", ())


@settings(deadline=None)
@given(st.floats(1e-3, 50), st.floats(1.001, 1e5), st.sampled_from(KINDS), st.integers(2, 10))
def test_ticks_hold_both_ends_and_keep_their_distance(low, factor, kind, most):
    scale = ColourScale(low, low * factor, kind)
    found = ticks(scale, most)
    assert (found[0], found[-1]) == (scale.vmin, scale.vmax)
    assert found == sorted(found)
    assert (np.diff(scale.positions(np.array(found))) >= 0.55 / most).all()
    assert len(found) <= 2 * most


def test_percentiles_of_maps_without_a_depth_or_with_one_value():
    blank = one_row([np.nan, np.nan])
    assert (blank.colorize() == MARKS["none"].colour).all()
    flat = ColourScale.of([one_row([3.0, 3.0])], kind="log")
    assert flat.vmin < 3 < flat.vmax
    wide = ColourScale.of([one_row(np.arange(1, 102))], percentiles=(10, 90))
    assert (wide.vmin, wide.vmax) == pytest.approx((11, 91))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ColourScale(10, 1), "rises from one finite number"),
        (lambda: ColourScale(0, np.inf), "rises from one finite number"),
        (lambda: ColourScale(0, 10, "log"), r"a log scale begins above 0.*or take linear"),
        (lambda: ColourScale(0, 10, "logarithmic"), r"unknown colour scale 'logarithmic'.*nearest: "),
        (lambda: ColourScale(0, 10, colours="jet"), r"unknown colour scale 'jet'.*viridis"),
        (lambda: ColourScale.of([]), "percentiles"),
        (lambda: ColourScale.of([room(), room(Ambiguity.SCALE)]), "results of one network"),
        (lambda: ColourScale.of([room()], percentiles=(99, 1)), "rising percentiles"),
        (lambda: room(Ambiguity.AFFINE_DEPTH).colorize(ColourScale(1, 5, "log")), "unknown shift.*take linear"),
        (lambda: std_picture(room(std=None)), "does not say how sure it is.*average mirrored"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_side_picture_holds_photograph_map_and_bar():
    result, scale = room(), ColourScale(1, 5)
    picture = side_picture(result, scale)
    factor = picture.shape[0] // 24
    assert picture.shape[0] == 24 * factor >= 200
    inside = picture[::factor, ::factor]
    np.testing.assert_array_equal(inside[:, :32], result.image)
    right = picture[:, 32 * factor + 8 :]
    np.testing.assert_array_equal(right[::factor, : 32 * factor : factor], result.colorize(scale))
    bar = {tuple(colour) for colour in right[:, 32 * factor :].reshape(-1, 3).tolist()}
    assert {tuple(palette("viridis")[-1].tolist()), (191, 191, 191), (0, 0, 0)} <= bar
    alone = side_picture(room(image=None), scale)
    np.testing.assert_array_equal(alone, right)


def test_uncertain_is_bright():
    std = np.full((24, 32), 0.1, np.float32)
    std[12:] = 2.0
    picture = std_picture(room(std=std))
    sure, unsure = lab(picture[[20, -20], 40])[:, 0]
    assert unsure > sure + 30


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 2)])
def test_every_size_is_drawn(size):
    result = DepthResult(np.ones(size, np.float32), Ambiguity.SCALE)
    assert result.colorize().shape == (*size, 3)
    assert side_picture(result).shape[0] >= 200
    assert result.plot(ColourScale(0.5, 3, "reciprocal")).axes
