"""What ``mde evaluate`` and ``mde sensitivity`` share: the options that say which predictions and which truth."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mde.cli.datasets import make_data_module
from mde.errors import ConfigError, nearest

if TYPE_CHECKING:
    from mde.data.encodings import DepthEncoding
    from mde.report.pairs import Truth
    from mde.report.predictions import PredictionFolder
    from mde.types import Ambiguity

__all__ = ["add_prediction_options", "add_truth_options", "ambiguity_of", "prediction_folder", "truth_of"]

_AMBIGUITIES = ("metric", "scale", "affine_depth", "affine_disparity")


def add_prediction_options(parser: argparse.ArgumentParser) -> None:
    """Options that say how the files of a folder are read and paired."""
    group = parser.add_argument_group("predictions")
    group.add_argument(
        "--ambiguity",
        choices=_AMBIGUITIES,
        help="what the numbers mean; default: what files of mde predict say, metric for all others",
    )
    group.add_argument(
        "--encoding",
        metavar="E",
        help="of the numbers: kitti (1/256 m), millimetres, …, metres per unit as a number, or disparity[:SCALE] for "
        "depth = SCALE / number; not needed for floats in metres and for relative maps",
    )
    group.add_argument("--key", metavar="NAME", help="array in npz files (default: values, depth, or the only one)")
    group.add_argument("--files", default="*", metavar="PATTERN", help="only these files, such as '*.npy'")
    group.add_argument("--by-order", action="store_true", help="pair files and frames by order, not by name")
    group.add_argument(
        "--placement",
        choices=("whole", "kitti_kb"),
        default="whole",
        help="kitti_kb: predictions of KITTI's 352x1216 crop, put to their place in the frame",
    )
    group.add_argument(
        "--unusable",
        choices=("error", "skip"),
        default="error",
        help="predictions that are missing, unreadable or NaN: refuse the folder, or leave these frames out",
    )


def add_truth_options(parser: argparse.ArgumentParser) -> None:
    """Options that say what predictions are scored against."""
    group = parser.add_argument_group("truth", "a data set, or a folder of depth files")
    group.add_argument(
        "--data",
        metavar="NAME",
        help="an experiment (nyu/densedepth), a layout (nyu/bts) or the folder of a data set; its settings as "
        "--data.root DIR, --data.KEY VALUE",
    )
    group.add_argument("--split", choices=("train", "val", "test"), default="test", help="of the data set")
    group.add_argument("--truth", type=Path, metavar="DIR", help="a folder of depth files instead of a data set")
    group.add_argument("--truth-encoding", metavar="E", help="of these files, as --encoding")


def prediction_folder(options: argparse.Namespace) -> PredictionFolder:
    """The folder that the options describe."""
    from mde.report.predictions import PredictionFolder

    encoding = None if options.encoding is None else _encoding(options.encoding)
    return PredictionFolder(options.predictions, ambiguity_of(options), encoding, options.key, options.files)


def ambiguity_of(options: argparse.Namespace) -> Ambiguity | None:
    """What the user says that the numbers mean."""
    from mde.types import Ambiguity

    return None if options.ambiguity is None else Ambiguity(options.ambiguity)


def truth_of(options: argparse.Namespace, settings: Mapping[str, Any]) -> Truth:
    """The truth that the options describe.

    Raises:
        ConfigError: neither a data set nor a folder, or both, or a folder without an encoding.
    """
    from mde.report.pairs import TruthFolder, TruthSet

    if (options.data is None) == (options.truth is None):
        hint = "give --data NAME [--data.root DIR], or --truth DIR --truth-encoding E"
        raise ConfigError("predictions are scored against one data set or one folder of depth", next_action=hint)
    if options.truth is None:
        return TruthSet(make_data_module(options.data, settings), options.split)
    if options.truth_encoding is None:
        hint = "give --truth-encoding: kitti (1/256 m), millimetres, metres, … or metres per unit"
        raise ConfigError("nobody said what the numbers of the truth mean", where=options.truth, next_action=hint)
    return TruthFolder(options.truth, _encoding(options.truth_encoding))


def _encoding(text: str) -> DepthEncoding | str | float:
    """``kitti``, ``0.001``, ``disparity`` or ``disparity:389.6``."""
    from mde.data.encodings import ENCODINGS, DepthEncoding

    kind, _, scale = text.partition(":")
    try:
        if kind == "disparity":
            return DepthEncoding(float(scale or 1), "disparity", invalid=())
        return text if text in ENCODINGS else float(text)
    except ValueError as error:
        hint = f"nearest: {nearest(text, [*ENCODINGS, 'disparity'])}; or metres per unit as a number"
        raise ConfigError(f"unknown encoding {text!r}", where="--encoding", next_action=hint) from error
