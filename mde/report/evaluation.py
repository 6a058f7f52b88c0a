"""Scoring what others wrote: a folder of predictions against the truth of a data set, or of another folder."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde import __version__
from mde.alignment import Fit, GlobalFit, require_mode
from mde.data.pairing import listed
from mde.errors import ConfigError, DataFormatError, MdeError
from mde.metrics import DepthMetrics
from mde.metrics.functional import NAMES
from mde.protocol import EvalProtocol, get_protocol
from mde.report.pairs import Case, PairedFolder, Placement, Truth, TruthSet, Unusable
from mde.report.predictions import PredictionFolder
from mde.report.results import FILE as RESULTS_FILE
from mde.report.results import Results, add_intervals, plain_constants, write_results
from mde.report.scores import CONSTANT_FILE, FILE, ImageScores
from mde.types import Ambiguity

if TYPE_CHECKING:
    from mde.data import DepthDataModule

__all__ = ["Evaluation", "evaluate_folder", "evaluate_pairs", "settled_protocol"]


class Evaluation(NamedTuple):
    """What a folder of predictions scored.

    Attributes:
        results: as of a test; `data_facts["predictions"]` says how the files were read and what was noticed.
        scores: of each image.
        constant: the same of the constant predictor, where a median depth is known.
    """

    results: Results
    scores: ImageScores
    constant: ImageScores | None

    def notes(self) -> list[str]:
        """What a reader of the numbers has to know, one sentence each."""
        facts, found = self.results.data_facts["predictions"], self.results
        protocol = found.protocol
        said = {
            f"{found.skipped} image(s) without one pixel to score were left out.": found.skipped,
            f"{found.degenerate} image(s) did not determine their alignment; a fallback stands in.": found.degenerate,
            listed("prediction(s) could not be used, these images do not count", list(facts["unusable"])): len(
                facts["unusable"]
            ),
            f"{facts['surplus']} file(s) belong to no frame of the truth and were not read.": facts["surplus"],
            f"{facts['resized']} prediction(s) were resized to their truth.": facts["resized"],
            f"{facts['not_positive']} prediction(s) have depths of zero or less, which count as "
            f"{protocol['min_depth']:g} m.": facts["not_positive"],
            "The protocol averages mirrored predictions: that is up to whoever wrote these.": protocol["flip"],
            f"Files were paired with frames by {facts['paired_by']}.": facts["paired_by"] != "path",
        }
        return [text for text, applies in said.items() if applies]

    def write(self, folder: Path) -> None:
        """Write ``results.json`` and ``per_image.csv`` as a test does."""
        folder.mkdir(parents=True, exist_ok=True)
        self.scores.write(folder / FILE)
        if self.constant is not None:
            self.constant.write(folder / CONSTANT_FILE)
        write_results(self.results, folder / RESULTS_FILE)


def evaluate_folder(
    predictions: PredictionFolder | str | Path,
    truth: Truth | DepthDataModule,
    protocol: EvalProtocol | str | None = None,
    *,
    alignment: str | None = None,
    by_order: bool = False,
    placement: Placement = "whole",
    unusable: Unusable = "error",
    median_depth: float | None = None,
    name: str | None = None,
) -> Evaluation:
    """Score a folder of predictions, one image at a time, exactly as a test scores a network.

    Args:
        predictions: the folder; give a `PredictionFolder` to say what its numbers mean.
        truth: a data module (its test split), `TruthSet`, or `TruthFolder`.
        protocol: how to score, by name or itself; None takes the data module's.
        alignment: a key of `mde.alignment.MODES` in place of the protocol's.
        by_order: pair files with frames by order and not by name.
        placement: see `PairedFolder`.
        unusable: "error" refuses predictions that are missing or cannot be scored, "skip" leaves these frames out.
        median_depth: metres; the constant predictor is scored beside. None takes the median of the training set, where
            there is one.
        name: of the method, for tables; default the folder's.

    Raises:
        ConfigError: no protocol, or an alignment that does not fit the predictions.
        DataFormatError: predictions are missing or cannot be scored (all are counted), or no image has a pixel that
            counts.
    """
    folder = predictions if isinstance(predictions, PredictionFolder) else PredictionFolder(predictions)
    source = _source(truth)
    data = source.data if isinstance(source, TruthSet) else None
    pairs = PairedFolder(folder, source, by_order=by_order, placement=placement, unusable=unusable)
    settled = settled_protocol(protocol, alignment, folder.ambiguity, data)
    if median_depth is None and data is not None:
        median_depth = _train_median(data)
    made = evaluate_pairs(pairs, settled, median_depth)
    made.results.model = name or folder.root.resolve().name
    return made


def _source(truth: Truth | DepthDataModule) -> Truth:
    from mde.data import DepthDataModule  # Lightning takes seconds, and two folders do not need it

    return TruthSet(truth) if isinstance(truth, DepthDataModule) else truth


def settled_protocol(
    protocol: EvalProtocol | str | None, alignment: str | None, ambiguity: Ambiguity, data: DepthDataModule | None
) -> EvalProtocol:
    """The protocol to score by, with the alignment that was asked for.

    Raises:
        ConfigError: there is none, or its alignment does not fit the predictions; says which does.
    """
    if protocol is None:
        if data is None:
            raise ConfigError("no protocol", next_action="give one, such as nyu_eigen or kitti_eigen_garg_80")
        protocol = data.protocol
    settled = get_protocol(protocol) if isinstance(protocol, str) else protocol
    if alignment is not None and alignment != settled.alignment:
        settled = replace(settled, name=f"{settled.name}, alignment {alignment}", alignment=alignment)
    require_mode(settled.alignment, ambiguity)
    return settled


def evaluate_pairs(pairs: PairedFolder, protocol: EvalProtocol, median_depth: float | None) -> Evaluation:
    """Score predictions that are paired with their truth; see `evaluate_folder`."""
    constants = _constants_of_the_set(pairs, protocol)
    own, other = _Tally(protocol, constants), _Tally(protocol, constants)
    ambiguity = pairs.folder.ambiguity
    for case in pairs:
        depth, _ = case.target
        protocol.window(*depth.shape[-2:])  # a crop that is not defined here is wrong for the whole set
        try:
            own.add(case.id, case.prediction, case, ambiguity)
        except DataFormatError:
            pairs.noticed.unusable[case.id] = "NaN at a pixel that counts"
            continue
        if median_depth is not None:
            constant = 1 / median_depth if ambiguity is Ambiguity.AFFINE_DISPARITY else median_depth
            other.add(case.id, torch.full_like(depth, constant), case, ambiguity)
    if not own.metrics.counts().images:
        what = f"no image has a pixel that counts ({len(pairs.ids)} frames, {len(pairs.noticed.unusable)} left out)"
        raise DataFormatError(what, where=pairs.folder.root, next_action="check the protocol's range and crop")
    return _evaluation(pairs, own, None if median_depth is None else other, median_depth)


def _constants_of_the_set(pairs: PairedFolder, protocol: EvalProtocol) -> Fit | None:
    """One fit for all images, where the protocol wants it: a pass of its own."""
    if protocol.alignment_scope == "image":
        return None
    if protocol.alignment_scope == "train":
        hint = "use a protocol with alignment_scope set or image"
        raise ConfigError(
            "predictions of the training set are not here to fit on", where=protocol.name, next_action=hint
        )
    whole = GlobalFit(protocol.alignment, protocol.alignment_pooling)
    for case in pairs:
        pred = protocol.resized(case.prediction, *case.target, pairs.folder.ambiguity)
        whole.update(pred, case.target[0], protocol.mask(*case.target))
    return whole.compute()


class _Tally:
    """The metrics of a set and of each image."""

    def __init__(self, protocol: EvalProtocol, constants: Fit | None) -> None:
        self.metrics = DepthMetrics(protocol, constants=constants)
        self._ids: list[str] = []
        self._rows: list[tuple[NDArray[np.float64], int, bool]] = []

    def add(self, frame: str, pred: Tensor, case: Case, ambiguity: Ambiguity) -> None:
        self.metrics.update(pred, *case.target, ambiguity=ambiguity)
        found = self.metrics.last
        if found is not None:
            self._ids.append(frame)
            self._rows.append((found.errors[0].numpy(), int(found.pixels[0]), bool(found.degenerate[0])))

    def values(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.metrics.compute().items()}

    def scores(self) -> ImageScores:
        errors, pixels, degenerate = zip(*self._rows, strict=True)
        columns = np.stack(errors).T
        return ImageScores(
            tuple(self._ids), np.array(pixels), np.array(degenerate), dict(zip(NAMES, columns, strict=True))
        )


def _evaluation(pairs: PairedFolder, own: _Tally, other: _Tally | None, median_depth: float | None) -> Evaluation:
    scores, counts, protocol = own.scores(), own.metrics.counts(), own.metrics.protocol
    constant = None if other is None else other.scores()
    data = pairs.truth.data if isinstance(pairs.truth, TruthSet) else None
    results = Results(
        metrics=own.values(),
        baseline=None if other is None else other.values(),
        baseline_depth=median_depth,
        protocol=protocol.to_dict(),
        images=counts.images,
        skipped=counts.skipped,
        degenerate=counts.degenerate,
        definitions={name: float(value) for name, value in own.metrics.other_definitions().items()},
        alignment_constants=plain_constants(own.metrics.constants),
        data=type(data or pairs.truth).__name__,
        data_facts={**({} if data is None else data.record()), "predictions": _facts(pairs)},
        versions={"mde": __version__, "torch": torch.__version__, "numpy": np.__version__},
    )
    add_intervals(results, scores, constant)
    return Evaluation(results, scores, constant)


def _facts(pairs: PairedFolder) -> dict[str, Any]:
    """How the files were read, and what was met."""
    folder = pairs.folder
    return {
        "folder": str(folder.root),
        "ambiguity": folder.ambiguity.value,
        "encoding": None if folder.encoding is None else str(folder.encoding),
        "paired_by": pairs.pairing.rule,
        "placement": pairs.placement,
        "surplus": len(pairs.pairing.surplus),
        **asdict(pairs.noticed),
    }


def _train_median(data: DepthDataModule) -> float | None:
    try:
        return data.train_median_depth()
    except MdeError:  # the training set need not be there to score the test set
        return None
