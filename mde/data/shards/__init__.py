"""Data sets larger than one machine: frames in chunk files, on a disk or in an object store, read by random access.

The format is litdata's (github.com/Lightning-AI/litData): chunks of some 64 MB and an index. It is an extra of this
library: ``pip install mde[shards]``. A sharded set is a folder, or the address of one (``s3://bucket/set``), with a
folder of chunks for each split and one, ``about``, for what the source says of itself. See `mde.data.shards.writer`.

litdata would stream chunks in an order of its own, which depends on the number of loader processes and ranks. Here its
chunks are read by index instead, under this library's own sampler: the order comes from (seed, epoch) alone, the
augmentation from (seed, epoch, index), and both are the same for any number of workers. The price: from an object store
each frame costs two range requests, which many workers hide.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from mde.data.base import DepthDataModule
from mde.data.dataset import DepthDataset, RawSample
from mde.data.shards.items import Item, decode_frame, decode_id
from mde.data.shards.resume import ResumableLoader
from mde.data.transforms import SampleTransform
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError, MdeError
from mde.protocol import EvalProtocol
from mde.types import Batch

__all__ = ["ABOUT", "FORMAT", "UNFINISHED", "Chunks", "ShardedDataModule", "ShardedDataset", "litdata_streaming"]

ABOUT = "about"
"""The folder of chunks with one item: what the source says of itself, as JSON."""
UNFINISHED = "unfinished.json"
"""A file of this name in the root says that writing was interrupted."""
FORMAT = 1
_INDEX = "index.json"


def litdata_streaming() -> Any:
    """litdata's streaming module, kept from asking the network for a newer version of itself."""
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    try:
        return import_module("litdata.streaming")
    except ImportError as error:
        raise ConfigError("shards need litdata", next_action="pip install mde[shards]") from error


class Chunks:
    """A folder of chunks, local or remote, by index. Every process opens its own: a fork must not share connections."""

    def __init__(self, address: str, storage: dict[str, Any] | None = None) -> None:
        self.address = address
        self.storage = storage
        self._handle: tuple[int, Any] | None = None

    def item(self, index: int) -> Item:
        """The bytes of one frame.

        Raises:
            DataFormatError: they cannot be read.
            ConfigError: litdata is not installed.
        """
        try:
            return [bytes(part) for part in self._open()[index]]
        except MdeError:
            raise
        except Exception as error:  # litdata's are of many types, and name neither frame nor remedy
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            hint = "check the address, the access and the files; fetch or write the shards again"
            what = f"frame {index} cannot be read ({reason})"
            raise DataFormatError(what, where=self.address, next_action=hint) from error

    def _open(self) -> Any:
        if self._handle is None or self._handle[0] != os.getpid():
            options = {"storage_options": self.storage} if self.storage else {}
            self._handle = os.getpid(), litdata_streaming().StreamingDataset(self.address, **options)
        return self._handle[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


class ShardedDataset(DepthDataset):
    """One split of a sharded data set.

    Args:
        address: folder of its chunks, or its address in an object store.
        count: number of frames.
        transform: turns a frame into tensors.
        seed: of the augmentation.
        storage: options of the object store, as litdata's ``storage_options``.
    """

    def __init__(
        self,
        address: str,
        count: int,
        transform: SampleTransform,
        seed: int = 0,
        storage: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(transform, seed)
        self.count = count
        self.address = address
        self._chunks = Chunks(address, storage)

    def __len__(self) -> int:
        return self.count

    def frame_id(self, index: int) -> str:
        return decode_id(self._chunks.item(range(self.count)[index]), self._where(index))

    def files(self, index: int) -> tuple[Path, ...]:
        """The index of the chunks, which changes with them; none for an object store."""
        return () if is_remote(self.address) else (Path(self.address) / _INDEX,)

    def read(self, index: int) -> RawSample:
        """Frame `index`, equal bit for bit to that of the source.

        Raises:
            DataFormatError: the chunk is missing, cut off, or out of reach.
        """
        return decode_frame(self._chunks.item(range(self.count)[index]), self._where(index))

    def _where(self, index: int) -> str:
        return f"{self.address}, frame {index}"


class ShardedDataModule(DepthDataModule):
    """A data set that `write_shards` wrote (``mde shards``).

    Args:
        root: the folder, or its address: ``s3://bucket/set``, ``gs://bucket/set``.
        image_size: (height, width) of the network's input; default that of the source.
        protocol: default that of the source.
        depth_range: metres; default that of the source.
        storage: options of the object store, such as ``endpoint_url``; see litdata's ``storage_options``.
        common: see `DepthDataModule`.

    A run that was stopped within an epoch goes on with the batches that were left.

    Raises:
        DatasetNotFoundError: there are no shards.
        DataFormatError: chunk files are missing or cut off, or were written by a newer version.
    """

    def __init__(
        self,
        root: str,
        *,
        image_size: tuple[int, int] | None = None,
        protocol: str | EvalProtocol | None = None,
        depth_range: tuple[float, float] | None = None,
        storage: dict[str, Any] | None = None,
        **common: Any,
    ) -> None:
        self.about = _read_about(root, storage)
        super().__init__(
            protocol=protocol or EvalProtocol(**self.about["protocol"]),
            depth_range=depth_range or tuple(self.about["depth_range"]),
            image_size=image_size or tuple(self.about["image_size"]),
            **common,
        )
        self.root = root
        self.storage = storage

    def make_dataset(self, split: str) -> ShardedDataset:
        address = f"{self.root.rstrip('/')}/{split}"
        if not is_remote(self.root):
            _refuse_damage(Path(address))
        return ShardedDataset(address, self.about["frames"][split], self.transform(split), self.seed, self.storage)

    def facts(self) -> dict[str, Any]:
        source = {**self.about["facts"], "shards_of": self.about["source"], "frames": self.about["frames"]}
        return {**source, **super().facts()}

    def train_dataloader(self) -> DataLoader[Batch]:
        return ResumableLoader.of(super().train_dataloader())


def is_remote(root: str) -> bool:
    """True for an address of an object store."""
    return "://" in root


def _read_about(root: str, storage: dict[str, Any] | None) -> dict[str, Any]:
    place = Path(root)
    if not is_remote(root) and not (place / ABOUT / _INDEX).is_file():
        unfinished = (place / UNFINISHED).is_file()
        what = "the shards are unfinished" if unfinished else "no shards of mde"
        hint = "write them with `mde shards SOURCE OUT`" + ("; the same call goes on" if unfinished else "")
        raise DatasetNotFoundError(what, where=root, next_action=hint)
    about: dict[str, Any] = json.loads(Chunks(f"{root.rstrip('/')}/{ABOUT}", storage).item(0)[0])
    if about["format"] > FORMAT:
        what = f"the shards were written by mde {about['mde']}, in a newer format"
        raise DataFormatError(what, where=root, next_action="update mde")
    return about


def _refuse_damage(folder: Path) -> None:
    """Compare the chunk files with the index: litdata would wait for the missing part of one."""
    try:
        chunks = json.loads((folder / _INDEX).read_text())["chunks"]
    except (OSError, ValueError, KeyError) as error:
        hint = "fetch or write the shards again"
        raise DatasetNotFoundError("no index of chunks", where=folder / _INDEX, next_action=hint) from error
    sizes = {folder / chunk["filename"]: chunk["chunk_bytes"] for chunk in chunks}
    bad = [path.name for path, size in sizes.items() if not path.is_file() or path.stat().st_size != size]
    if bad:
        listed = ", ".join(bad[:10]) + (", …" if len(bad) > 10 else "")
        what = f"{len(bad)} of {len(sizes)} chunks are missing or cut off: {listed}"
        raise DataFormatError(what, where=folder, next_action="fetch or write them again")
