"""Settings that an experiment leaves to the user: ``set-me-with---data.root`` in its YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mde.cli.experiments import names, needs
from mde.data.layouts import Layout, layouts
from mde.errors import ConfigError

__all__ = ["PLACEHOLDER", "require_given"]

PLACEHOLDER = "set-me-with-"


def require_given(data: Mapping[str, Any], experiment: str | None = None) -> None:
    """Refuse data whose place is still to be given, before anything is downloaded or written.

    Args:
        data: ``class_path`` and ``init_args``, as plain mappings and lists.
        experiment: name or file that they came from; its own words say what the folder must hold.

    Raises:
        ConfigError: with the option to give, what belongs there, and how to get it.
    """
    options = list(_left_out(data))
    if not options:
        return
    content = needs(experiment) if experiment in names() else ""
    hint = content if all(option in content for option in options) else _give(options)
    actions = [f"give {hint}", *_sources(data, experiment)]
    raise ConfigError("the folder of the data set was not given", where=experiment, next_action="; ".join(actions))


def _give(options: Sequence[str]) -> str:
    return " and ".join(f"{option} FOLDER" for option in options)


def _left_out(value: Any) -> Iterator[str]:
    """The options that would fill the placeholders."""
    if isinstance(value, str) and value.startswith(PLACEHOLDER):
        yield value.removeprefix(PLACEHOLDER)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _left_out(each)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for each in value:
            yield from _left_out(each)


def _sources(data: Mapping[str, Any], experiment: str | None) -> Iterator[str]:
    """Commands that make such a folder."""
    from mde.data.prepare.known import KNOWN

    layout = _layout(data, experiment)
    if layout is None:
        return
    family = layout.name.partition("/")[0]
    if family in KNOWN:
        yield f"mde prepare {family} tells how to get it"
    yield f"mde make-data {layout.name} FOLDER renders a small copy to try"


def _layout(data: Mapping[str, Any], experiment: str | None) -> Layout | None:
    """The form of the data that an experiment trains on; else that which its data module and its settings fit best."""
    name, given = str(data.get("class_path")).rpartition(".")[2], data.get("init_args") or {}
    known = layouts().values()
    exact = [layout for layout in known if experiment in layout.configs]
    read = [layout for layout in known if layout.data_module.endswith(f".{name}")]

    def fit(layout: Layout) -> tuple[int, int, int]:
        agree = [given[key] == value for key, value in layout.settings.items() if key in given]
        return 2 * sum(agree) - len(agree), len(layout.configs), -len(layout.settings)

    return max(exact or read, key=fit, default=None)
