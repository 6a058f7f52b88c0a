"""Relative disparity on mixtures: what is learnt from which truth, and how several sets are scored in one run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mde.codecs import Log
from mde.data import MixedDataModule, ProceduralDataModule
from mde.errors import ConfigError
from mde.losses import CameraLoss, L1Loss, WeightedSum
from mde.models import DenseDepth, DepthModule, RelativeDepth, TimmEncoder
from mde.models.decoders import DenseDepthDecoder
from mde.protocol import EvalProtocol
from mde.types import Ambiguity
from tests.models.tester import MethodTester, make_batch, make_trainer

ROOMS = EvalProtocol(name="rooms_disparity", max_depth=10.0, alignment="disparity_scale_shift")
STREET = EvalProtocol(name="street_disparity", max_depth=80.0, alignment="disparity_scale_shift")


class TestRelativeDepth(MethodTester):
    def make(self, **kwargs: Any) -> DepthModule:
        return make(**{"protocol": ROOMS, **kwargs})


def make(method: type[DepthModule] = RelativeDepth, **kwargs: Any) -> DepthModule:
    torch.manual_seed(0)
    decoder = partial(DenseDepthDecoder, width=0.25, norm=True)
    return method(encoder=TimmEncoder("test_resnet"), decoder=decoder, **kwargs)


def world(name: str, protocol: EvalProtocol, **kwargs: Any) -> ProceduralDataModule:
    counts = {"train_scenes": 4, "val_scenes": 3, "test_scenes": 2, "eval_batch_size": 2, "preload": False}
    return ProceduralDataModule(name, **counts, protocol=protocol, image_size=(32, 48), **kwargs)


def mixture(**kwargs: Any) -> MixedDataModule:
    parts = {"rooms": world("rooms", ROOMS), "street": world("street", STREET, truth="affine_disparity")}
    return MixedDataModule(parts, image_size=(32, 48), batch_size=4, **kwargs)


def test_the_loss_does_not_depend_on_what_the_truth_leaves_open() -> None:
    model, batch = make(depth_range=(0.01, 1000.0)).train(), make_batch()
    loss = model.training_loss(batch).loss
    disparity = torch.where(batch["valid"], 1 / batch["depth"], 1.0)
    for scale, shift in ((3.0, 0.0), (0.2, 0.7)):
        other = torch.where(batch["valid"], 1 / (scale * disparity + shift), 0.0)
        torch.testing.assert_close(model.training_loss({**batch, "depth": other}).loss, loss, rtol=1e-4, atol=1e-5)
    far_for_near = torch.where(batch["valid"], 1 / (disparity.max() + 1 - disparity), 0.0)
    assert abs(float(model.training_loss({**batch, "depth": far_for_near}).loss - loss)) > 0.05


def test_larger_is_nearer() -> None:
    model, batch = make().train(), make_batch(far=3.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        loss = model.training_loss(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raw = model(batch["image"]).detach()
    half = raw.shape[-1] // 2
    assert (raw[..., half + 4 :].mean((1, 2, 3)) > raw[..., : half - 4].mean((1, 2, 3))).all()  # half as deep


def test_settings_that_contradict_the_output_are_refused() -> None:
    class Points(CameraLoss):
        def forward(self, pred, target, valid, intrinsics):  # type: ignore[no-untyped-def]
            return pred.sum()

    with pytest.raises(ConfigError, match="a Log could decode"):
        make(codec=Log(0.3, 10.0))
    for loss in (Points(), WeightedSum({"edges": L1Loss(), "points": Points()})):
        with pytest.raises(ConfigError, match="Points compares metres"):
            make(loss=loss)


@pytest.mark.parametrize("method", list(Ambiguity))
@pytest.mark.parametrize("truth", list(Ambiguity))
def test_which_truth_teaches_what(method: Ambiguity, truth: Ambiguity) -> None:
    """As the definition says it: constants that the truth leaves open must not change what has to be right."""
    depth = torch.tensor([1.0, 2.0, 5.0])
    other = {
        Ambiguity.METRIC: depth,
        Ambiguity.SCALE: 3 * depth,
        Ambiguity.AFFINE_DEPTH: 3 * depth + 1,
        Ambiguity.AFFINE_DISPARITY: 1 / (3 / depth + 1),
    }[truth]

    def known(values: torch.Tensor) -> torch.Tensor:
        """What is left of a depth when the method's own freedom is taken away."""
        if method is Ambiguity.METRIC:
            return values
        if method is Ambiguity.SCALE:
            return values / values[0]
        values = 1 / values if method is Ambiguity.AFFINE_DISPARITY else values
        return (values - values[0]) / (values[2] - values[0])

    assert method.can_learn_from(truth) == torch.allclose(known(depth), known(other), rtol=1e-4)


def test_a_metric_method_is_refused_relative_truth_before_the_training(tmp_path: Path) -> None:
    model = make(DenseDepth)
    for data, where in (
        (mixture(), r"data\.parts\.street\.truth"),
        (world("rooms", ROOMS, truth="scale"), "data.truth"),
    ):
        with pytest.raises(ConfigError, match=f"DenseDepth predicts metres.*{where}"):
            make_trainer(tmp_path).fit(model, datamodule=data)


def test_a_run_validates_on_all_sets_under_their_protocols(tmp_path: Path) -> None:
    model, data = make(), mixture()
    trainer = make_trainer(tmp_path, num_sanity_val_steps=1)
    trainer.fit(model, datamodule=data)
    found = {key: float(value) for key, value in trainer.callback_metrics.items()}
    for name, protocol in (("rooms", ROOMS), ("street", STREET)):
        model.protocol = protocol
        alone = make_trainer(tmp_path)
        alone.validate(model, datamodule=world(name, protocol), verbose=False)
        for key in ("abs_rel", "rmse", "delta1", "loss"):
            assert found[f"val/{name}/{key}"] == pytest.approx(float(alone.callback_metrics[f"val/{key}"]), rel=1e-5)
    for key in ("abs_rel", "delta1", "loss"):
        assert found[f"val/{key}"] == pytest.approx((found[f"val/rooms/{key}"] + found[f"val/street/{key}"]) / 2)


def test_constants_of_a_whole_set_are_those_of_each_set(tmp_path: Path) -> None:
    settings = {"alignment": "disparity_scale_shift", "alignment_scope": "set"}
    protocols = [EvalProtocol(name=name, max_depth=far, **settings) for name, far in (("a", 10.0), ("b", 80.0))]
    parts = {name: world(name, protocol) for name, protocol in zip(("rooms", "street"), protocols, strict=True)}
    data = MixedDataModule(parts, image_size=(32, 48), batch_size=4)
    model, trainer = make(), make_trainer(tmp_path)
    trainer.validate(model, datamodule=data, verbose=False)
    scores = trainer.callback_metrics
    first, second = (each.constants.scale for each in model._validated)
    assert float(first) != float(second)
    assert model.alignment_constants is model._validated[0].constants
    model.protocol = protocols[1]
    alone = make_trainer(tmp_path)
    alone.validate(model, datamodule=world("street", protocols[1]), verbose=False)
    assert float(scores["val/street/abs_rel"]) == pytest.approx(float(alone.callback_metrics["val/abs_rel"]))
