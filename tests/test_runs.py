"""Where tested runs are found: result files of all versions, folders, Weights & Biases."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mde.report.wandb_runs as wandb_runs
from mde.errors import ConfigError, DataFormatError, ProtocolMismatchError
from mde.protocol import get_protocol
from mde.report.comparison import compare
from mde.report.results import add_intervals, read_results, write_results
from mde.report.runs import read_run, read_runs
from mde.report.scores import FILE
from mde.report.statistics import Interval
from tests.made_runs import CONSTANT, IMAGES, image_scores, results, write_run


def test_results_come_back_with_intervals_and_tables(tmp_path: Path) -> None:
    made = results(image_scores(1.0), tables={"ranges": {"0-2": {"abs_rel": 0.1}, "2-5": {"abs_rel": math.nan}}})
    write_results(made, tmp_path / "results.json")
    assert "NaN" not in (tmp_path / "results.json").read_text()
    again = read_results(tmp_path / "results.json")
    assert math.isnan(again.tables["ranges"]["2-5"].pop("abs_rel"))
    assert made.tables["ranges"]["2-5"].pop("abs_rel") is not None
    assert again == made
    assert isinstance(again.intervals["abs_rel"], Interval)


def test_files_of_format_1_are_read_and_their_intervals_found(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "old")
    content = json.loads((folder / "results.json").read_text())
    added = ("degenerate", "intervals", "ratio_intervals", "tables", "parameters", "weights_hash", "images_per_second")
    old = {key: value for key, value in content.items() if key not in added}
    (folder / "results.json").write_text(json.dumps({**old, "format": 1}))
    assert read_results(folder / "results.json").intervals == {}
    expected = results(image_scores(1.0))
    found = read_run(folder).results
    assert (found.intervals, found.ratio_intervals) == (expected.intervals, expected.ratio_intervals)


def test_an_interval_belongs_to_the_number_it_is_printed_with() -> None:
    made = results(image_scores(1.0))
    made.metrics["rmse"] *= 1.01
    add_intervals(made, image_scores(1.0), CONSTANT)
    assert made.intervals.keys() == made.ratio_intervals.keys() == {"abs_rel", "delta1"}


@pytest.mark.parametrize("name", ["results.json", "notes.txt"])
@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": "2"}',
        '{"format": 2, "metrics": [1], "protocol": {}, "images": 1, "skipped": 0}',
        "\x80",
    ],
)
def test_other_files_end_in_one_line(content: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(DataFormatError, match=rf"not a result file.*{name}.*Next: .*results\.json") as caught:
        read_run(tmp_path if name == "results.json" else tmp_path / name)
    assert "\n" not in str(caught.value)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    good = write_run(tmp_path / "good")
    for name in ("empty", "newer", "cut"):
        (tmp_path / name).mkdir()
    text = (good / "results.json").read_text()
    (tmp_path / "newer" / "results.json").write_text(text.replace('"format": 2', '"format": 3'))
    (tmp_path / "cut" / "results.json").write_text(text[:200])
    with pytest.raises(DataFormatError) as caught:
        compare([good, *(tmp_path / name for name in ("empty", "newer", "cut", "missing"))])
    lines = str(caught.value).splitlines()
    assert lines[0] == "4 of 5 runs cannot be read:"
    for line, words in zip(lines[1:], ("no results.json", "newer", "not a result file", "no such file"), strict=True):
        assert words in line
        assert "Next: " in line


def test_runs_are_found_and_named(tmp_path: Path) -> None:
    old = write_run(tmp_path / "a" / "2026-01-01_10-00-00", 2.0)
    new = write_run(tmp_path / "a" / "2026-01-02_10-00-00", 1.0)
    other = write_run(tmp_path / "b=c", 1.0)
    (tmp_path / "a" / "2026-01-03_10-00-00").mkdir()  # not tested yet
    assert read_run(tmp_path / "a").source == str(new / "results.json")
    names = [run.name for run in read_runs([tmp_path / "a", other, other / "results.json"])]
    assert names == ["a", "b=c", "b=c (2)"]
    assert [run.name for run in read_runs([old, new])] == ["a/2026-01-01_10-00-00", "a/2026-01-02_10-00-00"]
    assert [run.name for run in read_runs([f"ours={old}", new])] == ["ours", "a"]
    (tmp_path / "b=c").rename(tmp_path / "a" / "best")  # a copy beside dated runs is none of them
    assert read_run(tmp_path / "a").source == str(new / "results.json")
    with pytest.raises(DataFormatError, match=r"no results.json.*give one by one: \S*/a$"):
        read_run(tmp_path)
    write_run(tmp_path / "plain" / "x", 1.0)
    assert read_run(tmp_path / "plain").name == "x"
    write_run(tmp_path / "plain" / "y", 1.0)
    with pytest.raises(DataFormatError, match=r"2 runs in it.*give one by one: \S*/x \S*/y$"):
        read_run(tmp_path / "plain")


def test_a_damaged_record_of_images_is_not_passed_over(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / FILE).write_text((folder / FILE).read_text()[:-3])
    with pytest.raises(DataFormatError, match=r"cut off.*per_image\.csv"):
        read_run(folder)


# ---- Weights & Biases ------------------------------------------------------------------------------------------------


def summary() -> dict[str, Any]:
    made = results(image_scores(1.0))
    numbers: dict[str, Any] = {f"test/{name}": value for name, value in made.metrics.items()}
    numbers |= {f"test/{name}/low": interval.low for name, interval in made.intervals.items()}
    numbers |= {f"test/{name}/high": interval.high for name, interval in made.intervals.items()}
    numbers |= {f"constant/{name}": value for name, value in (made.baseline or {}).items()}
    about = {"protocol/name": "rooms", "protocol/fingerprint": made.protocol["fingerprint"], "data/name": "rooms"}
    return {**numbers, **about, "data/images": IMAGES, "method": "UNet", "parameters": 5, "test/images_per_second": 3.0,
            "test/panel": {"_type": "image"}, "extra/ssim": 0.9, "epoch": 3}  # fmt: skip


class Api:
    """As much of ``wandb.Api()`` as is used; `uploaded` is the text of results.json."""

    def __init__(self, uploaded: str | None = None, error: Exception | None = None) -> None:
        self.uploaded, self.error = uploaded, error

    def run(self, path: str) -> Any:
        if self.error is not None:
            raise self.error
        assert path == "me/depth/abc"
        return SimpleNamespace(summary=summary(), files=self._files, file=self._file)

    def _files(self, names: list[str]) -> list[Any]:
        return [SimpleNamespace(name=name) for name in names if self.uploaded is not None]

    def _file(self, name: str) -> Any:
        def download(root: str, replace: bool) -> None:
            assert replace
            Path(root, name).write_text(str(self.uploaded))

        return SimpleNamespace(download=download)


def test_a_run_on_wandb_stands_beside_a_local_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wandb_runs, "_api", Api)
    local = write_run(tmp_path / "local", 2.0)
    made = compare([local, "online=wandb:me/depth/abc"])
    row = made.as_dict()["runs"][1]
    expected = results(image_scores(1.0))
    assert row["values"]["abs_rel"] == expected.metrics["abs_rel"]
    assert row["intervals"]["abs_rel"] == list(expected.intervals["abs_rel"])
    assert row["ratio"]["value"] == expected.ratio("abs_rel")
    assert (row["images"], row["parameters"], row["images_per_second"]) == (IMAGES, 5, 3.0)
    assert made.runs[1].results.extra == {"ssim": 0.9}
    assert "hence no paired test: online" in made.markdown()


def test_an_uploaded_result_file_is_taken_whole(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run") / "results.json"
    assert wandb_runs.read_online("me/depth/abc", Api(path.read_text())) == read_results(path)


def test_wandb_offline_and_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"W&B gave no run \(no route\).*wandb login.*local folder"):
        wandb_runs.read_online("me/depth/abc", Api(error=OSError("no route\nmore")))
    with pytest.raises(ConfigError, match="entity/project/id"):
        wandb_runs.read_online("depth/abc", Api())
    files = tmp_path / "offline-run-1" / "files"
    files.mkdir(parents=True)
    with pytest.raises(DataFormatError, match=r"no summary of W&B.*wandb sync"):
        read_run(files.parent)
    (files / "wandb-summary.json").write_text(json.dumps(summary()))
    assert read_run(files.parent).results.metrics == results(image_scores(1.0)).metrics
    (files / "wandb-summary.json").write_text('{"epoch": 3}')
    with pytest.raises(DataFormatError, match="no test/"):
        read_run(files.parent)


def test_wandb_is_asked_for_when_it_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"mde\[wandb\]"):
        read_run("wandb:me/depth/abc")


def test_a_wandb_run_of_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wandb_runs, "_api", Api)
    street = write_run(tmp_path / "street", protocol=get_protocol("street").to_dict())
    with pytest.raises(ProtocolMismatchError, match=r"protocol: street \(\w+\) against rooms \(\w+\)"):
        compare([street, "wandb:me/depth/abc"])
