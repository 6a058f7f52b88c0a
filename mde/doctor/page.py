"""The examination as one HTML file: it opens offline, asks nothing of any server, and reads without colours."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from mde import __version__
from mde.doctor.examination import Examination
from mde.doctor.findings import SEVERITIES, Finding
from mde.doctor.frame import BINS
from mde.doctor.pictures import colour_bar, frame_pictures, histogram
from mde.doctor.record import split_facts
from mde.doctor.tally import SPLITS

__all__ = ["headline", "write_page"]

SHOWN = 20
"""Items of a finding that the page lists; the JSON file has all."""

_TYPICAL, _WORST = 2, 6  # frames shown

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2127; --soft: #5c6670; --rule: #d9dee3; --paper: #fff; --tint: #f4f6f8;
  --error: #a3172b; --warning: #8a5a00; --info: #2c5c8f; --a: #2c5c8f; --b: #b5651d; --c: #3c7a4b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #9aa5b0; --rule: #343c45; --paper: #15191e;
  --tint: #1d232a; --error: #ff8a97; --warning: #e9b44c; --info: #8ab8ea; --a: #8ab8ea; --b: #e9a05c; --c: #7fc491; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
.soft, dt, figcaption, .key { color: var(--soft); } .mono, code { font-family: ui-monospace, monospace; font-size: .9em;
  overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { padding: .55rem .75rem .55rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.severity { font-weight: 600; white-space: nowrap; } .error { color: var(--error); } .warning { color: var(--warning); }
.info { color: var(--info); } .next { display: block; color: var(--soft); }
details { margin-top: .25rem; } summary { cursor: pointer; color: var(--soft); }
ul { margin: .35rem 0; padding-left: 1.1rem; }
svg { width: 100%; height: auto; max-width: 48rem; display: block; } svg text { fill: var(--soft); font-size: 12px;
  text-anchor: middle; } svg line { stroke: var(--soft); } svg polyline { fill: none; stroke-width: 2; }
svg .span { fill: var(--tint); } .key i { display: inline-block; width: 1.1em; height: .25em; margin: 0 .4em .2em 0; }
.key span { margin-right: 1.2em; } .frame { margin: 0 0 1.75rem; } .frame h3 { font-size: .95rem; margin: 0 0 .4rem; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .75rem; }
figure { margin: 0; } img { width: 100%; height: auto; display: block; border-radius: 3px; background: var(--tint); }
figcaption { font-size: .85em; padding-top: .25rem; }
.bar { display: flex; align-items: center; gap: .5em; font-size: .85em; }
.bar i { flex: 1; height: .6em; border-radius: 2px; } .wide { overflow-x: auto; }
"""


def write_page(path: str | Path, made: Examination) -> None:
    """Write the page; folders are made. Some frames are read again for their pictures."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(_page(made)), encoding="utf-8")


def headline(made: Examination) -> str:
    """What was found, in a line."""
    counts = [sum(f.severity == name for f in made.findings) for name in SEVERITIES]
    words = [
        f"{n} {name}{'s' if n != 1 and name != 'info' else ''}" for n, name in zip(counts, SEVERITIES, strict=True)
    ]
    return ", ".join(words) + (" (stopped before the end)" if made.interrupted else "")


def _page(made: Examination) -> Iterator[str]:
    name = escape(made.root.resolve().name)
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>mde doctor: {name}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{name}: {headline(made)}</h1>"
    settings = ", ".join(f"{k}={v}" for k, v in made.settings.items()) or "none"
    yield f'<p class="soft"><span class="mono">{escape(str(made.root))}</span><br>layout {escape(made.layout)}, '
    yield f"settings {escape(settings)}, protocol {escape(made.protocol)}, depth expected in {made.span[0]:g} to "
    yield f"{made.span[1]:g} m; mde {__version__}, {made.seconds:.1f} s</p>"
    yield from _split_table(made)
    yield '<h2>Findings</h2><div class="wide"><table>'
    yield '<tr><th>Severity</th><th>What</th><th class="number">Count</th></tr>'
    yield from map(_finding_row, made.findings)
    yield "</table></div>" if made.findings else "</table></div><p>Nothing.</p>"
    yield "<h2>Depth</h2>"
    counts = {split: made.tally.histogram[SPLITS.index(split)] for split in made.datasets}
    yield histogram(BINS, counts, made.span)
    yield '<p class="soft">Share of the known pixels; the expected range is shaded.</p>'
    for title, rows in _chosen(made).items():
        if rows:
            yield f"<h2>{title}</h2>"
            yield from (_frame(made, row, why) for row, why in rows)
    yield "</body></html>"


def _split_table(made: Examination) -> Iterator[str]:
    heads = "".join(f'<th class="number">{head}</th>' for head in ("Frames", "Decoded", "Median depth", "Known pixels"))
    yield f'<div class="wide"><table><tr><th>Split</th>{heads}</tr>'
    for split, facts in split_facts(made).items():
        depth = "" if facts["median_depth_m"] is None else f"{facts['median_depth_m']:.3g} m"
        known = "" if facts["known_share"] is None else f"{facts['known_share']:.1%}"
        cells = (facts["frames"], facts["decoded"], depth, known)
        yield f"<tr><td>{escape(split)}</td>{''.join(f'<td class=number>{cell}</td>' for cell in cells)}</tr>"
    yield "</table></div>"


def _finding_row(found: Finding) -> str:
    listed = "".join(f'<li class="mono">{escape(item)}</li>' for item in found.items[:SHOWN])
    more = f"<li>and {found.count - SHOWN} more, in the JSON file</li>" if found.count > SHOWN else ""
    items = f"<details><summary>which</summary><ul>{listed}{more}</ul></details>" if listed else ""
    return (
        f'<tr><td class="severity {found.severity}">{found.severity}</td><td><b>{escape(found.title)}</b> '
        f'<code class="soft">{found.code}</code><br>{escape(found.message)}'
        f'<span class="next">Next: {escape(found.next_action)}</span>{items}</td>'
        f'<td class="number">{found.count or ""}</td></tr>'
    )


def _chosen(made: Examination) -> dict[str, list[tuple[int, str]]]:
    """Rows of the tally to show, with the reason: those that findings name, the poorest, and typical ones."""
    tally = made.tally
    if not len(tally):
        return {}
    place = {name: row for row, name in enumerate(tally.names)}
    worst: dict[int, str] = {}
    for found in made.findings:
        named = [place[item] for item in found.items if item in place][:2]
        if found.severity != "info":
            worst |= {row: found.title for row in named if row not in worst}
    known, match = tally["known"], tally["overlap"]
    for row in (int(np.argmin(known)), int(np.argmin(np.nan_to_num(match, nan=np.inf)))):
        worst.setdefault(row, "least known pixels" if row == int(np.argmin(known)) else "edges fit least")
    logs = np.log(np.where(tally["median"] > 0, tally["median"], np.nan))
    middle = np.nanmedian(logs) if np.isfinite(logs).any() else 0.0
    far = np.nan_to_num(np.abs(logs - middle), nan=np.inf)
    typical = [int(row) for row in np.argsort(far, kind="stable") if int(row) not in worst][:_TYPICAL]
    return {
        "Typical frames": [(row, "median depth nearest to that of the data set") for row in typical],
        "Frames to look at": list(worst.items())[:_WORST],
    }


def _frame(made: Examination, row: int, why: str) -> str:
    tally = made.tally
    split = SPLITS[tally.splits[row]]
    try:
        pictures, (low, high) = frame_pictures(made.datasets[split].read(tally.indices[row]).checked())
    except Exception:  # it could be read before: the disk went away
        return ""
    shown = "".join(_figure(caption, uri, low, high) for caption, uri in pictures)
    name, reason = escape(tally.names[row]), f"{split}: {escape(why)}"
    head = f'<h3><span class="mono">{name}</span> <span class="soft">{reason}</span></h3>'
    return f'<div class="frame">{head}<div class="row">{shown}</div></div>'


def _figure(caption: str, uri: str, low: float, high: float) -> Any:
    below = colour_bar(low, high) if caption == "depth" else escape(caption)
    return f'<figure><img src="{uri}" alt="{escape(caption)}"><figcaption>{below}</figcaption></figure>'
