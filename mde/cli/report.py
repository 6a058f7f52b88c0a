"""``mde report``: one page, or one figure, of one or several tested runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mde.errors import ConfigError

__all__ = ["run"]

_PAGE = Path("report.html")
_FIGURES = (".png", ".pdf")
_ROWS = 6  # of the figure, where no images are named


def run(words: Sequence[str]) -> int:
    """Write the page, the figure, or both; 0 when they are written."""
    options = _parser().parse_args(list(words))
    page, figure = options.out, options.figure
    if page is None and figure is None:
        page = _PAGE
    _require_suffix(page, (".html", ".htm"), "-o")
    _require_suffix(figure, _FIGURES, "--figure")
    ids = [name for name in options.images.split(",") if name]

    from mde.report.page import gather, write_figure, write_report

    content = gather(options.run, force=options.force)
    content.require_kept(ids)
    console = Console(highlight=False, soft_wrap=True)
    for name, found in content.mismatches.items():
        console.print(f"not comparable with {content.methods[0].name}: {name}: {'; '.join(found)}", markup=False)
    for note in content.notes:
        console.print(note, markup=False)
    if page is not None:
        write_report(page, content, ids=ids, title=options.title)
        console.print(f"written: {page} ({page.stat().st_size / 1e6:.1f} MB)", markup=False)
    if figure is not None:
        write_figure(figure, content, ids or _first(content.gallery), title=options.title)
        console.print(f"written: {figure}", markup=False)
    return 0


def _first(ids: Sequence[str]) -> list[str]:
    """Some of the images, spread evenly."""
    count = min(_ROWS, len(ids))
    return [ids[number * len(ids) // count] for number in range(count)]


def _require_suffix(path: Path | None, suffixes: Sequence[str], option: str) -> None:
    if path is not None and path.suffix.lower() not in suffixes:
        hint = f"let the name end in {' or '.join(suffixes)}"
        raise ConfigError(f"cannot write {str(path)!r}", where=option, next_action=hint)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="mde report",
        description="Write what tests found as one HTML file that opens offline: metrics with intervals, curves, "
        "images with a divider between methods, the worst images, tables by range and scene, a point cloud. With "
        "--figure, the comparison figure of a paper.",
        epilog="example: mde report runs/densedepth runs/unet -o comparison.html --figure comparison.pdf",
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
