"""``mde sensitivity``: what each convention of evaluation does to a number, and which ones a published number used."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mde.cli.arguments import Parser
from mde.cli.datasets import data_from_spec, take_data_settings
from mde.cli.environment import prepare_process
from mde.cli.scoring import add_prediction_options, add_truth_options, prediction_folder, truth_of
from mde.console import console, counting, say
from mde.errors import ConfigError

if TYPE_CHECKING:
    from mde.protocol import EvalProtocol
    from mde.report.conventions import Published, Sensitivity
    from mde.report.pairs import Case, Truth
    from mde.types import Ambiguity

__all__ = ["make_parser", "run"]

# option -> field of the protocol, what it reads, what it says
_AXES: dict[str, tuple[str, type, str]] = {
    "crop": ("crop", str, "part of the image: none, nyu_eigen, kitti_garg, …"),
    "cap": ("max_depth", float, "truth beyond it does not count, predictions are clamped to it; metres"),
    "floor": ("min_depth", float, "likewise for what is near; metres"),
    "bounds": ("bounds", str, "exclusive, inclusive, positive"),
    "alignment": ("alignment", str, "none, median, scale, scale_shift, …"),
    "clamp": ("clamp", bool, "true, false"),
    "resize": ("resize", str, "bilinear, bilinear_corners, bicubic, nearest"),
    "space": ("space", str, "given, disparity: where predictions are resized"),
    "factor": ("factor", float, "predictions are multiplied with it, such as 5.4"),
    "swapped": ("swapped", bool, "true, false: prediction and truth change places"),
    "pooling": ("pooling", str, "image, pixel, mse, batch16"),
    "min-pixels": ("min_pixels", int, "images with fewer are left out"),
    "silog": ("silog", str, "definition: silog, eigen, half"),
    "rmse-log": ("rmse_log", str, "definition: plain, si, si_mse"),
}
_DEFINITIONS = {"silog": ("silog", "eigen", "half"), "rmse_log": ("plain", "si", "si_mse")}
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def run(words: Sequence[str]) -> int:
    """Print what every convention does, write the matrix, find published numbers; 0 on success, 1 if not found."""
    own, settings = take_data_settings(words)
    options = make_parser().parse_args(own)
    prepare_process()
    published = _published(options.find, options.tolerance) if options.find else {}
    cases, truth, ambiguity, given = _source(options, settings)
    reference = _reference(options.protocol, given)
    axes = _axes(options, reference, ambiguity, truth, published)
    from mde.report.sensitivity import sensitivity

    made = sensitivity(_counted(cases, len(truth)), reference, axes, ambiguity)
    for path, content in ((options.csv, made.csv), (options.json, made.json)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content(), encoding="utf-8")
    return _show(made, published, options)


def _source(
    options: argparse.Namespace, settings: dict[str, Any]
) -> tuple[Iterable[Case], Truth, Ambiguity, EvalProtocol | None]:
    """Predictions with their truth: of a folder, or of a network that predicts them now."""
    from mde.report.pairs import PairedFolder, TruthSet

    if (options.run is None) == (options.predictions is None):
        hint = "give the folder of a run (or a .ckpt), or --predictions DIR and what they are scored against"
        raise ConfigError("either a run or a folder of predictions is needed", next_action=hint)
    if options.run is not None:
        return _of_run(options, settings)
    folder, truth = prediction_folder(options), truth_of(options, settings)
    pairs = PairedFolder(
        folder, truth, by_order=options.by_order, placement=options.placement, unusable=options.unusable
    )
    return pairs, truth, folder.ambiguity, truth.data.protocol if isinstance(truth, TruthSet) else None


def _of_run(
    options: argparse.Namespace, settings: dict[str, Any]
) -> tuple[Iterable[Case], Truth, Ambiguity, EvalProtocol | None]:
    from mde.models.checkpoint import load, read_payload
    from mde.report.pairs import TruthSet
    from mde.report.repredicted import Repredicted, checkpoint_of

    path = checkpoint_of(options.run)
    spec = (read_payload(path).get("config") or {}).get("data")
    if options.data is not None or options.truth is not None:
        truth = truth_of(options, settings)
        if not isinstance(truth, TruthSet):
            raise ConfigError("a network needs pictures, and --truth has none", next_action="give --data NAME")
    elif spec is None:
        raise ConfigError("the checkpoint does not say its data", where=path, next_action="give --data NAME")
    else:
        truth = TruthSet(data_from_spec(spec, settings), options.split)
    module, protocol = load(path), _reference(options.protocol, truth.data.protocol)
    return Repredicted(module, truth, protocol), truth, module.ambiguity, protocol


def _reference(name: str | None, given: EvalProtocol | None) -> EvalProtocol:
    from mde.protocol import get_protocol

    if name is not None:
        return get_protocol(name)
    if given is None:
        raise ConfigError("no protocol to start from", next_action="give --protocol, such as nyu_eigen")
    return given


def _axes(
    options: argparse.Namespace, reference: EvalProtocol, ambiguity: Ambiguity, truth: Truth, published: Iterable[str]
) -> dict[str, tuple[Any, ...]]:
    """The usual axes for such data, those of the options in their place, and definitions of what is looked for."""
    from mde.report.sensitivity import default_axes, with_reference

    if not len(truth):
        raise ConfigError("there are no frames", next_action="check the split")
    rows, columns = truth.measured(0)[0].shape
    made: dict[str, Any] = dict(default_axes(reference, ambiguity, (rows, columns)))
    made |= {name: values for name, values in _DEFINITIONS.items() if name in published}
    for option, (field, kind, _) in _AXES.items():
        text = getattr(options, option.replace("-", "_"))
        if text is not None:
            made[field] = _values(text, kind, option)
    return with_reference(reference, made)


def _values(text: str, kind: type, option: str) -> tuple[Any, ...]:
    try:
        return tuple(_BOOLEANS[word.lower()] if kind is bool else kind(word) for word in text.split(","))
    except (KeyError, ValueError) as error:
        raise ConfigError(f"cannot read {text!r}", where=f"--{option}", next_action=_AXES[option][2]) from error


def _published(text: str, tolerance: float | None) -> dict[str, Published]:
    from mde.report.conventions import Published, require_metric

    made = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"cannot read {part!r}", where="--find", next_action="write abs_rel=0.098,delta1=0.95")
        made[require_metric(name.strip())] = Published.parse(value.strip(), tolerance)
    return made


def _counted(cases: Iterable[Case], total: int) -> Iterable[Case]:
    """The cases, with their number on a terminal."""
    with counting() as show:
        for number, case in enumerate(cases, start=1):
            show("images", number, total)
            yield case


def _show(made: Sensitivity, published: dict[str, Published], options: argparse.Namespace) -> int:
    from mde.report.conventions import explained

    shown = console()
    metrics = [*published] or ["abs_rel", "rmse", "delta1"]
    shown.print(made.effect_grid(metrics))
    shown.print(made.paragraph(metrics), markup=False)
    for path in (options.csv, options.json):
        if path is not None:
            say(f"Written: {path}")
    if not published:
        return 0
    finding = made.find(published)
    shown.print(made.find_grid(finding, published, options.count))
    shown.print(explained(finding), markup=False)
    return 0 if finding.matches[0].agrees else 1


def make_parser() -> Parser:
    made = Parser(
        "sensitivity",
        "Score predictions under every combination of conventions in one pass: what does each do to the numbers, and "
        "which ones did a published number use?",
        [
            "mde sensitivity runs/kitti-densedepth/2026-01-01_12-00-00 --find abs_rel=0.098,delta1=0.89",
            "mde sensitivity --predictions out/ --encoding kitti --data kitti/densedepth --data.root /data/kitti \\\n"
            "      --crop kitti_garg,kitti_eigen --cap 50,80 --csv matrix.csv",
        ],
        "exit status: 0 done, 1 no combination gives the numbers of --find, 2 something is wrong with the options",
    )
    made.add_argument("run", nargs="?", metavar="RUN", help="folder of a run, or a checkpoint: it predicts once more")
    made.add_argument("--predictions", type=Path, metavar="DIR", help="folder of predictions instead of a run")
    made.add_argument("--protocol", metavar="NAME", help="what effects are counted from (default: the data set's)")
    made.add_argument(
        "--find", metavar="M=V,…", help="published numbers, as they were printed: abs_rel=0.098,delta1=0.95"
    )
    made.add_argument("--tolerance", type=float, metavar="T", help="default: half a unit of the last printed digit")
    made.add_argument("--count", type=int, default=10, metavar="N", help="rows of the nearest conventions (default 10)")
    made.add_argument("--csv", type=Path, metavar="FILE", help="write all combinations")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all combinations")
    axes = made.add_argument_group("conventions", "values to compare, separated by commas (default: usual ones)")
    for option, (_, _, text) in _AXES.items():
        axes.add_argument(f"--{option}", metavar="V,…", help=text)
    add_prediction_options(made)
    add_truth_options(made)
    return made
