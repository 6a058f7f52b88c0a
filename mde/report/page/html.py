"""The HTML file: it opens offline, asks nothing of any server, and its tables read without a script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from mde import __version__
from mde.protocol import EvalProtocol
from mde.report.figures import DEPTH_COLOURS, ERROR_COLOURS
from mde.report.page.cards import encoded
from mde.report.page.charts import curve_charts
from mde.report.page.content import Content, Shown
from mde.report.page.gallery import cloud_section, gallery_section
from mde.report.page.maps import NEAREST, STEPS, bytes_text, palette
from mde.report.page.tables import metrics_section, scene_section, sub_tables

__all__ = ["BUDGET", "write_report"]

BUDGET = 20_000_000
"""Bytes of all pictures and maps together; they get narrower until they fit."""

_WIDTHS = (480, 320, 214, 160, 107, 64)
_PROBED = 5
_ALWAYS = ("min_depth", "max_depth", "crop", "alignment", "pooling")  # settings that the page names

_HERE = Path(__file__).parent

# The browser itself refuses whatever is not in the file.
_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(path: str | Path, content: Content, *, ids: Sequence[str] = (), title: str = "") -> None:
    """Write the page; folders are made.

    Args:
        path: of the file.
        content: of `gather`.
        ids: the images to show; none: those spread over the set, and the worst.
        title: head of the page; default: the names of the methods.

    Raises:
        ConfigError: an image was not kept.
        DataFormatError: a sample is damaged.
    """
    content.require_kept(ids)
    shown, images = _fitting(content, list(ids) or content.ids)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(_page(content, shown, images, title)), encoding="utf-8")


def _fitting(content: Content, ids: Sequence[str]) -> tuple[list[Shown], list[dict[str, object]]]:
    """The images at the largest width whose data fit into `BUDGET`; a few of them tell how much all will take."""
    few = ids[:: max(1, len(ids) // _PROBED)]
    for width in _WIDTHS:
        if _size(_encoded(content, few, width)[1]) * len(ids) > BUDGET * len(few):
            continue
        shown, images = _encoded(content, ids, width)
        if _size(images) <= BUDGET:
            return shown, images
    return _encoded(content, ids, _WIDTHS[-1])


def _encoded(content: Content, ids: Sequence[str], width: int) -> tuple[list[Shown], list[dict[str, object]]]:
    found = (content.shown(sample_id, width) for sample_id in ids)
    shown = [each for each in found if each is not None]
    return shown, [encoded(each, [method.name for method in content.methods]) for each in shown]


def _size(images: Sequence[Mapping[str, object]]) -> int:
    return sum(len(json.dumps(image)) for image in images)


def _page(
    content: Content, shown: Sequence[Shown], images: Sequence[Mapping[str, object]], title: str
) -> Iterator[str]:
    names = [method.name for method in content.methods]
    head = escape(title or " and ".join(names))
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
    yield f"<title>mde report: {head}</title><style>{_asset('style.css')}</style></head><body><h1>{head}</h1>"
    yield from _facts(content)
    yield from _warnings(content)
    yield "<h2>Metrics</h2>"
    yield from metrics_section(content)
    yield from sub_tables(content)
    yield from scene_section(content)
    charts = curve_charts({method.name: method.curves for method in content.methods})
    yield f"<h2>Training</h2>{charts}" if charts else ""
    yield from gallery_section(content, shown, images)
    yield from cloud_section(content, shown)
    yield '<script type="application/json" id="data">'
    # "</script" in a name would end the element
    yield json.dumps(_data(names, images)).replace("<", "\\u003c")
    yield f"</script><script>{_asset('viewer.js')}</script><script>{_asset('cloud.js')}</script></body></html>"


def _data(names: Sequence[str], images: Sequence[Mapping[str, object]]) -> dict[str, object]:
    colours = {"depthColours": DEPTH_COLOURS, "errorColours": ERROR_COLOURS}
    bars = {key: bytes_text(palette(name).tobytes()) for key, name in colours.items()}
    # the page has the pictures in its cards already
    maps = [{key: value for key, value in image.items() if key != "rgb"} for image in images]
    return {"methods": names, "nearest": NEAREST, "steps": STEPS, **bars, "images": maps}


def _facts(content: Content) -> Iterator[str]:
    first = content.methods[0].results
    usual = EvalProtocol().to_dict()
    # a setting that is as everywhere says nothing
    unusual = (key for key, value in first.protocol.items() if key not in usual or value != usual[key])
    protocol = dict.fromkeys((*_ALWAYS, *(key for key in unusual if key not in ("name", "fingerprint", "source"))))
    settings = ", ".join(f"{key} {_words(first.protocol.get(key, usual.get(key)))}" for key in protocol)
    named = f"{first.protocol.get('name')} ({first.protocol.get('fingerprint')})"
    versions = ", ".join(f"{name} {number}" for name, number in first.versions.items())
    facts = {"protocol": named, "settings": settings, "data": first.data, "images": str(first.images)}
    facts |= {key.replace("_", " "): _words(value) for key, value in first.data_facts.items()}
    for method in content.methods:
        facts[method.name] = ", ".join(_of_method(method.results.model, method.results.parameters, method.run.source))
    facts |= {"versions": versions, "written by": f"mde {__version__}"}
    rows = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts.items())
    yield f'<dl class="facts">{rows}</dl>'


def _words(value: object) -> str:
    """Plain data without the brackets."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(each)}" for key, each in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list | tuple) else str(value)


def _of_method(model: str, parameters: Mapping[str, int], source: str) -> Iterator[str]:
    yield model
    if "total" in parameters:
        yield f"{parameters['total'] / 1e6:.2f} M parameters"
    yield source


def _warnings(content: Content) -> Iterator[str]:
    lines = [
        f'<p><b class="warning">{escape(name)} † is not comparable with {escape(content.methods[0].name)}:</b> '
        f"{escape('; '.join(found))}</p>"
        for name, found in content.mismatches.items()
    ]
    lines += [f"<p>{escape(note)}</p>" for note in content.notes]
    yield f'<div class="notes">{"".join(lines)}</div>' if lines else ""


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
