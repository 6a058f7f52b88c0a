"""Draw the layers of the package: ``python -m tools.draw_architecture`` writes docs/pictures/architecture.svg.

What stands in which row is what the test of the layers enforces. Every letter stands on a coloured box, so that the
picture can be read on a white page and on a black one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from tests.test_layers import LAYERS

__all__ = ["PICTURE", "Box", "boxes", "draw", "main"]

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "architecture.svg"

ABOUT = {
    "cli": "mde fit, test, predict, compare …",
    "callbacks": "checkpoints, record, pictures",
    "demo": "the page in the browser",
    "inference": "predictor, video, export",
    "report": "results, statistics, HTML page",
    "doctor": "what is wrong with data",
    "data": "files to a Batch, in metres",
    "models": "encoders, decoders, a file a paper",
    "losses": "masked, in a stated space",
    "metrics": "errors of each image",
    "protocol": "how a prediction is scored, with a fingerprint",
    "codecs": "metres to network space",
    "alignment": "relative to metres",
    "crf": "dense CRF on classes",
    "masking": "means of valid pixels",
    "geometry": "cameras, points",
    "resizing": "without mixing zeros",
    "types": "Batch, Prediction, Ambiguity",
    "rebuild": "objects as plain data, and back",
    "errors": "what is wrong, and what to do",
    "console": "readable in terminal and log",
    "lazy": "names imported when used",
}
"""What each part is for, in the order from left to right."""

WIDTH, MARGIN, GAP = 860, 44, 12
ROW, STEP = 50, 64
FILLS = ("#4a5568",) * 5 + ("#2b6cb0",) * 2 + ("#2f7d56",) * 3  # foundations, building blocks, what people use
INK, ARROW = "#ffffff", "#808895"


class Box(NamedTuple):
    """One part; pixels."""

    name: str
    x: float
    y: float
    width: float
    fill: str


def main() -> int:
    """Write the picture."""
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(LAYERS), encoding="utf-8")
    print(PICTURE)
    return 0


def boxes(layers: Sequence[Collection[str]]) -> Iterator[Box]:
    """A row for each layer, the lowest at the bottom.

    Raises:
        ValueError: a part has no words in `ABOUT`.
    """
    known = list(ABOUT)
    space = WIDTH - 2 * MARGIN
    for level, layer in enumerate(layers):
        width = (space - GAP * (len(layer) - 1)) / len(layer)
        y = MARGIN / 2 + STEP * (len(layers) - 1 - level)
        for column, name in enumerate(sorted(layer, key=known.index)):
            yield Box(name, MARGIN + column * (width + GAP), y, width, FILLS[min(level, len(FILLS) - 1)])


def draw(layers: Sequence[Collection[str]]) -> str:
    """The picture as SVG."""
    height = STEP * len(layers) + MARGIN / 2 + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        'font-family="system-ui, sans-serif" text-anchor="middle">',
        "<title>The parts of mde in layers: each imports only from the rows below its own</title>",
        *_arrow(height),
        *(line for box in boxes(layers) for line in _box(box)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _box(box: Box) -> Iterator[str]:
    middle = box.x + box.width / 2
    yield f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{ROW}" rx="7" fill="{box.fill}"/>'
    yield f'<text x="{middle:g}" y="{box.y + 21:g}" fill="{INK}" font-size="16" font-weight="600">{box.name}</text>'
    yield f'<text x="{middle:g}" y="{box.y + 40:g}" fill="{INK}" font-size="13">{escape(ABOUT[box.name])}</text>'


def _arrow(height: float) -> Iterator[str]:
    """At the left, from top to bottom: the way in which imports point."""
    x, end = MARGIN / 2, height - 14
    head = f"M{x - 8:g} {end - 12:g} L{x:g} {end:g} L{x + 8:g} {end - 12:g}"
    yield f'<path d="M{x:g} {MARGIN / 2:g} V{end:g} {head}" stroke="{ARROW}" stroke-width="3" fill="none"/>'


if __name__ == "__main__":
    raise SystemExit(main())
