"""``mde prepare``: fetch a data set, or say how to get it, and verify what lies in a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, track

from mde import __version__
from mde.cli.arguments import Parser
from mde.console import animated, complain, console
from mde.data.layouts import recognise
from mde.data.prepare.catalog import KnownData, RemoteFile
from mde.data.prepare.download import Patience
from mde.data.prepare.fetching import FetchOptions, Watch, check_space, fetch, missing, receipts
from mde.data.prepare.files import DiskError, human_size
from mde.data.prepare.known import KNOWN, get_known
from mde.data.prepare.manifest import Manifest, file_sizes, sample_hashes, write_manifest
from mde.errors import ConfigError, MdeError

if TYPE_CHECKING:
    from mde.data.prepare.verify import Verdict

__all__ = ["make_parser", "run"]

_SPLITS = ("train", "val", "test")


def run(words: Sequence[str]) -> int:
    """Returns 0 if the data set is complete, 1 if something is missing or wrong."""
    options = make_parser().parse_args(list(words))
    if options.list or options.name is None:
        print(_table())
        return 0
    known = get_known(options.name)
    if options.dir is None:
        print(_card(known))
        return 0
    root = Path(options.dir)
    wanted = _wanted(known, root, options)
    if options.dry_run:
        print(_plan(known, root, wanted, options))
        return 0
    try:
        if wanted:
            _fetch(known, root, wanted, options)
        return _verify(known, root, options)
    except ConfigError:
        raise
    except MdeError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        print("mde: stopped; the same command goes on from here", file=sys.stderr)
        return 130


# ------------------------------------------------------------------------------------------------------------ fetching


def _wanted(known: KnownData, root: Path, options: argparse.Namespace) -> list[RemoteFile]:
    """The files that are still to fetch; none, where another form of the data set lies already."""
    if options.verify or not (known.files or options.part):
        return []
    if not options.part and root.exists():
        try:
            form = recognise(root, known.family).name
        except MdeError:
            form = ""
        # what was fetched and unpacked here is completed; what somebody put here in his own way is not fetched again
        ours = form in ("", known.layout) and any(file.unpacks for file in known.files) and bool(receipts(root))
        if form and not ours:
            print(f"{root} holds {form}: nothing is fetched (--part would)")
            return []
    return missing(known.select(options.part), root)


def _fetch(known: KnownData, root: Path, files: Sequence[RemoteFile], options: argparse.Namespace) -> None:
    settings = FetchOptions(
        options.mirror, options.keep_archives, options.jobs, Patience(options.retries, options.wait)
    )
    _agree(known, accepted=options.accept_licence)
    need = check_space(files, root, settings)
    print(f"fetching {len(files)} file(s) into {root}, {human_size(need) if need else 'size unknown'} of disk space")
    with _bars() as watch:
        for receipt in fetch(files, root, settings, watch):
            print(
                f"  {receipt.name}: {human_size(receipt.size)}, {len(receipt.files)} file(s), sha256 {receipt.sha256}"
            )


def _agree(known: KnownData, *, accepted: bool) -> None:
    """The user accepts the licence, by the option or at the terminal."""
    terms = f"{known.title}\n  licence: {_licence(known)}\n  home page: {known.home_page}"
    if accepted:
        print(terms)
        return
    if not sys.stdin.isatty():
        hint = "read it at the home page, then add --accept-licence"
        raise ConfigError(f"the licence must be accepted: {_licence(known)}", where=known.home_page, next_action=hint)
    print(terms)
    if input("Do you accept it? [yes/no] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("the licence was not accepted", where=known.home_page)


def _licence(known: KnownData) -> str:
    return known.licence or "none is stated; ask the owners before any use other than research"


@contextmanager
def _bars() -> Iterator[Watch]:
    """A line for each file that is done, and progress bars where the output is a terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    errors = console(stderr=True)
    with Progress(*columns, console=errors, disable=not animated(stderr=True)) as progress:
        tasks: dict[tuple[str, str], TaskID] = {}

        def watch(file: RemoteFile, doing: str, done: int, total: int | None) -> None:
            if doing == "done":
                print(f"  {file.name}: {human_size(done)}")
                return
            key = doing, file.name
            if key not in tasks:
                tasks[key] = progress.add_task(f"{doing} {file.name}", total=total)
            progress.update(tasks[key], completed=done, total=total, visible=not total or done < total)

        yield watch


# ----------------------------------------------------------------------------------------------------------- verifying


def _verify(known: KnownData, root: Path, options: argparse.Namespace) -> int:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        print(f"there is nothing at {root}\n{_steps(known, root)}")
        return 1
    from mde.data.prepare.verify import Thoroughness, describe, verify

    def tracked(indices: Iterable[int], label: str) -> Iterable[int]:
        errors = console(stderr=True)
        return track(indices, label, console=errors, transient=True, disable=not animated(stderr=True))

    thoroughness = Thoroughness(options.sample, options.full, tuple(options.split or _SPLITS))
    try:
        verdict = verify(root, known, thoroughness, tracked)
    except MdeError as error:
        complain(f"{error}\n{_steps(known, root)}")
        return 1
    print(f"{root}: {known.title}")
    print("\n".join(describe(verdict)))
    _write_manifest(known, root, verdict)
    if not verdict.complete:
        print(f"not complete\n{_steps(known, root, verdict)}")
        return 1
    print("complete" if not verdict.made else "a rendered copy, in order")
    for config in verdict.layout.configs:
        print(f"  mde fit --config {config} --data.root {root}")
    return 0


def _write_manifest(known: KnownData, root: Path, verdict: Verdict) -> None:
    files = file_sizes(root, verdict.files)
    sources = receipts(root)
    manifest = Manifest(
        data_set=known.name,
        layout=verdict.layout.name,
        made=verdict.made,
        complete=verdict.complete,
        counts=verdict.counts,
        files=files,
        hashes=sample_hashes(root, files),
        total_bytes=sum(files.values()),
        sources=tuple({"url": r.url, "name": r.name, "size": r.size, "sha256": r.sha256} for r in sources),
        licence={"name": _licence(known), "accepted": min(r.date for r in sources)} if sources else {},
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        mde=__version__,
    )
    try:
        print(f"manifest {write_manifest(root, manifest)}, fingerprint {manifest.fingerprint}")
    except DiskError as error:
        print(f"fingerprint {manifest.fingerprint}; no manifest was written: {error}")


# ---------------------------------------------------------------------------------------------------------------- text


def _table() -> str:
    lines = ["data sets (addresses, sizes and licences as published; not re-checked):", ""]
    for known in KNOWN.values():
        how = "automatic" if known.files else "by hand"
        lines.append(f"  {known.name:<15} {known.title}")
        lines.append(f"  {'':<15} {known.size}; {how}; licence: {known.licence or 'none stated'}")
        lines.append(f"  {'':<15} {known.home_page}")
    return "\n".join([*lines, "", "mde prepare NAME       what can be fetched of it", "mde prepare NAME DIR   do it"])


def _card(known: KnownData) -> str:
    lines = [known.title, f"  size: {known.size}", f"  licence: {_licence(known)}", f"  home page: {known.home_page}"]
    if known.parts:
        lines.append(f"  parts (--part; default {', '.join(known.default)}; as published, not re-checked):")
        lines += [f"    {name:<15} {what}" for name, what in known.parts.items()]
    return "\n".join([*lines, _steps(known, Path("DIR"))])


def _plan(known: KnownData, root: Path, files: Sequence[RemoteFile], options: argparse.Namespace) -> str:
    sizes = [file.size for file in files]
    unknown = sizes.count(None)
    total = human_size(sum(size for size in sizes if size)) + (f" and {unknown} of unknown size" if unknown else "")
    lines = [f"{known.title}; licence: {_licence(known)}", f"{len(files)} file(s) to fetch into {root}: {total}"]
    for file in files:
        check = "sha256" if file.sha256 else "md5" if file.md5 else "no checksum known"
        then = ", then unpacked" if file.unpacks else ""
        lines.append(f"  {human_size(file.size):>8}  {file.url(options.mirror)} ({check}{then})")
    return "\n".join([*lines, "nothing was fetched (--dry-run)"])


def _steps(known: KnownData, root: Path, verdict: Verdict | None = None) -> str:
    """What to do next, as commands."""
    lines = ["next:"]
    if known.files and (verdict is None or verdict.layout.name == known.layout):
        parts = "".join(f" --part {part}" for part in known.default) if verdict else ""
        lines.append(f"  mde prepare {known.name} {root}{parts} --accept-licence   fetches it ({known.size})")
    lines += [f"  {step.format(root=root)}" for step in known.by_hand]
    return "\n".join([*lines, f"  mde prepare {known.name} {root} --verify   looks again"])


def make_parser() -> Parser:
    made = Parser(
        "prepare",
        "Fetch a data set, or say how to get it, and verify what lies in a folder, whoever put it there.",
        ["mde prepare nyu", "mde prepare nyu /data/nyu --accept-licence", "mde prepare kitti /data/kitti --verify"],
        f"{_table()}\n\nexit status: 0 complete, 1 something is missing or wrong, 2 the command was wrong",
    )
    made.add_argument("name", nargs="?", help=f"one of {', '.join(KNOWN)}")
    made.add_argument("dir", nargs="?", help="folder (or file) of the data set")
    made.add_argument("--list", action="store_true", help="list the data sets")
    made.add_argument("--verify", action="store_true", help="fetch nothing, only look at what is there")
    made.add_argument("--dry-run", action="store_true", help="say what would be fetched; uses no network")
    fetching = made.add_argument_group("fetching")
    fetching.add_argument("--part", action="append", default=[], help="fetch only this part; may be repeated")
    fetching.add_argument("--accept-licence", "--accept-license", action="store_true", help="you read and accept it")
    fetching.add_argument("--mirror", metavar="URL", help="take the files from here; the paths below are the same")
    fetching.add_argument("--keep-archives", action="store_true", help="do not remove archives that were unpacked")
    fetching.add_argument("--jobs", type=_count, default=1, metavar="N", help="files at a time (default 1)")
    fetching.add_argument("--retries", type=int, default=5, metavar="N", help="attempts without progress (default 5)")
    fetching.add_argument("--wait", type=float, default=1.0, metavar="S", help="seconds before the first (default 1)")
    verifying = made.add_argument_group("verifying")
    verifying.add_argument("--split", action="append", choices=_SPLITS, help="verify only this; may be repeated")
    verifying.add_argument("--sample", type=_count, default=12, metavar="N", help="frames read of each (default 12)")
    verifying.add_argument("--full", action="store_true", help="read all frames, compare known checksums")
    return made


def _count(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"a number from 1, got {word!r}")
    return int(word)
