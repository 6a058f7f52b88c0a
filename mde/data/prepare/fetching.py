"""Fetch the files of a data set into a folder: download, unpack, and remember what was done.

For each file that is done a receipt lies in ``.mde-prepare``: its address, checksum, and the files that it unpacked to.
A second call does only what is missing by the receipts and by the sizes of the files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mde.data.prepare.archives import unpack
from mde.data.prepare.catalog import RemoteFile
from mde.data.prepare.download import DownloadError, Patience, Received, checksums, download, probe
from mde.data.prepare.files import DiskError, free_bytes, human_size, read_json, write_json
from mde.errors import DataFormatError

__all__ = ["FetchOptions", "Receipt", "check_space", "fetch", "missing", "receipts"]

_FOLDER = ".mde-prepare"
Watch = Callable[[RemoteFile, str, int, int | None], None]
"""Called with a file, what is done to it ("fetch", "unpack", at last "done"), the bytes done, and all (or None)."""


@dataclass(frozen=True)
class FetchOptions:
    """How to fetch.

    Attributes:
        mirror: address instead of the official one; the paths below it are the same.
        keep_archives: do not remove archives that are unpacked.
        jobs: files at a time.
        patience: how long to try.
    """

    mirror: str | None = None
    keep_archives: bool = False
    jobs: int = 1
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class Receipt:
    """What came of one file.

    Attributes:
        url: where it came from; "" for a file that the user had put there.
        name: of the file.
        size: bytes.
        sha256: hexadecimal.
        date: when it was there, ISO 8601, UTC; the licence was accepted before that.
        files: bytes of each file that is in the folder now because of it, by its path.
    """

    url: str
    name: str
    size: int
    sha256: str
    date: str
    files: dict[str, int]


def receipts(root: Path) -> list[Receipt]:
    """The receipts of a folder; those that cannot be read are left out, so that their files are looked at again."""
    found = []
    for path in sorted((root / _FOLDER).glob("*.json")):
        try:
            found.append(Receipt(**read_json(path)))
        except (DataFormatError, TypeError):
            continue
    return found


def missing(files: Sequence[RemoteFile], root: Path) -> list[RemoteFile]:
    """The files that are not in the folder, or of which something that they had unpacked to is gone."""
    there = {receipt.name for receipt in receipts(root) if _is_whole(receipt, root)}
    return [file for file in files if file.name not in there]


def check_space(files: Sequence[RemoteFile], root: Path, options: FetchOptions) -> int:
    """Bytes that fetching needs: each file, and the largest archive (or all that are kept) once more.

    Sizes that the catalog does not know are asked of the server; where it does not say, they count nothing.

    Raises:
        DiskError: the disk has less.
    """
    sizes = {file: file.size or probe(file.url(options.mirror), options.patience) or 0 for file in files}
    packed = [size for file, size in sizes.items() if file.unpacks]
    extra = sum(packed) if options.keep_archives else sum(sorted(packed)[-options.jobs :])
    here = sum(path.stat().st_size for file in files for path in _begun(root, file) if path.is_file())
    need = max(0, sum(sizes.values()) + extra - here)
    free = free_bytes(root)
    if need > free:
        what = f"{human_size(need)} are needed, the disk has {human_size(free)}"
        hint = "make room, give another folder, or fetch fewer parts (--part)"
        raise DiskError(what, where=root, next_action=hint)
    return need


def fetch(files: Sequence[RemoteFile], root: Path, options: FetchOptions, watch: Watch) -> list[Receipt]:
    """Fetch and unpack `files` into `root`. When one cannot be downloaded, the others still are.

    Raises:
        DownloadError: some files could not be fetched; says how many, and why the first.
        DataFormatError, DiskError: see `unpack`; stops at once.
    """
    if options.jobs == 1:
        return _all_there([_attempt(file, root, options, watch) for file in files])
    stop = threading.Event()

    def watched(file: RemoteFile, doing: str, done: int, total: int | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        watch(file, doing, done, total)

    with ThreadPoolExecutor(max_workers=options.jobs) as pool:
        tasks = [pool.submit(_attempt, file, root, options, watched) for file in files]
        try:
            wait(tasks, return_when=FIRST_EXCEPTION)
            return _all_there([task.result() for task in tasks])
        except BaseException:  # Ctrl-C included: what has arrived stays, and the next call goes on from there
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _all_there(outcomes: Sequence[Receipt | DownloadError]) -> list[Receipt]:
    failed = [outcome for outcome in outcomes if isinstance(outcome, DownloadError)]
    if failed:
        what = f"{len(failed)} of {len(outcomes)} files could not be fetched. " if len(outcomes) > 1 else ""
        raise DownloadError(f"{what}{failed[0]}") from failed[0]
    return [outcome for outcome in outcomes if isinstance(outcome, Receipt)]


def _attempt(file: RemoteFile, root: Path, options: FetchOptions, watch: Watch) -> Receipt | DownloadError:
    try:
        return _obtain(file, root, options, watch)
    except DownloadError as error:
        return error


def _obtain(file: RemoteFile, root: Path, options: FetchOptions, watch: Watch) -> Receipt:
    target = root / file.name
    url = file.url(options.mirror)
    if target.is_file():
        received = _accept(file, target)
    else:
        received = download(
            url,
            target,
            md5=file.md5,
            sha256=file.sha256,
            patience=options.patience,
            report=lambda done, total: watch(file, "fetch", done, total or file.size),
        )
    contents = {file.name: received.size}
    if file.unpacks:
        contents = unpack(target, root, lambda done, total: watch(file, "unpack", done, total))
    date = datetime.now(UTC).isoformat(timespec="seconds")
    receipt = Receipt(received.url, file.name, received.size, received.sha256, date, contents)
    write_json(root / _FOLDER / f"{file.name}.json", asdict(receipt))
    if file.unpacks and not options.keep_archives:
        target.unlink()
    watch(file, "done", received.size, received.size)
    return receipt


def _accept(file: RemoteFile, target: Path) -> Received:
    """Take a file that lies there already: the user's, or one whose unpacking was interrupted."""
    found = checksums(target, md5=file.md5 is not None)
    for kind, expected in (("md5", file.md5), ("sha256", file.sha256)):
        if expected is not None and found[kind] != expected:
            size = f"{human_size(target.stat().st_size)} instead of {human_size(file.size)}"
            what = f"the file that is there is not the published one ({kind} {found[kind]}, not {expected}; {size})"
            raise DownloadError(what, where=target, next_action="remove it, and give the command again to fetch it")
    return Received("", target.stat().st_size, found["sha256"])


def _begun(root: Path, file: RemoteFile) -> tuple[Path, Path]:
    return root / file.name, root / f"{file.name}.part"


def _is_whole(receipt: Receipt, root: Path) -> bool:
    try:
        return all((root / name).stat().st_size == size for name, size in receipt.files.items())
    except OSError:
        return False
