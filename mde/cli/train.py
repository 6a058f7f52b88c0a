"""`fit`, `validate`, `test`, `predict`: LightningCLI in subclass mode, with run folders, from checkpoints alone."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import DefaultHelpFormatter
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

import mde.data
from mde.callbacks import (
    AtomicCheckpointIO,
    BestCheckpoint,
    EpochLines,
    EpochSeed,
    Gallery,
    ImagePanels,
    LastCheckpoint,
    LossCurves,
    PredictionWriter,
    RunRecorder,
    RunSummary,
    Throughput,
)
from mde.callbacks.loggers import closing, make_loggers, place_loggers
from mde.cli.arguments import Paragraphs, examples_text
from mde.cli.environment import choose, this_machine
from mde.cli.experiments import resolve
from mde.cli.placeholders import require_given
from mde.cli.problems import exit_code, one_line, parser_problem
from mde.cli.runs import discard_empty_run_folder, last_checkpoint, new_run_folder
from mde.cli.trainer_words import DESCRIPTIONS, EXAMPLES
from mde.console import animated, complain
from mde.data import DepthDataModule, MixedDataModule
from mde.errors import ConfigError
from mde.models import DepthModule
from mde.models.checkpoint import find_checkpoint, read_payload
from mde.rebuild import without_weights

__all__ = ["DepthCLI", "check_trainer_command", "run_trainer_command"]

for _name in mde.data.__all__:  # so that --data KITTIDataModule is known by its short name
    getattr(mde.data, _name)

_NOISE = ("litlogger", "TPU available", "HPU available", "Loading `train_dataloader` to estimate")
_UNDONE = ("--model", "--data", "--trainer")
_LINKED = ("depth_range", "image_size", "protocol")


def _quieten() -> None:
    """Lightning's advertisements and warnings about itself are no news to a user of this library."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: not any(part in record.getMessage() for part in _NOISE))
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings(
        "ignore", message=".*does not have many workers.*"
    )  # the workers were chosen for this machine


def run_trainer_command(words: Sequence[str]) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict``; a user's mistake ends in one line and exit code 2."""
    return _run(words, DepthCLI)


def check_trainer_command(words: Sequence[str]) -> int:
    """As `run_trainer_command`, but only makes the network (without pretrained weights) and the data module: exit code
    2 and one line if that fails."""
    with without_weights():
        return _run(words, _Check)


def _run(words: Sequence[str], cli: type[DepthCLI]) -> int:
    _quieten()
    try:
        with _prepared(list(words)) as prepared:
            cli(args=prepared, run_name=_run_name(words), experiment=_config(words))
    except SystemExit as stop:
        return int(stop.code or 0) if not isinstance(stop.code, str) else 1
    except Exception as error:
        discard_empty_run_folder()
        line = one_line(error)
        if line is None:
            raise
        complain(line)
        return exit_code(error)
    return 0


class _Parser(LightningArgumentParser):
    """Says what is wrong in one line instead of printing the usage of five hundred options."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        keys = [action.dest for action in self._actions if not action.dest.endswith("help")]
        raise parser_problem(str(ex) if ex else message, keys) from ex


class _Help(Paragraphs, DefaultHelpFormatter):
    """The types and defaults of the options, and examples as they are typed."""


class DepthCLI(LightningCLI):
    """The command line of the library.

    Every run has its own folder, where logs, checkpoints, configuration and results go. The evaluation protocol, the
    depth range and the image size are the data set's, and are linked into the model.
    """

    def __init__(self, args: list[str], run_name: str, experiment: str | None = None) -> None:
        self.run_name, self.experiment = run_name, experiment
        super().__init__(
            model_class=DepthModule,
            datamodule_class=DepthDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            auto_configure_optimizers=False,  # schedules step per batch: DepthModule configures them
            load_from_checkpoint_support=False,  # checkpoints carry their own way to be rebuilt
            seed_everything_default=0,
            parser_class=_Parser,
            parser_kwargs={
                "formatter_class": _Help,
                "allow_abbrev": False,
                **{name: {"allow_abbrev": False} for name in self.subcommands()},
            },
            trainer_defaults={"log_every_n_steps": 20},
            args=args,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)  # without LightningCLI's warning about sys.argv

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.usage = f"mde {subcommand} [--config NAME] [--KEY VALUE ...]"
        parser.description = DESCRIPTIONS[subcommand]
        parser.epilog = examples_text(EXAMPLES[subcommand])
        if subcommand == "test":
            parser.set_defaults(verbose=False)  # the table of `RunRecorder` has the same numbers, and what they are
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run.name", type=str, default=self.run_name, help="folder of the experiment below run.root"
        )
        parser.add_argument("--run.root", type=str, default="runs", help="where run folders are made")
        parser.add_argument("--run.test", type=bool, default=False, help="after fit, test the best checkpoint")
        parser.add_argument(
            "--run.log", type=str, default="", help="also log to wandb or tensorboard (or both, with a comma)"
        )
        for key in _LINKED:
            parser.link_arguments(f"data.{key}", f"model.init_args.{key}", apply_on="instantiate")

    @property
    def settings(self) -> Any:
        """The parsed settings of the command."""
        return self.config[self.subcommand]

    def before_instantiate_classes(self) -> None:
        if self.subcommand == "predict":
            self.settings.return_predictions = False  # they go to disk one by one, memory would grow with the set
        run = self.settings.run
        self.run_folder = new_run_folder(run.root, run.name)
        self.plain_config = self._plain_config()  # before the loggers get their place: a resumed run has its own
        place_loggers(self.settings.trainer.logger, self.run_folder)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = super().instantiate_trainer(
            default_root_dir=str(self.run_folder),
            logger=self._loggers(),
            plugins=[*self._given("plugins"), AtomicCheckpointIO()],
            **kwargs,
        )
        self._share_cores(trainer)
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        given = config.get("callbacks") or []
        own: list[Callback] = [
            ImagePanels(self.run_folder),
            Gallery(self.run_folder),
            RunSummary(self.run_folder, self.plain_config),
            RunRecorder(self.run_folder, self.plain_config),  # after the pictures: it lists what was written
            LossCurves(),
            PredictionWriter(self.run_folder),
            EpochSeed(int(self.settings.seed_everything)),
            Throughput(),
        ]
        if (
            not any(isinstance(callback, ModelCheckpoint) for callback in given)
            and config.get("enable_checkpointing") is not False
        ):
            folder = self.run_folder / "checkpoints"
            own += [BestCheckpoint(folder), LastCheckpoint(folder)]
        shown = config.get("enable_progress_bar") is not False
        if shown and not animated() and not any(isinstance(callback, ProgressBar) for callback in given):
            own.append(EpochLines())
        return super()._instantiate_trainer(config, [*callbacks, *own])

    def _loggers(self) -> Any:
        given = self.config_init[self.subcommand].trainer.logger
        if given is False:
            return False
        others = [] if given in (None, True) else given if isinstance(given, list) else [given]
        asked = make_loggers(self.settings.run.log, self.run_folder)
        return [CSVLogger(save_dir=str(self.run_folder), name="", version=""), *asked, *others]

    def _given(self, key: str) -> list[Any]:
        value = self.config_init[self.subcommand].trainer.get(key)
        return [] if value is None else value if isinstance(value, list) else [value]

    def _plain_config(self) -> dict[str, Any]:
        dumped = self._parser(self.subcommand).dump(
            self.settings, skip_none=False, skip_link_targets=True, format="yaml"
        )
        plain = yaml.safe_load(dumped)
        plain.pop("config", None)
        plain.pop("ckpt_path", None)
        return dict(plain)

    def _share_cores(self, trainer: Trainer) -> None:
        machine = this_machine(max(1, trainer.num_devices), trainer.strategy.root_device.type != "cpu")
        data = self.datamodule
        workload = choose(machine, in_memory=data.in_memory, workers=data.num_workers)
        data.num_workers = workload.workers
        torch.set_num_threads(workload.threads)
        rank_zero_info(f"Run folder: {self.run_folder}\nThis machine: {machine.cores} core(s); {workload.describe()}")

    def instantiate_classes(self) -> None:
        require_given(self.settings.data.as_dict(), self.experiment)
        # weights that a checkpoint fills need not be found or downloaded
        with without_weights() if self.settings.get("ckpt_path") else nullcontext():
            super().instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        with closing(self.trainer.loggers):
            super()._run_subcommand(subcommand)
        if self.trainer.state.fn is TrainerFn.TESTING:
            self._test_other_parts()

    def after_fit(self) -> None:
        best = next((c for c in self.trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)), None)
        if self.settings.run.test and best is not None and best.best_model_path:
            self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best.best_model_path, verbose=False)

    def _test_other_parts(self) -> None:
        """Test on the other data sets of a mixture: each as a run of its own, in a folder of its name in this one's."""
        data, whole, checkpoint = self.datamodule, self.run_folder, self.trainer.ckpt_path
        for name in list(data.protocols)[1:] if isinstance(data, MixedDataModule) else ():
            data.evaluate_on(name)
            self.model.protocol = data.protocol
            self.run_folder = whole / name
            trainer = self.instantiate_trainer(enable_checkpointing=False)
            with closing(trainer.loggers), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint.*")
                trainer.test(self.model, datamodule=data, ckpt_path=checkpoint, verbose=False)

    def before_test(self) -> None:
        self._need_checkpoint()

    def before_validate(self) -> None:
        self._need_checkpoint()

    def before_predict(self) -> None:
        self._need_checkpoint()

    def _need_checkpoint(self) -> None:
        if not self.settings.get("ckpt_path"):
            rank_zero_info("Note: no --ckpt_path: the network has its initial weights.")


class _Check(DepthCLI):
    """Makes what the settings name and stops there."""

    def _set_seed(self) -> None:
        """Nothing depends on it."""

    def before_instantiate_classes(self) -> None:
        """No run folder is made."""

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """None is needed."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


@contextmanager
def _prepared(words: list[str]) -> Iterator[list[str]]:
    """Resolve names of experiments and checkpoints; settings that a checkpoint carries become the lowest defaults."""
    command, rest = words[0], words[1:]
    _refuse_lost(rest)
    checkpoint = _option(rest, "--ckpt_path")
    if checkpoint is not None:
        if checkpoint == "last":
            root, name = _option(rest, "--run.root") or "runs", _option(rest, "--run.name") or _run_name(words)
            checkpoint = str(last_checkpoint(root, name))
        file = str(find_checkpoint(checkpoint, "last.ckpt" if command == "fit" else "best.ckpt"))
        checkpoint, rest = file, _rewritten(rest, ["--ckpt_path"], lambda _: file)
    rest = _rewritten(rest, ["--config", "-c"], lambda value: str(resolve(value)))
    asks_help = any(word in ("-h", "--help") for word in rest)
    if checkpoint is None or asks_help:
        yield [command, *rest]
        return
    defaults = _checkpoint_defaults(checkpoint, command)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.yaml"
        path.write_text(yaml.safe_dump(defaults))
        yield [command, "--config", str(path), *rest]


def _refuse_lost(words: Sequence[str]) -> None:
    """Refuse settings that would be dropped without a word.

    Raises:
        ConfigError: an experiment behind settings that it undoes, or one part of a protocol without the rest.
    """
    given = [word.partition("=")[0] for word in words]
    last = max((place for place, word in enumerate(given) if word in ("--config", "-c")), default=0)
    undone = next((word for word in given[:last] if word.startswith(_UNDONE)), None)
    if undone is not None:
        hint = "put --config first: settings are taken in order"
        raise ConfigError("an experiment behind a setting puts its own in its place", where=undone, next_action=hint)
    part = next((word for word in given if word.startswith("--data.protocol.")), None)
    if part is not None:
        hint = "give a name of mde info protocols, or a whole one: --data.protocol '{name: mine, alignment: median, …}'"
        raise ConfigError("one setting of a protocol would drop all its others", where=part, next_action=hint)


def _checkpoint_defaults(path: str, command: str) -> dict[str, Any]:
    """What a checkpoint says of its own run: everything to go on with `fit`, model and data otherwise."""
    payload = read_payload(path)
    config = dict(payload.get("config") or {})
    model = payload["model"]
    arguments = {k: v for k, v in model["init_args"].items() if k not in _LINKED}
    defaults: dict[str, Any] = {"model": {"class_path": model["class_path"], "init_args": arguments}}
    if "data" in config:
        defaults["data"] = config["data"]
    if command == "fit":
        defaults |= {key: config[key] for key in ("trainer", "seed_everything", "run") if key in config}
    elif "run" in config:
        defaults["run"] = config["run"]
    return defaults


def _run_name(words: Sequence[str]) -> str:
    config = _config(words)
    if config is not None:
        return config.removesuffix(".yaml").replace("/", "-") if not Path(config).is_file() else Path(config).stem
    model = _option(list(words), "--model")
    return model.rpartition(".")[2].lower() if model else "run"


def _config(words: Sequence[str]) -> str | None:
    return _option(list(words), "--config") or _option(list(words), "-c")


def _option(words: list[str], name: str) -> str | None:
    """The last value of ``--name value`` or ``--name=value``."""
    value = None
    for position, word in enumerate(words):
        if word == name and position + 1 < len(words):
            value = words[position + 1]
        elif word.startswith(f"{name}="):
            value = word[len(name) + 1 :]
    return value


def _rewritten(words: list[str], names: Sequence[str], change: Callable[[str], str]) -> list[str]:
    """The words with the value of ``--name value`` and ``--name=value`` changed, for each of the names."""
    out = list(words)
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name not in names:
            continue
        if equals:
            out[position] = f"{name}={change(value)}"
        elif position + 1 == len(words):
            raise ConfigError(f"{name} needs a value", next_action="see mde COMMAND --help")
        else:
            out[position + 1] = change(words[position + 1])
    return out
