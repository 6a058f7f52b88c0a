"""Data modules for commands without a Trainer: by experiment, by layout, or by looking at a folder."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mde.cli.experiments import names, resolve
from mde.cli.placeholders import require_given
from mde.data.layouts import layouts, recognise
from mde.errors import ConfigError, nearest

if TYPE_CHECKING:
    from mde.data import DepthDataModule

__all__ = ["data_from_spec", "make_data_module", "take_data_settings"]

_PREFIX = "--data."
_NOT_NEEDED = ("augmentations",)  # settings of training, which may hold objects of other libraries


def take_data_settings(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split ``--data.KEY VALUE`` and ``--data.KEY=VALUE`` off; the values are read as YAML.

    >>> take_data_settings(["--data", "kitti/densedepth", "--data.root", "/k", "--data.batch_size=2"])
    (['--data', 'kitti/densedepth'], {'root': '/k', 'batch_size': 2})

    Raises:
        ConfigError: a value is missing or no YAML.
    """
    rest: list[str] = []
    made: dict[str, Any] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if not word.startswith(_PREFIX):
            rest.append(word)
            continue
        key, equals, value = word[len(_PREFIX) :].partition("=")
        if not equals and not queue:
            raise ConfigError("no value", where=word, next_action=f"write {word} VALUE")
        try:
            made[key] = yaml.safe_load(value if equals else queue.pop(0))
        except yaml.YAMLError as error:
            raise ConfigError("cannot read the value", where=word, next_action="write it as YAML") from error
    return rest, made


def make_data_module(name: str, settings: Mapping[str, Any]) -> DepthDataModule:
    """The data module of an experiment, of a layout, or of a folder.

    Args:
        name: the path of a data set; an experiment such as "nyu/densedepth" or a YAML file with an entry `data`; or a
            layout such as "nyu/bts" that is no experiment (``mde make-data --help`` lists them; `root` must be among
            the settings).
        settings: of the data module, before those of the experiment.

    Raises:
        ConfigError: no such name, no data in it, or an unknown setting.
        DatasetNotFoundError: there is nothing at the path.
        DataFormatError: the folder has none of the known layouts.
    """
    if Path(name).exists() and Path(name).suffix not in (".yaml", ".yml"):
        layout = recognise(name)
        _require_known(_class_of(layout.data_module), settings)
        return layout.make(name, **settings)
    if name in layouts() and name not in names():
        return _of_layout(name, dict(settings))
    spec = (yaml.safe_load(resolve(name).read_text()) or {}).get("data")
    if not isinstance(spec, dict) or "class_path" not in spec:
        raise ConfigError("names no data", where=name, next_action="give an experiment with an entry data.class_path")
    return data_from_spec(spec, settings, name)


def data_from_spec(
    spec: Mapping[str, Any], settings: Mapping[str, Any], experiment: str | None = None
) -> DepthDataModule:
    """The data module that a configuration describes by ``class_path`` and ``init_args``.

    Args:
        spec: of the data.
        settings: in place of its own.
        experiment: that the configuration is of, for what is said where the place of the data is missing.

    Raises:
        ConfigError: a setting is unknown or missing, or it is no data module.
        CheckpointError: there is no such class.
    """
    from mde.data import DepthDataModule
    from mde.protocol import EvalProtocol
    from mde.rebuild import build

    path = str(spec["class_path"])
    path = path if "." in path else f"mde.data.{path}"
    arguments = {k: v for k, v in {**(spec.get("init_args") or {}), **settings}.items() if k not in _NOT_NEEDED}
    _require_known(_class_of(path), settings)
    require_given({"class_path": path, "init_args": arguments}, experiment)
    protocol = arguments.get("protocol")
    if isinstance(protocol, dict):
        arguments["protocol"] = EvalProtocol.from_dict(protocol)
    made = build({"class_path": path, "init_args": arguments})
    if not isinstance(made, DepthDataModule):
        raise ConfigError("a setting is missing", where=path, next_action="give --data.root FOLDER")
    return made


def _of_layout(name: str, settings: dict[str, Any]) -> DepthDataModule:
    layout = layouts()[name]
    root = settings.pop("root", None)
    if root is None:
        raise ConfigError(f"layout {name} needs the place of its data", next_action="give --data.root FOLDER")
    _require_known(_class_of(layout.data_module), settings)
    return layout.make(root, **settings)


def _class_of(path: str) -> type:
    from importlib import import_module

    module, _, name = path.rpartition(".")
    try:
        found: type = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"no such class: {path}", where="data.class_path", next_action="check the name") from error
    return found


def _require_known(module: type, settings: Mapping[str, Any]) -> None:
    """Refuse settings that neither a data module nor its base has."""
    from mde.data import DepthDataModule

    makers = (module.__init__, DepthDataModule.__init__)  # type: ignore[misc]
    known = {name for maker in makers for name in inspect.signature(maker).parameters} - {"self", "common"}
    for key in settings:
        if key not in known:
            hint = f"nearest: {nearest(key, known)}"
            raise ConfigError(f"{module.__name__} has no setting {key!r}", where=f"--data.{key}", next_action=hint)
