"""Averaged weights are what is saved, loaded, validated and tested; training goes on from the others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging

import mde
from mde.callbacks import AveragedWeights, BestCheckpoint
from mde.errors import ConfigError
from mde.models import UNet
from tests.models.tester import make_loader, make_trainer

DECAY = 0.7


def make() -> UNet:
    torch.manual_seed(0)
    return UNet((4, 8), optimizer=partial(torch.optim.SGD, lr=0.05), image_size=(32, 48))


class Reference(Callback):
    """The formula, on its own: average <- decay * average + (1 - decay) * weights, from the first step's weights."""

    def __init__(self) -> None:
        self.average: dict[str, torch.Tensor] = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        for name, value in pl_module.state_dict().items():
            new = value.detach().clone()
            if name in self.average and new.is_floating_point():
                new = DECAY * self.average[name] + (1 - DECAY) * new
            self.average[name] = new


def fit(folder: Path, model: UNet, *callbacks: Callback, epochs: int = 3, ckpt_path: Any = None) -> Any:
    settings = {"max_epochs": epochs, "enable_checkpointing": True, "num_sanity_val_steps": 0}
    trainer = make_trainer(folder, callbacks=list(callbacks), **settings)
    trainer.fit(model, make_loader(6), make_loader(2, seed=1), ckpt_path=ckpt_path)
    return trainer


def close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(v, b[k], rtol=1e-5, atol=1e-7) for k, v in a.items() if v.is_floating_point())


def test_the_loaded_weights_are_the_averages(tmp_path):
    model, reference = make(), Reference()
    trainer = fit(tmp_path, model, reference, AveragedWeights(DECAY), BestCheckpoint(tmp_path, monitor="val/loss"))
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    raw = torch.load(tmp_path / "end.ckpt", weights_only=True)["current_model_state"]
    loaded = mde.load(tmp_path / "end.ckpt")
    assert close(loaded.state_dict(), reference.average)
    assert not close(loaded.state_dict(), make().state_dict())
    assert set(raw) == set(loaded.state_dict())

    best = mde.load(tmp_path / "best.ckpt")
    saved = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert close(best.state_dict(), saved["state_dict"])
    assert not close(best.state_dict(), saved["current_model_state"])
    logged = saved["callbacks"]["mde.BestCheckpoint"]["best_model_score"]
    score = make_trainer(tmp_path).validate(best, make_loader(2, seed=1), verbose=False)[0]["val/loss"]
    assert score == pytest.approx(float(logged), rel=1e-5)  # what was scored is what was saved


def test_a_test_after_the_training_scores_the_averages(tmp_path):
    model = make()
    trainer = fit(tmp_path, model, AveragedWeights(DECAY), BestCheckpoint(tmp_path, monitor="val/loss"))
    best = tmp_path / "best.ckpt"
    after = trainer.test(model, make_loader(2, seed=1), ckpt_path=best, verbose=False, weights_only=True)[0]
    alone = make_trainer(tmp_path).test(mde.load(best), make_loader(2, seed=1), verbose=False)[0]
    assert after == pytest.approx(alone)


def test_a_resumed_run_is_the_same(tmp_path):
    whole = make()
    fit(tmp_path / "a", whole, AveragedWeights(DECAY))

    class Save(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "inside.ckpt")

    fit(tmp_path / "c", make(), Save(), AveragedWeights(DECAY))
    resumed = make()
    fit(tmp_path / "d", resumed, AveragedWeights(DECAY), ckpt_path=tmp_path / "inside.ckpt")
    assert close(whole.state_dict(), resumed.state_dict())


def test_lightnings_own_would_test_other_weights(tmp_path):
    """The reason for a class of our own: the day this fails it can go."""
    model, own = make(), EMAWeightAveraging(decay=DECAY)
    trainer = fit(tmp_path, model, own, BestCheckpoint(tmp_path, monitor="val/loss"))
    trainer.test(model, make_loader(2, seed=1), ckpt_path=tmp_path / "best.ckpt", verbose=False, weights_only=True)
    saved = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert close(model.state_dict(), saved["current_model_state"])
    assert not close(model.state_dict(), saved["state_dict"])


def test_the_first_step_is_waited_for(tmp_path):
    model = make()
    trainer = fit(tmp_path, model, AveragedWeights(DECAY, first_step=10**6), epochs=1)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    assert close(mde.load(tmp_path / "end.ckpt").state_dict(), make().state_dict())


def test_a_decay_of_one_is_refused():
    with pytest.raises(ConfigError, match=r"decay is in \[0, 1\)"):
        AveragedWeights(1.0)
