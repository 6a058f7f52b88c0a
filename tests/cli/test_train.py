"""fit, test, resume: what a user does from the command line, in process."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch
import yaml

import mde
from mde.cli import main
from mde.metrics import DepthMetrics
from mde.models import UNet
from mde.protocol import get_protocol
from tests.fakes import fake_frame, write_depth, write_rgbd_folder


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def weights(folder: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"]


def test_fit_then_test_then_load_need_nothing_but_the_checkpoint(tiny, run, tmp_path):
    fitted = run("fit", "--config", tiny, "--run.test", "true")
    names = {path.relative_to(fitted).as_posix() for path in fitted.rglob("*") if path.is_file()}
    assert names >= {
        "config.yaml",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "results.json",
        "panel.png",
    }
    (tmp_path / tiny).unlink()
    alone = tmp_path / "elsewhere.ckpt"
    alone.write_bytes((fitted / "checkpoints" / "best.ckpt").read_bytes())

    tested = run("test", "--ckpt_path", str(alone))
    first, second = results(fitted), results(tested)
    assert first["metrics"] == second["metrics"]
    assert first["baseline"] == second["baseline"]
    assert first["baseline_depth"] == second["baseline_depth"] > 0.3
    assert first["protocol"]["fingerprint"] == get_protocol("rooms").fingerprint
    assert first["images"] == 3

    model = mde.load(alone)
    assert isinstance(model, UNet)
    data = yaml.safe_load((fitted / "config.yaml").read_text())["data"]["init_args"]
    from mde.data import ProceduralDataModule

    module = ProceduralDataModule(**{k: data[k] for k in ("train_scenes", "val_scenes", "test_scenes", "image_size")})
    module.setup("test")
    metrics = DepthMetrics(get_protocol("rooms"))
    for batch in module.test_dataloader():
        metrics.update(model.predict(batch["image"]).depth, batch["depth"], batch["valid"])
    for name, value in metrics.compute().items():
        assert float(value) == pytest.approx(first["metrics"][name], rel=1e-5), name


def test_metrics_are_logged_under_stable_names(tiny, run):
    folder = run("fit", "--config", tiny, "--trainer.log_every_n_steps", "1")
    with (folder / "metrics.csv").open() as file:
        columns = set(csv.DictReader(file).fieldnames)
    assert columns >= {
        "train/loss",
        "train/loss_epoch",
        "train/images_per_second",
        "val/loss",
        "val/abs_rel",
        "val/delta1",
        "epoch",
        "step",
    }


def test_the_saved_config_gives_the_same_run(tiny, run):
    first = run("fit", "--config", tiny)
    second = run("fit", "--config", str(first / "config.yaml"))
    for name, value in weights(first).items():
        assert torch.equal(value, weights(second)[name]), name


def test_resuming_reaches_the_weights_of_an_uninterrupted_run(tiny, run):
    whole = run("fit", "--config", tiny, "--trainer.max_epochs", "3", "--run.name", "whole", name="whole")
    # stopped after its second of three epochs, as by a kill in the third: the schedule is that of three
    part = run(
        "fit",
        "--config",
        tiny,
        "--trainer.max_epochs",
        "3",
        "--trainer.callbacks",
        "tests.cli.stop.StopAfter",
        "--trainer.callbacks.epochs",
        "2",
    )
    resumed = run("fit", "--config", tiny, "--trainer.max_epochs", "3", "--ckpt_path", "last")
    assert any(not torch.equal(v, weights(part)[k]) for k, v in weights(whole).items())
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    assert (resumed / "checkpoints" / "best.ckpt").is_file()
    # the checkpoint knows its whole configuration: no --config is needed to go on
    again = run("fit", "--ckpt_path", str(part / "checkpoints" / "last.ckpt"), "--trainer.callbacks", "null")
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(again)[name]), name


def test_flags_win_over_what_the_checkpoint_says(tiny, run):
    fitted = run("fit", "--config", tiny)
    tested = run("test", "--ckpt_path", str(fitted / "checkpoints" / "best.ckpt"), "--data.protocol", "none")
    assert results(tested)["protocol"]["fingerprint"] == get_protocol("none").fingerprint
    fewer = run("test", "--ckpt_path", str(fitted / "checkpoints" / "best.ckpt"), "--data.test_scenes", "2")
    assert results(fewer)["images"] == 2


def test_repeated_configs_merge_and_flags_come_last(tiny, tmp_path, capsys):
    (tmp_path / "more.yaml").write_text("trainer: {max_epochs: 9}\nmodel: {init_args: {widths: [4, 8, 16]}}\n")
    assert main(["fit", "--config", tiny, "--config", "more.yaml", "--data.batch_size", "5", "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["trainer"]["max_epochs"] == 9
    assert config["model"]["init_args"]["widths"] == [4, 8, 16]
    assert config["data"]["init_args"]["batch_size"] == 5
    assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.01


def test_validate_and_predict(tiny, run):
    import numpy as np

    fitted = run("fit", "--config", tiny)
    best = str(fitted / "checkpoints" / "best.ckpt")
    run("validate", "--ckpt_path", best)
    predicted = run("predict", "--ckpt_path", best)
    files = sorted((predicted / "predictions").glob("*.npz"))
    assert len(files) == 3
    content = np.load(files[0])
    assert content["values"].shape == (16, 24)
    assert 0.3 <= content["values"].min() <= content["values"].max() <= 10.0
    assert (str(content["ambiguity"]), str(content["unit"])) == ("metric", "m")


WRONG = {
    "model class": (["--model", "UNett"], "no DepthModule 'UNett'", "UNet"),
    "model path": (["--model", "mde.models.DenseDeth"], "DenseDeth", "DenseDepth"),
    "data class": (["--data", "NYUDepthV2Datamodul"], "no DepthDataModule", "NYUDepthV2DataModule"),
    "trainer key": (["--trainer.max_epoch", "2"], "unknown setting", "trainer.max_epochs"),
    "model key": (["--model.width", "2"], "unknown setting", "widths"),
    "encoder class": (["--model", "DenseDepth", "--model.encoder", "TimEncoder"], "TimEncoder", "TimmEncoder"),
    "experiment": (["--config", "quikstart"], "no such file or experiment", "quickstart"),
    "checkpoint": (["--ckpt_path", "nowhere.ckpt"], "no such checkpoint", "runs/"),
    "last of nothing": (["--ckpt_path", "last"], "no run to go on with", "start one without"),
    "protocol": (["--data.protocol", "nyu_eigem"], "unknown protocol", "nyu_eigen"),
    "part of a protocol": (["--data.protocol.alignment", "median"], "would drop all its others", "mde info protocols"),
    "late experiment": (["--model.decay", "1", "--config=quickstart"], "puts its own in its place", "--config first"),
    "value": (["--trainer.max_epochs", "many"], "many", ""),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_word_ends_in_one_line_with_the_nearest_valid_one(case, tiny, capsys):
    words, what, nearest = WRONG[case]
    assert main(["fit", "--config", tiny, *words]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1, err
    assert err[0].startswith("mde: error: ")
    assert what in err[0]
    assert nearest in err[0]


NESTED = """
data:
  init_args:
    augmentations:
      - class_path: albumentations.OneOf
        init_args: {transforms: [{class_path: albumentations.HorizontalFlipp}]}
"""
MIXED = """
data:
  class_path: mde.data.MixedDataModule
  init_args: {parts: {streets: {class_path: mde.data.kitti.KITTIDataModule, init_args: {split: eigen}}}}
"""


def test_a_misspelled_transform_inside_of_another_is_named(tiny, tmp_path, capsys):
    (tmp_path / "nested.yaml").write_text(NESTED)
    assert main(["fit", "--config", tiny, "--config", "nested.yaml"]) == 2
    (err,) = capsys.readouterr().err.strip().splitlines()
    assert "HorizontalFlipp" in err
    assert re.search(r"nearest: .*\bHorizontalFlip\b", err)


def test_a_setting_that_a_class_cannot_do_without_is_named_with_its_place(tmp_path, capsys):
    (tmp_path / "mixed.yaml").write_text(MIXED)
    words = ["--data", "NYUDepthV2DataModule", "--model", "UNet"]
    for command, end in ((["fit", *words], "--data.root VALUE"), (["fit", "--config", "mixed.yaml"], "below data")):
        assert main([*command, "--trainer.accelerator", "cpu"]) == 2
        (err,) = capsys.readouterr().err.strip().splitlines()
        assert re.search(r"(NYUDepthV2|KITTI)DataModule needs root, and got none \[data\]\. Next: .*", err)
        assert err.endswith(end)


def test_a_test_prints_one_table(tiny, tmp_path, capsys):
    assert main(["test", "--config", tiny, "--run.root", str(tmp_path / "one")]) == 0
    out = capsys.readouterr().out
    assert "abs_rel" in out
    assert "DataLoader 0" not in out, "Lightning's own table of the same numbers"
    assert main(["test", "--config", tiny, "--run.root", str(tmp_path / "two"), "--verbose", "true"]) == 0
    assert "DataLoader 0" in capsys.readouterr().out


def test_a_wrong_key_in_yaml_is_named(tiny, tmp_path, capsys):
    (tmp_path / "wrong.yaml").write_text("model: {init_args: {widthss: [4]}}\n")
    assert main(["fit", "--config", tiny, "--config", "wrong.yaml"]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1
    assert "widthss" in err[0]


def test_yaml_that_is_none_is_refused(tiny, tmp_path, capsys):
    (tmp_path / "broken.yaml").write_text("model: [unclosed\n")
    assert main(["fit", "--config", "broken.yaml"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_missing_data_folder_says_what_is_expected(capsys):
    assert main(["fit", "--config", "nyu/unet", "--data.root", "nowhere", "--trainer.accelerator", "cpu"]) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert "nowhere" in err
    assert "nyu_depth_v2_labeled.mat" in err
    assert "Next:" in err


def test_a_foreign_checkpoint_is_refused(tiny, tmp_path, capsys):
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    assert main(["test", "--ckpt_path", "foreign.ckpt"]) == 2
    assert "not a checkpoint of this library" in capsys.readouterr().err
    (tmp_path / "cut.ckpt").write_bytes(b"PK\x03\x04 cut off")
    assert main(["test", "--ckpt_path", "cut.ckpt"]) == 2
    assert "not a readable checkpoint" in capsys.readouterr().err


def test_a_loss_that_is_not_a_number_stops_with_the_batch_saved(tiny, tmp_path, capsys):
    assert main(["fit", "--config", tiny, "--model.optimizer.init_args.lr", "1e30"]) == 1
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the training loss is" in err
    saved = next((tmp_path / "runs").rglob("nonfinite_batch.json"))
    ids = json.loads(saved.read_text())["ids"]
    assert len(ids) == 2
    assert all(name.startswith("rooms-train-") for name in ids)


def test_a_full_disk_ends_in_one_line_and_keeps_the_last_checkpoint(tiny, run, capsys, monkeypatch):
    import errno

    folder = run("fit", "--config", tiny)
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mde.callbacks.checkpoints.torch.save", full)
    assert main(["fit", "--config", tiny, "--ckpt_path", "last", "--trainer.max_epochs", "3"]) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no space left on the device" in err
    assert "--ckpt_path last" in err
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not list(folder.parent.rglob("*.partial"))


def folder_run(folder: Path, *words: str) -> int:
    settings = ("--data.root", str(folder), "--data.image_size", "[16, 24]", "--data.depth_scale", "0.001")
    quiet = ("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false")
    once = ("--trainer.max_epochs", "1", "--data.batch_size", "2", "--trainer.accelerator", "cpu")
    return main(["fit", "--config", "folder/densedepth", *settings, *quiet, *once, *words])


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_truncated_image_is_named_before_the_training(tmp_path, capsys, workers):
    folder = write_rgbd_folder(tmp_path / "data", {"train": 4, "val": 2, "test": 2})
    broken = folder / "train" / "rgb" / "2.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    assert folder_run(folder, "--data.num_workers", workers) == 1
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert "train/rgb/2.jpg" in err
    assert "Traceback" not in err


def test_a_broken_validation_image_is_named_by_a_worker_too(tmp_path, capsys):
    folder = write_rgbd_folder(tmp_path / "data", {"train": 4, "val": 2, "test": 2})
    broken = folder / "val" / "rgb" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    assert folder_run(folder, "--data.num_workers", "1") == 1
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("mde: error: ")
    assert "val/rgb/1.jpg" in err


def test_depth_of_another_size_is_named(tmp_path, capsys):
    folder = write_rgbd_folder(tmp_path / "data", {"train": 4, "val": 2, "test": 2})
    write_depth(folder / "train" / "depth" / "2.png", fake_frame(1, (12, 16))[1])
    assert folder_run(folder) == 1
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert "16x12" in err
    assert "32x24" in err


def test_images_without_depth_are_skipped_and_counted(tmp_path, run):
    import numpy as np

    folder = write_rgbd_folder(tmp_path / "data", {"train": 4, "val": 2, "test": 3})
    for split in ("train", "test"):
        write_depth(folder / split / "depth" / "1.png", np.zeros((24, 32), np.float32))
    assert folder_run(folder, "--run.test", "true") == 0
    found = results(next((tmp_path / "runs" / "folder-densedepth").iterdir()))
    assert (found["images"], found["skipped"]) == (2, 1)
