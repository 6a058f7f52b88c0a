"""What only real processes show: a kill, and two ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def mde(folder: Path, *words: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "MDE_RUN_FOLDER")}
    env["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(tiny, tmp_path, run):
    killer = (
        "--trainer.callbacks",
        "tests.cli.stop.KillAt",
        "--trainer.callbacks.epoch",
        "1",
        "--trainer.callbacks.batch",
        "2",
    )
    killed = mde(tmp_path, "fit", "--config", tiny, *killer)
    assert killed.returncode == -9, killed.stderr
    broken = next((tmp_path / "runs" / "tiny").iterdir())
    assert torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0
    # the checkpoint carries the whole configuration of its run, the killer included
    resumed = run("fit", "--config", tiny, "--ckpt_path", "last", "--trainer.callbacks", "null")
    whole = run("fit", "--config", tiny)
    first, second = (torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (resumed, whole))
    assert first["global_step"] == second["global_step"]
    for name, value in second["state_dict"].items():
        assert torch.equal(value, first["state_dict"][name]), name


@pytest.mark.slow
def test_two_processes_score_as_one(tiny, tmp_path, run):
    """Seven images on two ranks: one of them is repeated by the sampler and must not count twice."""
    fitted = run("fit", "--config", tiny)
    best = str(fitted / "checkpoints" / "best.ckpt")
    words = ("test", "--ckpt_path", best, "--data.test_scenes", "7")
    one = json.loads((run(*words) / "results.json").read_text())
    two_ranks = mde(tmp_path, *words, "--run.name", "two", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert two_ranks.returncode == 0, two_ranks.stderr
    folders = list((tmp_path / "runs" / "two").iterdir())
    assert len(folders) == 1  # both ranks share one folder
    two = json.loads((folders[0] / "results.json").read_text())
    assert two["images"] == one["images"] == 7
    for key in ("metrics", "baseline"):
        for name, value in one[key].items():
            assert two[key][name] == pytest.approx(value, rel=1e-6), (key, name)
