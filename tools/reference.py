"""Pages of the documentation that the program writes about itself: commands, names, the Python reference.

docs/conf.py calls `write_reference` before Sphinx reads anything. None of it is kept in git, so it cannot fall behind.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from inspect import isclass, isfunction
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.pycode import ModuleAnalyzer

MODULES = (
    *("mde", "mde.models", "mde.data", "mde.losses", "mde.codecs", "mde.metrics", "mde.protocol", "mde.alignment"),
    *("mde.crf", "mde.inference", "mde.inference.export", "mde.inference.outputs", "mde.report", "mde.callbacks"),
    *("mde.types", "mde.errors"),
)


def write_reference(folder: Path) -> None:
    """Write the pages that changed; Sphinx reads again what is newer."""
    folder.mkdir(exist_ok=True)
    for name, text in pages():
        path = folder / name
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def pages() -> Iterator[tuple[str, str]]:
    """File name and Markdown of each page."""
    yield "cli.md", commands()
    yield "names.md", names()
    described: set[int] = set()
    for name in MODULES:
        yield f"{name}.md", module_page(import_module(name), described)


def commands() -> str:
    """What each command says of itself."""
    from mde.cli import COMMANDS, TRAINER_COMMANDS

    summaries = TRAINER_COMMANDS | {name: text for name, (_, text) in COMMANDS.items()}
    parts = ["# Command line", _block(said("--help"))]
    for name, text in summaries.items():
        parts += [f"## mde {name}", f"{text[0].upper()}{text[1:]}.", _block(said(name, "--help"))]
    return "\n\n".join(parts) + "\n"


def said(*words: str) -> str:
    """What a command prints, in 100 columns and without colour."""
    from mde.cli import main

    text, settings = io.StringIO(), {"COLUMNS": "100", "NO_COLOR": "1"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        with contextlib.redirect_stdout(text):
            main(list(words))
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return text.getvalue().rstrip()


def names() -> str:
    """The tables of ``mde info``: what a name in a command or a setting can be."""
    from mde.cli.info import SECTIONS

    parts = ["# Names known here", "What `mde info` prints; `mde info NAME` explains one."]
    for title in ("experiments", "methods", "data", "protocols", "pretrained"):
        rows = [f"| `{name}` | {_cell(text)} |" for name, text in SECTIONS[title]().items()]
        parts += [f"## {title.capitalize()}", "\n".join(["| name | |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def module_page(module: ModuleType, described: set[int]) -> str:
    """The public names of a module, each by its docstring; what another page described is named only."""
    head = (module.__doc__ or "").strip().split("\n\n")[0]
    parts = [f"# {module.__name__}", head]
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if name.startswith("__"):
            continue
        parts.append(_directive(module, name, value, index=id(value) not in described))
        described.add(id(value))
    return "\n\n".join(parts) + "\n"


def _directive(module: ModuleType, name: str, value: Any, index: bool) -> str:
    where = module.__name__ if isclass(value) or isfunction(value) else _home(module, name)
    options = [] if index else ["   :no-index:"]
    if isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
    elif isfunction(value):
        kind = "function"
    else:
        explained = ("", name) in ModuleAnalyzer.for_module(where).find_attr_docs()
        kind, options = "data", [*options, "   :no-value:"] if explained else options
        if not explained:  # Sphinx would print what its type says of itself
            return "\n".join(["```{eval-rst}", f".. py:data:: {where}.{name}", *options, "```"])
    return "\n".join(["```{eval-rst}", f".. auto{kind}:: {where}.{name}", *options, "```"])


def _home(module: ModuleType, name: str) -> str:
    """The module in which a constant is written down and explained: of those that hold it, the deepest."""
    value, prefix = getattr(module, name), f"{module.__name__}."
    inner = [
        key for key, other in list(sys.modules.items()) if key.startswith(prefix) and vars(other).get(name) is value
    ]
    return max(inner, key=lambda key: (key.count("."), key), default=module.__name__)


def _block(text: str) -> str:
    return f"```text\n{text}\n```"


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("<", "&lt;")
