"""The data module of NYU Depth v2, whatever its layout."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info

from mde.data.base import DepthDataModule
from mde.data.dataset import DepthDataset
from mde.data.layouts import recognise
from mde.data.nyu.base import Choice, NYUCopy
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError, nearest
from mde.protocol import EvalProtocol

__all__ = ["COPIES", "NYUDepthV2DataModule"]

COPIES: Mapping[str, str] = MappingProxyType(
    {
        "nyu/labeled": "labeled:LabeledCopy",
        "nyu/densedepth": "pairs:DenseDepthCopy",
        "nyu/bts": "pairs:BtsCopy",
        "nyu/h5": "fastdepth:FastDepthCopy",
        "nyu/parquet": "parquet:ParquetCopy",
        "nyu/eigen_npy": "arrays:EigenArraysCopy",
    }
)
"""The reader of each layout."""
_DEFAULT = "nyu/labeled"


class NYUDepthV2DataModule(DepthDataModule):
    """NYU Depth v2 in any of its layouts.

    The test part is always that of the authors (654 frames), except in the splits of two papers. Validation is held out
    from the training frames by whole rooms. What exactly was read is in `facts`, hence in every result.

    Args:
        root: the folder or file.
        layout: "auto": by looking; or a name of `mde.data.layouts.nyu`, such as "nyu/bts".
        split: "official"; "paper3" (labelled set: 1000 / 224 / 225, see `split_rows`); "paper0" (DenseDepth's set:
            45,619 / 4,562 / 507, see `paper0_rows`).
        depth: "filled" (in-painted) or "raw" (with holes). Only the labelled set has both (None: filled); the other
            layouts hold one of the two.
        chunks: of paper 0, see `paper0_rows`.
        lists: list files of BTS, {"train": path, "test": path}, where they are not in the root.
        test_root: another copy, in any layout, whose test part is used in place of that of `root`.
        missing: "error", or "skip": leave out frames of which a file is not there, with a warning and a fact.
        val_on_test: validate on the test part. Common, but a model chosen so has seen the test set.
        image_size: (height, width) of the network's input.
        protocol: default "nyu_eigen" for raw depth, "nyu_eigen_filled" for filled, "nyu_densedepth" for its arrays.
        depth_range: metres, (0.1, 10); the ground truth is clipped to 10 m by its authors.
        common: see `DepthDataModule`.
    """

    def __init__(
        self,
        root: str,
        layout: str = "auto",
        split: Literal["official", "paper0", "paper3"] = "official",
        depth: Literal["filled", "raw"] | None = None,
        *,
        chunks: list[int] | None = None,
        lists: dict[str, str] | None = None,
        test_root: str | None = None,
        missing: Literal["error", "skip"] = "error",
        val_on_test: bool = False,
        image_size: tuple[int, int] = (480, 640),
        protocol: str | EvalProtocol | None = None,
        depth_range: tuple[float, float] = (0.1, 10.0),
        **common: Any,
    ) -> None:
        names = {root: _look(root) if layout == "auto" else layout}
        if test_root is not None:
            names.setdefault(test_root, _look(test_root))
        own, tested = _copy_class(names[root]), _copy_class(names[test_root or root])
        _check(depth, missing, lists, split, chunks, test_root)
        protocol = protocol or tested.protocols[tested.kind_of(depth)]
        super().__init__(protocol=protocol, depth_range=depth_range, image_size=image_size, **common)
        self.root = root
        self.test_root = test_root
        self.layout = own.layout
        self._strange = [place for place, name in names.items() if name is None]
        self.val_on_test = val_on_test
        # with a test copy of its own, `depth` says which truth is tested on
        kind = depth if test_root is None or depth in own.truths else None
        rows = None if chunks is None else tuple(chunks)
        self.train_copy = own(Path(root), Choice(split, kind, rows, lists, missing, val_on_test))
        self.test_copy = self.train_copy
        if test_root is not None:
            self.test_copy = tested(Path(test_root), Choice(depth=depth, missing=missing, val_on_test=val_on_test))

    def make_dataset(self, split: str) -> DepthDataset:
        tested = split == "test" or (split == "val" and self.val_on_test)
        copy = self.test_copy if tested else self.train_copy
        for place in self._strange:
            if Path(place) == copy.root and copy.root.exists():
                recognise(place, "nyu")  # says what the folder should look like
        if split == "val" and self.val_on_test:
            rank_zero_info("validation uses the test frames of NYU Depth v2 (val_on_test): do not choose a model by it")
        return copy.dataset(split, self.transform(split), self.seed)

    def facts(self) -> dict[str, Any]:
        found = self.train_copy.facts()
        return found if self.test_copy is self.train_copy else {**found, "tested_on": self.test_copy.facts()}


def _look(root: str) -> str | None:
    """The layout that is recognised."""
    try:
        return recognise(root, "nyu").name
    except (DatasetNotFoundError, DataFormatError):
        return None


def _copy_class(layout: str | None) -> type[NYUCopy]:
    """The reader of a layout; where none is recognised that of the labelled set, which says what is missing."""
    layout = layout or _DEFAULT
    if layout not in COPIES:
        hint = f"use auto, or one of {nearest(layout, COPIES, 6)}"
        raise ConfigError(f"unknown layout {layout!r}", where="data.layout", next_action=hint)
    module, _, name = COPIES[layout].partition(":")
    found: type[NYUCopy] = getattr(import_module(f"mde.data.nyu.{module}"), name)
    return found


def _check(
    depth: str | None, missing: str, lists: Mapping[str, str] | None, split: str, chunks: Any, test_root: str | None
) -> None:
    """Raise a `ConfigError` for settings that are unknown or contradict each other."""
    if depth not in (None, "filled", "raw"):
        raise ConfigError(f"unknown depth {depth!r}", where="data.depth", next_action="use filled or raw")
    if missing not in ("error", "skip"):
        raise ConfigError(f"unknown way {missing!r}", where="data.missing", next_action="use error or skip")
    if lists and set(lists) - {"train", "test"}:
        hint = "validation takes whole rooms of the training list"
        raise ConfigError(f"lists are of train and test, got {sorted(lists)}", where="data.lists", next_action=hint)
    if chunks is not None and split != "paper0":
        raise ConfigError("chunks are those of paper 0", where="data.chunks", next_action="set data.split to paper0")
    if test_root is not None and split != "official":
        what = f"the split {split} has its own test part, and trains on frames of the official one"
        raise ConfigError(what, where="data.test_root", next_action="leave it out, or set data.split to official")
