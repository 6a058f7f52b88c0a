"""Links of the pages lead to files and headings that exist; addresses elsewhere are well-formed, and not fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.blocks import ALL, PAGES, ROOT, prose

PATHS = "|".join(("benchmarks", "docs", "mde", "notebooks", "tests", "tools"))
MADE = ("docs/_build", "docs/notebooks", "docs/reference")  # by `make docs` and `make notebooks`
EACH = pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)


def without_code(text: str) -> str:
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", prose(text), flags=re.DOTALL)


def targets(text: str) -> Iterator[str]:
    """Where the links and pictures of a page lead to."""
    plain = without_code(text)
    yield from re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", plain)
    yield from re.findall(r"<(https?:[^>\s]+)>", plain)
    yield from re.findall(r"^\[[^\]]+\]:\s*(\S+)", plain, flags=re.MULTILINE)
    yield from re.findall(r"\b(?:src|href)=\"([^\"]+)\"", plain)


def anchors(text: str) -> set[str]:
    """The names of the headings, as GitHub and MyST make them."""
    made: set[str] = set()
    for heading in re.findall(r"^#{1,3} +(.+?) *#*$", prose(text), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = next(n for n in range(len(made) + 1) if (f"{name}-{n}" if n else name) not in made)
        made.add(f"{name}-{number}" if number else name)
    return made


def wrong(target: str, page: Path) -> str | None:
    """What is wrong with a link of a page."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        good = parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
        return None if good else "no address with https"
    file = (page.parent / parts.path).resolve() if parts.path else page
    if not file.is_relative_to(ROOT):
        return "leads out of the repository"
    if file.relative_to(ROOT).as_posix().startswith(MADE):
        return None
    if not file.exists():
        return "no such file"
    if parts.fragment and file.suffix == ".md" and parts.fragment not in anchors(file.read_text(encoding="utf-8")):
        return "no such heading"
    return None


@EACH
def test_they_lead_to_files_and_headings_that_exist(page: Path) -> None:
    found = {target: wrong(target, page) for target in targets(page.read_text(encoding="utf-8"))}
    assert {target: what for target, what in found.items() if what} == {}


@EACH
def test_paths_that_are_named_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        pytest.skip("it tells of what was")
    named = re.findall(rf"`((?:{PATHS})/[\w./-]+)`", prose(page.read_text(encoding="utf-8")))
    assert [name for name in named if not (ROOT / name).exists() and not name.startswith(MADE)] == []


def test_every_page_stands_in_the_table_of_contents_once() -> None:
    entries = [
        re.sub(r"^.*<(.+)>$", r"\1", line)
        for block in ALL
        if block.language == "{toctree}"
        for line in block.text.splitlines()
        if line and not line.startswith(":")
    ]
    pages = [entry for entry in entries if "/" not in entry]
    assert sorted(pages) == sorted(path.stem for path in (ROOT / "docs").glob("*.md") if path.stem != "index")


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("start.md", None),
        ("start.md#where-next", None),
        ("start.md#where-else", "no such heading"),
        ("stop.md", "no such file"),
        ("../../elsewhere.md", "leads out of the repository"),
        ("http://example.org", "no address with https"),
        ("https://nodots", "no address with https"),
        ("https://example.org/a?b=c#d", None),
    ],
)
def test_what_is_wrong_is_noticed(target: str, what: str | None) -> None:
    assert wrong(target, ROOT / "docs" / "index.md") == what


def test_links_are_found_in_all_forms_but_not_in_code() -> None:
    page = """[a](one.md) ![b
    c](two.png "title") <https://three.org> `[d](no.md)` ``[e](`no.md`)``
```text
[f](no.md)
```
<!-- [g](no.md) -->
[h]: https://four.org
"""
    assert list(targets(page)) == ["one.md", "two.png", "https://three.org", "https://four.org"]


def test_headings_are_named_as_on_the_site() -> None:
    assert anchors("# `mde doctor`\n## What holds, and what does not\n## A\n## A\n#### deep\n") == {
        "mde-doctor", "what-holds-and-what-does-not", "a", "a-1",
    }  # fmt: skip
