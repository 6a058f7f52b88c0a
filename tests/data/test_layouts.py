from __future__ import annotations

import json
from pathlib import Path

import pytest

from mde.cli import main
from mde.data.layouts import get_layout, layouts, recognise
from mde.data.prepare import read_manifest
from mde.data.writers import is_made, mark, smooth
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from tests.data.layout_contract import LayoutContract


class TestRgbdFolder(LayoutContract):
    layout = "folder/rgbd"
    step = 0.001
    settings = {"depth_scale": 0.001}


def test_names_and_configs_exist() -> None:
    from mde.cli.experiments import names

    for name, layout in layouts().items():
        assert layout.name == name
        assert set(layout.configs) <= set(names())
        assert callable(layout.load_writer())
    with pytest.raises(ConfigError, match="nearest: folder/rgbd"):
        get_layout("folder/rgb")


def test_nothing_and_unknown_things_are_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="no such file or folder"):
        recognise(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataFormatError, match=r"none of the known layouts.*folder/rgbd: "):
        recognise(tmp_path, family="folder")


def test_make_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "made"
    words = ["make-data", "folder/rgbd", str(root), "-n", "3", "--size", "24", "32"]
    assert main(words) == 0
    assert f"mde fit --config folder/densedepth --data.root {root}" in capsys.readouterr().out
    note = json.loads((root / "made-by-mde.json").read_text())
    assert (note["layout"], note["frames"], note["world"]) == ("folder/rgbd", 5, "rooms")
    assert is_made(root)
    assert not is_made(tmp_path)
    assert main(words) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["make-data", "folder/rgdb", str(tmp_path / "x")]) == 2
    assert "unknown layout 'folder/rgdb'" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    assert main(["make-data", "folder/rgbd", str(tmp_path / "x"), "-n", "0"]) == 2
    assert main(["make-data", "--help"]) == 0
    assert "folder/rgbd" in capsys.readouterr().out


def test_what_results_record_of_the_data(tmp_path: Path) -> None:
    layout = get_layout("folder/rgbd")
    layout.load_writer()(tmp_path, 2, smooth, (24, 32))
    data = layout.make(tmp_path, image_size=(24, 32), depth_scale=0.001)
    assert data.record() == data.facts()
    mark(tmp_path, layout.name, {})
    filled = layout.make(tmp_path, image_size=(24, 32), depth_scale=0.001, infill="nearest")
    assert filled.record() == {**data.facts(), "infill": "nearest", "made": True}
    hole = data.dataset("train").read(0)
    assert not hole.valid.all()
    assert filled.dataset("train").read(0).valid.all()
    assert (filled.dataset("val").read(0).valid == data.dataset("val").read(0).valid).all()  # never for evaluation


def test_the_fingerprint_of_a_prepared_folder_is_recorded(tmp_path: Path) -> None:
    layout = get_layout("folder/rgbd")
    layout.load_writer()(tmp_path, 2, smooth, (24, 32))
    assert main(["prepare", "folder", str(tmp_path), "--verify"]) == 0
    data = layout.make(tmp_path, depth_scale=0.001)
    assert data.record() == {**data.facts(), "manifest": read_manifest(tmp_path).fingerprint}
