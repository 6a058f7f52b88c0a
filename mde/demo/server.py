"""Serving the page on this machine. Needs the extra ``demo``."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mde.demo.page import Page
from mde.demo.seen import Network, titles
from mde.demo.sessions import Sessions
from mde.errors import ConfigError
from mde.inference.predictor import Predictor

__all__ = ["MAX_MB", "MAX_MEGAPIXELS", "Served", "require_extra", "serve"]

MAX_MB, MAX_MEGAPIXELS = 30.0, 20.0
_PORTS = range(7860, 7960)
_SLACK = 2**20  # bytes of a request beside the file
_STYLE = """
.gradio-container { max-width: 1500px !important; }
.about h1 { font-size: 1.4rem; margin: 0; }
.about, .about > * { min-height: 0 !important; padding: 0 !important; }
#trouble:not(:has(.problem)), #about:not(:has(p)) { display: none; }
.about p { margin: .15rem 0; font-size: .9rem; overflow-wrap: anywhere; }
.about .problem { border-left: 4px solid #d55e00; background: #d55e0022; padding: .5rem .8rem; }
"""


class Served:
    """A page that is being served.

    Attributes:
        url: where it is.
        page: what it does.
        folder: where uploads and results lie as long as they are needed; `close` deletes it.
    """

    def __init__(self, url: str, page: Page, folder: Path, blocks: Any) -> None:
        self.url, self.page, self.folder, self._blocks = url, page, folder, blocks
        self._closed = threading.Event()
        threading.Thread(target=self._sweep, daemon=True).start()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self) -> None:
        """Until somebody closes it, or Ctrl+C."""
        self._closed.wait()

    def close(self) -> None:
        """Stop the server and delete all that was uploaded or made."""
        self._closed.set()
        self._blocks.close(verbose=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sweep(self) -> None:
        while not self._closed.wait(30):
            self.page.sessions.sweep()


def require_extra() -> None:
    """Raise a `ConfigError` that names the extra unless Gradio is installed."""
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("the page needs Gradio", where="mde demo", next_action="pip install 'mde[demo]'")


def serve(
    predictors: Sequence[Predictor],
    host: str = "127.0.0.1",
    port: int | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    max_mb: float = MAX_MB,
    browser: bool = False,
    kept: tuple[int, int] | None = None,
) -> Served:
    """Serve a page that shows what networks say of pictures; it returns at once.

    Args:
        predictors: one, or two to compare.
        host: address; the default is reached from this machine alone.
        port: default the first free one from 7860 on.
        max_megapixels: larger pictures are refused before they are decoded, 0 to 178.
        max_mb: larger files are refused while they arrive, in 10^6 bytes.
        browser: open it in the browser.
        kept: seconds between looks at the files, and after which a file is deleted; default 30 and 600.

    Raises:
        ConfigError: Gradio is missing, no or more than two networks, limits out of range, or a port that is taken.
    """
    require_extra()
    if not 1 <= len(predictors) <= 2:
        raise ConfigError(f"the page shows one or two networks, got {len(predictors)}", next_action="give one or two")
    _require_limits(max_megapixels, max_mb)
    ports = _PORTS if port is None else (port,)
    _free_port(host, ports)  # or an error, before anything is made
    names = titles([predictor.model for predictor in predictors])
    networks = [Network(title, predictor) for title, predictor in zip(names, predictors, strict=True)]
    folder = Path(tempfile.mkdtemp(prefix="mde-demo-"))
    os.environ |= {"GRADIO_TEMP_DIR": str(folder / "gradio"), "GRADIO_ANALYTICS_ENABLED": "False"}
    page = Page(networks, Sessions(folder / "pages"), max_megapixels)
    try:
        url, blocks = _launch_at_one(ports, host, page, int(max_mb * 1e6), browser, kept)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Served(url, page, folder, blocks)


def _launch_at_one(
    ports: Sequence[int], host: str, page: Page, most: int, browser: bool, kept: tuple[int, int] | None
) -> tuple[str, Any]:
    """At the first port that is free; one that another program takes between the look and the launch is left to it."""
    while True:
        free = _free_port(host, ports)
        try:
            return _launch(page, host, free, most, browser, kept)
        except OSError:
            ports = [port for port in ports if port > free]
            if not ports:
                raise


def _launch(
    page: Page, host: str, port: int, most: int, browser: bool, kept: tuple[int, int] | None
) -> tuple[str, Any]:
    import gradio as gr
    from starlette.middleware import Middleware

    from mde.demo.guard import Guard
    from mde.demo.layout import KEPT, make_blocks

    blocks = make_blocks(page, kept or KEPT)
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # those of the reader
    _, url, _ = blocks.launch(
        server_name=host, server_port=port, inbrowser=browser, prevent_thread_lock=True, quiet=True, share=False,
        show_error=False, max_file_size=most, footer_links=[], run_history=False, enable_monitoring=False,
        ssr_mode=False, mcp_server=False, state_session_capacity=page.sessions.most, css=_STYLE,
        theme=gr.themes.Default(**fonts), app_kwargs={"middleware": [Middleware(Guard, most=most + _SLACK)]},
    )  # fmt: skip
    return str(url).rstrip("/"), blocks


def _require_limits(max_megapixels: float, max_mb: float) -> None:
    if not 0 < max_megapixels <= 178:
        what = f"the limit lies between 0 and 178 megapixels, got {max_megapixels:g}"
        raise ConfigError(what, where="max_megapixels", next_action="give --max-megapixels 20")
    if not 0 < max_mb <= 1000:
        what = f"the limit lies between 0 and 1000 MB, got {max_mb:g}"
        raise ConfigError(what, where="max_mb", next_action="give --max-mb 30")


def _free_port(host: str, ports: Sequence[int]) -> int:
    """The first port at which a server can listen."""
    reason = ""
    for port in ports:
        try:
            with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
                return port
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if getattr(error, "errno", None) != errno.EADDRINUSE:
                break
    where = f"{host}:{ports[0]}" if len(ports) == 1 else f"{host}, ports {ports[0]} to {ports[-1]}"
    what = f"the page cannot be served at {where} ({reason})"
    raise ConfigError(what, where="mde demo", next_action="give another --port, or leave out --port and --host")
