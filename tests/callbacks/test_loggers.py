"""Loggers by name, their place, and their end."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonargparse import Namespace
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger

import mde.callbacks.loggers as loggers
from mde.callbacks.loggers import closing, make_loggers, place_loggers
from mde.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


def test_names_become_loggers_in_the_folder_of_the_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    folder = tmp_path / "experiment" / "now"
    wandb, board = make_loggers(" wandb, tensorboard", folder)
    assert isinstance(wandb, WandbLogger)
    assert isinstance(board, TensorBoardLogger)
    assert (wandb.name, wandb.save_dir) == ("mde", str(folder))
    assert wandb._wandb_init["name"] == "experiment/now"
    assert Path(board.log_dir) == folder / "tensorboard"
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert make_loggers("wandb", folder)[0].name == "mine"
    assert make_loggers("", folder) == make_loggers(" , ", folder) == []
    assert not folder.exists()  # nothing is written before the run


def test_what_cannot_be_made_is_one_line_with_the_next_action(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"unknown logger 'wandbb' \[--run.log\]. Next: use one or both of"):
        make_loggers("wandbb", tmp_path)

    def missing(folder: Path) -> None:
        raise ModuleNotFoundError("No module named 'wandb'")

    monkeypatch.setitem(loggers._MAKERS, "wandb", missing)
    with pytest.raises(ConfigError, match=r"wandb is not installed.*Next: pip install 'mde\[wandb\]'"):
        make_loggers("wandb", tmp_path)


def given(**arguments: object) -> Namespace:
    defaults = {"save_dir": ".", "dir": None, "name": None, "project": None}
    return Namespace(
        class_path="lightning.pytorch.loggers.WandbLogger", init_args=Namespace(**{**defaults, **arguments})
    )


def test_a_logger_of_the_configuration_writes_into_the_folder_unless_it_has_a_place(tmp_path):
    first, second = given(), given(save_dir="elsewhere", name="n", project="p")
    third = given(dir="there")
    other = Namespace(class_path="lightning.pytorch.loggers.CSVLogger", init_args=Namespace(save_dir="."))
    place_loggers([first, second, other, third], tmp_path / "a" / "b")
    assert first.init_args.save_dir == str(tmp_path / "a" / "b")
    assert (first.init_args.name, first.init_args.project) == ("a/b", "mde")
    assert (second.init_args.save_dir, second.init_args.name, second.init_args.project) == ("elsewhere", "n", "p")
    assert third.init_args.save_dir == "."
    assert other.init_args == Namespace(save_dir=".")
    single = given()
    place_loggers(single, tmp_path)
    assert single.init_args.save_dir == str(tmp_path)
    for nothing in (None, True, False):
        place_loggers(nothing, tmp_path)


def test_a_run_on_wandb_ends_with_the_command_and_the_next_has_its_own(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    from tests.callbacks.wandb_log import read_wandb

    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        made = make_loggers("wandb", tmp_path / name)
        with pytest.raises(RuntimeError, match="stopped"), closing(made):  # noqa: PT012
            made[0].log_metrics({"x": len(name)}, step=0)
            assert wandb.run is not None
            raise RuntimeError("stopped")
        assert wandb.run is None
        found = read_wandb(tmp_path / name)
        assert (found.last("x"), found.exit_code) == (len(name), 1)
    with closing([CSVLogger(tmp_path)]):
        pass
