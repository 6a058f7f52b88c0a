"""Every family: what its numbers mean, their size and orientation, and that it is scored, trained and rebuilt."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mde
from mde.codecs import Log
from mde.errors import ConfigError
from mde.models.base import DepthModule
from mde.models.pretrained.families import FAMILIES
from mde.types import Ambiguity
from tests.models.pretrained.tiny import TINY, tiny
from tests.models.tester import MethodTester, make_batch, make_loader, make_trainer

MEANS = {
    "depth_anything": Ambiguity.AFFINE_DISPARITY,
    "depth_anything_metric": Ambiguity.METRIC,
    "dpt": Ambiguity.AFFINE_DISPARITY,
    "zoedepth": Ambiguity.METRIC,
    "glpn": Ambiguity.METRIC,
    "depth_pro": Ambiguity.METRIC,
    "prompt_depth_anything": Ambiguity.AFFINE_DEPTH,
}


class PretrainedTester(MethodTester):
    """`AsPredicted` does not clamp, so the test of the range does not apply."""

    overfit_steps = 40
    overfit_factor = 0.6

    def test_predicts_a_picture_at_its_own_size(self) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (50, 71, 3), dtype=np.uint8)
        model = self.make(image_size=(32, 48))
        for flip in (False, True):
            assert model.predict(picture, flip=flip).values.shape == (1, 1, 50, 71)
        assert model.training


class TestDepthAnything(PretrainedTester):
    def make(self, **kwargs: Any) -> DepthModule:
        protocol = mde.EvalProtocol(alignment="disparity_scale_shift", max_depth=10.0)
        return tiny("depth_anything", protocol=protocol, **kwargs)


class TestFrozenMetric(PretrainedTester):
    overfit_factor = 0.8

    def make(self, **kwargs: Any) -> DepthModule:
        return tiny("depth_anything_metric", frozen_backbone=True, **kwargs)


class TestGLPN(PretrainedTester):
    def make(self, **kwargs: Any) -> DepthModule:
        return tiny("glpn", **kwargs)


@pytest.mark.parametrize("family", TINY)
def test_size_ambiguity_and_variation(family: str) -> None:
    torch.manual_seed(0)
    model = tiny(family).eval()
    assert model.ambiguity is MEANS[family]
    for size in ((33, 47), (64, 40)):
        with torch.no_grad():
            out = model(torch.rand(2, 3, *size))
        assert out.shape == (2, 1, *size)
        assert out.dtype == torch.float32
        assert torch.isfinite(out).all()
        assert float(out.std()) > 1e-5 * float(out.mean())
        assert float((out[0] - out[1]).abs().max()) > 0


@pytest.mark.parametrize("family", TINY)
def test_gradients_reach_what_is_trained(family: str) -> None:
    torch.manual_seed(0)
    model = tiny(family).train()
    loss = model.training_loss(make_batch()).loss
    loss.backward()
    assert torch.isfinite(loss)
    moved = {n.split(".")[1] for n, p in model.named_parameters() if p.grad is not None and float(p.grad.abs().max())}
    assert {model.backbone, "head" if hasattr(model.net, "head") else "neck"} <= moved
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("family", TINY)
def test_a_checkpoint_needs_no_folder(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(family)
    trainer = make_trainer(tmp_path, limit_train_batches=0, limit_val_batches=0)
    trainer.fit(model, make_loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    monkeypatch.setattr("mde.models.pretrained.loading.hub_or_folder", lambda name: pytest.fail("looked for files"))
    loaded = mde.load(tmp_path / "a.ckpt")
    picture = torch.rand(3, 40, 50)
    torch.testing.assert_close(loaded.predict(picture).values, model.predict(picture).values, rtol=0, atol=0)
    assert loaded.ambiguity is model.ambiguity
    assert loaded.rebuild_spec == model.rebuild_spec
    json.dumps(loaded.rebuild_spec)


@pytest.mark.parametrize("family", TINY)
def test_scored_under_the_alignment_of_its_ambiguity(family: str, tmp_path: Path) -> None:
    alignment = {
        Ambiguity.AFFINE_DISPARITY: "disparity_scale_shift", Ambiguity.AFFINE_DEPTH: "scale_shift",
        Ambiguity.METRIC: "none",
    }[MEANS[family]]  # fmt: skip
    model = tiny(family, protocol=mde.EvalProtocol(alignment=alignment, max_depth=10.0))
    (found,) = make_trainer(tmp_path).test(model, make_loader(), verbose=False)
    assert 0 < found["test/abs_rel"] < math.inf
    if alignment != "none":
        model.protocol = mde.EvalProtocol()
        with pytest.raises(ConfigError, match=r"alignment|align"):
            make_trainer(tmp_path).test(model, make_loader(), verbose=False)


def test_a_relative_network_learns_that_larger_is_nearer(tmp_path: Path) -> None:
    """From random weights: the loss knows the orientation, which a least-squares fit does not."""
    torch.manual_seed(1)
    model, batch = tiny("depth_anything").train(), make_batch(4)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        model.training_loss(batch).loss.backward()
        optimizer.step()
    with torch.no_grad():
        said = model.eval().predict_batch(batch["image"])
    for values, depth, valid in zip(said, batch["depth"], batch["valid"], strict=True):
        pair = torch.stack((values[valid], 1 / depth[valid]))
        assert float(torch.corrcoef(pair)[0, 1]) > 0.5


def test_depth_pro_is_one_over_the_scaled_inverse() -> None:
    """In NumPy float64 by the formula: depth = f / (W C), f = W / (2 tan(phi / 2))."""
    inverse = torch.rand(2, 5, 7) + 0.1
    output = SimpleNamespace(predicted_depth=inverse, field_of_view=torch.tensor([50.0, 90.0]))
    made = FAMILIES["depth_pro"].output(output, lambda maps, mode: maps)
    focal = 640 / (2 * np.tan(np.radians([50.0, 90.0]) / 2))
    expected = 1 / (inverse.double().numpy() * (640 / focal)[:, None, None])
    np.testing.assert_allclose(made[:, 0].numpy(), expected, rtol=1e-5)


def test_depth_pro_without_a_field_of_view_has_no_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    config, preprocessing = TINY["depth_pro"]
    monkeypatch.setitem(TINY, "depth_pro", ({**config, "use_fov_model": False}, preprocessing))
    assert tiny("depth_pro").ambiguity is Ambiguity.SCALE
    with pytest.raises(ConfigError, match="cannot be metric"):
        tiny("depth_pro", ambiguity="metric")


def test_ambiguity_is_checked() -> None:
    assert tiny("dpt", ambiguity="METRIC").ambiguity is Ambiguity.METRIC
    assert tiny("glpn", ambiguity="scale").ambiguity is Ambiguity.SCALE
    with pytest.raises(ConfigError, match=r"cannot be affine_disparity: it predicts m.* Next: leave it out"):
        tiny("glpn", ambiguity="affine_disparity")
    with pytest.raises(ConfigError, match="cannot be metric"):
        tiny("depth_anything", ambiguity="metric")
    with pytest.raises(ConfigError, match="nearest: metric"):
        tiny("glpn", ambiguity="metrical")


def test_frozen_backbone_stays_and_encoder_lr_reaches_it() -> None:
    model = tiny("glpn", frozen_backbone=True).train()
    assert not model.net.glpn.training  # type: ignore[union-attr]
    assert {n.split(".")[1] for n, p in model.named_parameters() if p.requires_grad} == {"decoder", "head"}
    groups = tiny("depth_anything", encoder_lr=0.1).parameter_groups()
    factors = {group.get("lr_factor", group.get("lr")) for group in groups}
    assert len(groups) == 2
    assert len(factors) == 2


def test_another_codec_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Log cannot decode.*Next: leave it out"):
        tiny("glpn", codec=Log(0.1, 10.0))


def test_predictions_are_not_clamped() -> None:
    model = tiny("glpn", depth_range=(6.0, 7.0)).eval()
    with torch.no_grad():
        out: Tensor = model.predict_batch(torch.rand(1, 3, 32, 32))
    assert float(out.min()) < 6
