"""``mde doctor``: what is wrong with a data set?"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.text import Text

from mde.cli.arguments import Parser
from mde.console import say
from mde.doctor import SAMPLE
from mde.errors import ConfigError

if TYPE_CHECKING:
    from mde.doctor import Examination

__all__ = ["make_parser", "run"]

_STYLES = {"error": "bold red", "warning": "yellow", "info": "blue"}
_NAMED = 3  # items of a finding that the terminal shows


def run(words: Sequence[str]) -> int:
    """Examine a data set; 0: no errors, 1: errors in the data, 130: stopped. Reports are written in each case."""
    options = make_parser().parse_args(list(words))
    if options.sample < 1:
        raise ConfigError(f"--sample must be at least 1, got {options.sample}", next_action="or use --all")
    if options.workers is not None and options.workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {options.workers}")
    sample = None if options.all else options.sample
    from mde.doctor import examine, write_json, write_page

    with _quiet():
        made = examine(options.dir, options.layout, _settings(options.set), sample=sample, workers=options.workers)
    _print(made)
    for path, write in ((options.json, write_json), (options.html, write_page)):
        if path is not None:
            write(path, made)
            say(f"written: {path}")
    return 130 if made.interrupted else int(made.errors > 0)


@contextmanager
def _quiet() -> Iterator[None]:
    """What Lightning's logger says of the splits is a finding here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _print(made: Examination) -> None:
    from mde.doctor.page import headline
    from mde.doctor.record import split_facts

    say(f"{made.root}: layout {made.layout}")
    for split, facts in split_facts(made).items():
        depth = "" if facts["median_depth_m"] is None else f", median depth {facts['median_depth_m']:.3g} m"
        known = "" if facts["known_share"] is None else f", {facts['known_share']:.0%} of the pixels known"
        say(f"  {split}: {facts['frames']} frames, {facts['decoded']} decoded{depth}{known}")
    for found in made.findings:
        line = Text(f"{found.severity:<8}", style=_STYLES[found.severity])
        line.append(f"{found.title} ({found.code}): ", style="bold not dim default")
        line.append(found.message, style="not bold default")
        if found.items and found.severity != "info":
            more = f" and {found.count - _NAMED} more" if found.count > _NAMED else ""
            line.append(f"\n          {', '.join(found.items[:_NAMED])}{more}", style="not bold default")
        say(line)
        if found.severity != "info":
            say(f"          Next: {found.next_action}")
    say(f"{headline(made)} ({made.seconds:.1f} s)", "bold")


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``key=value``, the value read as YAML: numbers, lists and words."""
    made: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"cannot read {pair!r}", where="--set", next_action="write --set depth_scale=0.001")
        try:
            made[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"cannot read {value!r}", where=f"--set {key}", next_action="write it as YAML") from error
    return made


def make_parser() -> Parser:
    made = Parser(
        "doctor",
        "Look for what is wrong with a data set: files, pairing, units, geometry, leaks between splits. "
        "All files are looked at, a sample of the frames is decoded. Nothing is changed.",
        [
            "mde doctor FOLDER --html doctor.html",
            "mde doctor /data/mine --set depth_scale=0.001 --all --json found.json",
        ],
        "exit status: 0 no errors, 1 errors in the data, 2 wrong usage, 130 stopped by Ctrl-C",
    )
    made.add_argument("dir", help="folder of the data set, or its archive")
    made.add_argument("--layout", help="default: recognised; mde make-data --help lists them")
    made.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the data module; may be repeated"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write all findings with all ids")
    made.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures; opens offline")
    many = made.add_mutually_exclusive_group()
    many.add_argument(
        "--sample", type=int, default=SAMPLE, metavar="N", help=f"frames of each split to decode (default {SAMPLE})"
    )
    many.add_argument("--all", action="store_true", help="decode all frames")
    made.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    return made
