"""``mde evaluate``: score the predictions that any tool wrote."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mde.cli.arguments import Parser
from mde.cli.datasets import take_data_settings
from mde.cli.environment import prepare_process
from mde.cli.scoring import add_prediction_options, add_truth_options, prediction_folder, truth_of
from mde.console import console, say

if TYPE_CHECKING:
    from mde.report.evaluation import Evaluation

__all__ = ["make_parser", "run"]


def run(words: Sequence[str]) -> int:
    """Score a folder of predictions, or write it in the form that KITTI's server takes; 0 on success."""
    own, settings = take_data_settings(words)
    options = make_parser().parse_args(own)
    prepare_process()
    if options.export_kitti is not None:
        return _export(options)
    from mde.report.evaluation import evaluate_folder

    made = evaluate_folder(
        prediction_folder(options),
        truth_of(options, settings),
        options.protocol,
        alignment=options.alignment,
        by_order=options.by_order,
        placement=options.placement,
        unusable=options.unusable,
        median_depth=options.median_depth,
        name=options.name,
    )
    folder = options.out or _new_folder(made.results.model)
    made.write(folder)
    _show(made, folder)
    return 0


def _new_folder(name: str) -> Path:
    from mde.cli.runs import new_run_folder

    return new_run_folder("runs/evaluate", name)


def _export(options: argparse.Namespace) -> int:
    from mde.data.kitti import export_submission
    from mde.report.predictions import MetricMaps

    files = export_submission(MetricMaps(prediction_folder(options)), options.export_kitti)
    print(f"{len(files)} depth maps in {options.export_kitti}: zip them and upload them to KITTI's depth benchmark")
    return 0


def _show(made: Evaluation, folder: Path) -> None:
    from mde.report import metrics_table

    found = made.results
    constant = "constant" if found.baseline_depth is None else f"constant ({found.baseline_depth:.2f} m)"
    title = (
        f"{found.model} on {found.images} images, protocol {found.protocol['name']} ({found.protocol['fingerprint']})"
    )
    console().print(
        metrics_table(
            found.metrics,
            found.baseline,
            title=title,
            baseline_name=constant,
            intervals=found.intervals,
            ratio_intervals=found.ratio_intervals,
        )
    )
    for line in made.notes():
        say(line)
    say(f"Written: {folder}")


def make_parser() -> Parser:
    made = Parser(
        "evaluate",
        "Score a folder of predictions (PNG, npy, npz, TIFF, EXR, PFM) that any tool wrote, exactly as mde test scores "
        "a network. Predictions of other sizes are resized to the truth, as the protocol says.",
        [
            "mde evaluate --predictions out/ --encoding kitti --data kitti/densedepth --data.root /data/kitti",
            "mde evaluate --predictions disp/ --ambiguity affine_disparity --alignment disparity_scale_shift \\\n"
            "      --data nyu/densedepth --data.root /data/nyu --protocol nyu_eigen",
            "mde evaluate --predictions out/ --truth gt/ --truth-encoding millimetres --protocol nyu_eigen",
            "mde evaluate --predictions runs/kitti/…/predictions --export-kitti submission/",
        ],
        "exit status: 0 scored, 2 something is wrong with the options or the files",
    )
    made.add_argument("--predictions", required=True, type=Path, metavar="DIR", help="folder of the predictions")
    made.add_argument("--protocol", metavar="NAME", help="how to score (default: the data set's)")
    made.add_argument("--alignment", metavar="MODE", help="fit each prediction to its truth first; see mde.align")
    made.add_argument("--name", help="of the method, for tables (default: the folder's)")
    made.add_argument("--median-depth", type=float, metavar="M", help="metres: what the constant predictor says")
    made.add_argument("--out", type=Path, metavar="DIR", help="where results.json goes (default: a new folder in runs)")
    made.add_argument("--export-kitti", type=Path, metavar="DIR", help="write them for KITTI's depth server instead")
    add_prediction_options(made)
    add_truth_options(made)
    return made
