"""Comparisons: the numbers, what is refused, and every form of the table."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mde.errors import ConfigError, ProtocolMismatchError
from mde.protocol import get_protocol
from mde.report.comparison import Comparison, compare
from mde.report.statistics import Interval, paired
from mde.report.tables import Cell, Grid, direction, metrics_table, number
from tests.made_runs import IMAGES, image_scores, scored, trio, write_run


def text_of(made: Any) -> str:
    text = StringIO()
    Console(width=220, file=text).print(made)
    return text.getvalue()


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_a_run_against_itself_shows_no_difference() -> None:
    made = compare([scored("one"), scored("two")])
    rows = made.as_dict()["runs"]
    assert {test["p"] for row in rows for test in row["against_reference"].values()} == {1.0}
    assert "†" not in "".join(line for line in made.markdown().splitlines() if line.startswith("|"))
    assert all(cell.best for row in made.grids()[0].rows for cell in row[1:4] if isinstance(cell, Cell))


def test_a_uniformly_better_method_is_found_and_marked() -> None:
    made = compare(trio())
    assert made.reference.name == "good"
    rows = {row["name"]: row for row in made.as_dict()["runs"]}
    expected = paired(image_scores(1.5, 3), image_scores(0.8, 1), ["abs_rel"])["abs_rel"]
    assert rows["bad"]["against_reference"]["abs_rel"]["p"] == expected.p < 0.001
    assert rows["bad"]["against_reference"]["abs_rel"]["difference"] == expected.difference > 0
    assert rows["good"]["against_reference"] == {}
    cells = {str(getattr(row[0], "text", row[0])): row for row in made.grids()[0].rows}
    for column in (1, 2, 3):  # delta1 is better when higher
        assert [getattr(cells[name][column], "best", False) for name in ("good", "middle", "bad")] == [
            True,
            False,
            False,
        ]
        assert [getattr(cells[name][column], "second", False) for name in ("good", "middle", "bad")] == [
            False,
            True,
            False,
        ]
        assert cells["bad"][column].text.endswith(" †")  # type: ignore[union-attr]


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:])
def test_no_number_depends_on_the_order_of_the_runs(order: tuple[int, ...]) -> None:
    runs = trio()
    first = compare(runs).as_dict()
    other = compare([runs[place] for place in order]).as_dict()
    assert {row["name"]: row for row in first.pop("runs")} == {row["name"]: row for row in other.pop("runs")}
    assert first == other


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("abs_rel", ["a", "b", "c"]),
        ("delta1", ["a", "b", "c"]),
        ("name", ["a", "b", "c"]),
        ("parameters", ["b", "c", "a"]),
        ("images_per_second", ["c", "a", "b"]),
        (None, ["c", "b", "a"]),
    ],
)
def test_rows_are_sorted_best_first(key: str | None, expected: list[str]) -> None:
    runs = [
        scored("c", 3.0, parameters={"total": 7}, images_per_second=9.0),
        scored("b", 2.0, parameters={"total": 3}, images_per_second=None),
        scored("a", 1.0, parameters={}, images_per_second=2.0),
    ]
    assert [row["name"] for row in compare(runs, sort=key).as_dict()["runs"]] == expected


# ---- refused ---------------------------------------------------------------------------------------------------------

DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "protocol": ({"protocol": get_protocol("nyu_eigen").to_dict()}, r"protocol, crop: 'none' against 'nyu_eigen'"),
    "newer protocol": ({"protocol": {"name": "x", "fingerprint": "y", "new": 1}}, "protocol: rooms .* against x .*new"),
    "images": ({"images": 23}, "images: 24 against 23"),
    "data": ({"data": "Street"}, "data: 'Rooms' against 'Street'"),
    "manifest": ({"data_facts": {"world": "rooms", "manifest": "m2"}}, "manifest: None against 'm2'"),
    "seed": ({"data_facts": {"world": "rooms", "scenes": {"test": 3}}}, r"scenes.test: 24 against 3"),
    "truth": ({"baseline": {"abs_rel": 0.1}}, "ground truth: one constant guess"),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_differs_is_said_and_force_marks_it(case: str) -> None:
    changed, expected = DIFFERENT[case]
    runs = [*trio(), scored("other", 0.1, **changed)]
    with pytest.raises(ProtocolMismatchError, match=rf"1 of 4 runs .*'good':\n  other: .*{expected}.*Next: .*--force"):
        compare(runs)
    made = compare(runs, force=True)
    row = next(row for row in made.as_dict()["runs"] if row["name"] == "other")
    assert row["not_comparable"]
    assert row["against_reference"] == {}
    assert made.reference.name == "good"  # though the other has the least error
    page = made.markdown()
    assert "| other ‡ | 0.0" in page  # not in bold
    assert "‡ other cannot be compared: " in page


def test_another_protocol_is_not_called_another_truth() -> None:
    aligned = replace(get_protocol("rooms"), alignment="median").to_dict()
    other = scored("other", protocol=aligned, baseline={"abs_rel": 0.1})
    with pytest.raises(ProtocolMismatchError, match="alignment: 'none' against 'median'") as caught:
        compare([scored("one"), other])
    assert "ground truth" not in str(caught.value)


def test_other_images_are_named() -> None:
    less = scored("less")
    assert less.scores is not None
    less = replace(less, scores=less.scores.take(less.scores.ids[1:]))
    with pytest.raises(ProtocolMismatchError, match=r"the second lacks 1 image.*i0"):
        compare([scored("whole"), less])


def test_methods_may_learn_from_different_data() -> None:
    facts = {"world": "rooms", "scenes": {"train": 90_000, "test": IMAGES}, "validation": "other", "infill": "levin"}
    made = compare([scored("one"), scored("two", data_facts=facts)])
    assert not made.marked


def test_wrong_requests() -> None:
    for arguments, expected in (
        ({"metrics": ["abs_rell"]}, "no run has abs_rell.*nearest: abs_rel"),
        ({"metrics": []}, "nothing to compare"),
        ({"against": "goood"}, "no run 'goood'.*good, middle, bad"),
        ({"sort": "rmsee"}, "cannot sort by 'rmsee'.*nearest: rmse"),
    ):
        with pytest.raises(ConfigError, match=expected):
            compare(trio(), **arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="nothing"):
        compare([])
    with pytest.raises(ConfigError, match="one name"):
        compare([scored("a"), scored("a")])


# ---- forms -----------------------------------------------------------------------------------------------------------


def test_json_and_csv_carry_unrounded_numbers_and_come_back() -> None:
    made = compare([*trio(), replace(scored("alone", 1.1), scores=None)], ["abs_rel", "delta1"])
    content = json.loads(made.json())
    assert content == made.as_dict()
    assert content["reference"] == "good"
    lines = list(csv.DictReader(made.csv().splitlines()))
    for run, row, line in zip(made.runs, content["runs"], lines, strict=True):
        assert row["values"]["abs_rel"] == run.results.metrics["abs_rel"] == float(line["abs_rel"])
        low, high = run.results.intervals["abs_rel"]
        assert (row["intervals"]["abs_rel"], float(line["abs_rel_low"])) == ([low, high], low)
        assert float(line["abs_rel_ratio"]) == run.results.ratio("abs_rel") == row["ratio"]["value"]
    assert lines[0]["abs_rel_p"] == lines[3]["abs_rel_p"] == ""
    assert "No errors per image, hence no paired test: alone." in made.markdown()


def test_a_metric_that_is_not_known_is_empty_everywhere() -> None:
    made = compare([scored("one"), scored("two", extra={"ssim": 0.9}, images_per_second=None)], ["abs_rel", "ssim"])
    assert json.loads(made.json())["runs"][0]["values"]["ssim"] is None
    assert next(csv.DictReader(made.csv().splitlines()))["ssim"] == ""
    assert next(line for line in made.markdown().splitlines() if "| one |" in line).split(" | ")[2] == "-"
    assert "NaN" not in made.json() + made.csv()


def test_markdown_and_terminal() -> None:
    made = compare([*trio(), replace(scored("a|b", 2.0), scores=None)])
    page = made.markdown()
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables[:6]} == {8}
    assert "| good | **0." in page
    assert "<u>0." in page
    assert "a\\|b" in page
    text = text_of(made.table())
    for expected in ("good", "abs_rel ↓", "delta1 ↑", "±", "1.24 M", "12.3", "Difference from good", "(p < 0.001)"):
        assert expected in text


def test_latex_is_escaped_and_balanced() -> None:
    nasty = r"50%_of $a & b #1 {x} ~^\cmd <t>"
    made = compare([scored("good", 0.5), scored(nasty, 2.0)])
    page = made.latex()
    bare = page
    for known in (r"\\textbackslash\{\}", r"\\textasciitilde\{\}", r"\\textasciicircum\{\}"):
        bare = bare.replace(known.replace("\\\\", "\\").replace("\\{", "{").replace("\\}", "}"), "")
    escaped = (
        r"50\%\_of \$a \& b \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}cmd \textless{}t\textgreater{}"
    )
    assert escaped in page
    assert page.count(r"\begin{tabular}") == page.count(r"\end{tabular}") == 2
    rows = [line for line in page.splitlines() if line.endswith(r"\\")]
    assert {row.replace(r"\&", "").count("&") for row in rows[:3]} == {6}
    assert r"\textbf{0." in page
    assert not any(sign in page for sign in "±↑↓†")
    comments = [line for line in page.splitlines() if not line.startswith("%")]
    unescaped = "\n".join(comments).replace(r"\{", "").replace(r"\}", "")
    assert unescaped.count("{") == unescaped.count("}")


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html_is_well_formed_and_escaped() -> None:
    page = Page()
    made = compare([scored("good", 0.5), scored("<script>alert(1)</script>", 2.0)])
    page.feed(made.html())
    assert page.open == []
    assert "<script>" not in made.html()
    assert "<script>alert(1)</script>" in page.text
    assert "<strong>0." in made.html()


def test_numbers_as_a_person_reads_them() -> None:
    def written(value: float, half: float) -> str:
        return number(value, Interval(value - half, value + half))

    # Particle Data Group: 354 keeps two digits, 355 one, 950 becomes 1000 and keeps two
    assert written(0.8273, 0.1191) == "0.83 ± 0.12"
    assert written(0.8273, 0.0367) == "0.83 ± 0.04"
    assert written(0.827, 0.00953) == "0.827 ± 0.010"
    assert written(0.1432, 0.004) == "0.143 ± 0.004"
    assert written(1234.5, 35.4) == "1234 ± 35"
    assert written(1.0, 0.0) == "1.0000"
    assert number(math.nan) == "-"
    assert number(0.5, Interval(0.4, math.inf)) == "0.5000"


@given(st.floats(-1e4, 1e4), st.floats(1e-5, 1e4))
def test_what_is_printed_is_within_a_fifth_of_the_uncertainty(value: float, half: float) -> None:
    text, spread = number(value, Interval(value - half, value + half)).split(" ± ")
    assert abs(float(text) - value) <= 0.2 * half + 0.5 * (half > 1) + 1e-9
    assert abs(float(spread) - half) <= 0.2 * half + 0.5 * (half > 1) + 1e-9


def test_one_table_maker_and_known_directions() -> None:
    grid = Grid(["a", "b"], [["x", Cell("1", best=True)]], title="T", notes=["n"])
    assert grid.markdown() == "T\n\n| a | b |\n| --- | ---: |\n| x | **1** |\n\nn\n"
    assert [direction(name) for name in ("abs_rel", "ssim", "boundary_f1", "points_chamfer", "u_within_1_std")] == [
        "↓", "↑", "↑", "↓", "",
    ]  # fmt: skip
    text = text_of(
        metrics_table({"abs_rel": 0.1432}, {"abs_rel": 0.4}, title="t", intervals={"abs_rel": Interval(0.139, 0.147)})
    )
    assert "0.143 ± 0.004" in text  # fmt: skip


def test_the_python_api_takes_a_mixture(tmp_path: Path) -> None:
    made = compare([scored("read", 1.0), write_run(tmp_path / "local", 2.0)])
    assert isinstance(made, Comparison)
    assert [run.name for run in made.runs] == ["read", "local"]
