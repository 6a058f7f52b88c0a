"""The experiments that ship with the library: one YAML each in ``mde/configs``, found by name from anywhere."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

from mde.errors import ConfigError, nearest

__all__ = ["comment", "names", "needs", "resolve", "sweep_names"]

_FOLDER = Path(__file__).parent.parent / "configs"
_SWEEPS = "sweeps/"
_OTHERS = (_SWEEPS, "wandb/")


def names() -> list[str]:
    """All experiment names, such as "quickstart" and "nyu/densedepth"."""
    return [name for name in _shipped() if not name.startswith(_OTHERS)]


def sweep_names() -> list[str]:
    """All sweeps that ship with the library, such as "sweeps/encoders"."""
    return [name for name in _shipped() if name.startswith(_SWEEPS)]


def comment(path: Path) -> list[str]:
    """The lines of the comment at the head of an experiment."""
    lines = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
    return [line.lstrip("# ") for line in lines]


def needs(name: str) -> str:
    """What the head of an experiment says that its data are, from the option on: "--data.root FOLDER with …"; or ""."""
    text, lines = "", comment(resolve(name))
    for line in lines:
        if text and re.search(r":\s+--", line):  # an option for something else
            break
        found = re.search(r"Needs: .*?(--data.*)", line)
        text = found[1] if found else f"{text} {line}" if text else ""
    return text.strip()


def _shipped() -> list[str]:
    return sorted(path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.rglob("*.yaml"))


def resolve(config: str) -> Path:
    """The file of a ``--config`` value: an existing path, or the name of a shipped experiment.

    Raises:
        ConfigError: neither; names the nearest experiments.
    """
    path = Path(config)
    if path.is_file():
        return path
    shipped = _FOLDER / f"{config.removesuffix('.yaml')}.yaml"
    if shipped.is_file():
        return shipped
    if config.startswith(_SWEEPS):
        known = f"nearest sweeps: {nearest(config, sweep_names())}"
        raise ConfigError(f"no such file or sweep: {config.removeprefix(_SWEEPS)!r}", next_action=known)
    raise ConfigError(
        f"no such file or experiment: {config!r}",
        where="--config",
        next_action=f"nearest experiments: {nearest(config, names())}",
    )
