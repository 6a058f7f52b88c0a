"""``mde shards``: a data set as chunk files, for sets larger than one machine."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mde.cli.arguments import Parser
from mde.console import counting
from mde.data.layouts import get_layout, recognise
from mde.errors import ConfigError

if TYPE_CHECKING:
    from mde.data.base import DepthDataModule

__all__ = ["make_parser", "run"]


def run(words: Sequence[str]) -> int:
    """Write the shards and say how to train on them."""
    options = make_parser().parse_args(list(words))
    if options.chunk_mb < 1 or options.workers < 0:
        raise ConfigError("--chunk-mb must be at least 1 and --workers at least 0")
    from mde.data.shards.writer import estimated_bytes, write_shards

    data = _data_module(options.dir, options.layout, _settings(options.set))
    out = Path(options.out)
    size = estimated_bytes(data)
    print(f"{options.dir}: about {_readable(size)} as shards")
    if options.estimate:
        return 0
    _require_space(out, size)
    with counting() as show:
        counts = write_shards(data, out, chunk_bytes=options.chunk_mb << 20, num_workers=options.workers, progress=show)
    print(f"{out}: {', '.join(f'{count} {split}' for split, count in counts.items())}")
    print(f"  mde fit --data ShardedDataModule --data.root {out} --model …")
    return 0


def _data_module(root: str, layout_name: str | None, settings: dict[str, Any]) -> DepthDataModule:
    layout = get_layout(layout_name) if layout_name else recognise(root)
    try:
        return layout.make(root, **settings)
    except TypeError as error:  # of a constructor that has no such argument
        hint = f"see {layout.data_module} for its settings"
        raise ConfigError(f"{layout.name}: {error}", where="--set", next_action=hint) from error


def _settings(pairs: Sequence[str]) -> dict[str, Any]:
    """``key=value`` words, the values as in YAML."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            hint = "write key=value, such as depth=raw"
            raise ConfigError(f"not a setting: {pair!r}", where="--set", next_action=hint)
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{value!r} cannot be read", where=f"--set {key}", next_action="quote it") from error
    return settings


def _require_space(out: Path, size: int) -> None:
    existing = next(folder for folder in (out, *out.resolve().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        what = f"the shards need about {_readable(size)}, the disk has {_readable(free)} left"
        raise ConfigError(what, where=out, next_action="give a folder on a larger disk")


def _readable(size: int) -> str:
    unit, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if size >= pair[0]), (1e3, "kB"))
    return f"{size / unit:.1f} {name}"


def make_parser() -> Parser:
    made = Parser(
        "shards",
        "Write a data set as chunk files of litdata, to read them from any disk or object store.",
        ["mde shards nyu/ nyu-shards/ --estimate", "mde shards nyu/ nyu-shards/ --set depth=raw"],
        "The same call goes on after an interruption.",
    )
    made.add_argument("dir", help="the data set")
    made.add_argument("out", help="a new folder")
    made.add_argument("--layout", help="default: recognised; mde make-data --help lists them")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of the data module")
    made.add_argument("--chunk-mb", type=int, default=64, help="size of a chunk file (default 64)")
    made.add_argument("--workers", type=int, default=0, help="processes that read and encode (default 0)")
    made.add_argument("--estimate", action="store_true", help="only say how large the shards would be")
    return made
