"""One frame as bytes and back, bit for bit: what a sharded data set stores of each frame.

The bytes of the image file are kept as they are, so that a JPEG stays a JPEG; so are those of the depth file when a
scale turns its numbers into exactly the depth that the data set reads. Where a data set does more than decode (crops,
projects a lidar, fills holes), the picture is stored as PNG, and depth as the first of these that loses nothing: 16-bit
PNG in a named unit, then float32 as npz. Each form is tried by decoding it, so none is stored that reads otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.data.dataset import RawSample
from mde.data.encodings import ENCODINGS
from mde.data.io import (
    DEPTH_SUFFIXES,
    IMAGE_SUFFIXES,
    DepthEncoding,
    decode_array,
    decode_image,
)
from mde.errors import ConfigError, DataFormatError

__all__ = ["Item", "decode_frame", "decode_id", "encode_frame"]

Item = list[bytes]
"""What is stored: facts as JSON (id, camera, encoding of the depth), image, depth, labels (empty if there are none)."""

_KEPT = DEPTH_SUFFIXES - {".exr"}  # which not every reader of the shards can decode
_UNITS = ("millimetres", "kitti", "centimetres", "tum")  # for frames that come from no file of their own


@dataclass(frozen=True)
class _Form:
    """A way to store a depth map: the bytes of a file of type `suffix`, and what its numbers mean."""

    data: bytes
    suffix: str
    encoding: DepthEncoding

    def equals(self, raw: RawSample) -> bool:
        depth, valid = self.encoding.to_metres(decode_array(self.data, self.suffix, raw.id))
        return np.array_equal(depth, np.where(raw.valid, raw.depth, 0)) and np.array_equal(valid, raw.valid)


def encode_frame(raw: RawSample, files: tuple[Path, ...] = ()) -> Item:
    """The bytes of a frame.

    Args:
        raw: what the data set reads.
        files: what it reads it from: image, then depth, as `DepthDataset.files` says; looked at, never trusted.

    Raises:
        DataFormatError: no form holds the frame, as when depth is negative where it is valid.
        ConfigError: the frame is a stereo pair.
    """
    raw = raw.checked()
    if raw.right is not None:
        hint = "write the shards with data.stereo set to false, or train from the files"
        raise ConfigError("shards hold no stereo pairs", where=raw.id, next_action=hint)
    depth = next((form for form in _depth_forms(raw, files[1:2]) if form.equals(raw)), None)
    if depth is None:
        hint = "read() must give metres above 0 where valid"
        raise DataFormatError("the depth cannot be stored without loss", where=raw.id, next_action=hint)
    facts = {
        "id": raw.id,
        "intrinsics": [float(number) for number in raw.intrinsics.ravel()],
        "depth": depth.suffix,
        "scale": depth.encoding.scale,
        "invalid": list(depth.encoding.invalid),
    }
    labels = b"" if raw.labels is None else _png(raw.labels)
    return [json.dumps(facts).encode(), _image_bytes(raw, files[:1]), depth.data, labels]


def decode_frame(item: Item, where: object) -> RawSample:
    """The frame that `encode_frame` was given; what is not valid has depth 0.

    Args:
        item: see `Item`.
        where: names the item in errors.

    Raises:
        DataFormatError: the bytes are not those of a frame.
    """
    facts = _facts(item, where)
    encoding = DepthEncoding(facts["scale"], invalid=tuple(facts["invalid"]))
    depth, valid = encoding.to_metres(decode_array(item[2], facts["depth"], where))
    labels = decode_array(item[3], ".png", where) if item[3] else None
    intrinsics = np.array(facts["intrinsics"], np.float32).reshape(3, 3)
    return RawSample(decode_image(item[1], where), depth, valid, intrinsics, facts["id"], labels)


def decode_id(item: Item, where: object) -> str:
    """The id of a frame, without decoding its pictures."""
    return str(_facts(item, where)["id"])


def _facts(item: Item, where: object) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(item[0])
        return facts
    except (ValueError, IndexError, TypeError) as error:
        raise DataFormatError("not a frame", where=where, next_action="write the shards again") from error


def _image_bytes(raw: RawSample, files: tuple[Path, ...]) -> bytes:
    for path in files:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            data = path.read_bytes()
            with suppress(DataFormatError):  # a file that needs more than decoding
                if np.array_equal(decode_image(data, path), raw.image):
                    return data
    return _png(raw.image[..., ::-1])


def _depth_forms(raw: RawSample, files: tuple[Path, ...]) -> Iterator[_Form]:
    """Forms to try, the smallest first."""
    for path in files:
        if path.suffix.lower() in _KEPT:
            yield from _file_forms(raw, path)
    depth = np.where(raw.valid, raw.depth, np.float32(0))
    for unit in _UNITS:
        encoding = DepthEncoding(ENCODINGS[unit].scale)
        yield _Form(_png(encoding.from_metres(depth, np.uint16)), ".png", encoding)
    file = BytesIO()
    np.savez_compressed(file, depth=depth)
    yield _Form(file.getvalue(), ".npz", DepthEncoding(invalid=()))


def _file_forms(raw: RawSample, path: Path) -> Iterator[_Form]:
    data = path.read_bytes()
    try:
        stored = decode_array(data, path.suffix, path)
    except DataFormatError:  # depth packed into colours, for one
        return
    for scale in _scales(stored, raw):
        yield _Form(data, path.suffix.lower(), DepthEncoding(scale))
        yield _Form(data, path.suffix.lower(), DepthEncoding(scale, invalid=()))


def _scales(stored: NDArray[Any], raw: RawSample) -> Iterator[float]:
    """Metres per unit that would turn the numbers of a file into this depth: its quotient, to six digits."""
    if stored.shape != raw.depth.shape or not (known := raw.valid & (stored > 0)).any():
        return
    scale = float(np.median(raw.depth[known] / stored[known].astype(np.float64)))
    if 0 < scale < float("inf"):
        yield float(f"{scale:.6g}")  # 0.001
        yield 1 / float(f"{1 / scale:.6g}")  # 1/256, and 10/255 = 1/25.5


def _png(pixels: NDArray[Any]) -> bytes:
    done, data = cv2.imencode(".png", pixels)
    if not done:
        raise DataFormatError(f"{pixels.dtype} {pixels.shape} cannot be written as PNG")
    return bytes(data.tobytes())
