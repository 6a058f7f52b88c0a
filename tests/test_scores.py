"""per_image.csv: streamed, joined in the order of the data set, read back exactly; damaged files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mde.errors import ConfigError, DataFormatError
from mde.report.scores import ImageScores, ScoresWriter, join_parts


def scores(count: int, seed: int = 0, **columns: np.ndarray) -> ImageScores:
    rng = np.random.default_rng(seed)
    values = columns or {name: rng.lognormal(size=count) for name in ("abs_rel", "rmse")}
    ids = tuple(f"room/{number:03d}, a" for number in range(count))  # a comma must survive
    return ImageScores(ids, np.full(count, 100), np.zeros(count, bool), values)


def same(first: ImageScores, second: ImageScores) -> bool:
    assert first.ids == second.ids
    assert list(first.values) == list(second.values)
    for name, column in first.values.items():
        np.testing.assert_array_equal(column, second.values[name])
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.degenerate, second.degenerate)
    return True


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    whole = scores(5, abs_rel=np.array([0.1, 1 / 3, np.nan, 1e-300, 7e22]))
    whole.degenerate[1], whole.pixels[2] = True, 0
    whole.write(tmp_path / "deep" / "per_image.csv")
    assert (tmp_path / "deep" / "per_image.csv").read_text().startswith("id,pixels,degenerate,abs_rel\n")
    assert same(ImageScores.read(tmp_path / "deep" / "per_image.csv"), whole)


@given(images=st.integers(0, 23), ranks=st.integers(1, 5), batch=st.integers(1, 4))
def test_parts_of_all_processes_join_in_the_order_of_the_data_set(
    images: int, ranks: int, batch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    whole, parts = scores(images), [folder / f".part.{rank}" for rank in range(ranks)]
    for rank, part in enumerate(parts):
        writer, own = ScoresWriter(part), list(range(rank, images, ranks))
        for start in range(0, len(own), batch):
            rows = own[start : start + batch]
            columns = {name: column[rows].tolist() for name, column in whole.values.items()}
            writer.add([whole.ids[row] for row in rows], whole.pixels[rows], whole.degenerate[rows], columns)
    join_parts(parts, folder / "per_image.csv")
    assert [path.name for path in folder.iterdir()] == ["per_image.csv"]
    found = ImageScores.read(folder / "per_image.csv")
    assert same(found, whole) if images else len(found) == 0


def test_a_missing_part_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "per_image.csv"
    path.write_text("old")
    ScoresWriter(tmp_path / "a")
    with pytest.raises(DataFormatError, match=r"1 of 2 parts are missing: .*b\b"):
        join_parts([tmp_path / "a", tmp_path / "b"], path)
    assert path.read_text() == "old"


DAMAGED = {
    "empty": ("", "first columns"),
    "other": ("a,b\n1,2\n", "first columns"),
    "cut in a number": ("id,pixels,degenerate,abs_rel\nx,4,0,0.25\ny,4,0,0.2", "cut off"),
    "cut row": ("id,pixels,degenerate,abs_rel\nx,4,0,0.25\ny,4\n", "line 3"),
    "no number": ("id,pixels,degenerate,abs_rel\nx,4,0,much\n", "line 2"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused_with_their_line(case: str, tmp_path: Path) -> None:
    content, reason = DAMAGED[case]
    (tmp_path / "per_image.csv").write_text(content)
    with pytest.raises(DataFormatError, match=rf"{reason}.*per_image\.csv.*Next: ") as caught:
        ImageScores.read(tmp_path / "per_image.csv")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataFormatError, match="nowhere"):
        ImageScores.read(tmp_path / "nowhere.csv")


def test_columns_are_one_table(tmp_path: Path) -> None:
    writer = ScoresWriter(tmp_path / "x.csv")
    writer.add(["a"], [1], [False], {"abs_rel": [0.5]})
    with pytest.raises(ConfigError, match="abs_rel, then rmse"):
        writer.add(["b"], [1], [False], {"rmse": [0.5]})
    with pytest.raises(ConfigError, match="lengths"):
        ImageScores(("a",), np.ones(2, int), np.zeros(1, bool), {})


def test_images_are_taken_by_id_and_an_id_is_one_image() -> None:
    whole = scores(4)
    some = whole.take([whole.ids[2], whole.ids[0]])
    np.testing.assert_array_equal(some.values["rmse"], whole.values["rmse"][[2, 0]])
    twice = ImageScores(("a", "b", "a"), np.ones(3, int), np.zeros(3, bool), {"x": np.zeros(3)})
    with pytest.raises(DataFormatError, match=r"1 id.*: a"):
        twice.take(["a"])
