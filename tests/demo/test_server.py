"""The server: addresses and limits, what is refused before it is read, what is deleted."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import MutableMapping
from typing import Any

import pytest

import mde
from mde.demo import server
from mde.demo.guard import Guard
from mde.demo.server import MAX_MB, MAX_MEGAPIXELS, require_extra, serve
from mde.errors import ConfigError
from tests.demo.made import Known

Message = MutableMapping[str, Any]


def asked(body: bytes, told: int | None, most: int = 10, piece: int = 4) -> tuple[list[Message], bytes]:
    """What the guard answers to a request, and what the app behind it got."""
    pieces = [body[at : at + piece] for at in range(0, max(1, len(body)), piece)]
    sent: list[Message] = []
    got = bytearray()

    async def app(_: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            got.extend(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if told is None else [(b"content-length", str(told).encode())]
    asyncio.run(Guard(app, most)({"type": "http", "headers": headers}, receive, send))
    return sent, bytes(got)


def test_requests_that_are_too_large_are_refused() -> None:
    sent, got = asked(b"x" * 10, 10)
    assert (sent[0]["status"], got) == (200, b"x" * 10)
    sent, got = asked(b"x" * 11, 11)
    assert (sent[0]["status"], got) == (413, b"")
    sent, got = asked(b"x" * 100, None)  # says no length
    assert sent == []
    assert len(got) <= 10
    assert asked(b"x", -1)[0][0]["status"] == 413


def test_answers_forbid_what_is_not_of_this_server() -> None:
    headers = dict(asked(b"", 0)[0][0]["headers"])
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "*" not in policy
    assert headers[b"referrer-policy"] == b"no-referrer"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_mb": 0}, "between 0 and 1000 MB"),
        ({"max_megapixels": 200}, "between 0 and 178 megapixels"),
        ({"host": "192.0.2.1"}, "cannot be served at 192.0.2.1"),
        ({"port": 70_000}, "cannot be served at 127.0.0.1:70000"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], says: str) -> None:
    pytest.importorskip("gradio", reason="needs gradio: pip install 'mde[demo]'")
    with pytest.raises(ConfigError) as caught:
        serve([mde.Predictor(Known())], **settings)
    assert says in str(caught.value)
    assert "Next: " in str(caught.value)


def test_one_or_two_networks() -> None:
    pytest.importorskip("gradio", reason="needs gradio: pip install 'mde[demo]'")
    for count in (0, 3):
        with pytest.raises(ConfigError, match=f"one or two networks, got {count}"):
            serve([mde.Predictor(Known())] * count)


def test_a_port_that_is_taken_is_named() -> None:
    pytest.importorskip("gradio", reason="needs gradio: pip install 'mde[demo]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"at 127.0.0.1:{port}.*Next: give another --port"):
            serve([mde.Predictor(Known())], port=port)


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mde\[demo\]'"):
        require_extra()


def test_pages_import_gradio_only_to_be_served() -> None:
    code = "import mde.demo.page, mde.demo.views, sys; import mde.demo.server; sys.exit('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert (MAX_MB, MAX_MEGAPIXELS) == (30.0, 20.0)


def test_a_port_that_another_takes_at_the_last_moment_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def launch(page: Any, host: str, port: int, *rest: Any) -> tuple[str, Any]:
        tried.append(port)
        if len(tried) == 1:
            raise OSError("taken")
        return f"http://{host}:{port}", None

    monkeypatch.setattr(server, "_launch", launch)
    page: Any = None
    url, _ = server._launch_at_one(range(7860, 7960), "127.0.0.1", page, 10, False, None)
    assert tried[0] < tried[1]
    assert url.endswith(str(tried[1]))
    tried.clear()
    asked_for = _unused()
    with pytest.raises(OSError, match="taken"):
        server._launch_at_one((asked_for,), "127.0.0.1", page, 10, False, None)
    assert tried == [asked_for]


def _unused() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
