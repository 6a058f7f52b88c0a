"""A page in the browser that shows what trained networks say of a picture; ``mde demo`` serves it.

What the page shows is made by pure functions (`seen.py`, `choices.py`, `views.py`) that `page.py` puts together; the
layout, which needs Gradio (extra ``demo``), stands in `layout.py`, the server in `server.py`. Names are imported when
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mde.lazy import lazily

if TYPE_CHECKING:
    from mde.demo.server import Served, serve

__all__ = ["Served", "serve"]

__getattr__, __dir__ = lazily(__name__, {"server": ("Served", "serve")})
