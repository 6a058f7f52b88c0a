"""What every method must do. A new method inherits all of it in three lines:

class TestMyMethod(MethodTester):
    def make(self, **kwargs: Any) -> DepthModule:
        return MyMethod(tiny=True, **kwargs)
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

import mde
from mde.data.base import collate
from mde.models.base import DepthModule
from mde.types import Ambiguity, Batch


def make_batch(batch: int = 2, height: int = 32, width: int = 48, seed: int = 0, far: float = 10.0) -> Batch:
    """Pictures whose depth, up to `far` metres, is their red times `far`; a twentieth of the pixels is unknown."""
    generator = torch.Generator().manual_seed(seed)
    depth = (
        far * torch.empty(batch, 1, 1, 1).uniform_(0.1, 1, generator=generator).expand(-1, -1, height, width).clone()
    )
    depth[..., width // 2 :] *= 0.5
    valid = torch.rand(batch, 1, height, width, generator=generator) > 0.05
    image = torch.cat((depth / far, torch.rand(batch, 2, height, width, generator=generator)), 1)
    return Batch(
        image=image, depth=depth * valid, valid=valid, intrinsics=torch.eye(3).expand(batch, 3, 3),
        id=[f"sample-{seed}-{i}" for i in range(batch)],
    )  # fmt: skip


def make_loader(count: int = 4, batch_size: int = 2, **kwargs: Any) -> DataLoader[Batch]:
    whole = make_batch(count, **kwargs)
    items = [{key: value[i] for key, value in whole.items()} for i in range(count)]  # type: ignore[index]
    return DataLoader(items, batch_size=batch_size, collate_fn=collate)  # type: ignore[arg-type]


def make_trainer(folder: Path, **kwargs: Any) -> Trainer:
    settings: dict[str, Any] = {
        "default_root_dir": folder, "accelerator": "cpu", "max_epochs": 1, "logger": False, "log_every_n_steps": 1,
        "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
    }  # fmt: skip
    return Trainer(**{**settings, **kwargs})


class MethodTester(ABC):
    overfit_steps = 60
    overfit_factor = 0.3  # of the loss before

    batch = staticmethod(make_batch)  # what the method trains on
    loader = staticmethod(make_loader)

    @abstractmethod
    def make(self, **kwargs: Any) -> DepthModule:
        """A tiny instance that takes pictures of 32x48; kwargs go on to it."""

    @pytest.mark.parametrize("size", [(32, 48), (33, 47), (45, 32)])
    @pytest.mark.parametrize("batch", [1, 2])
    def test_output_has_the_size_of_the_input(self, size: tuple[int, int], batch: int) -> None:
        model = self.make().eval()
        with torch.no_grad():
            raw = model(torch.rand(batch, 3, *size))
        assert raw.shape[0] == batch
        assert raw.shape[-2:] == size
        assert model.codec.decode(raw).shape == (batch, 1, *size)

    def test_gradients_reach_exactly_what_is_trained(self) -> None:
        model = self.make().train()
        model.training_loss(self.batch()).loss.backward()
        wrong = [name for name, p in model.named_parameters() if p.requires_grad != (p.grad is not None)]
        assert wrong == []
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    def test_loss_is_a_finite_scalar_of_several_pictures_or_one(self) -> None:
        model = self.make().train()
        for batch in (self.batch(1), self.batch(2, 40, 56)):
            out = model.training_loss(batch)
            assert out.loss.shape == ()
            assert torch.isfinite(out.loss)
            assert all(not value.requires_grad for value in out.logs.values())

    def test_bfloat16(self) -> None:
        model = self.make().train()
        batch = self.batch()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.training_loss(batch).loss
            depth = model.eval().predict_batch(batch["image"])
        loss.backward()
        assert torch.isfinite(loss)
        assert depth.dtype == torch.float32
        assert torch.isfinite(depth).all()

    def test_overfits_one_batch(self) -> None:
        model, batch = self.make().train(), self.batch(far=3.0)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        losses = []
        for _ in range(self.overfit_steps):
            loss = model.training_loss(batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < self.overfit_factor * losses[0]

    def test_batch_without_truth_changes_nothing(self) -> None:
        model, batch = self.make().train(), self.batch()
        batch["depth"], batch["valid"] = torch.zeros_like(batch["depth"]), torch.zeros_like(batch["valid"])
        loss = model.training_loss(batch).loss
        loss.backward()
        assert float(loss) == 0
        assert all(float(p.grad.abs().max()) == 0 for p in model.parameters() if p.grad is not None)

    def test_predicts_a_picture_at_its_own_size(self) -> None:
        model = self.make(image_size=(32, 48))
        picture = np.random.default_rng(0).integers(0, 256, (50, 71, 3), dtype=np.uint8)
        for flip in (False, True):
            prediction = model.predict(picture, flip=flip)
            assert prediction.values.shape == (1, 1, 50, 71)
            assert model.training
            if prediction.ambiguity is Ambiguity.METRIC:
                assert float(prediction.depth.min()) >= model.codec.min_depth * (1 - 1e-5)
                assert float(prediction.depth.max()) <= model.codec.max_depth * (1 + 1e-5)

    def test_checkpoint_rebuilds_the_module(self, tmp_path: Path) -> None:
        model = self.make(image_size=(32, 48), depth_range=(0.2, 12.0), optimizer=partial(torch.optim.SGD, lr=1e-4))
        trainer = make_trainer(tmp_path)
        trainer.fit(model, self.loader(), self.loader(seed=1))
        trainer.save_checkpoint(tmp_path / "a.ckpt")
        loaded = mde.load(tmp_path / "a.ckpt")
        picture = torch.rand(3, 40, 50)
        assert type(loaded) is type(model)
        assert (loaded.codec.min_depth, loaded.codec.max_depth, loaded.image_size) == (0.2, 12.0, (32, 48))
        torch.testing.assert_close(loaded.predict(picture).values, model.predict(picture).values, rtol=0, atol=0)
        json.dumps(loaded.rebuild_spec)  # plain data
        assert loaded.rebuild_spec == model.rebuild_spec
