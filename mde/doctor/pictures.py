"""Pictures of the page, as text for HTML: a frame as RGB, depth, holes and edges; the histogram of depth."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.data.dataset import RawSample
from mde.doctor.edges import edge_maps

__all__ = ["colour_bar", "frame_pictures", "histogram"]

_WIDTH = 280  # pixels of a picture on the page
_GREY = 190
_JPEG_QUALITY = 82
_SERIES = ("var(--a)", "var(--b)", "var(--c)")

Image = NDArray[np.uint8]


def frame_pictures(sample: RawSample) -> tuple[list[tuple[str, str]], tuple[float, float]]:
    """(caption, data URI) of RGB, depth, the mask of holes and edges, and the range of the colours in metres."""
    depth, valid = sample.depth, sample.valid
    low, high = _limits(depth[valid])
    unit = np.clip((high - depth) / (high - low), 0, 1)  # near is bright
    coloured = cv2.applyColorMap((unit * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1].copy()
    coloured[~valid] = _GREY
    holes = np.where(valid[..., None], np.uint8(235), np.array([178, 58, 72], np.uint8)).astype(np.uint8)
    pictures = [("image", sample.image), ("depth", coloured), (f"{1 - valid.mean():.0%} unknown (red)", holes)]
    overlay = _overlay(sample)
    if overlay is not None:
        pictures.append(("edges of depth (orange) on the image", overlay))
    return [(caption, _uri(picture)) for caption, picture in pictures], (low, high)


def colour_bar(low: float, high: float) -> str:
    """A bar from near to far, with numbers in metres."""
    ramp = cv2.applyColorMap(np.arange(255, -1, -16, dtype=np.uint8)[None], cv2.COLORMAP_VIRIDIS)[0, :, ::-1]
    stops = ", ".join(f"rgb({r},{g},{b})" for r, g, b in ramp)
    return (
        f'<div class="bar"><span>{low:.2f} m</span><i style="background:linear-gradient(90deg,{stops})"></i>'
        f"<span>{high:.2f} m</span></div>"
    )


def histogram(edges: NDArray[np.float64], counts: dict[str, NDArray[np.int64]], span: tuple[float, float]) -> str:
    """SVG of the distribution of depth: one line a split, on a logarithmic axis; the expected range is shaded."""
    width, height, foot = 720, 190, 26
    filled = np.flatnonzero(sum(counts.values(), np.zeros(len(edges) - 1, np.int64)))
    if not len(filled):
        return "<p>No depth was read.</p>"
    low = min(edges[max(filled[0] - 1, 0)], span[0])
    high = max(edges[min(filled[-1] + 2, len(edges) - 1)], span[1])

    def x(metres: float) -> float:
        return float(width * np.log(metres / low) / np.log(high / low))

    peak = max(float(c.max() / max(c.sum(), 1)) for c in counts.values())
    parts = [f'<rect x="{x(span[0]):.1f}" y="0" width="{x(span[1]) - x(span[0]):.1f}" height="{height}" class="span"/>']
    for colour, (split, values) in zip(_SERIES, counts.items(), strict=False):
        shares = values / max(values.sum(), 1) / peak
        points = "".join(
            f"{x(edges[i]):.1f},{height * (1 - 0.95 * shares[i]):.1f} {x(edges[i + 1]):.1f},"
            f"{height * (1 - 0.95 * shares[i]):.1f} "
            for i in range(max(filled[0] - 1, 0), min(filled[-1] + 2, len(shares)))
        )
        parts.append(f'<polyline points="{points}" style="stroke:{colour}"><title>{escape(split)}</title></polyline>')
    for tick in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000):
        if low <= tick <= high:
            parts.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{height}" y2="{height + 5}"/>')
            parts.append(f'<text x="{x(tick):.1f}" y="{height + 20}">{tick:g} m</text>')
    legend = " ".join(
        f'<span><i style="background:{colour}"></i>{escape(split)}</span>'
        for colour, split in zip(_SERIES, counts, strict=False)
    )
    view = f"-20 -4 {width + 40} {height + foot + 4}"
    label = "share of pixels over depth, logarithmic"
    return f'<svg viewBox="{view}" role="img" aria-label="{label}">{"".join(parts)}</svg><p class="key">{legend}</p>'


def _limits(known: NDArray[np.float32]) -> tuple[float, float]:
    if known.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(known, (1, 99)))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _overlay(sample: RawSample) -> Image | None:
    edges = edge_maps(sample.image, sample.depth, sample.valid)
    if edges is None:
        return None
    size = edges.depth.shape[::-1]
    dark = (cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA) * 0.6).astype(np.uint8)
    dark[edges.depth > 0.5] = (255, 150, 40)
    return np.asarray(dark)


def _uri(picture: NDArray[Any]) -> str:
    height, width = picture.shape[:2]
    scale = min(1.0, 2 * _WIDTH / width)  # twice, for dense displays
    small = cv2.resize(picture, (round(width * scale), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
