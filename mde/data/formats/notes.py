"""Notes: a text that a file carries beside its numbers, in the place that its format has for one.

PNG: a tEXt chunk with the keyword ``mde`` (PNG specification, 11.3.4.3). JPEG: a comment segment (ITU T.81, B.2.4.5).
TIFF: ImageDescription, tag 270. EXR: the header's attribute ``mde``. Formats without such a place have a second file
beside, of the same name with ``.json`` behind it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from mde.data.formats.exr import read_exr
from mde.errors import DataFormatError

__all__ = ["NOTE_KEY", "note_in", "note_of", "sidecar", "with_note"]

NOTE_KEY = "mde"

_PNG_START, _JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_AFTER_HEADER = 33  # of a PNG: signature and the chunk IHDR, whose content has 13 bytes
_LONGEST = 65533  # of a JPEG segment, which counts its own length
_DESCRIPTION = 270


def sidecar(path: Path) -> Path:
    """The file that holds the note of a file whose format has no place for one.

    >>> sidecar(Path("out/a_depth.npy")).name
    'a_depth.npy.json'
    """
    return path.with_name(f"{path.name}.json")


def with_note(data: bytes, note: str, comment: str = "") -> bytes:
    """The bytes of a PNG or JPEG with a note, which is ASCII; and in a PNG a comment for people."""
    if data.startswith(_PNG_START):
        chunks = _text_chunk(NOTE_KEY, note) + (_text_chunk("Comment", comment) if comment else b"")
        return data[:_AFTER_HEADER] + chunks + data[_AFTER_HEADER:]
    text = f"{NOTE_KEY} {note}".encode("ascii")
    if not data.startswith(_JPEG_START) or len(text) > _LONGEST:
        raise DataFormatError("a note does not fit into this file", next_action="write PNG")
    at = 4 + int.from_bytes(data[4:6], "big")  # behind the first segment, which readers want to be JFIF's
    return data[:at] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + data[at:]


def note_of(path: Path) -> str | None:
    """The note of a file, from inside it or from its sidecar; None where there is none.

    Raises:
        DataFormatError: the sidecar is there and cannot be read.
        ConfigError: it is EXR, and the extra is not installed.
    """
    beside = sidecar(path)
    try:
        if beside.is_file():
            return beside.read_text()
        return note_in(path.read_bytes(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataFormatError(f"cannot be read ({error})", where=path, next_action="check the path") from error


def note_in(data: bytes, where: object) -> str | None:
    """The note inside the bytes of a PNG, JPEG, TIFF or EXR file; None where there is none."""
    if data.startswith(_PNG_START):
        return next((text for name, text in _png_texts(data) if name == NOTE_KEY), None)
    if data.startswith(_JPEG_START):
        own = f"{NOTE_KEY} "
        return next((text.removeprefix(own) for text in _jpeg_comments(data) if text.startswith(own)), None)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff_description(data)
    if data.startswith(b"\x76\x2f\x31\x01"):
        text = read_exr(data, where)[1].get(NOTE_KEY)
        return text if isinstance(text, str) else None
    return None


def _text_chunk(keyword: str, text: str) -> bytes:
    body = b"tEXt" + keyword.encode("latin-1") + b"\0" + text.encode("latin-1", "replace")
    return (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def _png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    at = len(_PNG_START)
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"tEXt":
            keyword, _, text = data[at + 8 : at + 8 + size].partition(b"\0")
            yield keyword.decode("latin-1"), text.decode("latin-1")
        at += 12 + size


def _jpeg_comments(data: bytes) -> Iterator[str]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:  # the scan: no comments behind it
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xFE:
            yield data[at + 4 : at + 2 + size].decode("latin-1")
        at += 2 + size


def _tiff_description(data: bytes) -> str | None:
    from PIL import Image

    try:
        with Image.open(BytesIO(data)) as opened:
            text = opened.tag_v2.get(_DESCRIPTION)  # type: ignore[attr-defined]
    except (OSError, ValueError, SyntaxError):
        return None  # damaged: whoever decodes the numbers says so
    return text if isinstance(text, str) and text.startswith("{") else None
