"""What is known of a data set that can be fetched, and how its files are chosen. The data sets stand in `known`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mde.data.prepare.archives import is_archive
from mde.errors import ConfigError

__all__ = ["KnownData", "RemoteFile"]


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        base: address of a folder; ``--mirror`` replaces it.
        path: below `base`.
        parts: the parts of the data set that need it.
        size: bytes, exact or about; None if unknown.
        md5: hexadecimal, where it is known.
        sha256: hexadecimal, where it is known.
    """

    base: str
    path: str
    parts: tuple[str, ...]
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Name of the file on disk.

        >>> RemoteFile("http://127.0.0.1", "raw/a.zip", ()).name
        'a.zip'
        """
        return PurePosixPath(self.path).name

    @property
    def unpacks(self) -> bool:
        """True for an archive that is unpacked here."""
        return is_archive(self.name)

    def url(self, mirror: str | None = None) -> str:
        """Its address, there or at a mirror that has the same paths."""
        return f"{(mirror or self.base).rstrip('/')}/{self.path}"


@dataclass(frozen=True)
class KnownData:
    """A data set.

    Attributes:
        name: the word of the command line.
        title: for people.
        family: of its layouts (`mde.data.layouts.FAMILIES`).
        size: for people.
        licence: its name; None where the owners state none.
        home_page: address.
        files: what can be fetched without an account.
        parts: what ``--part`` takes, and what it means.
        default: the parts that are fetched when none is named.
        by_hand: what cannot be done automatically, one step a line; "{root}" stands for the folder.
        layout: the layout that the fetched files make.
    """

    name: str
    title: str
    family: str
    size: str
    licence: str | None
    home_page: str
    files: tuple[RemoteFile, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    default: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()
    layout: str = ""

    def select(self, parts: Sequence[str] = ()) -> tuple[RemoteFile, ...]:
        """The files of some parts; of the default parts, if none is named.

        Raises:
            ConfigError: there is no such part; the message lists them.
        """
        wanted = tuple(parts) or self.default
        for part in wanted:
            if not any(part in file.parts for file in self.files):
                hint = f"use {', '.join(self.parts)}" if self.parts else "nothing of it can be fetched automatically"
                raise ConfigError(f"{self.name} has no part {part!r}", where="--part", next_action=hint)
        return tuple(file for file in self.files if set(wanted) & set(file.parts))
