"""The training aids in one YAML, from the command line, through a checkpoint and back."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import yaml

import mde
from mde.cli import main

CONFIG = """
trainer:
  max_epochs: 2
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
  num_sanity_val_steps: 0
  gradient_clip_val: 1.0
  callbacks:
    - {class_path: mde.callbacks.AveragedWeights, init_args: {decay: 0.5}}
    - {class_path: mde.callbacks.GradualUnfreezing, init_args: {stages: {1: 2}}}
    - {class_path: mde.callbacks.DecoderActivations}
    - {class_path: mde.callbacks.ChannelsLast}
model:
  class_path: mde.models.DenseDepth
  init_args:
    encoder: {class_path: mde.models.TimmEncoder, init_args: {name: test_resnet, frozen_stages: -1}}
    encoder_lr: 0.1
    decay_norm: false
data:
  class_path: mde.data.ProceduralDataModule
  init_args: {train_scenes: 4, val_scenes: 2, test_scenes: 2, image_size: [32, 48], batch_size: 2}
"""


def newest(root: Path) -> Path:
    return max(root.glob("runs/aids/*"), key=lambda folder: folder.stat().st_mtime_ns)


def test_all_aids_in_one_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mde"])
    for name in ("LOCAL_RANK", "MDE_RUN_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    Path("aids.yaml").write_text(CONFIG)
    assert main(["fit", "--config", "aids.yaml", "--run.test", "true"]) == 0
    os.environ.pop("MDE_RUN_FOLDER", None)
    first = newest(tmp_path)
    files = {path.relative_to(first).as_posix() for path in first.rglob("*.png")}
    assert files == {"activations/epoch_000.png", "activations/epoch_001.png", "curves.png", "panel.png"}
    saved = torch.load(first / "checkpoints" / "last.ckpt", weights_only=True)
    model = mde.load(first / "checkpoints" / "last.ckpt")
    assert (model.encoder_lr, model.decay_norm) == (0.1, False)
    assert all(torch.equal(v, saved["state_dict"][k]) for k, v in model.state_dict().items())
    rates = sorted({group["lr"] for group in saved["optimizer_states"][0]["param_groups"]})
    assert [round(rate / rates[-1], 6) for rate in rates] == [0.1, 1.0]
    encoder = [k for k in saved["state_dict"] if k.startswith("encoder.net.") and k.endswith(".weight")]
    differ = [k for k in encoder if not torch.equal(saved["state_dict"][k], saved["current_model_state"][k])]
    assert 0 < len(differ) < len(encoder)  # averages and weights differ where stages were thawed, in epoch 1

    assert main(["fit", "--ckpt_path", str(first / "checkpoints" / "last.ckpt"), "--trainer.max_epochs", "3"]) == 0
    second = newest(tmp_path)
    assert second != first
    assert (second / "activations" / "epoch_002.png").is_file()
    written = yaml.safe_load((second / "config.yaml").read_text())["trainer"]["callbacks"]
    assert [callback["class_path"].rpartition(".")[2] for callback in written] == [
        "AveragedWeights", "GradualUnfreezing", "DecoderActivations", "ChannelsLast",
    ]  # fmt: skip
    assert {int(k): v for k, v in written[1]["init_args"]["stages"].items()} == {1: 2}
