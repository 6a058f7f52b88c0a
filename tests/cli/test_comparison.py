"""The comparison of the documentation, from training to the page, at a tiny size."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mde.cli import main
from mde.cli.sweep_plan import read_plan

TINY = {"trainer.max_epochs": "1", "data.train_scenes": "16", "data.val_scenes": "4", "data.test_scenes": "12"}


@pytest.mark.slow
def test_every_method_and_two_networks_of_other_authors_stand_side_by_side(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mde"])
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    settings = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    assert main(["sweep", "comparison", *settings]) == 0
    runs = [str(path) for path in sorted(Path("runs/sweeps/comparison").glob("*-seed*"))]
    recipes = list(read_plan("comparison").recipes)
    assert len(runs) == len(recipes) == 7

    capsys.readouterr()
    assert main(["compare", *runs, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert len(rows) == 7
    assert {row["images"] for row in rows if "images" in row} <= {12}

    assert main(["report", *runs, "-o", "comparison.html", "--figure", "comparison.pdf"]) == 0
    page = Path("comparison.html").read_text()
    for recipe in recipes:
        assert recipe.replace("/", "_") in page
    assert not re.search(r"(?:src|href)=[\"']https?:", page)
    assert Path("comparison.pdf").read_bytes().startswith(b"%PDF")
