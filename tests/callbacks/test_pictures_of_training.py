"""Loss curves and decoder activations: what they show is what was logged and computed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

import mde.callbacks.activations as activations
from mde.callbacks import DecoderActivations, LossCurves
from mde.errors import ConfigError, DataFormatError
from mde.models import DeepLabSID, ResNetDepth, SmpEncoder, TimmEncoder, UNet
from mde.report import activation_figure, curve_figure, read_curves
from tests.models.tester import make_loader, make_trainer


def fit(folder: Path, *callbacks: Any, model: Any = None, **kwargs: Any) -> Any:
    trainer = make_trainer(folder, callbacks=list(callbacks), **{"max_epochs": 3, **kwargs})
    model = UNet((4, 8, 16), image_size=(32, 48)) if model is None else model
    trainer.fit(model, make_loader(8), make_loader(2, seed=1))
    return model


def lines(axis: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in axis.get_lines()}


def test_curves_are_those_of_the_log(tmp_path):
    fit(tmp_path, LossCurves(), logger=CSVLogger(tmp_path, name="", version=""))
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    curves = read_curves(tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_array_equal(curves["val/loss"][1], [float(row["val/loss"]) for row in rows if row["val/loss"]])
    np.testing.assert_allclose(curves["val/loss"][0], [1, 2, 3])
    np.testing.assert_allclose(curves["train/loss_epoch"][0], [1, 2, 3])
    np.testing.assert_allclose(curves["train/loss"][0], np.arange(1, 13) / 4)  # four steps an epoch, each logged

    left, right = curve_figure({"a": curves, "b": curves}).axes
    drawn = lines(left)
    assert set(drawn) == {"a train", "a val", "b train", "b val"}
    np.testing.assert_array_equal(drawn["a val"][1], curves["val/loss"][1])
    np.testing.assert_array_equal(lines(right)["b"][1], curves["val/abs_rel"][1])
    alone = curve_figure({"": curves}, metric="val/nothing")
    assert set(lines(alone.axes[0])) == {"train", "val"}
    assert len(alone.axes) == 1
    alone.savefig(tmp_path / "curves.pdf")
    assert (tmp_path / "curves.pdf").read_bytes()[:4] == b"%PDF"


def test_a_run_without_a_csv_log_draws_nothing(tmp_path):
    fit(tmp_path, LossCurves(), max_epochs=1)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2\n", b"\xff\xfe\x00"])
def test_what_is_no_log_is_refused(tmp_path, content):
    path = tmp_path / "metrics.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataFormatError, match=r"metrics\.csv.*Next: give the metrics.csv of a run"):
        read_curves(path)


def test_activations_are_the_means_of_the_decoders_levels(tmp_path, monkeypatch):
    shown: list[Any] = []

    def record(*args: Any, **kwargs: Any) -> Any:
        shown.append((args, kwargs))
        return activation_figure(*args, **kwargs)

    monkeypatch.setattr(activations, "activation_figure", record)
    model = fit(tmp_path, DecoderActivations(every=2), logger=TensorBoardLogger(tmp_path, name="tb"))
    files = sorted(path.name for path in (tmp_path / "activations").iterdir())
    assert files == ["epoch_000.png", "epoch_002.png"]
    (image, _, _, levels), kwargs = shown[-1]
    assert kwargs["title"] == "sample-1-0, epoch 2"  # the first of the validation set
    with torch.no_grad():
        expected = model.eval().decoder(model.encoder(image[None]))
    assert [tuple(level.shape) for level in levels] == [(8, 16, 24), (4, 32, 48)]
    for level, other in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, other[0])
    assert not model.decoder._forward_hooks
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(next(tmp_path.glob("tb/*"))))
    events.Reload()
    assert len(events.Images("val/activations")) == 2


def test_the_grid_shows_one_map_a_level():
    levels = [torch.rand(3, 4, 6), torch.rand(2, 8, 12)]
    valid = torch.zeros(1, 16, 24, dtype=torch.bool)
    valid[:, :8] = True
    figure = activation_figure(torch.rand(3, 16, 24), torch.rand(1, 16, 24), valid, levels, title="x")
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(shown) == 4
    assert int(np.ma.getmaskarray(shown[1]).sum()) == 8 * 24
    for picture, level in zip(shown[2:], levels, strict=True):
        np.testing.assert_allclose(picture, level.mean(0).numpy(), rtol=1e-6)
    assert figure.axes[2].get_title() == "level 1: 3 at 4x6"


def test_another_method_with_a_decoder_works_and_one_without_is_refused(tmp_path):
    fit(tmp_path, DecoderActivations(), model=ResNetDepth(TimmEncoder("test_resnet")), max_epochs=1)
    assert (tmp_path / "activations" / "epoch_000.png").is_file()
    classes = DeepLabSID(SmpEncoder("resnet18", output_stride=8), bins=5, depth_range=(1.0, 10.0))
    with pytest.raises(ConfigError, match="DeepLabSID has no decoder of levels"):
        fit(tmp_path, DecoderActivations(), model=classes)
    with pytest.raises(ConfigError, match="every must be at least 1"):
        DecoderActivations(0)
