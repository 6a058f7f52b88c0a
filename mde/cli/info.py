"""``mde info``: what this installation has, and what a name of it means."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import mde
from mde.cli.arguments import Parser
from mde.cli.environment import usable_cores
from mde.cli.experiments import comment, names, resolve
from mde.console import console
from mde.errors import ConfigError, nearest

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["SECTIONS", "make_parser", "pretrained", "run"]

Facts = Mapping[str, Any]
_TABLE = Path(mde.__file__).parent / "models" / "pretrained" / "known.yaml"  # read as a file: its package needs torch


def run(words: Sequence[str]) -> int:
    """Print all sections, one of them, or the explanation of one name; 0: found."""
    options = make_parser().parse_args(list(words))
    if options.name is None:
        facts: Facts = {title: make() for title, make in SECTIONS.items()}
    elif options.name in SECTIONS:
        facts = {options.name: SECTIONS[options.name]()}
    else:
        facts = _explained(options.name)
    if options.format == "json":
        print(json.dumps(facts, indent=1))
    else:
        _print(facts)
    return 0


# ---- sections --------------------------------------------------------------------------------------------------------


def _versions() -> Facts:
    wanted = [_required(line)[0] for line in metadata.requires("mde") or [] if "extra ==" not in line]
    return {"mde": mde.__version__, "python": platform.python_version(), **_installed(wanted)}


def _extras() -> Facts:
    """What ``pip install 'mde[…]'`` adds, and whether it is here."""
    found: dict[str, list[str]] = {}
    for line in metadata.requires("mde") or []:
        name, extra = _required(line)
        if extra is not None and extra != "dev":
            found.setdefault(extra, []).append(name)
    described = {extra: _installed(wanted) for extra, wanted in found.items()}
    return {
        extra: ", ".join(f"{name} {version}" for name, version in versions.items())
        for extra, versions in described.items()
    }


def _devices() -> Facts:
    import torch

    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    gpus = {f"cuda:{i}": f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for i, gpu in enumerate(found)}
    others = {"mps": "Apple GPU"} if torch.backends.mps.is_available() else {}
    return {"cpu": f"{usable_cores()} core(s), {platform.machine()}", **gpus, **others}


def _experiments() -> Facts:
    return {name: _summary(resolve(name)) for name in names()}


def _methods() -> Facts:
    import mde.inference
    import mde.models
    from mde.models import DepthModule

    found = [getattr(module, name) for module in (mde.models, mde.inference) for name in module.__all__]
    classes = {c for c in found if isinstance(c, type) and issubclass(c, DepthModule) and c is not DepthModule}
    return {c.__name__: _sentence(c.__doc__) for c in sorted(classes, key=lambda c: c.__name__)}


def _data() -> Facts:
    from mde.data.layouts import layouts

    return {name: layout.summary for name, layout in layouts().items()}


def _protocols() -> Facts:
    from mde.protocol import PROTOCOLS

    return {
        name: f"{p.fingerprint}; {p.min_depth:g} to {p.max_depth:g} m; crop {p.crop}; alignment {p.alignment}"
        for name, p in PROTOCOLS.items()
    }


def _pretrained() -> Facts:
    return {name: f"{entry['licence']}; {entry['ambiguity']}; {entry['hub']}" for name, entry in pretrained().items()}


SECTIONS: dict[str, Callable[[], Facts]] = {
    "versions": _versions,
    "devices": _devices,
    "extras": _extras,
    "experiments": _experiments,
    "methods": _methods,
    "data": _data,
    "protocols": _protocols,
    "pretrained": _pretrained,
}


# ---- one name --------------------------------------------------------------------------------------------------------


def _explained(name: str) -> Facts:
    """What is known of a name; what needs no torch is looked at first.

    Raises:
        ConfigError: nothing has this name.
    """
    if name in pretrained():
        entry = pretrained()[name]
        kind = "MarigoldDepth" if entry["family"] == "marigold" else "PretrainedDepth"
        use = f"mde test --model mde.models.{kind} --model.name {name} --data …"
        return {f"pretrained {name}": {**entry, "use": use}}
    if name in names():
        return {f"experiment {name}": _experiment(resolve(name))}
    from mde.data.layouts import layouts

    if name in layouts():
        layout = layouts()[name]
        facts = {"what": layout.summary, "data": layout.data_module, "experiments": ", ".join(layout.configs)}
        return {f"data {name}": {**facts, **layout.settings}}
    from mde.protocol import PROTOCOLS

    if name in PROTOCOLS:
        return {f"protocol {name}": PROTOCOLS[name].to_dict()}
    every = [*SECTIONS, *pretrained(), *names(), *layouts(), *PROTOCOLS]
    raise ConfigError(f"nothing is called {name!r}", where="mde info", next_action=f"nearest: {nearest(name, every)}")


def _experiment(path: Path) -> Facts:
    settings = yaml.safe_load(path.read_text())
    facts = {"what": " ".join(comment(path)), "file": str(path)}
    for part in ("model", "data"):
        facts[part] = settings.get(part, {}).get("class_path", "")
    return {**facts, "epochs": settings.get("trainer", {}).get("max_epochs"), "use": f"mde fit --config {_name(path)}"}


def _name(path: Path) -> str:
    return next(name for name in names() if resolve(name) == path)


# ---- reading ---------------------------------------------------------------------------------------------------------


def pretrained() -> dict[str, dict[str, str]]:
    """Facts about each network whose weights this library knows, by name."""
    return dict(yaml.safe_load(_TABLE.read_text()))


def _summary(path: Path) -> str:
    """What it is, without how: that comes after the colon."""
    return _sentence(" ".join(comment(path))).partition(": ")[0]


def _sentence(text: str | None) -> str:
    """Up to the first full stop."""
    return re.split(r"(?<!et al)\. ", " ".join((text or "").split()))[0].rstrip(".")


def _required(line: str) -> tuple[str, str | None]:
    """Name and extra of a requirement, such as ``wandb>=0.18; extra == "wandb"``."""
    requirement, _, condition = line.partition(";")
    name = requirement.strip()
    for mark in "[<>=!~ (":
        name = name.partition(mark)[0]
    extra = condition.partition("extra ==")[2].strip().strip("'\"")
    return name, extra or None


def _installed(wanted: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in wanted:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


# ---- printing --------------------------------------------------------------------------------------------------------

_WIDE = 120  # columns of the output, for tables of many columns
_COLUMNS = {
    "versions": ("package", "version"),
    "devices": ("device", "what it is"),
    "extras": ("extra", "packages"),
    "experiments": ("experiment", "what it is"),
    "methods": ("method", "what it is"),
    "data": ("layout", "what is in the folder"),
    "protocols": ("protocol", "fingerprint", "range", "crop", "alignment"),
    "pretrained": ("network", "licence of the weights", "what it says", "name on the hub"),
}


def _print(facts: Facts) -> None:
    """A table for each part; what is missing stands out on a terminal."""
    shown = console()
    for number, (title, section) in enumerate(facts.items()):
        if number:
            shown.print()
        shown.print(_table(title, section, shown.width))


def _table(title: str, section: Facts, width: int) -> Table:
    """Each fact in a column of its own where there is room, else all beside the name, which is never broken."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    first, *others = _COLUMNS.get(title, ("", ""))
    if width < _WIDE:
        others = ["; ".join(others)]
    made = Table(title=Text(title), title_style="bold", title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    made.show_header = title in _COLUMNS
    made.add_column(first, no_wrap=True)
    for column in others:
        made.add_column(column, overflow="fold")
    for key, value in section.items():
        cells = str(value).split("; ", len(others) - 1)
        made.add_row(Text(str(key), "bold"), *(Text(cell, "yellow" if "missing" in cell else "") for cell in cells))
    return made


def make_parser() -> Parser:
    """The parser; it imports no torch."""
    made = Parser(
        "info",
        "What this installation has: versions, devices, extras, experiments, methods, data sets, protocols, and "
        "pretrained networks with the licence of their weights.",
        [
            "mde info",
            "mde info pretrained",
            "mde info depth-anything-v2-small",
            "mde info nyu_eigen --format json",
        ],
    )
    made.add_argument("name", nargs="?", help=f"a section ({', '.join(SECTIONS)}), or a name that one of them lists")
    made.add_argument("--format", choices=("text", "json"), default="text", help="default text")
    return made
