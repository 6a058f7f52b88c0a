"""Variants of a prediction and extra metrics: the same numbers as without the callbacks, by other ways."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mde.callbacks.scores import ExtraMetrics, VariantScores
from mde.cli import main
from mde.metrics import DepthMetrics, SSIMMetric, ssim_per_image
from mde.metrics.batch_rmse import BatchRMSE
from mde.models import UNet
from mde.protocol import EvalProtocol
from tests.models.tester import make_batch, make_loader, make_trainer

FIELD = """
trainer:
  accelerator: cpu
  max_steps: 1
  limit_val_batches: 0
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: mde.callbacks.scores.ExtraMetrics
      init_args:
        metrics:
          ssim: {class_path: mde.metrics.SSIMMetric, init_args: {data_range: 1.0, padding: zero}}
          rmse_of_batches: {class_path: mde.metrics.batch_rmse.BatchRMSE}
model:
  class_path: mde.models.DeepLabSID
  init_args:
    encoder:
      class_path: mde.models.SmpEncoder
      init_args: {name: resnet18, output_stride: 8}
    rates: [1, 2]
    bins: 9
    crf:
      class_path: mde.crf.DenseCRF
      init_args: {iterations: 2}
data:
  class_path: mde.data.ProceduralDataModule
  init_args: {train_scenes: 4, val_scenes: 2, test_scenes: 3, image_size: [40, 56], batch_size: 2}
"""


class Halved(UNet):
    """Offers what it predicts at half the depth."""

    def raws(self, image: Tensor) -> dict[str, Tensor]:
        raw = self.raw(image)
        return {"": raw, "halved": self.codec.encode(self.codec.decode(raw) / 2)}


def halved(protocol: EvalProtocol) -> Halved:
    torch.manual_seed(0)
    return Halved((4, 8), protocol=protocol, depth_range=(0.1, 50.0)).eval()


@pytest.mark.parametrize("flip", [False, True])
def test_variants_are_scored_as_the_prediction_is(flip: bool, tmp_path: Path) -> None:
    protocol = EvalProtocol(max_depth=60.0, flip=flip)
    model, batch = halved(protocol), make_batch(3)
    model.trainer = make_trainer(tmp_path)
    counts = torch.tensor([True, False, True])
    scores, expected = VariantScores(), DepthMetrics(protocol)
    model.test_metrics = DepthMetrics(protocol)
    with torch.no_grad():
        scores.update(model, model.test_step(batch, 0), batch, counts)
        half = (model.predict_batch(batch["image"]) / 2).clamp(min=0.1)
        if flip:
            half = (half + (model.predict_batch(batch["image"].flip(-1)) / 2).clamp(min=0.1).flip(-1)) / 2
        expected.update(half, batch["depth"], batch["valid"], counts=counts)
    found = scores.compute()
    assert list(found) == ["halved"]
    assert found["halved"] == pytest.approx({k: float(v) for k, v in expected.compute().items()}, rel=1e-5)


def test_a_module_without_variants_costs_nothing() -> None:
    scores = VariantScores()
    model = UNet((4, 8))
    batch = make_batch()
    scores.update(model, {"pred": model.predict_batch(batch["image"])}, batch, None)
    assert scores.compute() == {}


def test_extra_metrics_of_the_prediction_at_the_size_of_the_truth(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = UNet((4, 8), protocol=EvalProtocol(max_depth=2.0)).eval()  # beyond it pixels count all the same
    extra = ExtraMetrics({"ssim": SSIMMetric(20.0, padding="zero"), "batches": BatchRMSE()})
    loader = make_loader(3)
    make_trainer(tmp_path, callbacks=[extra]).test(model, loader, verbose=False)
    similarities, rmses = [], []
    for batch in loader:
        with torch.no_grad():
            pred = model.predict_batch(batch["image"]).clamp(1e-3, 2.0)
        truth, valid = batch["depth"], batch["valid"]
        similarities += ssim_per_image(pred, truth, valid, data_range=20.0, padding="zero")[0].tolist()
        rmses.append(((pred - truth)[valid].double() ** 2).mean().sqrt().item())
    seen = [value for value in similarities if value == value]
    expected = sum(seen) / len(seen) if seen else float("nan")
    per_image = extra.last_per_image()
    assert list(per_image) == ["ssim"]
    np.testing.assert_allclose(per_image["ssim"].numpy(), similarities[-len(per_image["ssim"]) :], rtol=1e-6)
    found = extra.compute()
    assert found["ssim"] == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert found["batches"] == pytest.approx(sum(rmses) / 2, rel=1e-6)


def test_rmse_of_batches_masks_and_leaves_out() -> None:
    metric = BatchRMSE()
    truth = torch.full((2, 1, 3, 3), 2.0)
    pred = truth + torch.tensor([1.0, 7.0]).view(2, 1, 1, 1)
    valid = truth > 0
    valid[0, 0, 0] = False
    pred[0, 0, 0] = torch.nan
    metric.update(pred, truth, valid, torch.tensor([True, False]))
    metric.update(pred, truth, ~valid & False)
    assert metric.compute().item() == 1


def test_with_and_without_the_field_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mde"])

    def run(*words: str) -> dict[str, Any]:
        for name in ("LOCAL_RANK", "MDE_RUN_FOLDER"):
            monkeypatch.delenv(name, raising=False)
        assert main([*words, "--run.name", f"{words[0]}{len(words)}"]) == 0
        os.environ.pop("MDE_RUN_FOLDER", None)
        found: dict[str, Any] = json.loads(
            next(Path("runs", f"{words[0]}{len(words)}").glob("*/results.json")).read_text()
        )
        return found

    Path("field.yaml").write_text(FIELD)
    with_field = run("test", "--config", "field.yaml")
    assert "without crf" in capsys.readouterr().out
    without = run("test", "--config", "field.yaml", "--model.crf", "null")
    assert with_field["variants"]["without crf"] == pytest.approx(without["metrics"], rel=1e-9)
    assert with_field["metrics"] != without["metrics"]
    assert without["variants"] == {}
    assert set(with_field["extra"]) == {"ssim", "rmse_of_batches"}
    assert with_field["extra"]["rmse_of_batches"] > 0
