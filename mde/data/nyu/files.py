"""Named files below a folder, or inside archives that are read in place: a member costs its own bytes and no more."""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from mde.errors import DataFormatError

__all__ = ["Files", "Folder", "Tars", "Zip"]


class Files(Protocol):
    """Where frames lie; names have forward slashes."""

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            DataFormatError: it is not there, or broken.
        """

    def absent(self, names: Iterable[str]) -> list[str]:
        """Those names that are not there."""

    def where(self, name: str) -> str:
        """How to call a file in an error."""

    def paths(self, *names: str) -> tuple[Path, ...]:
        """The files on disk that hold these, each one once."""


class Folder:
    """Plain files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
            raise DataFormatError(what, where=self.where(name), next_action="check the path") from error

    def absent(self, names: Iterable[str]) -> list[str]:
        # one look at each folder: asking for a hundred thousand files one by one takes minutes on a network drive
        seen: dict[str, set[str]] = {}
        missing = []
        for name in names:
            folder, _, leaf = name.rpartition("/")
            if folder not in seen:
                path = self.root / folder
                seen[folder] = set(os.listdir(path)) if path.is_dir() else set()
            if leaf not in seen[folder]:
                missing.append(name)
        return missing

    def where(self, name: str) -> str:
        return str(self.root / name)

    def paths(self, *names: str) -> tuple[Path, ...]:
        return tuple(self.root / name for name in names)


class Zip:
    """Members of a ZIP archive below one of its folders; every process opens the archive once, for itself.

    Raises:
        DataFormatError: it is no ZIP archive, or truncated.
    """

    def __init__(self, path: Path, inside: str = "") -> None:
        self.path = path
        self.inside = f"{inside}/" if inside else ""
        self._handle: tuple[int, zipfile.ZipFile] | None = None
        self._open()

    def read(self, name: str) -> bytes:
        try:
            return self._open().read(self.inside + name)
        except (OSError, KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            what = f"cannot be read from the archive ({error})"
            raise DataFormatError(what, where=self.where(name), next_action="fetch the archive again") from error

    def absent(self, names: Iterable[str]) -> list[str]:
        there = self._open().NameToInfo
        return [name for name in names if self.inside + name not in there]

    def where(self, name: str) -> str:
        return f"{self.path}:{self.inside}{name}"

    def paths(self, *names: str) -> tuple[Path, ...]:
        return (self.path,)

    def _open(self) -> zipfile.ZipFile:
        if self._handle is None or self._handle[0] != os.getpid():
            try:
                self._handle = os.getpid(), zipfile.ZipFile(self.path)
            except (OSError, zipfile.BadZipFile) as error:
                what = f"no ZIP archive, or a truncated one ({error})"
                raise DataFormatError(what, where=self.path, next_action="fetch it again") from error
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


class Tars:
    """Members of uncompressed tar archives, found by one walk over their headers.

    Args:
        paths: the archives, of which no two have a member of the same name.
        suffix: of the members that count.

    Raises:
        DataFormatError: an archive is truncated or compressed (the way to a member then leads through all before it).
    """

    def __init__(self, paths: Sequence[Path], suffix: str) -> None:
        self.members: dict[str, tuple[Path, int, int]] = {}
        for path in paths:
            try:
                with tarfile.open(path, "r:") as file:
                    found = [m for m in file if m.isfile() and m.name.endswith(suffix)]
            except (OSError, tarfile.TarError) as error:
                what = f"no plain tar archive, or a truncated one ({error})"
                raise DataFormatError(
                    what, where=path, next_action="fetch it again, or unpack it if it is .gz"
                ) from error
            if found and found[-1].offset_data + found[-1].size > path.stat().st_size:
                raise DataFormatError("the tar archive is truncated", where=path, next_action="fetch it again")
            self.members.update({m.name: (path, m.offset_data, m.size) for m in found})

    def read(self, name: str) -> bytes:
        path, start, size = self.members[name]
        try:
            with open(path, "rb") as file:
                file.seek(start)
                data = file.read(size)
        except OSError as error:
            what = f"cannot be read ({error.strerror})"
            raise DataFormatError(what, where=self.where(name), next_action="check the path") from error
        if len(data) < size:
            raise DataFormatError("the archive is truncated", where=self.where(name), next_action="fetch it again")
        return data

    def absent(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name not in self.members]

    def where(self, name: str) -> str:
        return f"{self.members[name][0]}:{name}"

    def paths(self, *names: str) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(self.members[name][0] for name in names))
