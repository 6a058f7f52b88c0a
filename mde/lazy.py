"""Public names of a package that are imported when first used (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ["lazily"]


def lazily(package: str, names: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package whose ``import`` must not cost what its names do.

    Args:
        package: its ``__name__``; its ``__all__`` are the public names.
        names: what each of its modules, named relative to it, gives.
    """
    homes = {name: f"{package}.{module}" for module, given in names.items() for name in given}

    def __dir__() -> list[str]:
        return sorted(sys.modules[package].__all__)

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; public names: {', '.join(__dir__())}")
        return getattr(import_module(homes[name]), name)

    return __getattr__, __dir__
