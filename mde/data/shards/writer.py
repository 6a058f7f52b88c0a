"""Writing a data set as shards (`mde.data.shards`), ``mde shards`` on the command line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from mde import __version__
from mde.data.base import DepthDataModule
from mde.data.dataset import DepthDataset
from mde.data.pairing import SPLITS
from mde.data.shards import ABOUT, FORMAT, UNFINISHED, Chunks, litdata_streaming
from mde.data.shards.items import Item, encode_frame
from mde.errors import ConfigError, DataFormatError

__all__ = ["CHUNK_BYTES", "Progress", "estimated_bytes", "write_shards"]

CHUNK_BYTES = 1 << 26  # litdata's own default
Progress = Callable[[str, int, int], None]
"""Called after each frame with the split, the frames done, and how many there are."""
_SAMPLED = 8  # frames of each split that are encoded to estimate the size


def write_shards(
    data: DepthDataModule,
    folder: str | Path,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    num_workers: int = 0,
    progress: Progress = lambda split, done, total: None,
) -> dict[str, int]:
    """Write all frames of a data module as shards.

    A split is written beside its place and renamed when it is whole: after an interruption the same call goes on with
    the splits that are missing.

    Args:
        data: where frames come from; its protocol, depth range and image size become defaults of the shards.
        folder: local; new, empty, or left unfinished by an earlier call. Copy it to an object store afterwards.
        chunk_bytes: size of a chunk file.
        num_workers: processes that read and encode; the result does not depend on it.
        progress: see `Progress`.

    Returns:
        Number of frames of each split.

    Raises:
        ConfigError: the folder holds something else, litdata is not installed, or the data module has a cache.
        DataFormatError: a frame cannot be read or stored without loss.
    """
    if data.cache is not None:
        what = "a cache may hold smaller frames than the data set"
        raise ConfigError(what, where="data.cache", next_action="write the shards without it")
    root = Path(folder)
    about = _about(data)
    litdata_streaming()  # missing, it is missed before anything is written
    _claim(root, {**about, "origin": _origin(data)})
    for split in SPLITS:
        encoded = _Encoded(data.dataset(split))
        loader = DataLoader(encoded, batch_size=None, num_workers=num_workers)
        _write(root / split, _counted(loader, len(encoded), split, progress), chunk_bytes)
    _write(root / ABOUT, [[json.dumps(about).encode()]], chunk_bytes)
    (root / UNFINISHED).unlink()
    return dict(about["frames"])


def estimated_bytes(data: DepthDataModule) -> int:
    """About how large the shards of a data module will be, from a few frames of each split."""
    total = 0.0
    for split in SPLITS:
        encoded = _Encoded(data.dataset(split))
        picked = range(0, len(encoded), max(1, len(encoded) // _SAMPLED))
        total += sum(sum(map(len, encoded[i])) for i in picked) / len(picked) * len(encoded)
    return round(total)


class _Encoded(Dataset[Item]):
    """The frames of a data set as items; a map-style data set of its own, so that loader processes share the work."""

    def __init__(self, dataset: DepthDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        return encode_frame(self.dataset.read(index), self.dataset.files(index))


def _about(data: DepthDataModule) -> dict[str, Any]:
    """What a `ShardedDataModule` must know, and where it came from."""
    frames = {split: len(data.dataset(split)) for split in SPLITS}
    if empty := [split for split, count in frames.items() if count == 0]:
        what = f"no frames in {', '.join(empty)}"
        raise DataFormatError(what, where=type(data).__name__, next_action="check the split settings")
    return {
        "format": FORMAT,
        "mde": __version__,
        "source": type(data).__name__,
        "facts": data.facts(),
        "protocol": asdict(data.protocol),
        "depth_range": list(data.depth_range),
        "image_size": list(data.image_size),
        "frames": frames,
    }


def _origin(data: DepthDataModule) -> dict[str, list[str]]:
    """What tells two sources of the same kind apart: the first and the last frame of each split."""
    origin = {}
    for split in SPLITS:
        dataset = data.dataset(split)
        names = [dataset.frame_id(0), dataset.frame_id(len(dataset) - 1)]
        origin[split] = [*names, *(str(path.resolve()) for path in dataset.files(0))]
    return origin


def _claim(root: Path, source: dict[str, Any]) -> None:
    """Make the folder, or see that it was left unfinished by a call with the same source."""
    note = root / UNFINISHED
    text = json.dumps(source)
    if not note.is_file() and root.exists() and (not root.is_dir() or any(root.iterdir())):
        hint = "give a new folder: nothing is overwritten"
        raise ConfigError("the folder is not empty", where=root, next_action=hint)
    if note.is_file() and note.read_text() != text:
        hint = "delete it, or go on with the same source and settings"
        raise ConfigError("the folder holds unfinished shards of something else", where=root, next_action=hint)
    root.mkdir(parents=True, exist_ok=True)
    note.write_text(text)


def _counted(items: DataLoader[Item], total: int, split: str, progress: Progress) -> Iterator[Item]:
    for done, item in enumerate(items, 1):
        yield item
        progress(split, done, total)


def _write(folder: Path, items: Iterable[Item], chunk_bytes: int) -> None:
    """Make a folder of chunks, unless it is there: it appears as a whole, after its ends were read back."""
    if folder.exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    cache = litdata_streaming().Cache(str(partial), chunk_bytes=chunk_bytes)
    ends: dict[int, Item] = {}
    for index, item in enumerate(items):
        # a list: dicts of text and bytes become Arrow tables, which cannot be read by range from an object store
        cache[index] = list(item)
        ends = {0: ends.get(0, item), index: item}
    cache.done()
    cache.merge(1)
    written = Chunks(str(partial))
    for index, item in ends.items():
        if written.item(index) != item:
            hint = "report it with the version of litdata"
            raise DataFormatError(f"frame {index} reads back otherwise", where=partial, next_action=hint)
    os.replace(partial, folder)
