"""Extra metrics, alignments and uncertainties of a test: what they get, where it goes, and no second forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from mde.callbacks.scores import Alignments, ExtraMetrics, FullScores, OffersUncertainty
from mde.data import ProceduralDataModule
from mde.data.base import collate
from mde.errors import ConfigError
from mde.geometry import intrinsics_from_fov, resize_intrinsics, unknown_intrinsics
from mde.metrics import DepthMetrics
from mde.metrics.boundary import BoundaryF1
from mde.metrics.points import PointErrors, point_errors
from mde.metrics.ranges import RangeErrors
from mde.metrics.semantic import ClassErrors
from mde.metrics.uncertainty import UncertaintyScores, uncertainty_scores
from mde.models import DeepLabSID, SmpEncoder, UNet
from mde.protocol import EvalProtocol
from mde.types import Ambiguity
from tests.models.tester import make_trainer

PROTOCOL = EvalProtocol(max_depth=8.0)
FOCAL = intrinsics_from_fov(32, 48, 60.0)


class Counting(UNet):
    """Counts how often the network runs."""

    forwards = 0

    def forward(self, image: Tensor) -> Tensor:
        type(self).forwards += 1
        return super().forward(image)


def loader(count: int = 3, truth: tuple[int, int] = (64, 96), labels: bool = True) -> DataLoader[Any]:
    """Pictures of 32x48 with a truth of another size, one of them without a camera."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for i in range(count):
        coarse = torch.rand(1, 1, 5, 6, generator=generator) * 9 + 0.5
        depth = F.interpolate(coarse, size=truth, mode="nearest")[0]
        valid = torch.rand(depth.shape, generator=generator) > 0.1
        item = {
            "image": torch.rand(3, 32, 48, generator=generator),
            "depth": depth * valid,
            "valid": valid,
            "intrinsics": unknown_intrinsics() if i == 1 else FOCAL,
            "id": f"{i}",
        }
        items.append({**item, "labels": (depth > 4).to(torch.uint8)} if labels else item)
    return DataLoader(items, batch_size=2, collate_fn=collate)  # type: ignore[arg-type]


def network(kind: type[UNet] = UNet, **kwargs: Any) -> UNet:
    torch.manual_seed(0)
    return kind((4, 8), **{"protocol": PROTOCOL, "depth_range": (0.5, 9.0), **kwargs}).eval()


def deeplab(protocol: EvalProtocol = PROTOCOL) -> DeepLabSID:
    torch.manual_seed(0)
    encoder = SmpEncoder("resnet18", output_stride=8)
    return DeepLabSID(encoder, rates=(1, 2), bins=9, depth_range=(0.5, 9.0), protocol=protocol).eval()


def run_test(folder: Path, model: Any, *callbacks: Any, **kwargs: Any) -> None:
    make_trainer(folder, callbacks=list(callbacks)).test(model, kwargs.get("data", loader()), verbose=False)


def test_each_metric_gets_what_it_needs_at_the_size_of_the_truth(tmp_path: Path) -> None:
    model = network()
    extra = ExtraMetrics({"points": PointErrors(points=500), "ranges": RangeErrors(), "classes": ClassErrors()})
    run_test(tmp_path, model, extra)
    chamfers, pixels = [], 0
    for batch in loader():
        with torch.no_grad():
            pred = model.predict_batch(batch["image"])
        pred, mask = PROTOCOL.prepare(pred, batch["depth"], batch["valid"])
        camera = resize_intrinsics(batch["intrinsics"], 2.0, 2.0)
        chamfers += point_errors(pred, batch["depth"], mask, camera, points=500)["chamfer"].tolist()
        pixels += int(mask.sum())
    known = [value for value in chamfers if value == value]
    assert len(known) == 2  # of three
    assert extra.compute()["points_chamfer"] == pytest.approx(sum(known) / 2, abs=1e-6)
    tables = extra.tables()
    for name, rows in (("ranges", {"0-2", "2-5", "5-10"}), ("classes", {"class 0", "class 1"})):
        assert set(tables[name]) == rows
        assert sum(row["pixels"] for row in tables[name].values()) == pixels
    assert set(extra.compute()) == {f"points_{column}" for column in PointErrors.columns}


def test_values_of_each_image_average_to_the_result(tmp_path: Path) -> None:
    class Collector(ExtraMetrics):
        def on_test_batch_end(self, *args: Any) -> None:
            super().on_test_batch_end(*args)
            for name, values in self.last_per_image().items():
                rows.setdefault(name, []).extend(values.tolist())

    rows: dict[str, list[float]] = {}
    extra = Collector({"points": PointErrors(points=300), "boundary": BoundaryF1(), "ranges": RangeErrors()})
    assert extra.last_per_image() == {}
    run_test(tmp_path, network(), extra)
    for name, value in extra.compute().items():
        seen = [each for each in rows[name] if each == each]
        assert len(rows[name]) == 3
        assert value == pytest.approx(sum(seen) / len(seen), abs=1e-8)
    assert set(rows) == set(extra.compute())
    assert rows["points_chamfer"][1] != rows["points_chamfer"][1]  # the camera that nobody knows


def test_full_scores_take_what_there_is_without_a_second_forward(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    Counting.forwards = 0
    full = FullScores(points=300)
    with caplog.at_level("INFO"):
        run_test(tmp_path, network(Counting), full, Alignments(["median", "scale"]), data=loader(labels=False))
    assert Counting.forwards == 2  # batches
    said = caplog.text + capsys.readouterr().err
    assert "uncertainty is left out: Counting gives no standard deviation" in said
    assert "classes is left out: the data give no semantic labels" in said
    found = full.compute()
    for name in ("boundary_f1", "edges_accuracy", "normals_mean", "points_f_score"):
        assert found[name] == found[name]
    assert not any(name.startswith("uncertainty") for name in found)
    assert list(full.tables()) == ["ranges"]
    run_test(tmp_path, deeplab(), full)  # the same object again: what was left out is back
    assert "uncertainty_ause_rmse" in full.compute()
    assert list(full.tables()) == ["ranges", "classes"]


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (ClassErrors(), "no semantic labels (data.labels true"),
        (UncertaintyScores(), "UNet gives no standard deviation"),
    ],
)
def test_a_metric_that_cannot_be_had_is_an_error_that_says_why(metric: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run_test(tmp_path, network(), ExtraMetrics({"it": metric}), data=loader(labels=False))
    assert "metric 'it'" in str(caught.value)
    assert reason in str(caught.value)
    assert str(caught.value).endswith("leave this metric out")


@pytest.mark.parametrize("flip", [False, True])
def test_the_uncertainty_of_a_posterior_is_scored(flip: bool, tmp_path: Path) -> None:
    model = deeplab(EvalProtocol(max_depth=8.0, flip=flip))
    assert isinstance(model, OffersUncertainty)
    assert not isinstance(network(), OffersUncertainty)
    extra = ExtraMetrics({"uncertainty": UncertaintyScores()})
    run_test(tmp_path, model, extra)
    values = []
    for batch in loader():
        image = batch["image"]
        with torch.no_grad():
            pred = model.predict_batch(image, flip)
            std = model.uncertainty(image)[0]
            if flip:
                std = (std + model.uncertainty(image.flip(-1))[0].flip(-1)) / 2
        prepared, mask = PROTOCOL.prepare(pred, batch["depth"], batch["valid"])
        std = F.interpolate(std, size=batch["depth"].shape[-2:], mode="bilinear", align_corners=False)
        values.append(torch.stack(list(uncertainty_scores(prepared, batch["depth"], mask, std).values()), 1))
    expected = torch.cat(values).mean(0).tolist()
    assert list(extra.compute().values()) == pytest.approx(expected, abs=1e-6)
    assert extra.compute()["uncertainty_within_3_std"] >= extra.compute()["uncertainty_within_1_std"] > 0


def test_a_std_of_depth_that_was_aligned_is_refused(tmp_path: Path) -> None:
    model = deeplab(EvalProtocol(max_depth=8.0, alignment="median"))
    with pytest.raises(ConfigError, match="alignment 'median'"):
        run_test(tmp_path, model, ExtraMetrics({"uncertainty": UncertaintyScores()}))


def test_alignments_stand_beside_the_plain_prediction(tmp_path: Path) -> None:
    model, beside = network(), Alignments(["median", "scale_shift"])
    run_test(tmp_path, model, beside)
    found = beside.compute()
    assert list(found) == ["aligned by median", "aligned by scale_shift"]
    for name, mode in (("aligned by median", "median"), ("aligned by scale_shift", "scale_shift")):
        metrics = DepthMetrics(EvalProtocol(max_depth=8.0, alignment=mode))
        for batch in loader():
            with torch.no_grad():
                metrics.update(model.predict_batch(batch["image"]), batch["depth"], batch["valid"])
        assert found[name] == pytest.approx({k: float(v) for k, v in metrics.compute().items()}, rel=1e-6)


def test_an_aligned_protocol_has_the_unaligned_beside_it_and_all_that_fit(tmp_path: Path) -> None:
    beside = Alignments()
    run_test(tmp_path, network(protocol=EvalProtocol(max_depth=8.0, alignment="median")), beside)
    names = list(beside.compute())
    assert names[0] == "unaligned"
    assert {"aligned by scale", "aligned by scale_shift", "aligned by log_affine"} <= set(names)
    assert "aligned by median" not in names  # the protocol's own column
    assert "aligned by disparity_scale_shift" not in names


def test_an_alignment_that_does_not_fit_says_which_does(tmp_path: Path) -> None:
    class Relative(UNet):
        ambiguity = Ambiguity.AFFINE_DISPARITY

    protocol = EvalProtocol(max_depth=8.0, alignment="disparity_scale_shift")
    with pytest.raises(ConfigError, match=r"(?s)'median' does not fit.*disparity_scale_shift"):
        run_test(tmp_path, network(Relative, protocol=protocol), Alignments(["median"]))
    with pytest.raises(ConfigError, match=r"unknown alignment 'medan'.*median"):
        run_test(tmp_path, network(), Alignments(["medan"]))


def test_class_names_come_from_the_facts_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(_: object) -> dict[str, Any]:
        return {"classes": {"0": "near", "1": "far"}}

    monkeypatch.setattr(ProceduralDataModule, "facts", facts)
    monkeypatch.setattr(ProceduralDataModule, "test_dataloader", lambda _: loader())
    extra = ExtraMetrics({"classes": ClassErrors(), "named": ClassErrors({0: "mine"})})
    data = ProceduralDataModule(train_scenes=2, val_scenes=2, test_scenes=2, image_size=(32, 48))
    make_trainer(tmp_path, callbacks=[extra]).test(network(), datamodule=data, verbose=False)
    assert list(extra.tables()["classes"]) == ["near", "far"]
    assert list(extra.tables()["named"]) == ["mine", "class 1"]
