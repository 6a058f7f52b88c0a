"""What the viewer in the page shows: layers in colours with their bars, and the numbers under the pointer."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.demo.choices import Colours
from mde.demo.seen import step_of, thinned
from mde.errors import ConfigError
from mde.inference.outputs import ColourScale
from mde.inference.outputs.colour import MARKS, palette
from mde.inference.outputs.pictures import Bar, Panel, bar_picture, depth_panel, png_bytes
from mde.inference.result import DepthResult
from mde.types import Ambiguity

__all__ = ["VIEWED", "difference_panel", "view"]

VIEWED = 600_000
"""Pixels that the viewer gets at most: more than the screen shows of it. Of larger pictures it gets every second, third
… pixel of both directions, with its own value."""

_BAR_HEIGHT = 380  # pixels


def view(results: Sequence[DepthResult], titles: Sequence[str], colours: Colours) -> tuple[dict[str, Any], list[str]]:
    """What the viewer shows of one picture.

    Results in metres share one colour scale, others have their own: a relative unit of one network says nothing to
    another.

    Args:
        results: one a network, of one picture, all with it.
        titles: of the networks.
        colours: the scale that was chosen.

    Returns:
        Plain data for ``viewer.js`` (size of the picture, step between shown pixels, layers as pictures in data URLs,
        float32 values), and lines about what cannot be shown and why.

    Raises:
        ConfigError: a colour scale that does not suit a map.
    """
    size = results[0].values.shape
    step = step_of(size, VIEWED)
    results = [thinned(result, VIEWED) for result in results]
    scales = _scales(results, colours)
    layers = [_picture_layer(results[0])]
    for result, title, scale in zip(results, titles, scales, strict=True):
        layers.append(_layer(title, depth_panel(result, scale)))
    notes = []
    if len(results) == 2:
        try:
            layers.append(_layer("difference", difference_panel(*results)))
        except ConfigError as error:
            notes.append(f"no difference: {error}")
    maps = [_map(result, title, scale) for result, title, scale in zip(results, titles, scales, strict=True)]
    shown = {"height": results[0].values.shape[0], "width": results[0].values.shape[1]}
    return {"size": [int(size[0]), int(size[1])], "step": step, **shown, "layers": layers, "maps": maps}, notes


def difference_panel(first: DepthResult, second: DepthResult) -> Panel:
    """How far two maps lie apart, in metres: bright is far apart, unknown where one of them is.

    Raises:
        ConfigError: not both are in metres.
    """
    for result in (first, second):
        if result.ambiguity is not Ambiguity.METRIC:
            what = f"the numbers of {result.model} are no metres but a {result.unit}"
            raise ConfigError(what, where="compare", next_action="give scale anchors, or compare two metric networks")
    with np.errstate(invalid="ignore"):
        apart = np.abs(first.values - second.values)
    apart = np.where(np.isfinite(apart), apart, np.float32(np.nan))
    top = float(np.nanpercentile(apart, 99)) if np.isfinite(apart).any() else 0.0
    scale = ColourScale(0.0, top if top > 0 else 1.0, "linear", "magma", clip=True)
    colours = palette(scale.colours)
    share = np.nan_to_num(scale.positions(apart))
    picture = colours[len(MARKS) + np.rint(share * (len(colours) - len(MARKS) - 1)).astype(int)]
    picture[np.isnan(apart)] = MARKS["none"].colour
    marks = ("none",) if np.isnan(apart).any() else ()
    return Panel(picture, Bar(scale, "|A - B| (m)", " m", True, marks))


def _scales(results: Sequence[DepthResult], colours: Colours) -> list[ColourScale]:
    metric = [result for result in results if result.ambiguity is Ambiguity.METRIC]
    shared = colours.scale(metric) if metric else None
    return [
        shared if shared is not None and result.ambiguity is Ambiguity.METRIC else colours.scale([result])
        for result in results
    ]


def _picture_layer(result: DepthResult) -> dict[str, Any]:
    if result.image is None:
        raise ConfigError("a result without its picture", where=result.source, next_action="give one of a Predictor")
    jpeg = cv2.imencode(".jpg", result.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    return {"name": "picture", "src": _url(jpeg, "image/jpeg"), "bar": None}


def _layer(name: str, panel: Panel) -> dict[str, Any]:
    bar = png_bytes(bar_picture(panel.bar, _BAR_HEIGHT))
    return {"name": name, "src": _url(png_bytes(panel.picture), "image/png"), "bar": _url(bar, "image/png")}


def _map(result: DepthResult, title: str, scale: ColourScale) -> dict[str, Any]:
    """The numbers: exactly those of the map, float32, little-endian, by rows."""
    metric = result.ambiguity is Ambiguity.METRIC
    return {
        "name": title,
        "unit": result.unit,
        "metric": metric,
        "ends": list(result.depth_range) if metric and result.depth_range else None,
        "scale": None if scale.clip else [scale.vmin, scale.vmax],
        "values": _text(result.values),
    }


def _text(values: NDArray[np.float32]) -> str:
    return base64.b64encode(values.astype("<f4", copy=False).tobytes()).decode("ascii")


def _url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
