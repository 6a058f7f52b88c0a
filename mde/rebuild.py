"""Objects that can be written down as plain data and made again: the reason why a checkpoint needs no YAML beside it.

A `Rebuildable` remembers the arguments it was made with. `spec_of` turns it into the same ``class_path`` /
``init_args`` form that the command line uses in YAML, made of nothing but dicts, lists, strings and numbers, so that
it can be stored in a checkpoint that loads with ``weights_only=True``. `build` is the way back.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mde.errors import CheckpointError

__all__ = ["Rebuildable", "build", "rebuilding", "spec_of", "without_weights"]

_PLAIN = (str, int, float, bool, type(None))
_without_weights: ContextVar[bool] = ContextVar("without_weights", default=False)


class _InitSignature:
    """What ``inspect.signature(cls)`` and ``help(cls)`` show: what `__init__` takes, not what `__new__` does."""

    def __get__(self, instance: object, owner: type) -> inspect.Signature:
        if instance is not None:  # how an object is called is another matter
            raise AttributeError("__signature__")
        signature = inspect.signature(owner.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class Rebuildable:
    """Mixin that remembers the arguments of the constructor.

    >>> class Scale(Rebuildable):
    ...     def __init__(self, factor: float, offset: float = 0.0) -> None: ...
    >>> spec_of(Scale(2.0))["init_args"]
    {'factor': 2.0}
    """

    __signature__ = _InitSignature()
    _given_args: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        given = dict(list(signature.bind_partial(self, *args, **kwargs).arguments.items())[1:])
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:  # **common holds arguments of a base class
                given.update(given.pop(name, {}))
        object.__setattr__(self, "_given_args", given)
        return self


def spec_of(value: object, *, where: str = "value") -> Any:
    """Write a value down as plain data.

    Args:
        value: plain data, an enum, a path, a `Rebuildable`, or a `functools.partial` of a class (an optimizer factory).
        where: how to call the value in an error message.

    Raises:
        CheckpointError: the value has no plain form, such as a lambda or a module that is not `Rebuildable`.
    """
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): spec_of(v, where=f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [spec_of(v, where=f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, Rebuildable):
        return _class_spec(type(value), value._given_args, where)
    if isinstance(value, partial):
        # people write partial(cls, ...), jsonargparse makes partial(instantiator, ..., cls, ...)
        cls = next((part for part in (value.func, *value.args) if isinstance(part, type)), None)
        if cls is not None:
            return _class_spec(cls, value.keywords, where)
    if isinstance(value, type):
        return _class_spec(value, {}, where)
    raise CheckpointError(
        f"a {type(value).__name__} cannot be written down to be rebuilt later",
        where=where,
        next_action="derive its class from mde.rebuild.Rebuildable, or use functools.partial instead of a lambda",
    )


def build(spec: Any) -> Any:
    """Make what `spec_of` wrote down; a class whose factory was written down comes back as a ``partial``.

    Only this library's kinds of object are made: a spec from a file cannot call arbitrary functions.
    """
    if isinstance(spec, list):
        return [build(v) for v in spec]
    if not isinstance(spec, dict):
        return spec
    if "class_path" not in spec:
        return {k: build(v) for k, v in spec.items()}
    cls = _import_class(spec["class_path"])
    kwargs = {k: build(v) for k, v in (spec.get("init_args") or {}).items()}
    kwargs.update(spec.get("dict_kwargs") or {})
    if _missing_arguments(cls, kwargs) or issubclass(cls, Optimizer | LRScheduler):
        return partial(cls, **kwargs)
    return cls(**kwargs)


@contextmanager
def without_weights() -> Iterator[None]:
    """Inside, encoders are made without their pretrained weights, because a checkpoint is about to fill them."""
    token = _without_weights.set(True)
    try:
        yield
    finally:
        _without_weights.reset(token)


def rebuilding() -> bool:
    """True inside `without_weights`."""
    return _without_weights.get()


def _class_spec(cls: type, arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    path = f"{cls.__module__}.{cls.__qualname__}"
    if "<locals>" in path:
        raise CheckpointError(
            "a class made inside a function cannot be found again", where=path, next_action="move it to a module"
        )
    return {"class_path": path, "init_args": {k: spec_of(v, where=f"{where}.{k}") for k, v in arguments.items()}}


def _import_class(path: str) -> type:
    module_name, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"the class {path} is not to be found ({error})",
            next_action="install the package or put the module on PYTHONPATH that defined it in training",
        ) from error
    if not (isinstance(found, type) and issubclass(found, Rebuildable | nn.Module | Optimizer | LRScheduler)):
        raise CheckpointError(f"{path} is not a class that a checkpoint may make", next_action="do not trust this file")
    return found


def _missing_arguments(cls: type, kwargs: Mapping[str, Any]) -> bool:
    signature: Callable[..., inspect.Signature] = inspect.signature
    parameters = list(signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
    required = [
        p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    return any(name not in kwargs for name in required)
