"""Reads what an offline run on W&B recorded, from the bytes of its ``.wandb`` file.

The file is a log of LevelDB's format behind a head of seven bytes: blocks of 32 KiB of records (checksum, length,
kind), where kinds 2, 3 and 4 are the first, middle and last piece of a long one; a whole record is a protobuf message.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 32768


@dataclass
class WandbRun:
    """What was recorded.

    Attributes:
        run: the message of the start: project, display_name, ...
        config: merged.
        summary: merged.
        history: one dict a call of log.
        exit_code: None if the run has no end.
    """

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None

    def last(self, key: str) -> Any:
        """The newest value of a key of the history."""
        return [row[key] for row in self.history if key in row][-1]


def read_wandb(folder: Path) -> WandbRun:
    """Read the only run below a folder; it is over."""
    import wandb

    wandb.teardown()  # the process that writes may lag behind the end of a run: this waits for it
    (path,) = folder.rglob("*.wandb")
    made = WandbRun()
    for record in _messages(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            made.run = record.run
            _merge(made.config, record.run.config.update)
        elif kind == "config":
            _merge(made.config, record.config.update)
        elif kind == "summary":
            _merge(made.summary, record.summary.update)
        elif kind == "history":
            made.history.append({_key(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "exit":
            made.exit_code = record.exit.exit_code
    return made


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _merge(into: dict[str, Any], items: Any) -> None:
    for item in items:
        into[_key(item)] = json.loads(item.value_json)


def _messages(data: bytes) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    for record in _records(data):
        message = wandb_internal_pb2.Record()
        message.ParseFromString(record)
        yield message


def _records(data: bytes) -> Iterator[bytes]:
    assert data[:4] == b":W&B"
    place, pieces = 7, b""
    while place + 7 <= len(data):
        left = BLOCK - place % BLOCK
        if left < 7:
            place += left
            continue
        checksum, length, kind = struct.unpack("<IHB", data[place : place + 7])
        body = data[place + 7 : place + 7 + length]
        assert zlib.crc32(bytes([kind]) + body) == checksum
        pieces += body
        place += 7 + length
        if kind in (1, 4):
            yield pieces
            pieces = b""
