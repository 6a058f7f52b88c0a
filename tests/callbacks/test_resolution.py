"""Curriculum of resolution: which size when, what belongs to a size, and that a resumed run is the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from mde.callbacks import ResolutionCurriculum
from mde.callbacks.resolution import resize_batch
from mde.errors import ConfigError
from mde.geometry import intrinsics_matrix
from mde.models import DepthModule, UNet
from tests.models.tester import make_batch, make_loader, make_trainer

SIZES = {0.0: 0.5, 0.5: 0.75, 0.75: 1.0}


def make() -> DepthModule:
    torch.manual_seed(0)
    return UNet(widths=(4, 8, 16), optimizer=partial(torch.optim.SGD, lr=1e-3))


class Watch(Callback):
    """Sizes that the network saw."""

    def __init__(self) -> None:
        self.train: list[tuple[int, int]] = []
        self.val: list[tuple[int, int]] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        def look(module: Any, inputs: Any) -> None:
            (self.train if module.training else self.val).append(tuple(inputs[0].shape[-2:]))

        pl_module.encoder.register_forward_pre_hook(look)


def fit(folder: Path, model: DepthModule, *callbacks: Callback, epochs: int = 4, **kwargs: Any) -> None:
    trainer = make_trainer(folder, max_epochs=epochs, num_sanity_val_steps=0, callbacks=list(callbacks))
    trainer.fit(model, make_loader(2), make_loader(2, seed=1), **kwargs)


def test_sizes_follow_the_epochs_and_validation_has_the_full_one(tmp_path):
    watch = Watch()
    fit(tmp_path, make(), ResolutionCurriculum(SIZES), watch)
    assert watch.train == [(16, 24), (16, 24), (24, 36), (32, 48)]
    assert set(watch.val) == {(32, 48)}


def test_sizes_are_multiples_of_what_is_asked_for(tmp_path):
    watch = Watch()
    fit(tmp_path, make(), ResolutionCurriculum({0: 0.6, 0.5: 1}, multiple=14), watch, epochs=2)
    assert watch.train == [(14, 28), (32, 48)]


def test_a_batch_keeps_its_meaning():
    height, width, size = 30, 48, (15, 16)
    batch = make_batch(2, height, width)
    batch["intrinsics"] = intrinsics_matrix(40.0, 41.0, 22.5, 13.0).expand(2, 3, 3).clone()
    # pictures whose two first channels say where each pixel is, in pixels: by a half and a third a resize is
    # exact on them but at the border
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    batch["image"] = torch.stack((u, v, u * 0)).float().expand(2, 3, height, width).clone()
    batch["right"], batch["baseline"] = batch["image"] + 1, torch.tensor([0.5, 0.6])
    before = {key: value.clone() for key, value in batch.items() if isinstance(value, torch.Tensor)}
    resize_batch(batch, size)
    assert batch["image"].shape == batch["right"].shape == (2, 3, *size)
    assert batch["depth"].shape == batch["valid"].shape == (2, 1, *size)
    assert torch.equal(batch["baseline"], before["baseline"])
    assert batch["valid"].dtype == torch.bool
    assert torch.equal(batch["depth"] > 0, batch["valid"])  # no depth between a measured and an unknown one
    assert set(batch["depth"].unique().tolist()) <= set(before["depth"].unique().tolist())
    # the same viewing ray through the pixel before and after: (u - cx) / fx
    inner = (slice(None), slice(3, -3), slice(3, -3))
    for axis, focal, middle in ((0, 40.0, 22.5), (1, 41.0, 13.0)):
        seen = (batch["image"][:, axis] - middle) / focal
        k = batch["intrinsics"][0]
        grid = torch.arange(size[1 - axis], dtype=torch.float32)
        rays = ((grid - k[axis, 2]) / k[axis, axis])[None, :] if axis == 0 else ((grid - k[1, 2]) / k[1, 1])[:, None]
        torch.testing.assert_close(seen[inner], rays.expand(2, *size)[inner], rtol=0, atol=1e-4)
    torch.testing.assert_close(batch["right"][inner[0], :, 3:-3, 3:-3], batch["image"][:, :, 3:-3, 3:-3] + 1)


def test_pictures_are_averaged_and_not_picked():
    batch = make_batch(1, 16, 16)
    batch["image"] = (torch.arange(16) % 2).float().expand(1, 3, 16, 16).clone()  # stripes of one pixel
    resize_batch(batch, (8, 8))
    torch.testing.assert_close(batch["image"][..., 1:-1], torch.full((1, 3, 8, 6), 0.5), rtol=0, atol=0.15)


def test_a_resumed_run_is_the_same(tmp_path):
    whole = make()
    fit(tmp_path / "whole", whole, ResolutionCurriculum(SIZES))

    class Stop(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                trainer.save_checkpoint(tmp_path / "part.ckpt")
                trainer.should_stop = True

    fit(tmp_path / "part", make(), ResolutionCurriculum(SIZES), Stop())
    resumed, watch = make(), Watch()
    fit(tmp_path / "on", resumed, ResolutionCurriculum(SIZES), watch, ckpt_path=tmp_path / "part.ckpt")
    assert watch.train == [(32, 48)]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize(
    "sizes", [{0.1: 0.5, 0.5: 1}, {0: 0.5}, {0: 0.5, 1: 1}, {0: 0.8, 0.3: 0.5, 0.5: 1}, {0: 0, 0.5: 1}]
)
def test_shares_that_cannot_be_are_refused(sizes):
    with pytest.raises(ConfigError, match="start at 0 and rise to 1"):
        ResolutionCurriculum(sizes)


def test_what_else_cannot_work_is_said(tmp_path):
    with pytest.raises(ConfigError, match="multiple"):
        ResolutionCurriculum(multiple=0)
    with pytest.raises(ConfigError, match="without a number of epochs"):
        fit(tmp_path, make(), ResolutionCurriculum(), epochs=-1)
