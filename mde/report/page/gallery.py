"""The pictures of the page: images with a divider between methods, the list of the worst, the point cloud."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from mde.report.page.cards import card
from mde.report.page.content import Content, Shown
from mde.report.page.tables import worst_section

__all__ = ["cloud_section", "gallery_section"]


def gallery_section(content: Content, shown: Sequence[Shown], images: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Choices for the divider, the images spread over the set, then the list of the worst and their images.

    Args:
        content: of the page.
        shown: the images that have pictures.
        images: their data, of `mde.report.page.cards.encoded`.
    """
    names = [method.name for method in content.methods]
    errors = {method.name: method.errors() for method in content.methods}
    cards = {
        each.id: card(number, each, image, errors)
        for number, (each, image) in enumerate(zip(shown, images, strict=True))
    }
    if cards:
        yield f'<h2>Images</h2><div class="bench controls choices">{_choices(names)}</div>'
        yield "<noscript><p>The maps are drawn by a script in this file; allow it to see them.</p></noscript>"
    worst = {sample_id for sample_id, _ in content.worst}
    yield from (drawn for sample_id, drawn in cards.items() if sample_id not in worst or sample_id in content.gallery)
    if content.worst:
        yield f"<h2>The worst {len(content.worst)} by abs_rel of {escape(names[0])}</h2>"
        yield from worst_section(content, {each.id: f"#image-{number}" for number, each in enumerate(shown)})
    yield from (drawn for sample_id, drawn in cards.items() if sample_id in worst and sample_id not in content.gallery)


def _choices(names: Sequence[str]) -> str:
    first, second = ("0", "1") if len(names) > 1 else ("rgb", "0")
    options = [("rgb", "RGB"), ("truth", "truth"), *((str(number), name) for number, name in enumerate(names))]

    def select(key: str, label: str, chosen: str) -> str:
        made = "".join(
            f'<option value="{value}"{" selected" if value == chosen else ""}>{escape(name)}</option>'
            for value, name in options
            if key == "left" or value != "rgb"
        )
        return f'<label>{label} <select id="{key}" autocomplete="off">{made}</select></label>'

    large = '<label><input type="checkbox" id="large" autocomplete="off"> large</label>'
    return select("left", "left of the divider", first) + select("right", "right", second) + large


def cloud_section(content: Content, shown: Sequence[Shown]) -> Iterator[str]:
    """The viewer of points, with a choice of images whose cameras are known.

    Args:
        content: of the page.
        shown: as of `gallery_section`.
    """
    usable = {number: each for number, each in enumerate(shown) if each.has_camera}
    if not shown:
        return
    yield "<h2>Point cloud</h2>"
    if not usable:
        yield "<p>The cameras of these images are unknown, so there are no points to show.</p>"
        return
    images = "".join(f'<option value="{number}">{escape(each.id)}</option>' for number, each in usable.items())
    sources = '<option value="truth">truth</option>' + "".join(
        f'<option value="{number}"{"" if number else " selected"}>{escape(method.name)}</option>'
        for number, method in enumerate(content.methods)
    )
    yield (
        '<div class="controls choices">'
        f'<label>image <select id="cloud-image" autocomplete="off">{images}</select></label>'
        f'<label>of <select id="cloud-source" autocomplete="off">{sources}</select></label>'
        '<label>colours <select id="cloud-colours" autocomplete="off"><option value="rgb">RGB</option>'
        '<option value="depth">depth</option></select></label><button id="cloud-reset" type="button">reset</button>'
        "</div>"
        '<canvas id="cloud" tabindex="0" role="img" aria-label="point cloud; arrow keys turn it, plus and minus zoom">'
        '</canvas><p class="soft">Drag, or use the arrow keys, to turn; wheel, pinch, or + and − to zoom.</p>'
    )
