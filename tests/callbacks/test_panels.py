"""What loggers get: read back from the files that W&B, TensorBoard and a plain folder really hold."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

import mde.callbacks.pictures as pictures
from mde.callbacks.loggers import closing, make_loggers
from mde.callbacks.panels import RunSummary, summary_of
from mde.callbacks.pictures import ImagePanels, Pace
from mde.callbacks.record import RunRecorder
from mde.callbacks.sinks import logger_sinks, sinks
from mde.data import ProceduralDataModule
from mde.errors import ConfigError
from mde.models import UNet
from mde.protocol import EvalProtocol
from mde.report import Results, read_results, read_run
from mde.types import Ambiguity
from tests.callbacks.wandb_log import WandbRun, read_wandb
from tests.models.tester import make_loader, make_trainer

CONFIG = {"trainer": {"max_epochs": 1}, "model": {"class_path": "mde.models.UNet"}}
RANGES = ("0-2", "2-5", "5-10")


def train_and_test(folder: Path, loggers: list[Any], **kwargs: Any) -> UNet:
    """One epoch on rendered rooms, then a test, with the callbacks of the command line."""
    data = ProceduralDataModule(
        train_scenes=4, val_scenes=3, test_scenes=5, image_size=(16, 24), batch_size=2, eval_batch_size=2
    )
    model = UNet((4, 8), image_size=(16, 24))
    callbacks = [
        ImagePanels(folder, interval=0, points=50), RunRecorder(folder, CONFIG),
        RunSummary(folder, CONFIG, interval=0),
    ]  # fmt: skip
    trainer = make_trainer(folder, callbacks=callbacks, logger=loggers, **kwargs)
    with closing(loggers):
        trainer.fit(model, datamodule=data)
        trainer.test(model, datamodule=data, verbose=False)
    return model


@pytest.fixture(scope="module")
def wandb_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WandbRun]:
    pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("runs") / "experiment" / "now"
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        for name in ("WANDB_PROJECT", "WANDB_ENTITY"):
            patch.delenv(name, raising=False)
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        train_and_test(folder, make_loggers("wandb", folder))
        assert not list(Path.cwd().iterdir())  # nothing outside of the run's folder
    return folder, read_wandb(folder)


def test_wandb_holds_settings_to_filter_by(wandb_run):
    _, found = wandb_run
    protocol = EvalProtocol.from_dict(ProceduralDataModule().protocol.to_dict())
    assert found.config["method"] == "UNet"
    assert found.config["data"] == "rooms"
    assert (found.config["protocol"], found.config["fingerprint"]) == ("rooms", protocol.fingerprint)
    assert found.config["parameters"] == sum(p.numel() for p in UNet((4, 8)).parameters())
    assert found.config["config"] == CONFIG
    assert (found.run.project, found.run.display_name) == ("mde", "experiment/now")
    assert found.exit_code == 0


def test_wandb_holds_the_results_under_stable_names(wandb_run):
    folder, found = wandb_run
    results = read_results(folder / "results.json")
    for name, value in results.metrics.items():
        assert found.summary[f"test/{name}"] == pytest.approx(value, rel=1e-12)
        assert found.summary[f"constant/{name}"] == pytest.approx(results.baseline[name], rel=1e-12)
    assert found.summary["protocol/fingerprint"] == results.protocol["fingerprint"]
    assert found.summary["method"] == "UNet"
    assert found.summary["data/images"] == 5
    assert any("val/abs_rel" in row for row in found.history)


def test_what_wandb_wrote_offline_is_a_run_like_any_other(wandb_run):
    folder, _ = wandb_run
    own, found = read_results(folder / "results.json"), read_run(next(folder.rglob("offline-run-*"))).results
    assert found.metrics == pytest.approx(own.metrics, rel=1e-12)
    assert found.baseline == pytest.approx(own.baseline, rel=1e-12)
    assert found.protocol["fingerprint"] == own.protocol["fingerprint"]
    assert (found.images, found.model) == (5, "UNet")


def test_wandb_holds_pictures_clouds_tables_and_histograms(wandb_run):
    folder, found = wandb_run
    files = next(folder.rglob("offline-run-*")) / "files"
    for stage in ("val", "test"):
        (picture,) = found.last(f"{stage}/panel.filenames")
        assert (files / picture).read_bytes()[:4] == b"\x89PNG"
        for name in ("prediction", "truth"):
            cloud = json.loads((files / found.last(f"{stage}/cloud/{name}.path")).read_text())
            assert 0 < len(cloud) <= 50
            assert len(cloud[0]) == 6
            assert all(z < 0 for _, _, z, *_ in cloud)  # the camera looks along -z
    table = json.loads((files / found.last("test/error_by_range.path")).read_text())
    assert table["columns"][:3] == ["range (m)", "abs_rel", "rmse"]
    assert {row[0] for row in table["data"]} <= set(RANGES)
    for row in table["data"]:
        assert found.summary[f"test/range/{row[0]}/abs_rel"] == pytest.approx(row[1], rel=1e-6)
    assert sum(found.last("test/abs_rel_of_images.values")) == 5


def test_the_dashboard_shows_what_a_run_records(wandb_run):
    pytest.importorskip("wandb_workspaces")
    from mde.cli.workspace import build_workspace

    _, found = wandb_run
    recorded = {key.partition(".")[0] for key in found.summary} | {f"config:{key}.value" for key in found.config}
    later = {"test/range/10-20/abs_rel", "test/range/20-40/abs_rel", "test/range/40-80/abs_rel"}  # rooms end at 10 m
    later |= {"train/images_per_second", "test/range/5-10/abs_rel", "run:displayName"}
    workspace = build_workspace("team", "project")
    shown = {column.removeprefix("summary:") for column in workspace.runset_settings.pinned_columns}
    for section in workspace._spec["spec"]["section"]["panelBankConfig"]["sections"]:
        for panel in section["panels"]:
            shown |= {*panel["config"].get("metrics", ()), *panel["config"].get("mediaKeys", ())}
    assert shown - recorded - later == set()


def test_tensorboard_holds_the_same(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_and_test(tmp_path, make_loggers("tensorboard", tmp_path))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"val/panel", "test/panel"} <= set(tags["images"])
    assert "test/abs_rel_of_images" in tags["histograms"]
    latest = {tag: events.Tensors(tag)[-1].tensor_proto.string_val for tag in tags["tensors"]}
    texts = {tag.removesuffix("/text_summary"): values for tag, values in latest.items()}
    results = read_results(tmp_path / "results.json")
    assert texts["protocol/fingerprint"][0].decode() == results.protocol["fingerprint"]
    assert texts["method"][0].decode() == "UNet"
    assert texts["test/error_by_range"][0].decode().startswith("| range (m) | abs_rel | rmse |")
    for name in ("abs_rel", "rmse", "delta1"):
        assert events.Scalars(f"test/{name}")[-1].value == pytest.approx(results.metrics[name], rel=1e-6)
        assert events.Scalars(f"constant/{name}")[-1].value == pytest.approx(results.baseline[name], rel=1e-6)
    clouds = [f"{stage}/cloud/{name}" for stage in ("val", "test") for name in ("prediction", "truth")]
    assert {f"{name}_{part}" for name in clouds for part in ("VERTEX", "COLOR")} <= set(texts)
    plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data
    assert b"fingerprint" in plugin.content
    assert results.protocol["fingerprint"].encode() in plugin.content


def test_a_folder_holds_files_where_no_logger_takes_pictures(tmp_path):
    model = train_and_test(tmp_path, [CSVLogger(tmp_path, name="", version="")])
    assert (tmp_path / "panel.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "val" / "panel.png").is_file()  # the interval is 0
    with (tmp_path / "test" / "error_by_range.csv").open() as file:
        rows = {row.pop("range (m)"): {k: float(v) for k, v in row.items()} for row in csv.DictReader(file)}
    for name, row in rows.items():
        assert row == pytest.approx(errors_of_range(model, *map(float, name.split("-"))), rel=1e-5)
    assert set(rows) <= set(RANGES)
    points, colours = read_ply(tmp_path / "test" / "cloud" / "truth.ply")
    assert len(points) == len(colours) == 50


def errors_of_range(model: UNet, near: float, far: float) -> dict[str, float]:
    """The written formulas in float64, image by image."""
    data = ProceduralDataModule(test_scenes=5, image_size=(16, 24), eval_batch_size=1)
    data.setup("test")
    found, pixels = [], 0
    for batch in data.test_dataloader():
        with torch.no_grad():
            pred = model.eval().predict_batch(batch["image"])
        size = batch["depth"].shape[-2:]
        pred = torch.nn.functional.interpolate(pred, size=size, mode="bilinear", align_corners=False)
        p, g = pred.numpy().astype(np.float64), batch["depth"].numpy().astype(np.float64)
        mask = batch["valid"].numpy() & (g >= near) & (g < far) & (g > 1e-3)
        if mask.any():
            p, g = np.clip(p[mask], 1e-3, 10), g[mask]
            delta1 = np.mean(np.maximum(p / g, g / p) < 1.25)
            found.append((np.mean(abs(p - g) / g), np.sqrt(np.mean((p - g) ** 2)), delta1))
            pixels += int(mask.sum())
    abs_rel, rmse, delta1 = np.mean(found, axis=0)
    return {"abs_rel": abs_rel, "rmse": rmse, "delta1": delta1, "images": len(found), "pixels": pixels}


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    head, _, body = path.read_bytes().partition(b"end_header\n")
    lines = [line for line in head.decode().splitlines() if not line.startswith("comment")]
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    colours = ("red", "green", "blue")
    assert lines[3:] == [*(f"property float {n}" for n in "xyz"), *(f"property uchar {n}" for n in colours)]
    rows = np.frombuffer(body, np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)]))
    assert lines[2] == f"element vertex {len(rows)}"
    return rows["xyz"], rows["rgb"]


class HandsOn(UNet):
    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        super().validation_step(batch, batch_idx)
        return {"pred": self.predict_batch(batch["image"])}


def test_a_validation_is_broken_down_by_range_where_its_step_hands_on_what_it_scored(tmp_path):
    model = HandsOn((4, 8), protocol=EvalProtocol(max_depth=10.0))
    trainer = make_trainer(tmp_path, callbacks=[RunSummary(tmp_path, {}, interval=0, edges=(0, 4, 80))])
    trainer.validate(model, make_loader(4), verbose=False)
    with (tmp_path / "val" / "error_by_range.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["range (m)"] for row in rows] == ["0-4", "4-10"]  # the protocol ends at 10 m
    batch = next(iter(make_loader(4, batch_size=4)))
    counted = batch["valid"] & (batch["depth"] > 1e-3) & (batch["depth"] < 10)
    assert sum(float(row["pixels"]) for row in rows) == int(counted.sum())


# ---- what is shown ---------------------------------------------------------------------------------------------------


class Disparity(UNet):
    """Predicts the exact disparity of the tester's pictures, up to a scale and a shift."""

    ambiguity = Ambiguity.AFFINE_DISPARITY

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        pred = 3 / (10 * batch["image"][:, :1]) + 0.7
        self.test_metrics.update(pred, batch["depth"], batch["valid"], ambiguity=self.ambiguity)
        return {"pred": pred}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Arguments of every figure that is drawn."""
    drawn: list[Any] = []
    draw = pictures.depth_figure

    def record(*maps: Any, **words: Any) -> Any:
        drawn.append((maps, words))
        return draw(*maps, **words)

    monkeypatch.setattr(pictures, "depth_figure", record)
    return drawn


def test_a_relative_prediction_is_shown_aligned_and_the_title_says_so(tmp_path, figures):
    protocol = EvalProtocol(name="d", max_depth=20.0, alignment="disparity_scale_shift")
    trainer = make_trainer(tmp_path, callbacks=[ImagePanels(tmp_path)])
    trainer.test(Disparity((4, 8), protocol=protocol), make_loader(12), verbose=False)
    (((_, depth, valid, pred), words),) = figures
    assert depth.shape == pred.shape == (4, 1, 32, 48)
    torch.testing.assert_close(pred[valid], depth[valid], rtol=1e-4, atol=1e-4)
    assert words["title"] == f"protocol d ({protocol.fingerprint}), predictions aligned by disparity_scale_shift"
    assert words["names"] == ("sample-0-0", "sample-0-4", "sample-0-6", "sample-0-10")  # spread over the set
    points, colours = read_ply(tmp_path / "test" / "cloud" / "prediction.ply")
    others, _ = read_ply(tmp_path / "test" / "cloud" / "truth.ply")
    np.testing.assert_allclose(points, others, rtol=1e-3)
    assert len(points) == len(colours) == int(valid[0].sum())


def test_a_metric_prediction_is_shown_in_its_own_metres_as_it_was_scored(tmp_path, figures):
    model = UNet((4, 8), protocol=EvalProtocol(name="near", max_depth=2.0))
    trainer = make_trainer(tmp_path, callbacks=[ImagePanels(tmp_path, images=2)])
    trainer.test(model, make_loader(2), verbose=False)
    (((image, _, _, pred), words),) = figures
    with torch.no_grad():
        torch.testing.assert_close(pred, model.eval().predict_batch(image).clamp(1e-3, 2.0))
    assert "aligned" not in words["title"]


def test_a_camera_that_nobody_measured_gives_no_cloud(tmp_path):
    loader = make_loader(2)
    for item in loader.dataset:
        item["intrinsics"] = torch.full((3, 3), torch.nan)
    make_trainer(tmp_path, callbacks=[ImagePanels(tmp_path)]).test(UNet((4, 8)), loader, verbose=False)
    assert [path.name for path in tmp_path.rglob("*.*")] == ["panel.png"]


# ---- how often, and where --------------------------------------------------------------------------------------------


def fake_trainer(**settings: Any) -> Any:
    given = {"sanity_checking": False, "is_global_zero": True, "loggers": [], **settings}
    return SimpleNamespace(strategy=SimpleNamespace(broadcast=lambda value: value), **given)


def test_validations_are_shown_once_an_interval(monkeypatch, tmp_path):
    clock = [100.0]
    monkeypatch.setattr(pictures.time, "monotonic", lambda: clock[-1])
    with_logger = fake_trainer(loggers=[TensorBoardLogger(tmp_path)])
    pace, alone = Pace(60), Pace(60)
    assert not pace.due(fake_trainer(sanity_checking=True))
    seen = []
    for now in (100.0, 130.0, 161.0, 220.0, 221.0):
        clock.append(now)
        seen.append((pace.due(with_logger), alone.due(fake_trainer())))
    # files alone wait for the first interval to pass
    assert seen == [(True, False), (False, False), (True, True), (False, False), (True, True)]
    with pytest.raises(ConfigError, match=r"interval must be at least 0, got -1.*Next: give the least time"):
        ImagePanels(tmp_path, interval=-1)


def test_all_processes_show_the_same_validations(monkeypatch):
    other = fake_trainer(is_global_zero=False)
    other.strategy.broadcast = lambda value: True  # what the first process says
    assert Pace(60).due(other)


def test_only_the_first_process_sends(tmp_path):
    loggers = [TensorBoardLogger(tmp_path)]
    assert len(logger_sinks(fake_trainer(loggers=loggers))) == 1
    assert logger_sinks(fake_trainer(loggers=loggers, is_global_zero=False)) == []
    assert sinks(fake_trainer(is_global_zero=False), tmp_path) == []
    assert len(sinks(fake_trainer(), tmp_path)) == 1


def test_nonsense_is_refused_before_the_training(tmp_path):
    with pytest.raises(ConfigError, match="no ranges between"):
        RunSummary(tmp_path, {}, edges=(5, 2))


def test_the_summary_is_flat_finite_and_named_as_promised():
    results = Results(
        metrics={"abs_rel": 0.1, "silog": float("nan")}, baseline={"abs_rel": 0.4}, variants={"no crf": {"rmse": 2.0}},
        extra={"ssim": 0.5}, protocol={"name": "none", "fingerprint": "abc"}, images=3, skipped=1, model="UNet",
        data="KITTIDataModule", data_facts={"layout": "kitti/raw"},
    )  # fmt: skip
    assert summary_of(results) == {
        "method": "UNet", "data/name": "kitti/raw", "data/images": 3, "data/skipped": 1, "data/degenerate": 0,
        "protocol/name": "none", "protocol/fingerprint": "abc", "test/abs_rel": 0.1, "constant/abs_rel": 0.4,
        "variant/no crf/rmse": 2.0, "extra/ssim": 0.5,
    }  # fmt: skip
