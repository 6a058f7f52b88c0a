"""Predictions in the form that KITTI's depth server takes."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mde.data.io import write_depth
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError

__all__ = ["export_submission"]

_IMAGES = 500
_STEP, _FAR = 1 / 256, 65535 / 256  # metres; 0 in a file would say "no prediction"
_Map = NDArray[np.float32]


def export_submission(predictions: str | Path | Mapping[str, _Map], folder: str | Path) -> list[Path]:
    """Write depth maps as the depth benchmark wants them: uint16 PNG in 1/256 m, named as the images.

    Zip the folder and upload it at https://www.cvlibs.net/datasets/kitti/eval_depth.php?benchmark=depth_prediction.

    Args:
        predictions: the folder ``predictions`` that ``mde predict`` wrote for the anonymous images
            (`KITTISelectionDataModule` with ``part="test"``), or maps by image name: float (H,W), metres.
        folder: a new folder.

    Returns:
        The files, in order of name.

    Raises:
        ConfigError: the folder is not empty, or a name is not that of an image of the benchmark.
        DatasetNotFoundError: there are no predictions.
        DataFormatError: a prediction is not in metres, not finite, or cannot be read.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError("the folder is not empty", where=target, next_action="give a new folder")
    pairs = (
        _stored(Path(predictions))
        if isinstance(predictions, str | Path)
        else ((name, predictions[name]) for name in sorted(predictions))
    )
    files = []
    for name, metres in pairs:
        path = target / f"{_checked_name(name)}.png"
        write_depth(path, np.clip(_checked(name, metres), _STEP, _FAR), "kitti", np.uint16)
        files.append(path)
    if not files:
        hint = "run mde predict with data.part=test first, and give its folder 'predictions'"
        raise DatasetNotFoundError("there are no predictions (*.npz)", where=predictions, next_action=hint)
    if len(files) != _IMAGES:
        warnings.warn(f"{target}: {len(files)} predictions, the benchmark takes {_IMAGES}", stacklevel=2)
    return files


def _stored(folder: Path) -> Iterator[tuple[str, _Map]]:
    """Name and metres of each file that `mde.callbacks.PredictionWriter` wrote."""
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path) as stored:
                name, unit, values = str(stored["id"]), str(stored["unit"]), stored["values"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataFormatError("no prediction of mde", where=path, next_action="run mde predict again") from error
        if unit != "m":
            hint = "the benchmark wants metres: use a metric network, or align first and give the maps"
            raise DataFormatError(f"the prediction is a {unit}", where=path, next_action=hint)
        yield name, values


def _checked_name(name: str) -> str:
    if not name or "/" in name:
        hint = "predict with mde.data.kitti.KITTISelectionDataModule and part=test"
        raise ConfigError(f"{name!r} is not an image of the benchmark (0000000000, …)", next_action=hint)
    return name


def _checked(name: str, metres: _Map) -> _Map:
    if metres.ndim != 2 or not np.isfinite(metres).all():
        what = f"a prediction is a map of finite metres, this one is {metres.shape}"
        raise DataFormatError(what, where=name, next_action="predict it again")
    return metres.astype(np.float32)
