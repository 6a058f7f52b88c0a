"""Where pictures and videos come from: files, folders, globs and lists of files, one by one and only when asked."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from mde.data.formats import IMAGE_SUFFIXES
from mde.errors import ConfigError, DatasetNotFoundError
from mde.inference.pictures import MAX_MEGAPIXELS, Picture, read_picture

__all__ = ["PICTURE_SUFFIXES", "VIDEO_SUFFIXES", "Source", "is_video", "sources"]

PICTURE_SUFFIXES = IMAGE_SUFFIXES | {".gif", ".jfif", ".heic", ".heif", ".avif"}
"""What is looked for in folders. Of some kinds Pillow reads no more than the name here and there: these are reported
as skipped, where a silent omission would go unnoticed."""

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".3gp"})
"""Videos that are looked for in folders."""

_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
_VIDEOS = ((0, b"\x1aE\xdf\xa3"), (8, b"AVI "), (4, b"ftyp"), (4, b"moov"), (0, b"\x00\x00\x01\xba"), (0, b"FLV\x01"))


@dataclass(frozen=True)
class Source:
    """A picture that was not read yet.

    Attributes:
        name: of the picture; below a folder that was given with its subfolders, as "holiday/a.jpg".
        stem: under which its outputs are written: the name without suffix, unless another picture has that already.
        read: reads it, see `read_picture`.
        path: its file.
        video: it is a video, for `mde.inference.video.Clip`, and no picture.
    """

    name: str
    stem: str
    read: Callable[[], Picture]
    path: Path
    video: bool = False


def sources(
    words: Sequence[str | Path],
    recursive: bool = False,
    without: Path | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Iterator[Source]:
    """The pictures and videos that words name, in the order of the words, sorted within each.

    Args:
        words: files of any suffix; folders; patterns such as "photos/*.jpg" ("**" is any depth); ".txt" files with a
            path a line, relative to the list ("#" begins a comment).
        recursive: folders with all their subfolders.
        without: a folder inside which nothing is taken from folders, such as that of the outputs.
        max_megapixels: see `read_picture`.

    Yields:
        Sources; nothing is read. Hidden files of folders are left out.

    Raises:
        DatasetNotFoundError: a word names nothing. Raised when the word's turn comes.
        ConfigError: a folder is the one of the outputs.
    """
    taken: set[str] = set()
    for word in map(str, words):
        found = False
        for name, path in _of_word(word, recursive, without):
            found = True
            read = partial(read_picture, path, name, max_megapixels)
            yield Source(name, _free_stem(name, taken), read, path, is_video(path))
        if not found:
            hint = "give its subfolders too: --recursive" if Path(word).is_dir() and not recursive else "check the path"
            raise DatasetNotFoundError("no pictures or videos here", where=word, next_action=hint)


def is_video(path: Path) -> bool:
    """By the suffix, and where that is none of a picture by the first bytes: a photograph named .mp4 is none."""
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return False
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:  # whoever reads it says so
        head = b""
    if suffix in VIDEO_SUFFIXES:
        return not head.startswith(_PICTURES)
    return any(head[at:].startswith(mark) for at, mark in _VIDEOS) and head[8:11] not in (b"avi", b"hei", b"mif")


def _of_word(word: str, recursive: bool, without: Path | None) -> Iterable[tuple[str, Path]]:
    path = Path(word)
    if path.is_dir():
        return _in_folder(path, recursive, without)
    if path.is_file():
        return _in_list(path) if path.suffix.lower() == ".txt" else [(path.name, path)]
    if glob.has_magic(word):
        return (
            (Path(each).name, Path(each)) for each in sorted(glob.iglob(word, recursive=True)) if Path(each).is_file()
        )
    hint = "give pictures, videos, folders, patterns in quotes, or a .txt file with a path a line"
    raise DatasetNotFoundError("no such file or folder", where=word, next_action=hint)


def _in_folder(root: Path, recursive: bool, without: Path | None) -> Iterator[tuple[str, Path]]:
    outside = None if without is None else without.resolve()
    if outside == root.resolve():
        what = "outputs beside their inputs would be inputs of the next run"
        raise ConfigError(what, where=root, next_action=f"give another folder: -o {root / 'depth'}")
    for folder, below, files in os.walk(root):
        kept = (each for each in below if not each.startswith(".") and Path(folder, each).resolve() != outside)
        below[:] = sorted(kept) if recursive else []
        for file in sorted(files):
            path = Path(folder, file)
            if path.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES and not file.startswith("."):
                yield path.relative_to(root).as_posix(), path


def _in_list(path: Path) -> Iterator[tuple[str, Path]]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for line in lines:
                text = line.strip()
                if text and not text.startswith("#"):
                    yield _below(text), path.parent / text
    except UnicodeDecodeError as error:
        raise ConfigError("no list of files: not UTF-8", where=path, next_action="write one path a line") from error


def _below(text: str) -> str:
    """A listed path as a name that cannot leave the folder of the outputs."""
    path = PurePosixPath(text.replace("\\", "/"))
    inside = not path.is_absolute() and ".." not in path.parts
    return path.as_posix() if inside else path.name


def _free_stem(name: str, taken: set[str]) -> str:
    """ "a" for "a.jpg"; "a.png" where "a.jpg" came before; then "a.png-2", "a.png-3", …"""
    plain = str(PurePosixPath(name).with_suffix(""))
    stem, number = next((each for each in (plain, name) if each.casefold() not in taken), name), 1
    while stem.casefold() in taken:  # some file systems do not tell A from a
        number += 1
        stem = f"{name}-{number}"
    taken.add(stem.casefold())
    return stem
