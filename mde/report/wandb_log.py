"""The summary of a run that W&B keeps offline, from its ``.wandb`` file: newer versions write no other file with it.

The file is a log in LevelDB's format (https://github.com/google/leveldb/blob/main/doc/log_format.md) behind a head of
seven bytes: blocks of 32 KiB with records of checksum, length and kind. A long record lies there in pieces. A whole one
is a protobuf message of W&B.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mde.errors import ConfigError, DataFormatError

__all__ = ["read_summary"]

_MAGIC = b":W&B"
_HEAD, _BLOCK = 7, 2**15
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_summary(path: Path) -> dict[str, Any]:
    """The last value of each key, as W&B would show it; what a killed run did not finish writing is left out.

    Raises:
        ConfigError: wandb is not installed.
        DataFormatError: the file cannot be read, or is damaged.
    """
    try:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from wandb.proto.wandb_internal_pb2 import Record
    except ImportError as error:
        hint = 'pip install "mde[wandb]", or give the results.json of the run'
        raise ConfigError("a run of W&B needs its library", where="wandb", next_action=hint) from error
    summary: dict[str, Any] = {}
    try:
        for body in _records(path.read_bytes()):
            record = Record.FromString(body)
            if record.WhichOneof("record_type") == "summary":
                for item in record.summary.update:
                    _put(summary, list(item.nested_key) or [item.key], json.loads(item.value_json))
    except (OSError, ValueError, DecodeError) as error:
        hint = "give the results.json of the run"
        raise DataFormatError(f"not a log of W&B ({error})", where=path, next_action=hint) from error
    return summary


def _put(into: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    *outer, last = keys
    for key in outer:
        if not isinstance(into.get(key), dict):
            into[key] = {}
        into = into[key]
    into[last] = value


def _records(log: bytes) -> Iterator[bytes]:
    """Whole records; an unfinished end is left out."""
    if log[: len(_MAGIC)] != _MAGIC:
        raise ValueError("its first bytes are not W&B's")
    place, pieces = _HEAD, b""
    while place + _HEAD <= len(log):
        left = _BLOCK - place % _BLOCK
        if left < _HEAD:  # too short for a record: zeros
            place += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", log, place)
        body = log[place + _HEAD : place + _HEAD + length]
        place += _HEAD + length
        if place > len(log) or kind == 0:  # cut off, or space that was never written
            return
        if zlib.crc32(bytes([kind]) + body) != checksum or kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST):
            raise ValueError("damaged")
        pieces = body if kind in (_WHOLE, _FIRST) else pieces + body
        if kind in (_WHOLE, _LAST):
            yield pieces
