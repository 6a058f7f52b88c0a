"""`mde compare` as a user calls it: formats by file name, errors in one go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mde.cli.compare import run as compare
from mde.errors import ConfigError, DataFormatError, ProtocolMismatchError
from mde.protocol import get_protocol
from mde.report.scores import CONSTANT_FILE, FILE, ImageScores
from tests.cli.test_processes import mde
from tests.made_runs import write_run


@pytest.fixture(autouse=True)
def runs(tmp_path: Path) -> None:
    for name, factor in (("good", 0.5), ("bad", 1.5)):
        write_run(tmp_path / "runs" / name / "2026-01-01_10-00-00", factor)
    write_run(tmp_path / "runs" / "street" / "2026-01-01_10-00-00", protocol=get_protocol("street").to_dict())


def test_the_table_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(["runs/good", "runs/bad", "--metrics", "rmse, delta1", "--against", "bad"]) == 0
    out = capsys.readouterr().out
    assert "rmse ↓" in out
    assert "abs_rel" not in out
    assert "Difference from bad" in out


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("t.md", "2 method(s)"), ("t.tex", "% 2 method"), ("t.csv", "name,model"), ("t.html", "<!doctype"),
        ("t.json", "{"), ("t.txt", "2 method(s)"),
    ],
)  # fmt: skip
def test_the_name_of_the_file_says_the_format(name: str, start: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(["runs/good", "runs/bad", "-o", f"out/{name}"]) == 0
    assert capsys.readouterr().out == f"written: out/{name}\n"
    assert Path("out", name).read_text().startswith(start)


def test_json_for_further_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(["runs/good", "b=runs/bad", "--format", "json", "--sort", "name"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in content["runs"]] == ["b", "good"]


def test_what_cannot_be_compared_or_read() -> None:
    with pytest.raises(ProtocolMismatchError, match=r"street: protocol, max_depth: 10.0 against 80.0"):
        compare(["runs/good", "runs/street"])
    with pytest.raises(DataFormatError, match="2 of 3 runs cannot be read"):
        compare(["runs/good", "runs/nowhere", "runs"])
    with pytest.raises(ConfigError, match="says no format"):
        compare(["runs/good", "-o", "table.xls"])
    with pytest.raises(ConfigError, match=r"required: RUN \[mde compare\]. Next: see mde compare --help"):
        compare([])


def test_force_marks(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(["runs/good", "runs/street", "--force"]) == 0
    assert "street ‡" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_leave_the_record_of_one(tiny: str, tmp_path: Path, run: Callable[..., Path]) -> None:
    """Seven images on two ranks: the repeated one is in neither file, and the order is that of the data set."""
    words = ("test", "--config", tiny, "--data.test_scenes", "7")
    one = run(*words)
    done = mde(tmp_path, *words, "--run.name", "two", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert done.returncode == 0, done.stderr
    (two,) = (tmp_path / "runs" / "two").iterdir()
    for name in (FILE, CONSTANT_FILE):
        assert not [path for path in two.iterdir() if path.name.startswith(".")]
        first, second = ImageScores.read(one / name), ImageScores.read(two / name)
        assert first.ids == second.ids
        assert len(first) == 7
        for metric, column in first.values.items():
            np.testing.assert_allclose(second.values[metric], column, rtol=1e-5, err_msg=metric)
    assert compare([str(one), str(two)]) == 0
