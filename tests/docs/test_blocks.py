"""The blocks of the pages say what they are, and the tests that run them (test_pages.py) leave out little."""

from __future__ import annotations

import re
import tomllib

import pytest

import mde
from tests.docs.blocks import ALL, PAGES, ROOT, Block, Command, blocks, blocks_of, commands, prose
from tests.docs.sandbox import OTHERS, RUN, UNATTENDED

SHOWN = ("text", "bibtex")
MOST_SKIPPED = 5

BASH = [(block, command) for block in ALL if block.language == "bash" for command in commands(block.text)]


def test_every_page_is_looked_at() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "docs/start.md", "docs/index.md"} <= names
    assert len(ALL) > 70


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_block_names_its_language(page) -> None:
    known = "|".join((*RUN, *SHOWN, r"\{[\w-]+\}"))  # a directive of MyST has braces
    assert [block.place for block in blocks_of(page) if not re.fullmatch(known, block.language)] == []


def test_few_blocks_are_left_out_and_each_for_a_reason() -> None:
    left_out = {block.place: block.orders["skip"] for block in ALL if "skip" in block.orders}
    assert len(left_out) <= MOST_SKIPPED, left_out
    assert all(len(reason.split()) >= 3 for reason in left_out.values()), left_out


def test_text_holds_no_commands() -> None:
    shown = [block for block in ALL if block.language == "text"]
    assert [b.place for b in shown if re.match(r"(mde (?!doctor DIR \[)|pip |make |import |from )", b.text)] == []


def test_no_config_stands_behind_the_settings_that_it_would_undo() -> None:
    """The parser takes words in order: an experiment behind ``--model X`` brings its own model back, without a word."""
    late = re.compile(r"mde (?:fit|validate|test) .*--(?:model|data|trainer|run)\b.* --config ")
    commands_of_pages = [(block.place, " ".join(command.words)) for block, command in BASH]
    inline = [(page.name, code) for page in PAGES for code in re.findall(r"`(mde [^`]+)`", prose(page.read_text()))]
    assert [found for found in (*commands_of_pages, *inline) if late.match(found[1])] == []
    assert late.match("mde test --model X --model.tiles 2 --config quickstart")


def test_what_is_said_of_other_commands_is_needed() -> None:
    words = {" ".join(command.words) + " " for _, command in BASH}
    for name in OTHERS:
        assert any(line.startswith(f"{name} ") for line in words), name
    for pattern in UNATTENDED:
        assert any(re.match(f"mde {pattern}", line) for line in words), pattern


def test_the_citation_is_of_this_version_and_licence() -> None:
    (cite,) = (block.text for block in ALL if block.language == "bibtex")
    fields = dict(re.findall(r"^  (\w+) += \{(.+)\},$", cite, flags=re.MULTILINE))
    assert set(fields) == {"title", "author", "year", "version", "license"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (fields["version"], fields["license"]) == (mde.__version__, project["license"])


# ---- the parser ------------------------------------------------------------------------------------------------------

PAGE = """# A page
<!-- test: needs a.txt b/ -->
<!-- test: over rooms/unet -->
```yaml
# more.yaml
a: 1
```

Words, then in a list

  ~~~~bash
  mde info
    ```
  ~~~~

<!-- a plain comment -->
```
```
"""


def test_blocks_know_their_place_language_and_orders() -> None:
    first, second, third = blocks("p.md", PAGE)
    assert first == Block("p.md", 4, "yaml", "# more.yaml\na: 1", {"needs": "a.txt b/", "over": "rooms/unet"})
    assert (first.file, first.place) == ("more.yaml", "p.md:4")
    assert second == Block("p.md", 11, "bash", "mde info\n  ```")
    assert second.file is None
    assert third == Block("p.md", 17, "", "")


def test_prose_keeps_the_numbers_of_lines() -> None:
    plain = prose(PAGE).split("\n")
    assert {number: line for number, line in enumerate(plain, start=1) if line} == {
        1: "# A page", 9: "Words, then in a list",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nx = 1\n", "p.md:1: this block is never closed"),
        ("<!-- test: slip, why -->\n```python\n```", "unknown order 'slip'; one of skip"),
        ("<!-- test: skip, why -->\n\nWords\n```python\n```", "p.md:3: an order stands alone"),
        ("Words <!-- test: skip, why -->\n", "p.md:1: an order stands alone"),
        ("<!-- test: skip, why -->\n", "an order before no block"),
    ],
)
def test_a_page_that_is_wrong_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        list(blocks("p.md", text))


def test_commands_are_taken_apart_as_by_a_shell() -> None:
    text = """
# a comment
mde fit --config quickstart \\
    --set 'a=[1, 2]'    # another
A=1 B=x/y mde compare runs/*-seed* 'more/*' && mde info > out.txt
mde predict a#b "c d"
"""
    assert list(commands(text)) == [
        Command(("mde", "fit", "--config", "quickstart", "--set", "a=[1, 2]")),
        Command(("mde", "compare", "runs/*-seed*", "more/*"), frozenset({"runs/*-seed*"}), {"A": "1", "B": "x/y"}),
        Command(("mde", "info"), output="out.txt"),
        Command(("mde", "predict", "a#b", "c d")),
    ]


@pytest.mark.parametrize("line", ["mde info | less", "mde report runs/quickstart/<date-time>", "mde info; ls", "mde &"])
def test_what_a_reader_could_not_paste_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="more of a shell"):
        list(commands(line))
