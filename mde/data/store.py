"""Decoded frames in one file, mapped into memory: bytes of the picture, depth without loss, camera, labels, id.

The file begins with frames, each a multiple of 64 bytes long: three planes of the image, the depth map, the labels if
there are any; of a stereo pair the planes of the right image, and its depth if there is any; the id. An index of
`RECORD` follows, and a footer with a checksum, which is written last: a file without it was not finished. Numbers are
those of the machine (little-endian).

Depth is kept as 16-bit multiples of a step where that gives back every pixel bit for bit, as it does for depth read
from 16-bit or 8-bit files, and as float32 otherwise. So a store never changes a number.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mde.data.dataset import RawSample, RightView
from mde.data.encodings import ENCODINGS, masked_depth
from mde.data.pixels import StoredSample
from mde.data.worlds.pool import shared_array
from mde.errors import DataFormatError

__all__ = ["FORMAT", "FrameStore", "StoreWriter", "known_steps"]

FORMAT = "mde frames 2"
RECORD = np.dtype(
    [
        ("offset", "<i8"),
        ("bytes", "<i8"),
        ("height", "<i4"),
        ("width", "<i4"),
        ("step", "<f4"),  # metres per unit of a 16-bit map, 0 for a map of float32
        ("labels", "?"),
        ("baseline", "<f8"),  # metres, 0 where there is no right image
        ("right_step", "<f4"),  # as `step`, NaN where there is no depth of the right camera
        ("checksum", "<u4"),
        ("intrinsics", "<f4", (3, 3)),
    ]
)
_FOOTER = struct.Struct("<16sqqI")  # FORMAT, offset of the index, number of frames, checksum of the index
_ALIGNMENT = 64


def known_steps() -> tuple[float, ...]:
    """Metres per unit of the named encodings, of those that a 16-bit integer can hold."""
    return tuple(sorted({encoding.scale for encoding in ENCODINGS.values() if encoding.scale < 1}))


class FrameStore:
    """The frames of one file.

    Args:
        path: of the file, as `StoreWriter` made it.

    Raises:
        DataFormatError: the file is missing, was not finished, or its index is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        try:
            with self.path.open("rb") as file:
                self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise self._damaged(f"cannot be read ({error})") from error
        self._records = self._index()
        self._checked = np.zeros(len(self._records), np.bool_)

    def _index(self) -> NDArray[Any]:
        start = len(self._memory) - _FOOTER.size
        if start < 0:
            raise self._damaged("was not finished")
        name, offset, count, checksum = _FOOTER.unpack_from(self._memory, start)
        if name.rstrip(b"\0") != FORMAT.encode() or offset + count * RECORD.itemsize != start:
            raise self._damaged("was not finished")
        if zlib.crc32(self._memory[offset:start]) != checksum:
            raise self._damaged("has a damaged index")
        return np.frombuffer(self._memory, RECORD, count, offset)

    def __len__(self) -> int:
        return len(self._records)

    def read(self, index: int) -> RawSample:
        """Frame `index`; its image is a view of the file, read-only.

        Raises:
            DataFormatError: the bytes of the frame are not those that were written. Checked when a process reads it
                for the first time.
        """
        record = self._checked_record(index)
        size, at = (int(record["height"]), int(record["width"])), int(record["offset"])

        def take(shape: tuple[int, ...], step: np.float32 | None = None, *, metres: bool = False) -> NDArray[Any]:
            nonlocal at
            kind = (np.float32 if step is None else np.uint16) if metres else np.uint8
            found = np.frombuffer(self._memory, kind, int(np.prod(shape)), at).reshape(shape)
            at += _aligned(found.nbytes)
            return found

        image, step = take((3, *size)).transpose(1, 2, 0), record["step"] or None
        numbers = take(size, step, metres=True)
        labels = take(size) if record["labels"] else None
        made = StoredSample(image, numbers, step, record["intrinsics"].copy(), self.frame_id(index), labels)
        if record["baseline"]:
            other, step = take((3, *size)).transpose(1, 2, 0), record["right_step"] or None
            made.right = RightView(other, float(record["baseline"]))
            if step is None or np.isfinite(step):
                numbers = take(size, step, metres=True)
                made.right.depth = numbers if step is None else numbers * step
        return made

    def frame_id(self, index: int) -> str:
        """The id of frame `index`, from its last bytes."""
        record = self._records[index]
        end = int(record["offset"] + record["bytes"])
        return bytes(self._memory[end - int.from_bytes(self._memory[end - 4 : end], "little") - 4 : end - 4]).decode()

    def _checked_record(self, index: int) -> Any:
        record = self._records[index]
        if not self._checked[index]:
            start = int(record["offset"])
            if zlib.crc32(memoryview(self._memory)[start : start + int(record["bytes"])]) != record["checksum"]:
                raise self._damaged(f"is damaged in frame {index}")
            self._checked[index] = True
        return record

    def _damaged(self, what: str) -> DataFormatError:
        hint = "delete the file; it is written again when it is needed"
        return DataFormatError(f"the cache {what}", where=self.path, next_action=hint)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


class StoreWriter:
    """Writes frames, in any order and from several forked processes, and then the index.

    Args:
        path: of the file, which must be empty.
        count: of the frames.
        steps: metres per unit to try for depth, the likeliest first.
    """

    def __init__(self, path: Path, count: int, steps: Sequence[float]) -> None:
        self.path = path
        self.steps = steps
        self._records = shared_array((count,), RECORD)
        self._own: tuple[int, int] | None = None  # process, and its file descriptor

    def write(self, index: int, raw: RawSample) -> None:
        """Append a frame. Safe beside other processes, each of which opens the file for itself.

        Raises:
            OSError: the disk is full.
        """
        content, record = encode(raw, self.steps)
        file = self._file()
        if os.write(file, content) < len(content):
            raise OSError(f"{self.path} cannot be written to its end: the disk is full")
        # appending moves this process's own position to the end of what it wrote, wherever others wrote meanwhile
        record["offset"] = os.lseek(file, 0, os.SEEK_CUR) - len(content)
        self._records[index] = record

    def finish(self) -> None:
        """Write index and footer, and wait until all of it is on the disk."""
        index = self._records.tobytes()
        with self.path.open("ab") as file:
            offset = file.tell()
            footer = _FOOTER.pack(FORMAT.encode(), offset, len(self._records), zlib.crc32(index))
            file.write(index + footer)
            file.flush()
            os.fsync(file.fileno())

    def _file(self) -> int:
        if self._own is None or self._own[0] != os.getpid():
            self._own = os.getpid(), os.open(self.path, os.O_WRONLY | os.O_APPEND)
        return self._own[1]

    def close(self) -> None:
        """Close the file of this process; those of others close when they end."""
        if self._own is not None and self._own[0] == os.getpid():
            os.close(self._own[1])
        self._own = None


def encode(raw: RawSample, steps: Sequence[float]) -> tuple[bytes, Any]:
    """The bytes of a frame, and its record but for the offset."""
    record = np.zeros((), RECORD)
    codes, record["step"] = _codes(masked_depth(raw.depth, raw.valid), steps)
    name = raw.id.encode()
    parts = [_planes(raw.image), _padded(codes.tobytes())]
    if raw.labels is not None:
        parts.append(_padded(raw.labels.tobytes()))
    if raw.right is not None:
        parts.append(_planes(raw.right.image))
        record["baseline"], record["right_step"] = raw.right.baseline, np.nan
        if raw.right.depth is not None:
            codes, record["right_step"] = _codes(raw.right.depth, steps)
            parts.append(_padded(codes.tobytes()))
    tail = name + len(name).to_bytes(4, "little")
    parts += [bytes(_aligned(len(tail)) - len(tail)), tail]
    content = b"".join(parts)
    record["bytes"], record["checksum"] = len(content), zlib.crc32(content)
    record["height"], record["width"] = raw.depth.shape
    record["labels"], record["intrinsics"] = raw.labels is not None, raw.intrinsics
    return content, record


def _planes(image: NDArray[np.uint8]) -> bytes:
    return _padded(np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes())


def _codes(depth: NDArray[np.float32], steps: Sequence[float]) -> tuple[NDArray[Any], float]:
    """Depth as 16-bit multiples of the first step that loses nothing, or as it is with step 0."""
    largest = float(depth.max(initial=0))
    for step in steps:
        if round(largest / step) <= np.iinfo(np.uint16).max:
            codes = np.rint(depth / np.float32(step)).astype(np.uint16)
            if np.array_equal(codes * np.float32(step), depth):
                return codes, step
    return depth, 0.0


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _padded(content: bytes) -> bytes:
    return content + bytes(_aligned(len(content)) - len(content))
