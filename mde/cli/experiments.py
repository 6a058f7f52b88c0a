"""The experiments that ship with the library: one YAML each in ``mde/configs``, found by name from anywhere."""

from __future__ import annotations

from pathlib import Path

from mde.errors import ConfigError, nearest

__all__ = ["names", "resolve", "sweep_names"]

_FOLDER = Path(__file__).parent.parent / "configs"
_SWEEPS = "sweeps/"
_OTHERS = (_SWEEPS, "wandb/")


def names() -> list[str]:
    """All experiment names, such as "quickstart" and "nyu/densedepth"."""
    return [name for name in _shipped() if not name.startswith(_OTHERS)]


def sweep_names() -> list[str]:
    """All sweeps that ship with the library, such as "sweeps/encoders"."""
    return [name for name in _shipped() if name.startswith(_SWEEPS)]


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
    raise ConfigError(
        f"no such file or experiment: {config!r}",
        where="--config",
        next_action=f"nearest experiments: {nearest(config, names())}",
    )
