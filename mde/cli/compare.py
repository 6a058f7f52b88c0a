"""``mde compare``: methods side by side, with intervals and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from mde.cli.arguments import Parser
from mde.console import FILE_WIDTH, console, say
from mde.errors import ConfigError

if TYPE_CHECKING:
    from mde.report.comparison import Comparison

__all__ = ["make_parser", "run"]

_FORMS = ("text", "md", "latex", "csv", "html", "json")
_SUFFIXES = {".txt": "text", ".md": "md", ".tex": "latex", ".csv": "csv", ".html": "html", ".json": "json"}


def run(words: Sequence[str]) -> int:
    """Print or write the table; 0. What cannot be read or compared is an error that tells all of it."""
    options = make_parser().parse_args(list(words))
    form = _form(options.format, options.output)
    from mde.report.comparison import compare

    metrics = [name.strip() for name in options.metrics.split(",") if name.strip()]
    made = compare(options.run, metrics, against=options.against, sort=options.sort, force=options.force)
    if options.output is None:
        _print(made, form)
        return 0
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(_text(made, form), encoding="utf-8")
    say(f"written: {options.output}")
    return 0


def _form(asked: str | None, output: Path | None) -> str:
    if asked is not None:
        return asked
    if output is None:
        return "text"
    if output.suffix not in _SUFFIXES:
        known = ", ".join(_SUFFIXES)
        raise ConfigError("the name of the file says no format", where=output, next_action=f"--format, or {known}")
    return _SUFFIXES[output.suffix]


def _print(made: Comparison, form: str) -> None:
    if form != "text":
        print(_text(made, form), end="")
        return
    console().print(made.table())


def _text(made: Comparison, form: str) -> str:
    if form != "text":
        makers = {"md": made.markdown, "latex": made.latex, "csv": made.csv, "html": made.html, "json": made.json}
        return makers[form]()
    from rich.console import Console

    text = StringIO()
    Console(width=FILE_WIDTH, file=text).print(made.table())
    return text.getvalue()


def make_parser() -> Parser:
    made = Parser(
        "compare",
        "Compare tested runs in one table: metrics with 95 % intervals over images, the best in bold, the constant "
        "predictor's ratio, parameters, throughput, and paired tests on the same images. Runs under different "
        "protocols, data or images are refused, with what differs.",
        [
            "mde compare runs/quickstart runs/mine",
            "mde compare ours=runs/mine runs/nyu-bts --metrics abs_rel,rmse,delta1 --sort abs_rel -o table.tex",
        ],
        "A RUN is the folder of a run, of an experiment (its newest run), a results.json, a folder that W&B wrote "
        "offline, or wandb:entity/project/id; NAME=RUN gives it a name.\n\n"
        "exit status: 0 compared, 2 something cannot be read or compared",
    )
    made.add_argument("run", nargs="+", metavar="RUN")
    made.add_argument("--metrics", default="abs_rel,rmse,delta1", help="columns (default abs_rel,rmse,delta1)")
    made.add_argument("--against", metavar="NAME", help="test the others against this run (default: the best)")
    made.add_argument("--sort", metavar="KEY", help="a metric (best first), name, parameters or images_per_second")
    made.add_argument("--format", choices=_FORMS, help="default text, or by the name of the file")
    made.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it there")
    made.add_argument("--force", action="store_true", help="mark runs that cannot be compared instead of refusing them")
    return made
