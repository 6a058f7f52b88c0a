"""``mde report``: one page, or one figure, of one or several tested runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mde.cli.arguments import Parser
from mde.console import say
from mde.errors import ConfigError

__all__ = ["make_parser", "run"]

_PAGE = Path("report.html")
_FIGURES = (".png", ".pdf")
_ROWS = 6  # of the figure, where no images are named


def run(words: Sequence[str]) -> int:
    """Write the page, the figure, or both; 0 when they are written."""
    options = make_parser().parse_args(list(words))
    page, figure = options.out, options.figure
    if page is None and figure is None:
        page = _PAGE
    _require_suffix(page, (".html", ".htm"), "-o")
    _require_suffix(figure, _FIGURES, "--figure")
    ids = [name for name in options.images.split(",") if name]

    from mde.report.page import gather, write_figure, write_report

    content = gather(options.run, force=options.force)
    content.require_kept(ids)
    for name, found in content.mismatches.items():
        say(f"not comparable with {content.methods[0].name}: {name}: {'; '.join(found)}")
    for note in content.notes:
        say(note)
    if page is not None:
        write_report(page, content, ids=ids, title=options.title)
        say(f"written: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    if figure is not None:
        write_figure(figure, content, ids or _first(content.gallery), title=options.title)
        say(f"written: {figure}")
    return 0


def _first(ids: Sequence[str]) -> list[str]:
    """Some of the images, spread evenly."""
    count = min(_ROWS, len(ids))
    return [ids[number * len(ids) // count] for number in range(count)]


def _require_suffix(path: Path | None, suffixes: Sequence[str], option: str) -> None:
    if path is not None and path.suffix.lower() not in suffixes:
        hint = f"let the name end in {' or '.join(suffixes)}"
        raise ConfigError(f"cannot write {str(path)!r}", where=option, next_action=hint)


def make_parser() -> Parser:
    made = Parser(
        "report",
        "Write what tests found as one HTML file that opens offline: metrics with intervals, curves, images with a "
        "divider between methods, the worst images, tables by range and scene, a point cloud. With --figure, the "
        "comparison figure of a paper.",
        [
            "mde report runs/quickstart -o report.html",
            "mde report runs/densedepth runs/unet -o comparison.html --figure comparison.pdf",
        ],
    )
    made.add_argument(
        "run",
        nargs="+",
        metavar="RUN",
        help="folder of a run, of an experiment (its newest run), or a results.json; NAME=RUN gives it a name",
    )
    made.add_argument("-o", "--out", type=Path, metavar="FILE.html", help=f"default: {_PAGE}, unless --figure is given")
    made.add_argument(
        "--figure", type=Path, metavar="FILE", help="PNG or PDF: rows are images; columns RGB, truth, each method"
    )
    made.add_argument(
        "--images",
        default="",
        metavar="ID,ID",
        help="images to show (default: spread over the test set, and the worst)",
    )
    made.add_argument("--title", default="", help="head of the page or the figure")
    made.add_argument(
        "--force", action="store_true", help="put runs side by side whose protocols or data differ, and mark them"
    )
    return made
