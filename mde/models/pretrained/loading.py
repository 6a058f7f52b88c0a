"""Configuration, image processor and weights of a network of transformers: from a folder, the hub, or plain data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from torch import nn

from mde.errors import CheckpointError, ConfigError, nearest
from mde.models.pretrained.families import FAMILIES, family_of
from mde.models.pretrained.known import hub_or_folder
from mde.models.pretrained.preprocessing import Preprocessing, resample_of
from mde.models.weights import PRETRAINED, hub_within_reach, read_state_dict
from mde.rebuild import rebuilding

__all__ = ["make_network", "plain_config", "read_config", "read_preprocessing"]


def read_config(name: str, changes: Mapping[str, Any]) -> Any:
    """The configuration of a network.

    Args:
        name: see `hub_or_folder`.
        changes: settings that differ from its ``config.json``; with ``model_type`` among them they stand in its place,
            and nothing is read.

    Raises:
        CheckpointError: there is no readable configuration at `name`.
        ConfigError: a setting is unknown, or the settings contradict each other.
    """
    library = _transformers()
    if "model_type" in changes:
        cls = _class_of(library, changes["model_type"])
        if not rebuilding():  # transformers takes any name; a network adds some of its own to what it came with
            _merged(plain_config(cls()), changes, "model.config", nested=False)
        return _config_from(cls, changes)
    place = hub_or_folder(name)
    try:
        with hub_within_reach():
            found = library.AutoConfig.from_pretrained(place)
    except Exception as error:  # there is no end to what a file of another kind raises
        raise _absent(name, "configuration", "config.json", error) from error
    return _config_from(type(found), _merged(plain_config(found), changes, "model.config")) if changes else found


def read_preprocessing(name: str, config: Any, changes: Mapping[str, Any] | None, from_files: bool) -> Preprocessing:
    """The preprocessing of a network.

    Args:
        name: see `hub_or_folder`.
        config: of the network.
        changes: settings of `Preprocessing` that differ from its image processor's.
        from_files: read ``preprocessor_config.json``; False takes the family's own.

    Raises:
        CheckpointError: there is no such file, and `changes` is None. With `changes`, even empty ones, the family's own
            preprocessing takes its place.
        ConfigError: the processor does something that is not supported, or a change is wrong.
    """
    own = family_of(config.model_type).preprocessing
    if not from_files:
        return own.changed(changes or {})
    place = hub_or_folder(name)
    try:
        with hub_within_reach():
            processor = _transformers().AutoImageProcessor.from_pretrained(place)
    except Exception as error:  # as above
        if changes is None:
            raise _absent(name, "image processor", "preprocessor_config.json", error) from error
        return own.changed(changes)
    return _of_processor(processor, own).changed(changes or {})


def make_network(name: str, config: Any, weights: str | None) -> nn.Module:
    """The network in float32.

    Args:
        name: see `hub_or_folder`.
        config: of the network.
        weights: None (random), "pretrained" (those of `name`), or a state-dict file, also one with the names of older
            versions of transformers.

    Raises:
        CheckpointError: the weights cannot be had, or some tensor is not among them.
        ConfigError: transformers has no depth network for this configuration.
    """
    library = _transformers()
    auto = library.AutoModelForDepthEstimation
    with _quiet(library):
        try:
            net = auto.from_config(config)
        except Exception as error:
            raise ConfigError(
                f"transformers cannot make a depth network of type {config.model_type!r} ({_in_short(error)})",
                where="model.config",
                next_action="check the settings against the family's configuration class",
            ) from error
        if weights is None:
            return cast(nn.Module, net.float())
        source = (hub_or_folder(name), None) if weights == PRETRAINED else (None, read_state_dict(weights))
        try:
            with hub_within_reach():
                net, report = type(net).from_pretrained(
                    source[0], config=config, state_dict=source[1], output_loading_info=True
                )
        except Exception as error:
            raise _absent(name, "weights", "model.safetensors", error) from error
    missing = sorted(map(str, report["missing_keys"])) + sorted(map(str, report["mismatched_keys"]))
    if missing:  # transformers would leave them random
        raise CheckpointError(
            f"{len(missing)} tensors of the network are not among its weights, the first is {missing[0]}",
            where=name if weights == PRETRAINED else weights,
            next_action="give the folder of a depth network, not of its backbone alone",
        )
    return cast(nn.Module, net.float())


def _class_of(library: Any, kind: str) -> Any:
    try:
        return type(library.AutoConfig.for_model(kind))
    except Exception as error:
        hint = f"known families: {', '.join(FAMILIES)}"
        what = f"transformers has no network of type {kind!r}"
        raise ConfigError(what, where="model.config.model_type", next_action=hint) from error


def _config_from(cls: Any, settings: Mapping[str, Any]) -> Any:
    try:
        return cls.from_dict(dict(settings))
    except Exception as error:
        what = f"not a configuration of {settings['model_type']} ({_in_short(error)})"
        raise ConfigError(what, where="model.config", next_action="correct the setting that it names") from error


def plain_config(config: Any) -> dict[str, Any]:
    """All settings as JSON would hold them, those of parts included."""
    return cast(dict[str, Any], json.loads(config.to_json_string(use_diff=False)))


def _merged(base: dict[str, Any], changes: Mapping[str, Any], where: str, nested: bool = True) -> dict[str, Any]:
    out = dict(base)
    for key, value in changes.items():
        if key not in base:
            hint = f"nearest: {nearest(str(key), base)}"
            raise ConfigError(f"unknown setting {key!r}", where=where, next_action=hint)
        inner = base[key]
        if nested and isinstance(value, Mapping) and isinstance(inner, dict) and "model_type" not in value:
            value = _merged(inner, value, f"{where}.{key}")
        out[key] = value
    return out


def _of_processor(processor: Any, own: Preprocessing) -> Preprocessing:
    """The settings of an image processor; what only its class knows (mirrored edges, rounding) is the family's."""
    if getattr(processor, "do_center_crop", None) or not getattr(processor, "do_rescale", True):
        raise ConfigError(
            "an image processor that crops, or does not scale bytes to [0,1], is not supported",
            where="preprocessor_config.json",
            next_action="give --model.preprocessing in its place",
        )
    made: dict[str, Any] = {}
    size = getattr(processor, "size", None)
    if not getattr(processor, "do_resize", True):
        made |= {"size": None, "multiple": 1, "keep_aspect": False}
    elif size is not None:
        sides = {"height": size, "width": size} if isinstance(size, int) else dict(size)
        made["size"] = (int(sides["height"]), int(sides["width"]))
        made["keep_aspect"] = bool(getattr(processor, "keep_aspect_ratio", own.keep_aspect))
    for key in ("ensure_multiple_of", "size_divisor"):
        # ZoeDepth's class says 1/32 where it means 32, and no published file does
        if key in _MULTIPLES[own.round_down] and (getattr(processor, key, None) or 0) >= 1:
            made["multiple"] = int(getattr(processor, key))
    if not own.reflect and getattr(processor, "do_pad", False) and getattr(processor, "size_divisor", None):
        made["pad_multiple"] = int(processor.size_divisor)
    if own.reflect and not getattr(processor, "do_pad", True):
        made["reflect"] = 0.0
    made["resample"] = resample_of(processor.resample)
    if getattr(processor, "do_normalize", None) and processor.image_mean is not None:
        made |= {"mean": tuple(processor.image_mean), "std": tuple(processor.image_std)}
    else:
        made |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    return own.changed(made)


_MULTIPLES = {True: ("size_divisor",), False: ("ensure_multiple_of",)}
"""The name of the multiple, by whether sides are rounded down to it (GLPN)."""


def _absent(name: str, what: str, file: str, error: Exception) -> CheckpointError:
    if Path(name).expanduser().is_dir():
        return CheckpointError(
            f"this folder holds no usable {what} ({_in_short(error)})",
            where=name,
            next_action=f"save {file} there (save_pretrained of the network and of its image processor)",
        )
    return CheckpointError(
        f"the {what} of {name} is not on this machine and could not be fetched ({_in_short(error)})",
        where="model.name",
        next_action=f"give a local folder with {file}, or run once with a network (files are then kept)",
    )


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    logs = library.utils.logging
    level, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        if bars:
            logs.enable_progress_bar()


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        what = "pretrained depth networks need transformers"
        raise ConfigError(what, next_action="pip install 'mde[pretrained]'") from error
    return transformers


def _in_short(error: BaseException) -> str:
    """What was said, on one line."""
    text = " ".join(str(error).split())
    return (text if len(text) <= 200 else f"{text[:200]} …").rstrip(".") or type(error).__name__
