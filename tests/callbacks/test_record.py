"""What a test leaves behind: errors per image that make up the metrics, the network's size, hash and speed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor

from mde.callbacks.measure import NetworkClock, parameter_counts, weights_hash
from mde.callbacks.per_image import ImageRecord
from mde.callbacks.record import RunRecorder
from mde.callbacks.scores import Alignments, ExtraMetrics
from mde.data import ProceduralDataModule
from mde.metrics import NAMES, BatchErrors, DepthMetrics
from mde.metrics.normals import NormalErrors
from mde.models import UNet
from mde.protocol import EvalProtocol
from mde.report.results import read_results
from mde.report.scores import CONSTANT_FILE, FILE, ImageScores
from mde.report.statistics import pooled
from tests.models.tester import make_trainer


def data(**kwargs: Any) -> ProceduralDataModule:
    settings: dict[str, Any] = {
        "train_scenes": 2,
        "val_scenes": 1,
        "test_scenes": 11,
        "image_size": (16, 24),
        "batch_size": 2,
    }
    return ProceduralDataModule(**{**settings, **kwargs})  # fmt: skip


def network(**kwargs: Any) -> UNet:
    torch.manual_seed(0)
    return UNet((4, 8), depth_range=(0.3, 10.0), **kwargs)


def run_test(folder: Path, *callbacks: Callback, model: UNet | None = None, **kwargs: Any) -> Path:
    recorder = RunRecorder(folder, {"a": 1})
    trainer = make_trainer(folder, callbacks=[*callbacks, recorder])
    trainer.test(network() if model is None else model, datamodule=data(**kwargs), verbose=False)
    return folder


class Bar(ProgressBar):
    """Says when it leaves the terminal."""

    def teardown(self, *_: Any, **__: Any) -> None:
        print("the bar is gone")


def test_the_table_is_printed_below_the_progress_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(tmp_path, callbacks=[Bar(), RunRecorder(tmp_path, {})], enable_progress_bar=True)
    trainer.test(network(), datamodule=data(), verbose=False)
    lines = capsys.readouterr().out.splitlines()
    table = next(number for number, line in enumerate(lines) if line.startswith("test of UNet on 11 images"))
    assert "the bar is gone" in lines[:table]


def test_errors_per_image_make_up_the_metrics(tmp_path: Path) -> None:
    folder = run_test(tmp_path, ExtraMetrics({"normals": NormalErrors()}))
    found, scores = read_results(folder / "results.json"), ImageScores.read(folder / FILE)
    constant = ImageScores.read(folder / CONSTANT_FILE)
    assert scores.ids == constant.ids == tuple(f"rooms-test-{number:06d}" for number in range(11))
    assert list(scores.values)[: len(NAMES)] == list(NAMES)
    assert "normals_mean" in scores.values
    assert list(constant.values) == list(NAMES)
    for name, value in pooled(scores).items():
        assert value == pytest.approx({**found.metrics, **found.extra}[name], rel=1e-8), name
    assert found.baseline is not None
    for name, value in pooled(constant).items():
        assert value == pytest.approx(found.baseline[name], rel=1e-8), name
    assert found.intervals.keys() >= {"abs_rel", "delta1", "normals_mean"}
    assert found.ratio_intervals["abs_rel"].low < found.ratio("abs_rel") < found.ratio_intervals["abs_rel"].high
    assert found.format == 2
    assert not list(folder.glob(".*"))


def test_neither_the_batch_size_nor_a_second_test_changes_the_record(tmp_path: Path) -> None:
    one, other = run_test(tmp_path / "one"), run_test(tmp_path / "other", batch_size=5)
    for name in (FILE, CONSTANT_FILE):
        first, second = ImageScores.read(one / name), ImageScores.read(other / name)
        assert first.ids == second.ids
        for metric, column in first.values.items():
            np.testing.assert_allclose(second.values[metric], column, rtol=2e-5)
    before = (one / FILE).read_text()
    run_test(one)
    assert (one / FILE).read_text() == before


@pytest.mark.parametrize(
    "protocol",
    [
        EvalProtocol(max_depth=10.0, alignment="median", pooling="pixel"),
        EvalProtocol(max_depth=10.0, alignment="scale", alignment_scope="set", pooling="mse"),
    ],
)
def test_other_protocols_leave_a_record_too(protocol: EvalProtocol, tmp_path: Path) -> None:
    folder = run_test(tmp_path, Alignments(("none",)), model=network(protocol=protocol))
    found, scores = read_results(folder / "results.json"), ImageScores.read(folder / FILE)
    assert "unaligned" in found.variants
    for name, value in pooled(scores, protocol.pooling).items():
        assert value == pytest.approx(found.metrics[name], rel=1e-8), name
    assert found.intervals.keys() == set(NAMES) - ({"silog"} if protocol.pooling == "pixel" else set())
    assert found.baseline is not None


def test_what_results_say_of_the_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    frozen = next(model.parameters()).requires_grad_(False)
    found = read_results(run_test(tmp_path, model=model) / "results.json")
    assert found.parameters == parameter_counts(model)
    assert found.parameters["total"] == sum(p.numel() for p in model.parameters())
    assert found.parameters["total"] - found.parameters["trainable"] == frozen.numel() > 0
    assert found.weights_hash == weights_hash(model)
    assert found.images_per_second is not None
    assert found.images_per_second > 0
    assert set(found.versions) == {"mde", "torch", "lightning", "torchmetrics"}
    assert "raw" not in vars(model)  # the clock is gone
    out = capsys.readouterr().out
    assert " ± " in out
    assert FILE in out


def test_the_hash_is_of_values_and_names_alone() -> None:
    first, second = network(), network()
    assert weights_hash(first) == weights_hash(second)
    assert len(weights_hash(first)) == 64
    with torch.no_grad():
        next(second.parameters()).mul_(1 + 1e-6)
    assert weights_hash(first) != weights_hash(second)
    assert weights_hash(first.to(memory_format=torch.contiguous_format)) == weights_hash(network())  # type: ignore[call-overload]
    parts = {"a": torch.zeros(2), "b": torch.zeros(3)}
    modules = [torch.nn.ParameterDict({name: parts[name] for name in order}) for order in ("ab", "ba")]
    assert weights_hash(modules[0]) == weights_hash(modules[1])
    renamed = torch.nn.ParameterDict({"a": torch.zeros(2), "c": torch.zeros(3)})
    reshaped = torch.nn.ParameterDict({"a": torch.zeros(3), "b": torch.zeros(2)})
    halved = torch.nn.ParameterDict({"a": torch.zeros(2), "b": torch.zeros(3).bfloat16()})
    assert len({weights_hash(module) for module in (modules[0], renamed, reshaped, halved)}) == 4


class Slow(UNet):
    def raw(self, image: Tensor) -> Tensor:
        time.sleep(0.02 if len(image) == 2 else 0.2)  # the first call warms up
        return super().raw(image)


def test_the_clock_leaves_the_first_call_out() -> None:
    model = Slow((4, 8)).eval()
    clock = NetworkClock(model)
    clock.start()
    with torch.no_grad():
        for count in (1, 2, 2, 2):
            model.raw(torch.rand(count, 3, 16, 24))
    rate = clock.stop()
    assert rate is not None
    assert 5 < rate <= 100  # two images in 20 ms at most; all four calls would give 27 at most
    assert clock.stop() is None
    assert NetworkClock(model).stop() is None


class FakeRank:
    """As much of a Trainer as joining needs."""

    def __init__(self, world_size: int, first: bool) -> None:
        self.world_size, self.is_global_zero = world_size, first
        self.strategy = self

    def barrier(self) -> None:
        """All parts are there already."""


@pytest.mark.parametrize("images", [7, 8, 1])
def test_padded_images_of_two_ranks_are_left_out(images: int, tmp_path: Path) -> None:
    errors = torch.arange(images * len(NAMES), dtype=torch.float64).view(images, -1)
    records = [ImageRecord(tmp_path / FILE, rank) for rank in range(2)]
    for rank, record in enumerate(records):
        dealt = [(2 * k + rank) for k in range(-(-images // 2))]
        for start in range(0, len(dealt), 3):
            batch = dealt[start : start + 3]
            rows = [number % images for number in batch]  # the sampler repeats the first to fill up
            found = BatchErrors(errors[rows], torch.full((len(rows),), 5), torch.zeros(len(rows), dtype=torch.bool))
            counted = torch.tensor([number < images for number in batch])
            record.add([f"i{row}" for row in rows], found, counted, {"more": errors[rows, 0] * 2})
    assert records[1].join(FakeRank(2, first=False)) is None  # type: ignore[arg-type]
    joined = records[0].join(FakeRank(2, first=True))  # type: ignore[arg-type]
    assert joined is not None
    assert joined.ids == tuple(f"i{number}" for number in range(images))
    np.testing.assert_array_equal(joined.values["abs_rel"], errors[:, 0])
    np.testing.assert_array_equal(joined.values["more"], 2 * errors[:, 0])


def test_an_interrupted_test_gives_the_network_back(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("stop")

    model = network()
    with pytest.raises(RuntimeError, match="stop"):
        run_test(tmp_path, Stop(), model=model)
    assert "raw" not in vars(model)
    assert not (tmp_path / FILE).exists()
    assert not (tmp_path / "results.json").exists()
    assert read_results(run_test(tmp_path, model=model) / "results.json").images == 11


def test_the_metric_of_a_result_file_is_that_of_the_module(tmp_path: Path) -> None:
    model = network()
    content = json.loads((run_test(tmp_path, model=model) / "results.json").read_text())
    assert isinstance(model.test_metrics, DepthMetrics)
    assert content["degenerate"] == model.test_metrics.counts().degenerate == 0
    assert content["metrics"] == {name: float(value) for name, value in model.test_metrics.compute().items()}
