"""Constants of a whole set, as the Trainer finds them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mde.alignment import GlobalFit
from mde.codecs import DepthCodec, Linear
from mde.errors import ConfigError
from mde.losses import DepthLoss, L1Loss
from mde.models import DepthModule
from mde.protocol import EvalProtocol
from mde.types import Ambiguity
from tests.models.tester import make_batch, make_loader, make_trainer


class Relative(DepthModule):
    """Depth up to a scale and a shift, from red; its green makes it noisy."""

    ambiguity = Ambiguity.AFFINE_DEPTH

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1] * self.scale + 0.02 * image[:, 1:2] + 0.1

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return Linear(min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        return L1Loss()


class Frames(LightningDataModule):
    """Training frames that lie differently from those of the test."""

    def alignment_dataloader(self) -> DataLoader[Any]:
        return make_loader(4, seed=5)

    def test_dataloader(self) -> DataLoader[Any]:
        return make_loader(7)


def expected(protocol: EvalProtocol, module: Relative, **frames: Any) -> GlobalFit:
    whole = GlobalFit(protocol.alignment, protocol.alignment_pooling)
    batch = make_batch(**frames)
    with torch.no_grad():
        pred = module.codec.decode(module(batch["image"]))
    whole.update(pred, batch["depth"], protocol.mask(batch["depth"], batch["valid"]))
    return whole


@pytest.mark.parametrize("pooling", ["pixel", "image"])
@pytest.mark.parametrize("scope", ["set", "train"])
def test_constants_are_found_before_the_test_and_recorded(tmp_path: Path, scope: str, pooling: str) -> None:
    protocol = EvalProtocol(max_depth=9.0, alignment="scale_shift", alignment_scope=scope, alignment_pooling=pooling)
    module = Relative(protocol=protocol)
    metrics = make_trainer(tmp_path).test(module, datamodule=Frames(), verbose=False)[0]
    frames = {"batch": 7} if scope == "set" else {"batch": 4, "seed": 5}
    assert module.alignment_constants == expected(protocol, module, **frames).compute()
    batch = make_batch(7)
    with torch.no_grad():
        pred = module.codec.decode(module(batch["image"]))
    prepared = module.prepared(pred, batch)
    error = (prepared.pred - batch["depth"]).abs() / batch["depth"]
    each = [error[i][prepared.mask[i]].mean().item() for i in range(7)]
    assert metrics["test/abs_rel"] == pytest.approx(sum(each) / 7, rel=1e-5)


def test_only_the_batches_of_the_test_are_looked_at(tmp_path: Path) -> None:
    protocol = EvalProtocol(max_depth=9.0, alignment="scale_shift", alignment_scope="set")
    module = Relative(protocol=protocol)
    make_trainer(tmp_path, limit_test_batches=2).test(module, make_loader(7), verbose=False)
    first_four = {key: value[:4] for key, value in make_batch(7).items()}  # type: ignore[index]
    whole = GlobalFit("scale_shift")
    with torch.no_grad():
        pred = module.codec.decode(module(first_four["image"]))
    whole.update(pred, first_four["depth"], protocol.mask(first_four["depth"], first_four["valid"]))
    assert module.alignment_constants == whole.compute()


def test_validation_has_constants_of_its_own(tmp_path: Path) -> None:
    module = Relative(protocol=EvalProtocol(max_depth=9.0, alignment="scale_shift", alignment_scope="set"))
    trainer = make_trainer(tmp_path, max_epochs=2)
    trainer.fit(module, make_loader(4), make_loader(3, seed=1))
    assert module.alignment_constants is not None
    assert torch.isfinite(trainer.callback_metrics["val/abs_rel"])


def test_data_without_training_frames_says_so(tmp_path: Path) -> None:
    module = Relative(protocol=EvalProtocol(max_depth=9.0, alignment="scale_shift", alignment_scope="train"))
    with pytest.raises(ConfigError, match=r"training frames.*alignment_dataloader"):
        make_trainer(tmp_path).test(module, make_loader(), verbose=False)


CASES = (("set", "pixel"), ("train", "image"))


def scored(scope: str, pooling: str, folder: Path, **settings: Any) -> list[Any]:
    """Constants, metrics and counts of a test of seven images."""
    protocol = EvalProtocol(max_depth=9.0, alignment="scale_shift", alignment_scope=scope, alignment_pooling=pooling)
    module = Relative(protocol=protocol)
    metrics = make_trainer(folder, **settings).test(module, datamodule=Frames(), verbose=False)[0]
    assert module.alignment_constants is not None
    assert module.test_metrics is not None
    return [[float(value) for value in module.alignment_constants], metrics, list(module.test_metrics.counts())]


WORKER = """
import json, os, sys
from pathlib import Path
from tests.models.test_constants import CASES, scored

folder = Path(sys.argv[1])
found = [scored(*case, folder, devices=2, strategy="ddp") for case in CASES]
(folder / f"{os.environ['LOCAL_RANK']}.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_two_processes_and_seven_images_give_what_one_gives(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    environment = {k: v for k, v in os.environ.items() if k != "LOCAL_RANK"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for case, first, second in zip(CASES, *ranks, strict=True):
        one = json.loads(json.dumps(scored(*case, tmp_path)))
        assert one[2][0] == 7
        assert first[:2] == second[:2] == one[:2]
        assert first[2] == one[2]
