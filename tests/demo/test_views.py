"""What the viewer gets: values that are those of the map, colours that are those of `mde predict`."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mde.demo import views
from mde.demo.choices import Colours
from mde.demo.seen import step_of, thinned
from mde.errors import ConfigError
from mde.geometry import unproject
from mde.inference.camera import Camera
from mde.inference.outputs import ColourScale
from mde.inference.result import DepthResult
from mde.types import Ambiguity
from tests.demo.made import Known, picture


def result_of(size: tuple[int, int] = (48, 64), least: float = 1.0, **changes: Any) -> DepthResult:
    image = picture(*size)
    made = {"values": Known(least).depth(image), "ambiguity": Ambiguity.METRIC, "image": image, "model": "Known"}
    return DepthResult(**{**made, **changes})


def decoded(layer: dict[str, Any]) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(layer["src"].partition(",")[2]))) as opened:
        return np.asarray(opened.convert("RGB"))


def floats(one: dict[str, Any]) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(one["values"]), "<f4")


def test_the_values_are_those_of_the_map_bit_for_bit() -> None:
    result = result_of(depth_range=(1.0, 10.0))
    shown, notes = views.view([result], ["Known"], Colours())
    assert notes == []
    np.testing.assert_array_equal(floats(shown["maps"][0]).reshape(48, 64), result.values)
    assert {key: shown[key] for key in ("size", "step", "height", "width")} == {
        "size": [48, 64], "step": 1, "height": 48, "width": 64,
    }  # fmt: skip
    about = {key: shown["maps"][0][key] for key in ("unit", "metric", "ends", "scale")}
    assert about == {"unit": "m", "metric": True, "ends": [1.0, 10.0], "scale": None}


def test_the_colours_are_those_of_the_library() -> None:
    result = result_of()
    for colours in (Colours("magma", "log"), Colours("cividis", near=2.0, far=4.0)):
        shown, _ = views.view([result], ["Known"], colours)
        assert [layer["name"] for layer in shown["layers"]] == ["picture", "Known"]
        np.testing.assert_array_equal(decoded(shown["layers"][1]), result.colorize(colours.scale([result])))
        assert np.abs(decoded(shown["layers"][0]).astype(int) - result.image).mean() < 6  # JPEG
    assert shown["maps"][0]["scale"] == [2.0, 4.0]


@settings(max_examples=40, deadline=None)
@given(height=st.integers(3, 40), width=st.integers(3, 40), most=st.integers(1, 900))
def test_a_thinned_map_keeps_values_and_places(height: int, width: int, most: int) -> None:
    camera = Camera(fov=70).intrinsics((height, width))
    result = result_of((height, width), intrinsics=camera)
    thin, step = thinned(result, most), step_of((height, width), most)
    assert thin.values.size <= most or step == min(height, width)
    assert thin.image is not None
    assert thin.image.shape[:2] == thin.values.shape

    def points(one: DepthResult) -> NDArray[np.float64]:
        depth, matrix = torch.from_numpy(one.values)[None, None].double(), torch.from_numpy(one.intrinsics)[None]
        return unproject(depth, matrix)[0].numpy()

    rows, columns = thin.values.shape
    same = [slice(step // 2 if step > 1 else 0, None, step)] * 2
    np.testing.assert_array_equal(thin.values, result.values[tuple(same)][:rows, :columns])
    np.testing.assert_allclose(points(thin), points(result)[:, same[0], same[1]][:, :rows, :columns], atol=1e-9)


def test_large_pictures_are_thinned_for_the_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "VIEWED", 400)
    result = result_of()
    shown, _ = views.view([result], ["Known"], Colours())
    step = shown["step"]
    assert shown["height"] * shown["width"] <= 400
    assert shown["size"] == [48, 64]
    found = floats(shown["maps"][0]).reshape(shown["height"], shown["width"])
    assert found[3, 5] == result.values[3 * step + step // 2, 5 * step + step // 2]


def test_two_metric_networks_share_a_scale_and_have_a_difference() -> None:
    first, second = result_of(), result_of(least=1.5)
    shown, notes = views.view([first, second], ["A: Known", "B: Known"], Colours())
    assert notes == []
    assert [layer["name"] for layer in shown["layers"]] == ["picture", "A: Known", "B: Known", "difference"]
    scale = ColourScale.of([first, second])
    for layer, result in zip(shown["layers"][1:3], (first, second), strict=True):
        np.testing.assert_array_equal(decoded(layer), result.colorize(scale))
    panel = views.difference_panel(first, second)
    assert panel.bar.title == "|A - B| (m)"
    assert panel.bar.scale.vmax == pytest.approx(0.5, rel=1e-6)
    assert (panel.picture[np.isnan(first.values)] == 191).all()
    assert len(np.unique(panel.picture[~np.isnan(first.values)], axis=0)) <= 3  # the same everywhere, up to rounding


def test_a_larger_difference_is_brighter() -> None:
    first = result_of()
    ramp = first.values + np.linspace(0, 1, 64, dtype=np.float32)
    grey = views.difference_panel(first, result_of(values=ramp)).picture[20].astype(int).sum(-1)
    assert (np.diff(grey) >= -2).all()
    assert grey[-1] > grey[0] + 300


def test_relative_maps_have_their_own_scales_and_no_difference() -> None:
    metric, relative = result_of(), result_of(ambiguity=Ambiguity.AFFINE_DISPARITY, least=100.0)
    shown, notes = views.view([metric, relative], ["A", "B"], Colours())
    assert [layer["name"] for layer in shown["layers"]] == ["picture", "A", "B"]
    assert notes[0].startswith("no difference: the numbers of Known are no metres but a relative disparity")
    np.testing.assert_array_equal(decoded(shown["layers"][1]), metric.colorize())
    np.testing.assert_array_equal(decoded(shown["layers"][2]), relative.colorize())
    assert [one["metric"] for one in shown["maps"]] == [True, False]
    assert shown["maps"][1]["unit"] == "relative disparity"
    with pytest.raises(ConfigError, match="take linear"):
        views.view([relative], ["B"], Colours(kind="log"))
