"""The fenced blocks of a page, and what HTML comments before them order the tests to do.

``<!-- test: skip, REASON -->`` it is not run, only checked as far as that goes: words of commands, syntax of Python;
``<!-- test: offline, REASON -->`` its last command ends in the library's own error where there is no network;
``<!-- test: needs FILE … -->`` these files are there, from blocks before it or from the sandbox;
``<!-- test: over NAME -->`` the YAML is laid over this experiment (default: quickstart).

A block whose first line is ``# NAME.py`` or ``# NAME.yaml`` is a file of that name, for the blocks behind it; what
several blocks of one name say is one file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
ORDERS = ("skip", "offline", "needs", "over")

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})\s*(?P<language>\S*)")
_ORDER = re.compile(r"^\s*<!-- test: (?P<name>\w+),? (?P<value>.+?) -->$")
_NAME = re.compile(r"#\s*(?P<name>[\w./-]+\.(?:py|yaml))$")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its fence, from 1."""

    page: str
    line: int
    language: str
    text: str
    orders: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The name of the file that it is."""
        found = _NAME.match(self.text.partition("\n")[0])
        return found["name"] if found else None


@dataclass(frozen=True)
class Command:
    """A command of a shell: variables before it, its words (patterns of files marked), where its output goes."""

    words: tuple[str, ...]
    patterns: frozenset[str] = frozenset()
    variables: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None


def blocks(page: str, text: str) -> Iterator[Block]:
    """All blocks of a page, in order.

    Raises:
        ValueError: a fence is never closed, an order is not known or stands before no block.
    """
    lines = iter(enumerate(text.splitlines(), start=1))
    orders: dict[str, str] = {}
    for number, line in lines:
        if order := _ORDER.match(line):
            if order["name"] not in ORDERS:
                raise ValueError(f"{page}:{number}: unknown order {order['name']!r}; one of {', '.join(ORDERS)}")
            orders[order["name"]] = order["value"]
        elif fence := _FENCE.match(line):
            yield Block(page, number, fence["language"], _inside(lines, fence, f"{page}:{number}"), orders)
            orders = {}
        elif "<!-- test" in line or (orders and line.strip()):
            raise ValueError(f"{page}:{number}: an order stands alone, directly before a block: {line}")
    if orders:
        raise ValueError(f"{page}: an order before no block")


def _inside(lines: Iterator[tuple[int, str]], fence: re.Match[str], place: str) -> str:
    found = []
    for _, line in lines:
        if line.strip().startswith(fence["ticks"]) and not line.strip().strip(fence["ticks"][0]):
            return "\n".join(found)
        found.append(line.removeprefix(fence["indent"]))
    raise ValueError(f"{place}: this block is never closed")


def prose(text: str) -> str:
    """A page without its blocks and comments; lines keep their numbers."""
    kept, inside = [], ""
    for line in re.sub(r"<!--.*?-->", lambda c: "\n" * c[0].count("\n"), text, flags=re.DOTALL).splitlines():
        fence = _FENCE.match(line)
        if not inside and fence:
            inside = fence["ticks"]
        elif inside and line.strip().startswith(inside):
            inside = ""
        elif not inside:
            kept.append(line)
            continue
        kept.append("")
    return "\n".join(kept)


def commands(text: str) -> Iterator[Command]:
    """The commands of a block for a shell; continued lines are one, comments are none."""
    for line in text.replace("\\\n", " ").splitlines():
        raw: list[str] = []
        for token in (*re.findall(r"""#.*|(?:[^\s'"]|'[^']*'|"[^"]*")+""", line), "&&"):
            if token == "&&" or token.startswith("#"):
                if raw:
                    yield _command(raw)
                raw = []
            else:
                raw.append(token)


def _command(raw: list[str]) -> Command:
    output = None
    if ">" in raw:
        at = raw.index(">")
        (output,) = raw[at + 1 :]
        raw = raw[:at]
    if any(set(token) & set("<>|;&") for token in raw if not set(token) & set("'\"")):
        raise ValueError(f"more of a shell than the tests know: {' '.join(raw)}")
    patterns = {token for token in raw if "*" in token and not set(token) & set("'\"")}
    words = [" ".join(shlex.split(token)) for token in raw]
    variables = {}
    while words and (found := re.fullmatch(r"([A-Z]\w*)=(\S*)", words[0])):
        variables[found[1]] = found[2]
        words = words[1:]
    return Command(tuple(words), frozenset(patterns), variables, output)


def blocks_of(page: Path) -> list[Block]:
    return list(blocks(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")))


ALL = [block for page in PAGES for block in blocks_of(page)]
