"""A web server on 127.0.0.1 that can be told to misbehave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Resource:
    """What the server answers at one path.

    Attributes:
        content: of the file.
        etag: sent with it; None leaves it out.
        ranges: whether the server knows how to send a part.
        cuts: for each coming request: the connection breaks after so many bytes of the body.
        statuses: for each coming request: answer this status and nothing else.
        kind: Content-Type.
        location: answer with a redirect.
    """

    content: bytes = b""
    etag: str | None = '"one"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    kind: str = "application/octet-stream"
    location: str | None = None


class Web:
    """The server's address, its resources, and the requests that it got: (method, path, Range, If-Range)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, Resource] = {}
        self.requests: list[tuple[str, str, str | None, str | None]] = []

    def put(self, path: str, content: bytes, **settings: Any) -> Resource:
        self.files[path] = Resource(content, **settings)
        return self.files[path]


@contextmanager
def serve() -> Iterator[Web]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.web = Web(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.web  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        web: Web = self.server.web  # type: ignore[attr-defined]
        asked, version = self.headers.get("Range"), self.headers.get("If-Range")
        web.requests.append((self.command, self.path, asked, version))
        found = web.files.get(self.path)
        status = 404 if found is None else found.statuses.pop(0) if found.statuses else 200
        if found is None or status != 200:
            self.send_error(status)
            return
        if found.location:
            self.send_response(302)
            self.send_header("Location", found.location)
            self.end_headers()
            return
        start = 0
        if asked and found.ranges and version == found.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(found.content):
                self.send_error(416)
                return
        self._head(found, start, partial=bool(asked and found.ranges and version == found.etag))
        if with_body:
            body = found.content[start:]
            self.wfile.write(body[: found.cuts.pop(0)] if found.cuts else body)

    def _head(self, found: Resource, start: int, *, partial: bool) -> None:
        size = len(found.content)
        self.send_response(206 if partial else 200)
        self.send_header("Content-Type", found.kind)
        self.send_header("Content-Length", str(size - start))
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if found.etag:
            self.send_header("ETag", found.etag)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""
