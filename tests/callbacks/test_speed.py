"""Compiled or channels-last, a run is the same run: names, values, checkpoints."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mde
from mde.callbacks import ChannelsLast, Compile
from mde.codecs import DepthCodec, Linear
from mde.errors import ConfigError
from mde.losses import DepthLoss, L1Loss
from mde.models import DeepLabSID, DenseDepth, DepthModule, ResNetDepth, SmpEncoder, TimmEncoder
from tests.models.tester import make_batch, make_loader, make_trainer

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs g++")


class Tiny(DepthModule):
    """Two convolutions: a compiler is slow."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(image).relu())
        return out

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return Linear(min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        loss: DepthLoss = L1Loss()
        return loss


def trained(folder: Path, *callbacks: Any) -> Tiny:
    torch.manual_seed(0)
    model = Tiny(optimizer=partial(torch.optim.SGD, lr=1e-2))
    trainer = make_trainer(folder, callbacks=list(callbacks), limit_val_batches=0)
    trainer.fit(model, make_loader(4))
    trainer.save_checkpoint(folder / "a.ckpt")
    return model


@pytest.mark.slow
@needs_compiler
def test_a_compiled_run_gives_the_same_checkpoint(tmp_path):
    plain = trained(tmp_path / "plain")
    compiled = trained(tmp_path / "compiled", Compile())
    assert all(part._compiled_call_impl is not None for part in (compiled.encoder, compiled.head))
    assert compiled.codec._compiled_call_impl is None
    loaded = mde.load(tmp_path / "compiled" / "a.ckpt")
    assert list(loaded.state_dict()) == list(plain.state_dict())
    assert not torch.equal(plain.head.weight, Tiny().head.weight)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_no_compiler_is_said_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler.*Next: install g\+\+"):
        trained(tmp_path, Compile())


METHODS = {
    "DenseDepth": lambda: DenseDepth(TimmEncoder("test_resnet")),
    "ResNetDepth": lambda: ResNetDepth(TimmEncoder("test_resnet")),
    "DeepLabSID": lambda: DeepLabSID(SmpEncoder("resnet18", output_stride=8), bins=5, depth_range=(1.0, 10.0)),
}


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS.keys())
def test_channels_last_changes_no_value(make, tmp_path):
    torch.manual_seed(0)
    model: DepthModule = make()
    image = make_batch()["image"]
    before = model.eval().predict_batch(image)
    ChannelsLast().setup(make_trainer(tmp_path), model, "fit")
    kernels = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d) and m.weight.shape[2] > 1]
    assert kernels
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
    torch.testing.assert_close(model.predict_batch(image), before, rtol=1e-4, atol=1e-5)
