"""A tiny experiment that trains in a second, run in process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mde.cli import main

TINY = """
seed_everything: 3
trainer:
  max_epochs: 2
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
  num_sanity_val_steps: 0
model:
  class_path: mde.models.UNet
  init_args:
    widths: [4, 8]
    codec:
      class_path: mde.codecs.Log
      init_args: {min_depth: 0.3, max_depth: 10.0}
    loss: {class_path: mde.losses.L1Loss}
    optimizer:
      class_path: torch.optim.AdamW
      init_args: {lr: 0.01}
    schedule: {class_path: mde.models.schedules.WarmupCosine}
data:
  class_path: mde.data.ProceduralDataModule
  init_args:
    train_scenes: 7
    val_scenes: 3
    test_scenes: 3
    image_size: [16, 24]
    batch_size: 2
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("LOCAL_RANK", "MDE_RUN_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.argv", ["mde"])


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    (tmp_path / "tiny.yaml").write_text(TINY)
    return "tiny.yaml"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Runs a command that must succeed and returns its run folder."""

    def call(*words: str, name: str = "tiny") -> Path:
        before = set((tmp_path / "runs" / name).glob("*"))
        assert main([*words]) == 0
        os.environ.pop("MDE_RUN_FOLDER", None)
        new = set((tmp_path / "runs" / name).glob("*")) - before
        assert len(new) == 1, f"one new run folder expected, got {new}"
        return new.pop()

    return call
