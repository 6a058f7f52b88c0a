"""What a sweep runs: every combination of the settings, with every seed, each in a folder that its settings name."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mde.cli.experiments import resolve
from mde.errors import ConfigError, DataFormatError

__all__ = ["Plan", "Run", "read_plan", "settings_of"]

_KEYS = {"recipes", "config", "set", "seeds"}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        words: of ``mde fit``, without those that say where it writes and which seed it has.
        labels: values of the settings that vary.
        seed: of everything random.
        folder: its own; below it lie the run folders.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...]
    seed: int
    folder: Path

    def command(self) -> list[str]:
        """Words of the command line; goes on with what an interrupted one left."""
        place = [f"--run.root={self.folder.parent}", f"--run.name={self.folder.name}", "--run.test=true"]
        going_on = any(self.folder.glob("*/checkpoints/last.ckpt"))
        return [*self.words, f"--seed_everything={self.seed}", *place, *(["--ckpt_path=last"] if going_on else [])]


@dataclass(frozen=True)
class Plan:
    """A sweep as it was asked for.

    Attributes:
        configs: experiments or files, later ones win; they win over a recipe, too.
        settings: dotted key -> its values; one value alone is a constant.
        seeds: of the runs of a combination.
        recipes: experiments or files to compare, each with settings of its own, which win over the configs; none means
            that the configs are the one recipe.
    """

    configs: tuple[str, ...]
    settings: Mapping[str, Sequence[Any]]
    seeds: tuple[int, ...]
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def head(self) -> list[str]:
        """Names of what varies: the recipe, and of settings their last word, where that tells them apart."""
        keys = self._varied()
        last = [key.rpartition(".")[2] for key in keys]
        short = [name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)]
        return ["recipe", *short] if self.recipes else short

    def groups(self, root: Path) -> list[list[Run]]:
        """The runs below a folder, those of one combination together."""
        devices = [] if "trainer.devices" in self.settings else ["--trainer.devices=1"]  # no run starts others
        made = []
        for recipe, values in itertools.product(self.recipes or [None], itertools.product(*self.settings.values())):
            configs = [*([recipe] if recipe else []), *self.configs]
            own = self.recipes[recipe] if recipe else {}
            chosen = {**dict(zip(self.settings, values, strict=True)), **own}
            settings = (f"--{key}={_text(value)}" for key, value in chosen.items())
            words = ("fit", *(f"--config={name}" for name in configs), *devices, *settings)
            labels = (*([recipe] if recipe else []), *(_text(chosen[key]) for key in self._varied()))
            made.append([Run(words, labels, seed, _folder(root, configs, words, labels, seed)) for seed in self.seeds])
        return made

    def _varied(self) -> list[str]:
        return [key for key, values in self.settings.items() if len(values) > 1]


def _folder(root: Path, configs: Sequence[str], words: Sequence[str], labels: Sequence[str], seed: int) -> Path:
    """Another one as soon as a setting or the text of a config is another; readable when it is new."""
    content = [words, seed, [resolve(name).read_text() for name in configs]]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]
    readable = "-".join(re.sub(r"[^\w.]+", "_", label) for label in labels)[:60]
    new = root / "-".join(part for part in (readable, f"seed{seed}", digest) if part)
    return next(root.glob(f"*-{digest}"), new)  # a sweep with more values finds what an earlier one did


def read_plan(name: str) -> Plan:
    """Read a sweep: a YAML file of ``recipes``, ``config``, ``set`` and ``seeds``, or one that ships with the library.

    Raises:
        ConfigError: no such sweep.
        DataFormatError: it is not one.
    """
    path = resolve(name if Path(name).is_file() or name.startswith("sweeps/") else f"sweeps/{name}")
    hint = "give recipes or config, set (key: list of values) and seeds, as in mde/configs/sweeps"
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise DataFormatError(f"not YAML ({' '.join(str(error).split())})", where=path, next_action=hint) from error
    if not isinstance(content, dict) or not set(content) <= _KEYS or not isinstance(content.get("set", {}), dict):
        raise DataFormatError("not a sweep", where=path, next_action=hint)
    given = content.get("set", {})
    settings = {str(key): values if isinstance(values, list) else [values] for key, values in given.items()}
    seeds = tuple(int(seed) for seed in _listed(content.get("seeds", 0)))
    return Plan(tuple(_listed(content.get("config"))), settings, seeds, _recipes(content.get("recipes") or {}))


def settings_of(pairs: Sequence[str]) -> dict[str, list[Any]]:
    """Words ``key=value`` or ``key=value,value`` as settings; values are read as YAML.

    Raises:
        ConfigError: a word is not of this form.

    >>> settings_of(["model.encoder.init_args.name=resnet18,densenet121", "data.image_size=[72, 96]"])
    {'model.encoder.init_args.name': ['resnet18', 'densenet121'], 'data.image_size': [[72, 96]]}
    """
    settings: dict[str, list[Any]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        try:
            values = yaml.safe_load(f"[{text}]") if equals else []
        except yaml.YAMLError:
            values = []
        if not key or not values:
            hint = "write KEY=VALUE or KEY=VALUE,VALUE, such as model.encoder.init_args.frozen_stages=0,-1"
            raise ConfigError(f"not a setting: {pair!r}", where="--set", next_action=hint)
        settings[key] = values
    return settings


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | dict) else [] if value is None else [value]


def _recipes(given: Any) -> dict[str, dict[str, Any]]:
    """A list of names, or names with the settings that each has of its own."""
    return {str(name): dict(given[name] or {}) if isinstance(given, dict) else {} for name in _listed(given)}
