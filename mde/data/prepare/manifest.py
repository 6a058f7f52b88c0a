"""``mde-manifest.json``: which data set lies in a folder, in which form, where it came from, and how large it is.

Its fingerprint names the data, and not the day or the way it was fetched: a result that carries it says on which files
it was measured.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mde.data.prepare.download import checksums
from mde.data.prepare.files import read_json, write_json
from mde.errors import DataFormatError, DatasetNotFoundError

__all__ = ["MANIFEST", "Manifest", "file_sizes", "fingerprint_of", "read_manifest", "sample_hashes", "write_manifest"]

MANIFEST = "mde-manifest.json"
_FORMAT = 1
_HASHED = 16  # files, spread evenly over their sorted names
_IDENTITY = ("data_set", "layout", "made", "counts", "files", "hashes")  # what the fingerprint is made of


@dataclass(frozen=True)
class Manifest:
    """What was found in a folder.

    Attributes:
        data_set: name in the catalog.
        layout: name of its layout.
        made: True for frames that were rendered by ``mde make-data``.
        complete: True if nothing was missing or wrong.
        counts: frames of each split.
        files: bytes of each file that the frames are read from, by its path relative to the folder.
        hashes: SHA-256 of some of them.
        total_bytes: of all of them.
        sources: address, name, bytes and SHA-256 of each file that was fetched.
        licence: its name and the day on which it was accepted; empty if nothing was fetched.
        date: ISO 8601, UTC.
        mde: version of the library.
    """

    data_set: str
    layout: str
    made: bool
    complete: bool
    counts: Mapping[str, int]
    files: Mapping[str, int]
    hashes: Mapping[str, str]
    total_bytes: int
    sources: tuple[Mapping[str, Any], ...]
    licence: Mapping[str, str]
    date: str
    mde: str

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with the data: layout, counts, sizes and hashes of the files."""
        content = {name: value for name, value in asdict(self).items() if name in _IDENTITY}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def write_manifest(root: Path, manifest: Manifest) -> Path:
    """Write the manifest of a folder (or of the folder of a file); an old one is replaced whole or not at all.

    Raises:
        DiskError: the folder is read-only, or the disk is full.
    """
    path = _path(root)
    write_json(path, {"format": _FORMAT, "fingerprint": manifest.fingerprint, **asdict(manifest)})
    return path


def read_manifest(root: str | Path) -> Manifest:
    """The manifest of a prepared folder, or of the folder of a file.

    Raises:
        DatasetNotFoundError: there is none.
        DataFormatError: it is damaged, was changed by hand, or is of a newer version of the library.
    """
    path = _path(Path(root))
    if not path.is_file():
        hint = f"`mde prepare NAME {root}` verifies the folder and writes one"
        raise DatasetNotFoundError(f"no {MANIFEST}", where=path.parent, next_action=hint)
    content = read_json(path)
    hint = "`mde prepare` writes it anew"
    if content.get("format") != _FORMAT:
        what = f"format {content.get('format')} of the manifest is not known, only {_FORMAT}"
        raise DataFormatError(what, where=path, next_action=f"update mde, or {hint}")
    names = {field.name for field in fields(Manifest)}
    if lacking := sorted(names - content.keys()):
        raise DataFormatError(f"the manifest lacks {', '.join(lacking)}", where=path, next_action=hint)
    manifest = Manifest(**{name: content[name] for name in names})
    if manifest.fingerprint != content.get("fingerprint"):
        what = "the manifest was changed: its fingerprint is not that of its content"
        raise DataFormatError(what, where=path, next_action=hint)
    return manifest


def fingerprint_of(root: str | Path) -> str | None:
    """The fingerprint of a prepared folder as results carry it; None where it was never prepared.

    Raises:
        DataFormatError: see `read_manifest`.
    """
    return read_manifest(root).fingerprint if _path(Path(root)).is_file() else None


def file_sizes(root: Path, paths: Iterable[Path]) -> dict[str, int]:
    """Bytes of each file that exists, by its path relative to the folder, sorted."""
    base = root if root.is_dir() else root.parent
    names = {os.path.relpath(path, base).replace(os.sep, "/"): path for path in dict.fromkeys(paths) if path.is_file()}
    return {name: names[name].stat().st_size for name in sorted(names)}


def sample_hashes(root: Path, names: Iterable[str], count: int = _HASHED) -> dict[str, str]:
    """SHA-256 of some files of the folder: always the same ones of the same list."""
    ordered = sorted(names)
    base = root if root.is_dir() else root.parent
    chosen = np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int))
    return {ordered[i]: checksums(base / ordered[i])["sha256"] for i in chosen}


def _path(root: Path) -> Path:
    return (root if root.is_dir() else root.parent) / MANIFEST
