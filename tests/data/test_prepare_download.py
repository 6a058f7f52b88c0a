from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mde.data.prepare.download import DownloadError, Patience, download, probe
from mde.data.prepare.files import DiskError, free_bytes, human_size, some
from mde.errors import ConfigError
from tests.data.prepare_server import Web, serve

AT_ONCE = Patience(retries=2, wait=0, timeout=5)
CONTENT = np.random.default_rng(0).bytes(100_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as started:
        yield started


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole_file(web: Web, tmp_path: Path) -> None:
    web.put("/a.bin", CONTENT)
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "a.bin"
    got = download(
        f"{web.url}/a.bin",
        target,
        sha256=SHA.upper(),
        md5=hashlib.md5(CONTENT).hexdigest(),
        report=lambda done, total: seen.append((done, total)),
    )
    assert target.read_bytes() == CONTENT
    assert (got.size, got.sha256) == (len(CONTENT), SHA)
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert parts(tmp_path / "new") == ["a.bin"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 60_000), max_size=3), ranges=st.booleans(), etag=st.sampled_from(['"x"', None]))
def test_cut_connections_end_in_the_same_bytes(
    web: Web, tmp_path: Path, cuts: list[int], ranges: bool, etag: str | None
) -> None:
    web.put("/a.bin", CONTENT, cuts=list(cuts), ranges=ranges, etag=etag)
    target = tmp_path / "a.bin"
    target.unlink(missing_ok=True)
    got = download(f"{web.url}/a.bin", target, patience=Patience(retries=4, wait=0, timeout=5))
    assert target.read_bytes() == CONTENT
    assert got.sha256 == SHA
    assert parts(tmp_path) == ["a.bin"]


def test_resumes_by_range_and_fetches_nothing_twice(web: Web, tmp_path: Path) -> None:
    web.put("/a.bin", CONTENT, cuts=[30_000, 20_000])
    download(f"{web.url}/a.bin", tmp_path / "a.bin", patience=AT_ONCE)
    assert [(asked, version) for _, _, asked, version in web.requests] == [
        (None, None),
        ("bytes=30000-", '"one"'),
        ("bytes=50000-", '"one"'),
    ]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_later_call_goes_on(web: Web, tmp_path: Path) -> None:
    web.put("/a.bin", CONTENT, cuts=[30_000, 0, 0, 0])
    target = tmp_path / "a.bin"
    with pytest.raises(DownloadError, match=r"30000 of 100000.*30 kB are kept.*same command.*put it at"):
        download(f"{web.url}/a.bin", target, patience=AT_ONCE)
    assert parts(tmp_path) == ["a.bin.part", "a.bin.part.json"]
    web.files["/a.bin"].cuts.clear()
    download(f"{web.url}/a.bin", target, patience=AT_ONCE)
    assert web.requests[-1][2] == "bytes=30000-"
    assert target.read_bytes() == CONTENT


def test_ctrl_c_leaves_what_can_be_resumed(web: Web, tmp_path: Path) -> None:
    web.put("/a.bin", CONTENT)

    def stop(done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(f"{web.url}/a.bin", tmp_path / "a.bin", report=stop)
    have = (tmp_path / "a.bin.part").stat().st_size
    assert 0 < have < len(CONTENT)
    download(f"{web.url}/a.bin", tmp_path / "a.bin")
    assert web.requests[-1][2] == f"bytes={have}-"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_changed_file_starts_again(web: Web, tmp_path: Path) -> None:
    web.put("/a.bin", CONTENT, cuts=[30_000, 0, 0, 0])
    with pytest.raises(DownloadError):
        download(f"{web.url}/a.bin", tmp_path / "a.bin", patience=AT_ONCE)
    other = CONTENT[::-1]
    web.put("/a.bin", other, etag='"two"')
    download(f"{web.url}/a.bin", tmp_path / "a.bin", patience=AT_ONCE)
    assert web.requests[-1][2:] == ("bytes=30000-", '"one"')
    assert (tmp_path / "a.bin").read_bytes() == other


@pytest.mark.parametrize("spoil", ["no json", '{"url": 1}', "[]"])
def test_a_spoiled_state_starts_again(web: Web, tmp_path: Path, spoil: str) -> None:
    web.put("/a.bin", CONTENT)
    (tmp_path / "a.bin.part").write_bytes(b"something else")
    (tmp_path / "a.bin.part.json").write_text(spoil)
    download(f"{web.url}/a.bin", tmp_path / "a.bin", patience=AT_ONCE)
    assert web.requests[-1][2] is None
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_starts_again(web: Web, tmp_path: Path) -> None:
    web.put("/a.bin", CONTENT)
    (tmp_path / "a.bin.part").write_bytes(CONTENT + b"more")
    state = {"url": f"{web.url}/a.bin", "validator": '"one"', "total": len(CONTENT)}
    (tmp_path / "a.bin.part.json").write_text(json.dumps(state))
    download(f"{web.url}/a.bin", tmp_path / "a.bin", patience=AT_ONCE)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_wrong_checksum_is_removed(web: Web, tmp_path: Path, kind: str) -> None:
    web.put("/a.bin", CONTENT)
    wrong = hashlib.new(kind, b"another").hexdigest()
    with pytest.raises(DownloadError, match=rf"the {kind} of what .* sent is .*not {wrong}; it was removed.*--mirror"):
        download(f"{web.url}/a.bin", tmp_path / "a.bin", **{kind: wrong})  # type: ignore[arg-type]
    assert parts(tmp_path) == []


def test_refusals_are_not_repeated_and_failures_are(web: Web, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"HTTP 404.*home page.*--mirror"):
        download(f"{web.url}/none.bin", tmp_path / "a.bin", patience=AT_ONCE)
    assert len(web.requests) == 1
    web.put("/a.bin", CONTENT, statuses=[500, 503])
    download(f"{web.url}/a.bin", tmp_path / "a.bin", patience=AT_ONCE)
    assert len(web.requests) == 4
    web.put("/b.bin", CONTENT, statuses=[403])
    with pytest.raises(DownloadError, match=r"HTTP 403.*an account"):
        download(f"{web.url}/b.bin", tmp_path / "b.bin", patience=AT_ONCE)
    web.put("/c.bin", CONTENT, statuses=[500] * 9)
    with pytest.raises(DownloadError, match=r"HTTP 500.*check the network"):
        download(f"{web.url}/c.bin", tmp_path / "c.bin", patience=AT_ONCE)


def test_a_web_page_is_no_file(web: Web, tmp_path: Path) -> None:
    web.put("/login", b"<html>log in", kind="text/html; charset=utf-8")
    web.files["/a.zip"] = type(web.files["/login"])(location=f"{web.url}/login")
    with pytest.raises(DownloadError, match=r"web page.*a login page\?, led on to .*/login.*browser"):
        download(f"{web.url}/a.zip", tmp_path / "a.zip", patience=AT_ONCE)
    web.put("/b.zip", b"\n <!DOCTYPE HTML><p>moved")
    with pytest.raises(DownloadError, match="web page"):
        download(f"{web.url}/b.zip", tmp_path / "b.zip", patience=AT_ONCE)
    web.put("/c.zip", b"Rar!....")
    with pytest.raises(DownloadError, match=r"no \.zip file, it starts with b'Rar!"):
        download(f"{web.url}/c.zip", tmp_path / "c.zip", patience=AT_ONCE)
    assert not any((tmp_path / f"{name}.zip").exists() for name in "abc")
    assert not any(path.stat().st_size for path in tmp_path.glob("*.part"))


def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serve() as web:
        gone = web.url
    with pytest.raises(DownloadError, match=r"refused.*check the network.*HTTPS_PROXY.*put it at .*a\.bin"):
        download(f"{gone}/a.bin", tmp_path / "a.bin", patience=AT_ONCE)
    assert probe(f"{gone}/a.bin", AT_ONCE) is None
    with pytest.raises(DownloadError, match="check the network"):
        download("http://no-such-host.invalid/a.bin", tmp_path / "a.bin", patience=Patience(wait=1000))
    with pytest.raises(ConfigError, match="must start with http"):
        download("ftp://127.0.0.1/a.bin", tmp_path / "a.bin")


def test_proxies_of_the_environment(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", web.url)
    monkeypatch.delenv("no_proxy", raising=False)
    web.put("http://data.invalid/a.bin", CONTENT)  # a proxy is asked for the whole address
    download("http://data.invalid/a.bin", tmp_path / "a.bin", patience=AT_ONCE)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert probe("http://data.invalid/a.bin", AT_ONCE) == len(CONTENT)


def test_folders_that_cannot_be_written(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.put("/a.bin", CONTENT)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DiskError, match=r"cannot be written .*another folder"):
        download(f"{web.url}/a.bin", tmp_path / "file" / "a.bin")

    def full(self: Path, *args: object, **settings: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DiskError, match=r"the disk is full .*same command again"):
        download(f"{web.url}/a.bin", tmp_path / "a.bin")


def test_sizes_and_lists_for_people(tmp_path: Path) -> None:
    assert [human_size(10**k) for k in (0, 2, 3, 6, 9, 12)] == ["1 B", "100 B", "1 kB", "1 MB", "1 GB", "1 TB"]
    assert human_size(999_600) == "1 MB"
    names = [str(k) for k in range(12)]
    assert some(names) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert free_bytes(tmp_path / "not" / "there") == pytest.approx(free_bytes(tmp_path), rel=0.1)
