"""Training and evaluation with the feature cache: the same numbers, for the price of the decoder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch.utils.data import DataLoader

import mde
from mde.callbacks import FeatureCache, GradualUnfreezing
from mde.cli import main
from mde.data.base import collate
from mde.errors import ConfigError
from mde.models import (
    DeepLabSID,
    DenseDepth,
    DepthModule,
    Encoder,
    ResNetDepth,
    SAMDepth,
    SamEncoder,
    TorchvisionEncoder,
    UNet,
)
from mde.types import Batch
from tests.models.test_feature_cache import Tiny, files
from tests.models.tester import make_loader, make_trainer


def tiny_sam() -> DepthModule:
    shape = {"hidden_size": 24, "mlp_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return SAMDepth(SamEncoder(config={**shape, "image_size": 64, "window_size": 2, "global_attn_indexes": [1]}))


METHODS = {
    "sam": tiny_sam,
    "dense": lambda: DenseDepth(Tiny()),
    "resnet": lambda: ResNetDepth(TorchvisionEncoder("resnet18", frozen_stages=-1)),
    "classes": lambda: DeepLabSID(Tiny(), bins=8, scales=(1.0, 0.5)),
}


class Record(Callback):
    """The loss of every step, and the state dict's keys in the middle of training."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.keys: list[str] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))
        self.keys = list(pl_module.state_dict())


class Mirrored(DataLoader[Batch]):
    """The same frames in each epoch, some of them mirrored, others in each."""

    def __iter__(self) -> Any:
        self.epoch = getattr(self, "epoch", -1) + 1
        for number, batch in enumerate(super().__iter__()):
            if (number + self.epoch) % 2:
                batch = {**batch, **{key: batch[key].flip(-1) for key in ("image", "depth", "valid")}}
            yield batch


def mirrored(count: int = 4) -> DataLoader[Batch]:
    return Mirrored(make_loader(count).dataset, batch_size=2, collate_fn=collate)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_alike_with_and_without(name: str, tmp_path: Path) -> None:
    runs = {}
    for folder in (None, tmp_path / "features"):
        torch.manual_seed(0)
        model, record = METHODS[name](), Record()
        model.optimizer_factory = partial(torch.optim.SGD, lr=1e-3)
        callbacks = [record] if folder is None else [record, FeatureCache(folder)]
        make_trainer(tmp_path, max_epochs=3, callbacks=callbacks).fit(model, mirrored(), make_loader(2, seed=1))
        runs[folder is None] = record
        assert all(module.cache is None for module in model.modules() if isinstance(module, Encoder))
    assert runs[True].keys == runs[False].keys
    assert runs[False].losses == pytest.approx(runs[True].losses, rel=1e-3)
    assert len(files(tmp_path / "features")) == (4 * 2 + 2) * (2 if name == "classes" else 1)


def test_later_epochs_and_evaluation_compute_nothing(tmp_path: Path) -> None:
    encoder = Tiny()
    seen: list[int] = []

    class Count(Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            seen.append(encoder.pictures)

    trainer = make_trainer(tmp_path, max_epochs=4, callbacks=[FeatureCache(tmp_path / "f"), Count()])
    model = DenseDepth(encoder)
    encoder.pictures = 0
    trainer.fit(model, mirrored(), make_loader(2, seed=1))
    assert seen == [2 + 4, 2 + 8, 2 + 8, 2 + 8]  # two in validation, four pictures, and their mirrored twins
    trainer.test(model, make_loader(2, seed=1), verbose=False)
    assert encoder.pictures == 2 + 8 + 1  # a test does not trust the files that the fit wrote, until it compared one


def test_a_checkpoint_needs_no_folder_and_a_second_run_computes_one_picture(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    for expected in (4 + 2, 1):
        torch.manual_seed(0)
        encoder = TorchvisionEncoder("resnet18", frozen_stages=-1)
        counted: list[int] = []
        original = encoder.extract
        encoder.extract = lambda x, original=original, counted=counted: (counted.append(len(x)), original(x))[1]  # type: ignore[method-assign]
        model = DenseDepth(encoder, image_size=(32, 48))
        trainer = make_trainer(tmp_path, callbacks=[FeatureCache(folder)])
        trainer.fit(model, make_loader(), make_loader(2, seed=1))
        assert sum(counted) == expected
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    for file in files(folder):
        file.unlink()
    folder.rename(tmp_path / "gone")
    loaded = mde.load(tmp_path / "a.ckpt")
    picture = torch.rand(3, 32, 48)
    assert torch.allclose(loaded.predict(picture).depth, model.predict(picture).depth, atol=1e-6)
    assert not folder.exists()


class Jitter(DataLoader[Batch]):
    def __iter__(self) -> Any:
        return ({**batch, "image": batch["image"] * torch.rand(1)} for batch in super().__iter__())


def test_new_pixels_each_time_are_noticed_once_and_training_goes_on_without(tmp_path: Path) -> None:
    encoder = Tiny()
    loader = Jitter(make_loader(20).dataset, batch_size=10, collate_fn=collate)
    trainer = make_trainer(tmp_path, max_epochs=8, callbacks=[FeatureCache(tmp_path / "f")])
    with pytest.warns(UserWarning, match="0 of 70 pictures") as said:
        trainer.fit(DenseDepth(encoder), loader, make_loader(2, seed=1))
    assert sum("FeatureCache" in str(each.message) for each in said) == 1
    assert len(files(tmp_path / "f")) == 2 + 20 + 70  # validation, the first epoch, and until it gave up


def test_an_encoder_that_may_change_is_told_at_once(tmp_path: Path) -> None:
    moving = ResNetDepth(TorchvisionEncoder("resnet18", frozen_stages=-1), frozen_statistics=False)
    for model in (DenseDepth(Tiny(frozen_stages=0)), moving):
        trainer = make_trainer(tmp_path, max_steps=1, callbacks=[FeatureCache(tmp_path / "f")])
        with pytest.warns(UserWarning, match="keeps nothing now"):
            trainer.fit(model, make_loader())
    assert files(tmp_path / "f") == []
    with pytest.raises(ConfigError, match="UNet has no encoder"):
        make_trainer(tmp_path, callbacks=[FeatureCache(tmp_path / "f")]).fit(UNet(), make_loader())


@pytest.mark.parametrize("first", [0, 1])
def test_gradual_unfreezing_ends_it_and_nothing_old_is_used(first: int, tmp_path: Path) -> None:
    encoder, counts = Tiny(), []

    class Count(Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            counts.append(encoder.pictures)

    both = [FeatureCache(tmp_path / "f"), GradualUnfreezing({2: 0})]
    callbacks = [both[first], both[1 - first], Count()]
    model = DenseDepth(encoder)
    encoder.pictures = 0
    make_trainer(tmp_path, max_epochs=4, callbacks=callbacks).fit(model, make_loader())
    assert counts == [4, 4, 8, 12]


def test_one_flag_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mde"])
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    words = ["fit", "--config", "quickstart", "--trainer.accelerator", "cpu", "--run.test", "true"]
    words += ["--trainer.enable_progress_bar", "false", "--trainer.max_epochs", "2", "--data.batch_size", "4"]
    words += ["--data.augmentations", "[]", "--model.encoder.init_args.frozen_stages", "-1"]
    words += ["--trainer.callbacks+=mde.callbacks.FeatureCache", "--trainer.callbacks.folder", "features"]
    scenes = [word for split in ("train", "val", "test") for word in (f"--data.{split}_scenes", "8")]
    assert main([*words, *scenes]) == 0
    assert len(files(tmp_path / "features")) == 3 * 8
    (checkpoint,) = (tmp_path / "runs").glob("*/*/checkpoints/last.ckpt")
    assert mde.load(checkpoint).encoder.cache is None
