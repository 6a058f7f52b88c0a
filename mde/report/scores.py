"""The errors of each image of a test as a file: what intervals, paired tests and "the worst twenty" are made from.

``per_image.csv`` has one row an image in the order of the data set: id, pixels, degenerate, then one column a metric,
unrounded. The file is written row by row, by several processes in parts of their own that are joined at the end.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mde.errors import ConfigError, DataFormatError

__all__ = ["CONSTANT_FILE", "FILE", "ImageScores", "ScoresWriter", "join_parts"]

FILE = "per_image.csv"
CONSTANT_FILE = "per_image_constant.csv"
"""The same of the constant predictor, beside it."""

_HEAD = ("id", "pixels", "degenerate")
_HINT = "test again, or delete the file to go on without values per image"


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Errors image by image.

    Attributes:
        ids: of the N images, in the order of the data set.
        pixels: int64 (N,), the pixels that count; 0 for an image that is in no average.
        degenerate: bool (N,), images whose alignment fell back.
        values: float64 (N,) by metric, in the units of `mde.metrics.depth_errors`; NaN where there is none.

    Raises:
        ConfigError: the lengths differ.

    >>> scores = ImageScores(("a", "b"), np.array([9, 0]), np.zeros(2, bool), {"abs_rel": np.array([0.1, np.nan])})
    >>> len(scores), scores.take(["b"]).pixels
    (2, array([0]))
    """

    ids: tuple[str, ...]
    pixels: NDArray[np.int64]
    degenerate: NDArray[np.bool_]
    values: dict[str, NDArray[np.float64]]

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.pixels), len(self.degenerate), *map(len, self.values.values())}
        if len(lengths) > 1:
            raise ConfigError(f"columns of different lengths: {sorted(lengths)}", where="ImageScores")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, ids: Iterable[str]) -> ImageScores:
        """The images with these ids, in this order.

        Raises:
            DataFormatError: an id stands here twice.
            KeyError: an id is not here.
        """
        place = {each: number for number, each in enumerate(self.ids)}
        if len(place) < len(self.ids):
            twice = sorted({each for number, each in enumerate(self.ids) if place[each] != number})
            what = f"{len(twice)} id(s) stand for several images: {', '.join(twice[:10])}"
            raise DataFormatError(what, next_action="give each image of the data set an id of its own")
        rows = [place[each] for each in ids]
        values = {name: column[rows] for name, column in self.values.items()}
        return ImageScores(tuple(self.ids[row] for row in rows), self.pixels[rows], self.degenerate[rows], values)

    @classmethod
    def read(cls, path: str | Path) -> ImageScores:
        """Read a file that `write` or a `ScoresWriter` made.

        Raises:
            DataFormatError: missing, cut off, or another kind of file; names the line.
        """
        try:
            with Path(path).open(newline="", encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise DataFormatError(f"cannot be read ({error})", where=path, next_action=_HINT) from error
        head, *rows = list(csv.reader(text.splitlines())) or [[]]
        if tuple(head[: len(_HEAD)]) != _HEAD:
            what = f"no errors per image: its first columns are not {', '.join(_HEAD)}"
            raise DataFormatError(what, where=path, next_action=_HINT)
        if not text.endswith("\n"):
            raise DataFormatError("the file is cut off: its last line has no end", where=path, next_action=_HINT)
        return cls._parsed(head, rows, path)

    @classmethod
    def _parsed(cls, head: Sequence[str], rows: Sequence[Sequence[str]], path: str | Path) -> ImageScores:
        numbers = np.empty((len(rows), len(head) - 1))
        for line, row in enumerate(rows):
            try:
                if len(row) != len(head):
                    raise ValueError(f"{len(row)} values for {len(head)} columns")
                numbers[line] = [float(cell) for cell in row[1:]]
            except ValueError as error:
                raise DataFormatError(f"line {line + 2}: {error}", where=path, next_action=_HINT) from error
        values = {name: numbers[:, column].copy() for column, name in enumerate(head[3:], start=2)}
        ids = tuple(row[0] for row in rows)
        return cls(ids, numbers[:, 0].astype(np.int64), numbers[:, 1].astype(np.bool_), values)

    def write(self, path: str | Path) -> None:
        """Write all rows; `ScoresWriter` writes them as they come."""
        ScoresWriter(Path(path)).add(self.ids, self.pixels.tolist(), self.degenerate.tolist(), self.values)


class ScoresWriter:
    """Appends rows to a file that is emptied first; the columns are those of the first rows.

    Args:
        path: of the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: tuple[str, ...] | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def add(
        self,
        ids: Sequence[str],
        pixels: Sequence[int],
        degenerate: Sequence[bool],
        values: Mapping[str, Sequence[float] | NDArray[np.float64]],
    ) -> None:
        """Add images; all sequences have one value each.

        Raises:
            ConfigError: other columns than those of the first rows.
        """
        first = self._columns is None
        if self._columns is None:
            self._columns = tuple(values)
        if tuple(values) != self._columns:
            what = f"metrics changed within a test: {', '.join(self._columns)}, then {', '.join(values)}"
            raise ConfigError(what, where=self.path, next_action="let each metric give values for every batch")
        columns = [[float(value) for value in column] for column in values.values()]
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if first:
                writer.writerow([*_HEAD, *self._columns])
            writer.writerows(zip(ids, map(int, pixels), map(int, degenerate), *columns, strict=True))


def join_parts(parts: Sequence[Path], path: Path) -> None:
    """Join what several processes wrote into one file in the order of the data set, and remove the parts.

    A distributed sampler deals image k to process k modulo their number, so the rows are taken in turn. Nothing is held
    in memory, and a file of this name is replaced only when the new one is whole.

    Args:
        parts: by rank; a process without an image wrote an empty one.
        path: of the whole.

    Raises:
        DataFormatError: parts are missing: the processes do not share the folder.
    """
    missing = [str(part) for part in parts if not part.is_file()]
    if missing:
        what = f"{len(missing)} of {len(parts)} parts are missing: {', '.join(missing[:10])}"
        raise DataFormatError(what, where=path, next_action="let all processes write to one folder (run.root)")
    whole = path.with_name(f".{path.name}.whole")
    with ExitStack() as stack:
        files = [stack.enter_context(part.open(newline="", encoding="utf-8")) for part in parts]
        heads = [file.readline() for file in files]
        out = stack.enter_context(whole.open("w", newline="", encoding="utf-8"))
        out.write(next((head for head in heads if head), ",".join(_HEAD) + "\n"))
        rows = csv.writer(out, lineterminator="\n")
        for turn in zip_longest(*(csv.reader(file) for file in files)):
            rows.writerows(row for row in turn if row is not None)
    whole.replace(path)
    for part in parts:
        part.unlink()
