"""Unpack zip and tar archives: again and again without doing anything twice, and never outside of the target folder.

All members are looked at before the first one is written. Each is written under another name and renamed when it is
complete and its checksum right, so that an interrupted unpacking leaves no half files, and goes on where it stopped.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mde.data.prepare.files import disk_error, some
from mde.errors import DataFormatError

__all__ = ["is_archive", "unpack"]

Report = Callable[[int, int], None]
"""Called with the bytes that are done and all bytes."""

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_CHUNK = 1 << 20
_DAMAGES = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    NotImplementedError,  # a method of compression that zipfile does not know
    RuntimeError,  # a password is wanted
)


def is_archive(name: str) -> bool:
    """True for the names of archives that can be unpacked here (no .rar)."""
    return name.lower().endswith(_SUFFIXES)


@dataclass(frozen=True)
class _Member:
    """A file of an archive.

    Attributes:
        name: path below the target.
        size: bytes.
        crc: CRC-32, where the archive has it.
        open: gives the content.
    """

    name: str
    size: int
    crc: int | None
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path, target: Path, report: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, int]:
    """Unpack into a folder. Files that are there and equal are left alone.

    Symbolic links and devices are refused, also links that stay inside: no data set has them. Hard links to a file of
    the same archive become copies.

    Args:
        archive: .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz.
        target: a folder; made if it is not there.
        report: called after each file. An exception of it stops the unpacking.

    Returns:
        Bytes of each file of the archive, by its path below `target`.

    Raises:
        DataFormatError: the archive is damaged, or a member would be written outside of the target.
        DiskError: the target cannot be written.
    """
    with _damage(archive):
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as file:
                return _write(_zip_members(file, archive), target, report)
        with tarfile.open(archive) as tar:
            return _write(_tar_members(tar, archive), target, report)


@contextmanager
def _damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGES as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = f"the archive is damaged or of an unknown kind ({reason.rstrip(':')})"
        raise DataFormatError(what, where=archive, next_action="remove it and fetch it again") from error


# ----------------------------------------------------------------------------------------------------- what is in it


def _zip_members(file: zipfile.ZipFile, archive: Path) -> list[_Member]:
    members, refused = [], []
    for info in file.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        name = _safe_name(info.filename)
        if name is None or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            refused.append(info.filename)
        elif not info.is_dir():
            members.append(_Member(name, info.file_size, info.CRC, partial(file.open, info)))
    _refuse(refused, archive)
    return members


def _tar_members(tar: tarfile.TarFile, archive: Path) -> list[_Member]:
    sizes: dict[str, int] = {}
    members, refused = [], []
    for info in tar:
        name = _safe_name(info.name)
        source = _safe_name(info.linkname) if info.islnk() else name
        if name is None or not (info.isreg() or info.isdir() or (info.islnk() and source in sizes)):
            refused.append(info.name)
        elif not info.isdir():
            sizes[name] = info.size if info.isreg() else sizes[str(source)]
            members.append(_Member(name, sizes[name], None, partial(_content, tar, info)))
    _require_end(tar)
    _refuse(refused, archive)
    return members


def _require_end(tar: tarfile.TarFile) -> None:
    """tarfile takes a file that was cut between two members for a whole one; a whole one ends in a block of zeros."""
    stream: Any = tar.fileobj
    stream.seek(tar.offset)
    if stream.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it has no end")


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(info)
    if content is None:
        raise tarfile.ReadError(f"{info.name} has no content")
    return content


def _safe_name(name: str) -> str | None:
    """The path below the target; None for one that may lead out of it on any system."""
    path = PurePosixPath(name.replace("\\", "/"))  # of archives that were made on Windows
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        return None
    return str(path)


def _refuse(names: list[str], archive: Path) -> None:
    if names:
        what = (
            f"{len(names)} member(s) are links, devices or lead out of the folder: {some(names)}; nothing was unpacked"
        )
        hint = "do not trust this archive: fetch it from the official address"
        raise DataFormatError(what, where=archive, next_action=hint)


# ----------------------------------------------------------------------------------------------------------- writing


def _write(members: list[_Member], target: Path, report: Report) -> dict[str, int]:
    total, done = sum(member.size for member in members), 0
    report(0, total)
    for member in members:
        path = target / member.name
        if not _is_there(member, path):
            _place(member, path)
        done += member.size
        report(done, total)
    return {member.name: member.size for member in members}


def _is_there(member: _Member, path: Path) -> bool:
    if not path.is_file() or path.stat().st_size != member.size:
        return False
    with path.open("rb") as file:
        if member.crc is not None:
            crc = 0
            while chunk := file.read(_CHUNK):
                crc = zlib.crc32(chunk, crc)
            return crc == member.crc
        with member.open() as content:
            while chunk := file.read(_CHUNK):
                if chunk != content.read(len(chunk)):
                    return False
    return True


def _place(member: _Member, path: Path) -> None:
    temporary = path.with_name(path.name + ".part")
    with member.open() as content:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                shutil.copyfileobj(content, file, _CHUNK)
            if temporary.stat().st_size != member.size:
                raise EOFError(f"{member.name} ends too early")
            os.replace(temporary, path)
        except OSError as error:
            if error.errno is None:  # of the archive, and not of the disk
                raise
            raise disk_error(error, path) from error
        finally:
            if temporary.is_file():
                temporary.unlink()
