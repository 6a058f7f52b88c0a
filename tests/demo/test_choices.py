"""The fields of the page become settings, or say what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from mde.demo.choices import KINDS, Colours, anchors_of, camera_of, number_of
from mde.demo.page import Fields
from mde.errors import ConfigError, MdeError
from mde.inference.outputs import COLOURS
from tests.inference.results import room


def test_empty_ends_are_found_and_given_ones_are_kept() -> None:
    result = room()
    found = Colours(COLOURS[1]).scale([result])
    assert found.clip
    assert found.colours == COLOURS[1]
    known = result.values[np.isfinite(result.values)]
    assert (found.vmin, found.vmax) == pytest.approx(tuple(np.percentile(known, (1, 99))), rel=1e-6)
    given = Fields(kind="inverse (1/depth)", near="0,5", far="10").scale.scale([result])
    assert (given.vmin, given.vmax, given.kind, given.clip) == (0.5, 10.0, "reciprocal", False)
    assert [Colours(kind=kind).scale([result]).kind for kind in KINDS] == ["linear", "log", "reciprocal"]


def test_cameras_of_the_fields() -> None:
    assert Fields(fov="90").camera.intrinsics((480, 640))[0, 0] == pytest.approx(320)
    assert Fields(focal_mm="4.2", sensor_mm="5.6").camera.intrinsics((480, 640))[0, 0] == pytest.approx(480)
    assert camera_of(None, None, None).intrinsics((480, 640)) is None


def test_lines_of_anchors() -> None:
    assert anchors_of("1,2,3\n\n 4.5, 6 ,7e-1 \n") == [(1, 2, 3), (4.5, 6, 0.7)]
    assert anchors_of("") == []


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (Fields(near="1"), "no far end"),
        (Fields(far="1"), "no near end"),
        (Fields(near="5", far="1"), "smaller end first"),
        (Fields(near="a", far="1"), "'a' is not a number [near end]"),
        (Fields(near="nan", far="1"), "is not a number"),
        (Fields(near="0", far="1", kind="log"), "begins above 0"),
        (Fields(colours="jet"), "nearest"),
        (Fields(fov="200"), "no camera has field of view"),
        (Fields(fov="60", focal_mm="4", sensor_mm="6"), "in one way"),
        (Fields(focal_mm="4"), "width of the sensor is missing"),
        (Fields(sensor_mm="4"), "focal length is missing"),
        (Fields(anchors="320,240,"), "'320,240,' is not x,y,metres"),
        (Fields(anchors="1,2\n3"), "is not x,y,metres"),
    ],
)
def test_wrong_fields_say_what_to_do(fields: Fields, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _ = fields.scale.scale([room()]), fields.camera, anchors_of(fields.anchors)
    assert isinstance(caught.value, MdeError)
    assert says in str(caught.value)
    assert "Next: " in str(caught.value)


def test_numbers_with_comma_or_point() -> None:
    assert [number_of(text, "x") for text in ("1.5", "1,5", " -2 ", "")] == [1.5, 1.5, -2.0, None]
