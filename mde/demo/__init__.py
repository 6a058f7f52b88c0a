"""A page in the browser that shows what trained networks say of a picture; ``mde demo`` serves it.

What the page shows is made by pure functions (`seen.py`, `choices.py`, `views.py`) that `page.py` puts together; the
layout, which needs Gradio (extra ``demo``), stands in `layout.py`, the server in `server.py`. Names are imported when
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mde.demo.server import Served, serve

__all__ = ["Served", "serve"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mde.demo' has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(import_module("mde.demo.server"), name)
