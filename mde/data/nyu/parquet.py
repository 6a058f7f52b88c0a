"""NYU Depth v2 in parquet files, as the Hugging Face hub holds it.

Columns are ``image`` (an encoded picture with its path) and ``depth_map`` or ``depth``: an encoded map (float TIFF in
metres, 16-bit PNG in millimetres, or 8 bits for 10 m as DenseDepth), or nested lists of float metres. Rows are read by
row group, of which the last one is kept: in random order each frame costs its whole row group.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from mde.data.dataset import DepthDataset, RawSample
from mde.data.encodings import ENCODINGS, DepthEncoding
from mde.data.io import decode_array, decode_image
from mde.data.layouts.nyu import find_parquet
from mde.data.nyu.base import Choice, NYUCopy
from mde.data.nyu.camera import nyu_camera
from mde.data.nyu.pairs import DENSEDEPTH_8BIT
from mde.data.nyu.splits import NYU_FRAMES, official_test_rows
from mde.data.transforms import SampleTransform
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = ["NYUParquetDataset", "ParquetCopy", "RowGroup"]

_IMAGE_COLUMNS = ("image", "img", "rgb")
_DEPTH_COLUMNS = ("depth_map", "depth")
_ENCODINGS: dict[str, DepthEncoding] = {"uint8": DENSEDEPTH_8BIT, "uint16": ENCODINGS["millimetres"]}


class RowGroup(NamedTuple):
    """Where some rows lie: a file, the number of the row group in it, and how many rows it has."""

    path: str
    number: int
    rows: int


class NYUParquetDataset(DepthDataset):
    """Frames in row groups of parquet files.

    Args:
        groups: all row groups of a part, in order.
        rows: which rows of the part, from 0.
        ids: the name of each of them.
        transform: turns a frame into tensors.
        seed: of the augmentation.
    """

    def __init__(
        self,
        groups: Sequence[RowGroup],
        rows: Sequence[int],
        ids: Sequence[str],
        transform: SampleTransform,
        seed: int = 0,
    ) -> None:
        super().__init__(transform, seed)
        self.groups = list(groups)
        self.ends = np.cumsum([group.rows for group in groups])
        self.rows = [int(row) for row in rows]
        self.ids = list(ids)
        self._last: tuple[tuple[int, int], Any] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def frame_id(self, index: int) -> str:
        return self.ids[index]

    def files(self, index: int) -> tuple[Path, ...]:
        return (Path(self.groups[self._group(self.rows[index])].path),)

    def read(self, index: int) -> RawSample:
        """Frame `index`: image (480,640,3) and depth (480,640), metres.

        Raises:
            DataFormatError: the row group cannot be read, or its columns hold something else.
        """
        row = self.rows[index]
        number = self._group(row)
        where = f"{self.groups[number].path}, row {row}"
        table = self._table(number)
        at = row - int(self.ends[number]) + self.groups[number].rows
        names = table.column_names
        image = _decoded_image(table.column(column_of(names, _IMAGE_COLUMNS, where))[at].as_py(), where)
        raw = _raw_depth(table.column(column_of(names, _DEPTH_COLUMNS, where))[at], image.shape[:2], where)
        depth, valid = _ENCODINGS.get(str(raw.dtype), DepthEncoding()).to_metres(raw)
        return RawSample(image, depth, valid, nyu_camera(*image.shape[:2]), self.ids[index])

    def _group(self, row: int) -> int:
        return int(np.searchsorted(self.ends, row, side="right"))

    def _table(self, number: int) -> Any:
        key = (os.getpid(), number)  # a fork must not go on with the table of its parent's threads
        if self._last is None or self._last[0] != key:
            group = self.groups[number]
            with opened(group.path) as file:
                names = file.schema_arrow.names
                wanted = [name for name in names if name in (*_IMAGE_COLUMNS, *_DEPTH_COLUMNS)]
                try:
                    self._last = key, file.read_row_group(group.number, columns=wanted, use_threads=False)
                except (OSError, ValueError) as error:
                    raise _broken(group.path, error) from error
        return self._last[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}


class ParquetCopy(NYUCopy):
    """``data/train-….parquet`` with ``validation-…`` or ``test-…``; or one part of 1449 rows, the labelled set."""

    layout = "nyu/parquet"
    truths: ClassVar = {"filled": "not documented by its publisher; its sources are in-painted"}

    def __init__(self, root: Path, choice: Choice) -> None:
        super().__init__(root, choice)
        self._groups: dict[str, list[RowGroup]] = {}

    def groups(self, part: str) -> list[RowGroup]:
        """The row groups of a part.

        Raises:
            DatasetNotFoundError: there is no file of that part.
        """
        if part not in self._groups:
            files = find_parquet(self.root) or {}
            if not files.get(part):
                name = {"train": "data/train-*.parquet", "test": "data/validation-*.parquet or data/test-*.parquet"}[
                    part
                ]
                hint = "fetch all parts from the hub, or set data.test_root to a copy in another layout"
                raise DatasetNotFoundError(f"no {name}", where=self.root, next_action=hint)
            self._groups[part] = [group for path in files[part] for group in _row_groups(path)]
        return self._groups[part]

    @property
    def labelled(self) -> bool:
        """True for the labelled set: 1449 rows in one part."""
        parts = find_parquet(self.root) or {}
        return not parts.get("test") and sum(group.rows for group in self.groups("train")) == NYU_FRAMES

    def scenes(self, part: str) -> Sequence[str]:
        names = [name for path in dict.fromkeys(group.path for group in self.groups(part)) for name in _names(path)]
        self.warn_of_count(part, len(names))
        return [Path(name).parent.name for name in names]

    def validation_rows(self, scenes: Sequence[str]) -> set[int]:
        if all(scenes):
            return super().validation_rows(scenes)
        rank_zero_warn(f"{self.root} does not say which scene a frame is of: validation is its last tenth, in order")
        return set(range(len(scenes) - max(1, len(scenes) // 10), len(scenes)))

    def rows(self, split: str) -> tuple[str, Sequence[int]]:
        if not self.labelled:
            return super().rows(split)
        rank_zero_warn(f"{self.root} is taken for the labelled set in the order of its authors: check a few frames")
        test = official_test_rows()
        if split == "test" or (split == "val" and self.choice.val_on_test):
            return "train", test
        train = sorted(set(range(NYU_FRAMES)) - set(test))
        chosen = set() if self.choice.val_on_test else set(train[-(len(train) // 10) :])
        return "train", [row for row in train if (row in chosen) == (split == "val")]

    def make(self, part: str, rows: Sequence[int], transform: SampleTransform, seed: int) -> NYUParquetDataset:
        ids = [f"{part}/{row:06d}" for row in rows]
        return NYUParquetDataset(self.groups(part), rows, ids, transform, seed)

    def facts(self) -> dict[str, Any]:
        held = "whole rooms of the training frames where their paths name scenes, else the last tenth in order"
        return super().facts() if self.choice.val_on_test else {**super().facts(), "validation": held}


def opened(path: str | Path) -> pq.ParquetFile:
    """A parquet file, of which only the footer is read.

    Raises:
        ConfigError: pyarrow is not installed.
        DataFormatError: it is no parquet file, or truncated.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        what, hint = "reading parquet files needs pyarrow", "pip install 'mde[parquet]'"
        raise ConfigError(what, where=path, next_action=hint) from error
    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise _broken(path, error) from error


def column_of(names: Sequence[str], wanted: Sequence[str], where: object) -> str:
    """The first of the wanted names that there is.

    Raises:
        DataFormatError: there is none.
    """
    found = [name for name in wanted if name in names]
    if not found:
        what = f"no column {' or '.join(wanted)}, only {', '.join(names)}"
        raise DataFormatError(what, where=where, next_action="rename the column")
    return found[0]


def _row_groups(path: Path) -> list[RowGroup]:
    with opened(path) as file:
        meta = file.metadata
        return [RowGroup(str(path), n, meta.row_group(n).num_rows) for n in range(meta.num_row_groups)]


def _names(path: str) -> list[str]:
    """The file name that came with each picture, "" where there is none; no picture is read for it."""
    with opened(path) as file:
        column = f"{column_of(file.schema_arrow.names, _IMAGE_COLUMNS, path)}.path"
        if column not in {file.schema.column(n).path for n in range(len(file.schema))}:
            return [""] * int(file.metadata.num_rows)
        table = file.read(columns=[column], use_threads=False)
        return [cell["path"] or "" for cell in table.column(0).to_pylist()]


def _decoded_image(cell: Any, where: str) -> NDArray[np.uint8]:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        what = "the picture is not in the file" if isinstance(cell, dict) else f"the picture is {type(cell).__name__}"
        raise DataFormatError(what, where=where, next_action="export the set with its pictures as encoded bytes")
    return decode_image(data, where)


def _raw_depth(cell: Any, size: tuple[int, int], where: str) -> NDArray[Any]:
    """The map of a cell, (H,W); nested lists may be (W,H), as MATLAB has them."""
    if not hasattr(cell, "values") or hasattr(cell, "keys"):  # a struct or bytes, and no list
        value = cell.as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            hint = "export the set with its depth as encoded bytes"
            raise DataFormatError("the depth map is not in the file", where=where, next_action=hint)
        return decode_array(data, ".png", where)  # TIFF and others are told by their content
    values = cell.values
    nested = hasattr(values, "flatten") and hasattr(values.type, "value_type")
    raw = np.asarray(values.flatten() if nested else values)
    if raw.dtype.kind not in "uif" or raw.size != size[0] * size[1]:
        what = f"the depth is {raw.size} values of {raw.dtype}, and the picture is {size[1]}x{size[0]}"
        raise DataFormatError(what, where=where, next_action="export both at one size")
    raw = raw.reshape((len(cell), -1) if nested else size)
    return raw if raw.shape == size else np.ascontiguousarray(raw.T)


def _broken(path: str | Path, error: Exception) -> DataFormatError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    what = f"no parquet file, or a truncated one ({reason})"
    return DataFormatError(what, where=path, next_action="fetch it again")
