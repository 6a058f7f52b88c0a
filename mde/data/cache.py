"""A decoded copy of a split on disk: files are decoded once, every later epoch and run reads pixels from mapped memory.

``--data.cache DIR`` turns it on for any data module. A split is one file in DIR, some 5 bytes per pixel where depth
comes from 16-bit files and 7 otherwise. Nothing is lost: items from the cache equal those from the files bit for bit
(`mde.data.store`). Training frames are kept at the network's input size where that is smaller, all others as they are.

The name of a file ends with a key of everything that its content depends on: the settings of the data module, and
path, size and time of change of every file. When any of these changes, a new cache is written beside the old one;
`caches` lists them, and `clear` deletes them. Deleting a file by hand is always safe.

One process writes, under a lock that the operating system releases when that process dies, into a partial file that is
renamed when it is whole. All others wait for it, and a run that was killed leaves nothing that is ever read.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from mde import __version__
from mde.data.dataset import DepthDataset, RawSample
from mde.data.encodings import DepthEncoding
from mde.data.store import FORMAT, FrameStore, StoreWriter, encode, known_steps
from mde.data.transforms import resized_frame
from mde.data.worlds.pool import fill_in_parallel
from mde.errors import ConfigError, DataFormatError

__all__ = ["CachedDataset", "cached", "caches", "clear", "fingerprint"]

SUFFIX, PARTIAL = ".frames", ".partial"
_SAMPLED = 5  # frames that are read to estimate the size
_SPARE = 1.05  # share of the estimate that must be free


class CachedDataset(DepthDataset):
    """Another data set, read from its store.

    Frames have the size in which they are stored: `source.read` gives them as they came.

    Args:
        source: what was stored; asked for nothing but its transform, seed and files.
        store: see `cached`.
    """

    def __init__(self, source: DepthDataset, store: FrameStore) -> None:
        super().__init__(source.transform, source.seed)
        self.source = source
        self.store = store

    def __len__(self) -> int:
        return len(self.store)

    def read(self, index: int) -> RawSample:
        return self.store.read(index)

    def frame_id(self, index: int) -> str:
        return self.store.frame_id(index)

    def files(self, index: int) -> tuple[Path, ...]:
        return self.source.files(index)


def cached(
    dataset: DepthDataset,
    folder: str | Path,
    *,
    name: str,
    settings: Mapping[str, Any],
    at_most: tuple[int, int] | None = None,
) -> CachedDataset:
    """The data set, read from its cache in `folder`, which is written now if it is not there yet.

    Args:
        dataset: what is cached.
        folder: made if need be.
        name: start of the file's name, such as that of the data set and its split.
        settings: plain data on which the content of frames depends; part of the key.
        at_most: (height, width); larger frames are resized to it, as for training, before they are stored.

    Raises:
        ConfigError: the folder cannot be written, or its disk has not enough room.
        DataFormatError: a frame cannot be read.
    """
    target = Path(folder) / f"{name}-{fingerprint(dataset, {**settings, 'at_most': at_most})}{SUFFIX}"
    store = _existing(target)
    if store is None:
        with _locked(target):
            store = _existing(target)  # another process may have written it while this one waited
            if store is None:
                _write(dataset, target, at_most)
                _tell_others(target, name)
                store = FrameStore(target)
    return CachedDataset(dataset, store)


def fingerprint(dataset: DepthDataset, settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that change with the settings, the frames' ids, and path, size or time of any file."""
    versions = (FORMAT, __version__, cv2.__version__)  # another version may decode to other pixels
    about = json.dumps([versions, settings, len(dataset)], sort_keys=True, default=repr)
    digest = blake2b(about.encode(), digest_size=8)
    knows_ids = type(dataset).frame_id is not DepthDataset.frame_id  # else an id costs as much as the frame
    states: dict[Path, str] = {}
    for index in range(len(dataset)):
        for path in dataset.files(index):
            if path not in states:
                states[path] = _state(path)
            digest.update(states[path].encode())
        if knows_ids:
            digest.update(f"{dataset.frame_id(index)}\n".encode())
    return digest.hexdigest()


def caches(folder: str | Path) -> dict[Path, int]:
    """The caches in a folder, with their sizes in bytes."""
    return {path: path.stat().st_size for path in sorted(Path(folder).glob(f"*{SUFFIX}"))}


def clear(folder: str | Path, keep: Sequence[Path] = ()) -> int:
    """Delete the caches in a folder, except those to keep; returns how many bytes that freed.

    Processes that have one open can go on with it. What a killed run left unfinished goes, too; what is being written
    now stays, as do all other files.
    """
    doomed = [path for path in caches(folder) if path not in keep]
    doomed += [path for path in Path(folder).glob(f"*{PARTIAL}") if not _being_written(path.with_suffix(SUFFIX))]
    freed = sum(path.stat().st_size for path in doomed)
    for path in doomed:
        path.unlink(missing_ok=True)
    return freed


# -------------------------------------------------------------------------------------------------------------- writing


def _existing(target: Path) -> FrameStore | None:
    """The store, or None if there is none that can be used."""
    if not target.exists():
        return None
    try:
        return FrameStore(target)
    except DataFormatError as error:
        rank_zero_warn(f"{error}. It is written anew")
        target.unlink(missing_ok=True)
        return None


def _write(dataset: DepthDataset, target: Path, at_most: tuple[int, int] | None) -> None:
    steps = (*_own_step(dataset), *known_steps())

    def frame(index: int) -> RawSample:
        raw = dataset.read(index).checked()
        return raw if at_most is None else resized_frame(raw, at_most)

    _announce(target, len(dataset), [len(encode(frame(i), steps)[0]) for i in _spread(len(dataset))])
    partial = target.with_suffix(PARTIAL)
    partial.write_bytes(b"")
    writer, owner = StoreWriter(partial, len(dataset), steps), os.getpid()

    def make(index: int) -> None:
        if owner not in (os.getpid(), os.getppid()):
            raise SystemExit  # the run was killed: its helpers must not keep the lock
        writer.write(index, frame(index))

    try:
        with _one_opencv_thread():
            fill_in_parallel(make, len(dataset), f"caching {target.name}")
        writer.finish()
        os.replace(partial, target)
    except OSError as error:
        raise ConfigError(
            f"the cache cannot be written ({error})", where=target, next_action="set data.cache to another folder"
        ) from error
    finally:
        writer.close()
        partial.unlink(missing_ok=True)


def _announce(target: Path, count: int, sizes: Sequence[int]) -> None:
    """Say how large the cache will be, and refuse to fill the disk."""
    needed = int(count * np.mean(sizes)) if sizes else 0
    free = shutil.disk_usage(target.parent).free
    rank_zero_info(f"Writing {count} decoded frames, about {_size(needed)}, to {target} ({_size(free)} are free)")
    if needed * _SPARE > free:
        hint = "set data.cache to a larger disk, make room (mde.data.cache.clear), or leave it out"
        what = f"a cache of {count} frames needs about {_size(needed)}, and {_size(free)} are free"
        raise ConfigError(what, where=target.parent, next_action=hint)


def _tell_others(target: Path, name: str) -> None:
    others = {path: size for path, size in caches(target.parent).items() if path != target and _is_of(path, name)}
    if others:
        listed = ", ".join(f"{path.name} ({_size(size)})" for path, size in others.items())
        rank_zero_info(f"{target.parent} also holds caches of other settings or older files, free to delete: {listed}")


def _is_of(path: Path, name: str) -> bool:
    return path.stem.rpartition("-")[0] == name


def _spread(count: int) -> list[int]:
    return sorted({int(i) for i in np.linspace(0, count - 1, min(_SAMPLED, count)).round()})


def _own_step(dataset: DepthDataset) -> tuple[float, ...]:
    encoding = vars(dataset).get("encoding")  # the user's own scale, where frames are files of numbers
    return (encoding.scale,) if isinstance(encoding, DepthEncoding) else ()


def _state(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:  # reading the frame will say what is wrong
        return f"{path.absolute()} missing\n"
    return f"{path.absolute()} {found.st_size} {found.st_mtime_ns}\n"


def _size(count: float) -> str:
    """
    >>> _size(2_231_000_000), _size(512)
    ('2.2 GB', '0.0 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


# -------------------------------------------------------------------------------------------------------------- locking


def _lock_path(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def _being_written(target: Path) -> bool:
    try:
        with FileLock(_lock_path(target), timeout=0):
            return False
    except Timeout:
        return True


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_lock_path(target))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            rank_zero_info(f"Another process is writing {target}: waiting for it")
            lock.acquire()
    except OSError as error:
        raise ConfigError(
            f"the cache cannot be written ({error.strerror})",
            where=target.parent,
            next_action="set data.cache to a folder that you may write to",
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Forked processes do not have OpenCV's threads and must not wait for them; the number is changed before."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
