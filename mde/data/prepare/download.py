"""Fetch one file over HTTP, in as many attempts as it takes, and without fetching a byte twice.

What has arrived lies in ``NAME.part``; beside it ``NAME.part.json`` says of which file it is (RFC 9110: ETag or
Last-Modified). The next attempt, also that of a later process, asks for the rest with ``Range`` and ``If-Range``: a
server whose file has changed sends the whole new one. The name itself appears only when the file is complete and its
checksum right. (`torch.hub.download_url_to_file` starts again from zero each time.) Proxies are those of the
environment (``HTTPS_PROXY``, …), as always with urllib.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NoReturn

from mde import __version__
from mde.data.prepare.files import disk_error, human_size, read_json, write_json
from mde.errors import ConfigError, DataFormatError, MdeError

__all__ = ["DownloadError", "Patience", "Received", "Report", "checksums", "download", "probe"]

Report = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes that there will be (None: the server does not say)."""

_CHUNK = 1 << 20
_HEAD = 64  # bytes that tell a file from a web page
_LONGEST_WAIT = 60.0
_MAGIC = {  # first bytes of the file types in the catalog
    ".zip": (b"PK\x03\x04", b"PK\x05\x06"),
    ".gz": (b"\x1f\x8b",),
    ".rar": (b"Rar!\x1a\x07",),
    ".mat": (b"MATLAB ", b"\x89HDF"),
}
_PAGE = re.compile(rb"\s*(<!doctype html|<html|<\?xml)", re.IGNORECASE)


class DownloadError(MdeError):
    """A file could not be fetched, or is not the one that was asked for."""


class _Interrupted(Exception):
    """An attempt that ended too early; another one may do better."""


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        retries: attempts in a row that bring nothing new, after the first one.
        wait: seconds before the first of them; doubled before each further one, up to a minute.
        timeout: seconds without an answer after which a connection is given up.
    """

    retries: int = 5
    wait: float = 1.0
    timeout: float = 60.0


@dataclass(frozen=True)
class Received:
    """A complete file: its address, bytes and SHA-256 (hexadecimal)."""

    url: str
    size: int
    sha256: str


def download(
    url: str,
    target: Path,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    patience: Patience | None = None,
    report: Report = lambda done, total: None,
) -> Received:
    """Fetch `url` to `target`, going on where an earlier call stopped.

    Args:
        url: http or https.
        target: the file; its folder is made.
        md5: what is known of the content, hexadecimal.
        sha256: the same.
        patience: how long to try.
        report: called after each piece. An exception of it stops the download, which can be resumed.

    Raises:
        DownloadError: the server refuses, sends a web page instead of the file, cannot be reached, or the checksum
            is wrong (then what was fetched is removed).
        DiskError: the file cannot be written.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ConfigError("an address must start with http:// or https://", where=url)
    part = _Part(target)
    _persist(url, part, patience or Patience(), report)
    found = checksums(part.path, md5=md5 is not None)
    for kind, expected in (("md5", md5), ("sha256", sha256)):
        if expected is not None and found[kind] != expected.lower():
            part.discard()
            what = f"the {kind} of what {url} sent is {found[kind]}, not {expected.lower()}; it was removed"
            hint = "try again; if it stays so, the file was changed: give another source with --mirror"
            raise DownloadError(what, where=target, next_action=hint)
    return Received(url, part.finish(), found["sha256"])


def _persist(url: str, part: _Part, patience: Patience, report: Report) -> None:
    """Attempt until everything is there, or until too many attempts in a row have brought nothing new."""
    best = failures = 0
    while True:
        try:
            return _attempt(url, part, patience, report)
        except _Interrupted as error:
            failures = 0 if part.size > best else failures + 1
            best = max(best, part.size)
            if failures > patience.retries:
                raise _given_up(url, part.target, part.size, error) from error
        time.sleep(min(patience.wait * 2 ** max(failures - 1, 0), _LONGEST_WAIT))


def checksums(path: Path, *, md5: bool = False) -> dict[str, str]:
    """The "sha256" of a file, and its "md5" if it is asked for, in one reading."""
    found = {"sha256": hashlib.sha256()}
    if md5:
        found["md5"] = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            for digest in found.values():
                digest.update(chunk)
    return {kind: digest.hexdigest() for kind, digest in found.items()}


def probe(url: str, patience: Patience) -> int | None:
    """Bytes of a file, asked of the server (HEAD); None if it does not say or cannot be reached."""
    try:
        with _open(urllib.request.Request(url, method="HEAD", headers=_headers()), patience.timeout) as answer:
            length = answer.headers.get("Content-Length")
            return int(length) if length else None
    except (OSError, HTTPException, ValueError):
        return None


# ------------------------------------------------------------------------------------------------------- one attempt


class _Part:
    """What has arrived of a file, and of which version of it."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._state = target.with_name(target.name + ".part.json")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, target.parent) from error

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def state(self, url: str) -> dict[str, Any]:
        """What is known of the file at `url` of which a part is here; empty if there is none to go on with."""
        try:
            state = read_json(self._state) if self.size else {}
        except DataFormatError:
            return {}
        return state if state.get("url") == url and state.get("validator") else {}

    def begin(self, state: dict[str, Any]) -> None:
        write_json(self._state, state)

    def discard(self) -> None:
        for path in (self.path, self._state):
            path.unlink(missing_ok=True)

    def finish(self) -> int:
        """Give the file its name; returns its bytes."""
        try:
            os.replace(self.path, self.target)
        except OSError as error:
            raise disk_error(error, self.target) from error
        self._state.unlink(missing_ok=True)
        return self.target.stat().st_size


def _attempt(url: str, part: _Part, patience: Patience, report: Report) -> None:
    """Fetch what is missing, or raise `_Interrupted`."""
    state = part.state(url)
    have = part.size if state else 0
    if have and have == state["total"]:
        return
    headers = _headers()
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": state["validator"]}
    try:
        with _open(urllib.request.Request(url, headers=headers), patience.timeout) as answer:
            start, total = _extent(answer)
            if start and (start, total) != (have, state["total"]):
                part.discard()
                raise _Interrupted("the server sent another part of the file than was asked for")
            _refuse_page(answer, url)
            if not start:
                part.begin({"url": url, "validator": _validator(answer), "total": total})
            _receive(answer, part, start, total, report)
    except urllib.error.HTTPError as error:
        _judge(error, url, part)
    except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLCertVerificationError):
            what = f"the server's certificate is not trusted ({reason.verify_message})"
            raise DownloadError(what, where=url, next_action="check the clock and the proxy") from error
        if isinstance(reason, socket.gaierror) and not have:
            raise _given_up(url, part.target, 0, error) from error  # offline: waiting will not help
        raise _Interrupted(str(reason) or type(reason).__name__) from error


def _receive(answer: HTTPResponse, part: _Part, start: int, total: int | None, report: Report) -> None:
    done = start
    try:
        file = part.path.open("ab" if start else "wb")
    except OSError as error:
        raise disk_error(error, part.path) from error
    with file:
        report(done, total)
        chunk = answer.read(_HEAD)
        if not start:
            _refuse_content(chunk, part.target, answer.url)
        while chunk:
            try:
                file.write(chunk)
                file.flush()
            except OSError as error:
                raise disk_error(error, part.path) from error
            done += len(chunk)
            report(done, total)
            chunk = answer.read1(_CHUNK)  # what is there: `read` would lose it when the connection breaks
        os.fsync(file.fileno())
    if total is not None and done < total:
        raise _Interrupted(f"the connection ended after {done} of {total} bytes")
    if total is not None and done > total:
        part.discard()
        raise _Interrupted(f"the server sent {done} bytes and had promised {total}")


def _open(request: urllib.request.Request, timeout: float) -> Any:
    # a new opener each time reads the proxies of the environment as they are now
    return urllib.request.build_opener().open(request, timeout=timeout)


def _headers() -> dict[str, str]:
    return {"User-Agent": f"mde/{__version__}", "Accept-Encoding": "identity"}


def _validator(answer: HTTPResponse) -> str | None:
    """What tells this version of the file from another; a weak ETag does not (RFC 9110, 13.1.5)."""
    etag = answer.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")


def _extent(answer: HTTPResponse) -> tuple[int, int | None]:
    """Where the body starts in the file (-1: the server does not say so), and the bytes of the whole file.

    A whole file in answer to a request for a part: the file has changed, or the server knows no parts.
    """
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", "").strip())
        return (int(found[1]), int(found[2])) if found else (-1, None)
    length = answer.headers.get("Content-Length")
    return 0, int(length) if length else None


# --------------------------------------------------------------------------------------------------- what is refused


def _refuse_page(answer: HTTPResponse, url: str) -> None:
    if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise _page(url, answer.url)


def _refuse_content(head: bytes, target: Path, url: str) -> None:
    """Refuse a web page that calls itself a file, and a file of another type; before a byte of it is written."""
    if _PAGE.match(head):
        raise _page(url, url)
    magic = _MAGIC.get(target.suffix.lower())
    if magic and not head.startswith(magic):
        what = f"this is no {target.suffix} file, it starts with {head[:8]!r}"
        raise DownloadError(what, where=url, next_action="open the address in a browser, or give --mirror")


def _page(url: str, final: str) -> DownloadError:
    led = "" if final == url else f", led on to {final}"
    return DownloadError(
        f"the server sent a web page instead of the file (a login page?{led})",
        where=url,
        next_action="log in with a browser, fetch the file there, put it into the folder and give the command again",
    )


def _judge(error: urllib.error.HTTPError, url: str, part: _Part) -> NoReturn:
    """Whether the answer to a request is worth another attempt."""
    error.close()
    if error.code == 416:
        part.discard()
    if error.code in (408, 416, 425, 429) or error.code >= 500:
        raise _Interrupted(f"HTTP {error.code} {error.reason}") from error
    hints = {
        401: "it needs an account: fetch it with a browser and put it into the folder",
        403: "it needs an account, or is not given out any more: see the home page (mde prepare --list)",
        407: "the proxy wants a password: put it into HTTPS_PROXY",
    }
    hint = hints.get(error.code, "it has moved: see the home page (mde prepare --list), or give --mirror URL")
    raise DownloadError(f"the server refuses: HTTP {error.code} {error.reason}", where=url, next_action=hint) from error


def _given_up(url: str, target: Path, have: int, error: Exception) -> DownloadError:
    kept = f"{human_size(have)} are kept; " if have else ""
    reason = getattr(error, "reason", None) or error
    return DownloadError(
        f"cannot be fetched ({reason})",
        where=url,
        next_action=f"{kept}check the network (a proxy goes into HTTPS_PROXY) and give the same command again, "
        f"or fetch the file elsewhere and put it at {target}",
    )
