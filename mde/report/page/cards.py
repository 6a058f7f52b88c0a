"""An image of the gallery: RGB | truth | prediction | error, with a divider, as HTML and as data for the script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from mde.report.figures import DEPTH_COLOURS, ERROR_COLOURS, depth_limits, error_limit
from mde.report.page.content import Shown
from mde.report.page.maps import codes, jpeg, pack_bits, pack_codes, palette
from mde.report.tables import number

__all__ = ["card", "encoded"]


def encoded(shown: Shown, methods: Sequence[str]) -> dict[str, object]:
    """What the script needs of an image: sizes, scales in metres, camera, packed maps, and the picture.

    Args:
        shown: the image.
        methods: names, in the order of the page; a method without this image has None.
    """
    truth = shown.truth
    low, high = depth_limits(np.ma.masked_where(~truth.known, truth.depth), next(iter(shown.samples.values())).pred)
    samples = [shown.samples.get(name) for name in methods]
    errors = [
        np.abs(s.pred - truth.depth)[s.counted & truth.known & np.isfinite(s.pred)] for s in samples if s is not None
    ]
    camera = truth.intrinsics
    return {
        "width": truth.depth.shape[1],
        "height": truth.depth.shape[0],
        "low": low,
        "high": high,
        "worst": error_limit(np.concatenate(errors)),
        "camera": [camera[0, 0], camera[1, 1], camera[0, 2], camera[1, 2]] if shown.has_camera else None,
        "truth": pack_codes(codes(truth.depth)),
        "preds": [None if s is None else pack_codes(codes(s.pred)) for s in samples],
        "counted": [None if s is None else pack_bits(s.counted) for s in samples],
        "rgb": jpeg(truth.image),
    }


def card(place: int, shown: Shown, image: Mapping[str, object], errors: Mapping[str, Mapping[str, float]]) -> str:
    """The element of an image; its canvases are filled by the script.

    Args:
        place: of the image in the data.
        shown: the image.
        image: its data, of `encoded`.
        errors: abs_rel by method and id.
    """
    values = {name: each.get(shown.id, math.nan) for name, each in errors.items()}
    words = "abs_rel " + ", ".join(
        f"{escape(name)} {number(value)}" for name, value in values.items() if math.isfinite(value)
    )
    ratio = f'style="aspect-ratio: {image["width"]} / {image["height"]}"'
    mark, name = '<span class="mark"></span>', escape(shown.id, quote=True)
    two = '<canvas class="under"></canvas><canvas class="over"></canvas>'
    divider = (
        '<div class="divider" role="slider" tabindex="0" aria-label="divider" aria-valuemin="0" aria-valuemax="100" '
        'aria-valuenow="50"></div>'
    )
    line = '<div class="divider"></div>'
    ends = '<figcaption><span class="on-left"></span><span class="on-right"></span></figcaption>'
    return (
        f'<article class="card" id="image-{place}" data-image="{place}"><h4><span class="mono">{name}</span>'
        f'<span class="soft">{words}</span></h4><div class="panes">'
        f'<figure><div class="view" {ratio}><img src="{image["rgb"]}" alt="{name}">{mark}</div>'
        "<figcaption>RGB</figcaption></figure>"
        f'<figure><div class="view" {ratio}><canvas class="truth" role="img" aria-label="true depth"></canvas>{mark}'
        "</div><figcaption>truth</figcaption></figure>"
        f'<figure><div class="view split pred" {ratio}>{two}{mark}{divider}</div>{ends}</figure>'
        f'<figure><div class="view split error" {ratio}>{two}{mark}{line}</div>{ends}</figure></div>'
        f'<div class="bars">{_bar("depth", DEPTH_COLOURS, image["low"], image["high"])}'
        f'{_bar("error", ERROR_COLOURS, 0.0, image["worst"])}</div><output class="readout"></output></article>'
    )


def _bar(what: str, colours: str, low: object, high: object) -> str:
    stops = ",".join(f"rgb({r},{g},{b})" for r, g, b in palette(colours)[::15].tolist())
    return (
        f'<div class="bar"><span>{what} {low:.2f} m</span><i style="background:linear-gradient(90deg,{stops})"></i>'
        f"<span>{high:.2f} m</span></div>"
    )
