"""A checkpoint by the folder of its run or experiment."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mde
from mde.errors import CheckpointError
from mde.models import UNet
from mde.models.checkpoint import KEY, find_checkpoint, write_payload


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Two runs; the newer one has been cut off before its first validation."""
    for run, names in {
        "2026-01-01_10-00-00": ["best", "last"],
        "2026-01-02_10-00-00": ["last"],
        "2026-01-03_10-00-00": [],
    }.items():
        folder = tmp_path / run / "checkpoints"
        folder.mkdir(parents=True)
        for name in names:
            (folder / f"{name}.ckpt").touch()
    return tmp_path


def test_the_newest_run_that_has_one(experiment: Path):
    assert find_checkpoint(experiment) == experiment / "2026-01-02_10-00-00" / "checkpoints" / "last.ckpt"
    (experiment / "2026-01-02_10-00-00" / "checkpoints" / "best.ckpt").touch()
    assert find_checkpoint(experiment).name == "best.ckpt"
    assert find_checkpoint(experiment, "last.ckpt").name == "last.ckpt"


def test_of_a_run_the_best_or_the_last(experiment: Path):
    run = experiment / "2026-01-01_10-00-00"
    assert find_checkpoint(run) == run / "checkpoints" / "best.ckpt"
    assert find_checkpoint(str(run), "last.ckpt") == run / "checkpoints" / "last.ckpt"


def test_anything_else_is_left_as_it_is(tmp_path: Path):
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "file.onnx"):
        assert find_checkpoint(path) == path


def test_load_takes_the_folder_of_an_experiment(experiment: Path):
    torch.manual_seed(0)
    model = UNet(widths=(4, 8), image_size=(16, 16))
    checkpoint = {"state_dict": model.state_dict()}
    write_payload(checkpoint, model.rebuild_spec, None)
    torch.save(checkpoint, experiment / "2026-01-02_10-00-00" / "checkpoints" / "last.ckpt")
    assert KEY in checkpoint
    again = mde.load(experiment).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())


def test_a_folder_without_runs_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"no such checkpoint.*runs/<name>/<date-time>"):
        mde.load(tmp_path)
