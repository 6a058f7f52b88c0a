"""The log that W&B writes offline: read back from files that are made here byte by byte."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mde.errors import ConfigError, DataFormatError
from mde.report import read_run
from mde.report.wandb_log import read_summary
from tests.made_runs import image_scores, results

BLOCK = 32768


def message(values: dict[str, Any] | None = None, nested: Sequence[tuple[list[str], Any]] = ()) -> bytes:
    record = pytest.importorskip("wandb.proto.wandb_internal_pb2").Record()
    for key, value in (values or {}).items():
        record.summary.update.add(key=key, value_json=json.dumps(value))
    for keys, value in nested:
        record.summary.update.add(nested_key=keys, value_json=json.dumps(value))
    return bytes(record.SerializeToString())


def pieces(body: bytes, place: int) -> Iterator[bytes]:
    """A record as it stands in the file from `place` on, broken where a block ends."""
    start = True
    while start or body:
        left = BLOCK - place % BLOCK
        if left < 7:
            yield bytes(left)
            place += left
            continue
        part, body = body[: left - 7], body[left - 7 :]
        kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[start, not body]
        yield struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
        place, start = place + 7 + len(part), False


def written(path: Path, *bodies: bytes) -> Path:
    log = b":W&B\0\0\0"
    for body in bodies:
        log += b"".join(pieces(body, len(log)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(log)
    return path


@pytest.mark.parametrize("length", [0, 10, BLOCK - 60, BLOCK - 40, BLOCK, 3 * BLOCK])
def test_the_last_value_counts_wherever_blocks_end(tmp_path: Path, length: int) -> None:
    first = message({"filling": "x" * length, "test/abs_rel": 0.5})
    last = message({"test/abs_rel": 0.25}, [(["test/panel", "count"], 2), (["test/panel", "_type"], "images")])
    found = read_summary(written(tmp_path / "run.wandb", first, b"", last))
    assert found == {
        "filling": "x" * length,
        "test/abs_rel": 0.25,
        "test/panel": {"count": 2, "_type": "images"},
    }


def test_every_place_at_which_a_killed_run_stops_gives_what_was_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "run.wandb", message({"a": 1}))
    whole = path.read_bytes()
    log = written(path, message({"a": 1}), message({"b": 2})).read_bytes()
    for end in range(len(whole), len(log)):
        path.write_bytes(log[:end])
        assert read_summary(path) == {"a": 1}
    path.write_bytes(log + bytes(100))
    assert read_summary(path) == {"a": 1, "b": 2}


def test_a_damaged_byte_and_other_files_are_errors(tmp_path: Path) -> None:
    path = written(tmp_path / "run.wandb", message({"a": 1}), message({"b": 2}))
    log = bytearray(path.read_bytes())
    log[-1] ^= 1
    path.write_bytes(log)
    with pytest.raises(DataFormatError, match=r"not a log of W&B \(damaged\).*results.json of the run"):
        read_summary(path)
    for other in (b"", b"PK\3\4 an archive"):
        path.write_bytes(other)
        with pytest.raises(DataFormatError, match="first bytes"):
            read_summary(path)


def test_a_folder_with_the_log_alone_is_a_run(tmp_path: Path) -> None:
    expected = results(image_scores(1.0))
    values = {f"test/{name}": value for name, value in expected.metrics.items()}
    log = message({**values, "protocol/name": "rooms"}, [(["test/panel", "count"], 2)])
    folder = written(tmp_path / "offline-run-1" / "run-1.wandb", log).parent
    (folder / "files").mkdir()
    assert read_run(folder).results.metrics == expected.metrics
    written(folder / "run-1.wandb", message({"epoch": 3}))
    with pytest.raises(DataFormatError, match="no test/"):
        read_run(folder)


def test_wandb_is_asked_for_when_it_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb.proto.wandb_internal_pb2", None)
    with pytest.raises(ConfigError, match=r"mde\[wandb\]"):
        read_summary(tmp_path / "run.wandb")
