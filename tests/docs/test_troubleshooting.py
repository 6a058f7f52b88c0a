"""The page that goes by error message quotes messages that the code has, each below the class that raises it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import mde
from mde import errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
CLASSES = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def quoted() -> Iterator[tuple[str, str]]:
    """Class and message: bold at the start of a paragraph, or the first cell of a row."""
    for title in sorted(CLASSES & set(sections())):
        for line in sections()[title].splitlines():
            if line.startswith(("**`", "| `")):
                head = line if line.startswith("**") else line.split("|")[1]
                yield from ((title, message) for message in re.findall(r"`([^`]+)`", head))


def text_of(node: ast.AST, names: dict[str, list[str]]) -> list[str]:
    """What an expression says, with … for what is filled in; several texts where it depends."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)]
    if isinstance(node, ast.IfExp):
        return text_of(node.body, names) + text_of(node.orelse, names)
    return names.get(node.id, []) if isinstance(node, ast.Name) else []


@cache
def raised() -> dict[str, list[str]]:
    """The messages of each class, as far as they can be read; below "" every text of the code."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in Path(mde.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[""] += [text for node in ast.walk(tree) for text in text_of(node, {})]
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            names: dict[str, list[str]] = defaultdict(list)
            for node in ast.walk(function):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    names[node.targets[0].id] += text_of(node.value, {})
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                    found[node.func.id] += text_of(node.args[0], names)
    return found


def has(message: str, texts: list[str]) -> bool:
    pattern = re.compile(".*?".join(re.escape(part) for part in message.split("…")))
    return any(pattern.search(text) for text in texts)


def test_every_class_of_errors_has_a_section() -> None:
    assert set(sections()) >= CLASSES


def test_there_are_messages_below_each_class() -> None:
    told = {title for title, _ in quoted()}
    assert told == CLASSES - {"MdeError"}  # the base raises nothing itself
    assert len(list(quoted())) > 50


@pytest.mark.parametrize(("title", "message"), sorted(set(quoted())))
def test_the_code_says_it_and_with_this_class(title: str, message: str) -> None:
    assert len(message.replace("…", "").split()) >= 2, "too little of it to look for"
    classes = {name for name in CLASSES if has(message, raised()[name])}
    assert title in classes if classes else has(message, raised()[""])


@pytest.mark.parametrize("message", ["unknown sitting …", "no such chequepoint", "depth is …, picture is …"])
def test_what_nobody_says_is_not_found(message: str) -> None:
    assert not has(message, raised()[""])


def test_a_message_below_the_wrong_class_is_noticed() -> None:
    assert has("no such checkpoint", raised()["CheckpointError"])
    assert not has("no such checkpoint", raised()["ConfigError"])


def test_no_message_stands_twice() -> None:
    messages = [message for _, message in quoted()]
    assert sorted(messages) == sorted(set(messages))
