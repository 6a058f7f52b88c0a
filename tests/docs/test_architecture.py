"""The picture of the architecture shows the layers that are enforced, and can be read on white and on black."""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest
from PIL import ImageFont

from tests.test_layers import LAYERS
from tools.draw_architecture import ABOUT, INK, PICTURE, ROW, WIDTH, Box, boxes, draw

SVG = "{http://www.w3.org/2000/svg}"
BOXES = list(boxes(LAYERS))


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_file_is_what_the_script_draws() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(LAYERS), "run: python -m tools.draw_architecture"


def test_every_part_stands_in_the_row_of_its_layer() -> None:
    rows: dict[float, set[str]] = {}
    for box in BOXES:
        rows.setdefault(box.y, set()).add(box.name)
    assert [rows[y] for y in sorted(rows, reverse=True)] == LAYERS
    texts = [text.text for text in ElementTree.fromstring(draw(LAYERS)).iter(f"{SVG}text")]
    assert [texts.count(name) for name in ABOUT] == [1] * len(ABOUT)


def test_boxes_neither_overlap_nor_leave_the_picture() -> None:
    height = float(ElementTree.fromstring(draw(LAYERS)).attrib["viewBox"].split()[3])
    for box in BOXES:
        assert box.x > 0
        assert box.x + box.width < WIDTH
        assert box.y > 0
        assert box.y + ROW < height
    for one, other in combinations(BOXES, 2):
        apart = one.y + ROW < other.y or other.y + ROW < one.y
        assert apart or one.x + one.width < other.x or other.x + other.width < one.x, (one, other)


@pytest.mark.parametrize("box", BOXES, ids=lambda box: box.name)
def test_words_fit_and_can_be_read_whatever_lies_behind(box: Box) -> None:
    font = ImageFont.load_default(13)  # a sans-serif, as browsers take
    assert 1.1 * font.getlength(ABOUT[box.name]) < box.width - 8
    assert contrast(INK, box.fill) >= 4.5  # WCAG 2.2, level AA
    for page in ("#ffffff", "#131416"):
        assert contrast(box.fill, page) >= 1.5


def test_a_part_without_words_is_noticed() -> None:
    with pytest.raises(ValueError, match="newcomer"):
        draw([*LAYERS, {"newcomer"}])


def test_nothing_in_it_depends_on_the_page() -> None:
    assert not re.search(r"currentColor|prefers-color-scheme|href", draw(LAYERS))
