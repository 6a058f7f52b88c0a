"""What a test scores beside the network's prediction: variants of it, other alignments, and metrics that the protocol
does not have. All of it uses what the test has predicted already (``outputs["pred"]``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import isnan
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric

from mde.alignment import FITTING, require_mode
from mde.data import DepthDataModule
from mde.errors import ConfigError
from mde.geometry import truth_intrinsics
from mde.metrics import DepthMetrics, SSIMMetric
from mde.metrics.boundary import BoundaryF1, EdgeErrors
from mde.metrics.groups import GroupedErrors
from mde.metrics.images import ImageMetric
from mde.metrics.normals import NormalErrors, PlaneErrors
from mde.metrics.points import PointErrors
from mde.metrics.ranges import RangeErrors
from mde.metrics.semantic import ClassErrors
from mde.metrics.uncertainty import UncertaintyScores
from mde.models import DepthModule
from mde.models.tta import averaged
from mde.types import Ambiguity, Batch

__all__ = ["Alignments", "ExtraMetrics", "FullScores", "OffersUncertainty", "VariantScores"]


@runtime_checkable
class OffersUncertainty(Protocol):
    """A module that says how sure it is, such as `mde.models.DeepLabSID`."""

    def uncertainty(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Of (B,3,H,W) RGB in [0,1]: the standard deviation of the predicted depth in metres, and another measure of
        the method's own (such as the entropy of its posterior), each (B,1,H,W)."""


class VariantScores:
    """The protocol's errors of other predictions of the network, such as those without post-processing."""

    def __init__(self) -> None:
        self._metrics: dict[str, DepthMetrics] = {}

    def update(self, module: DepthModule, outputs: Mapping[str, Tensor], batch: Batch, counts: Tensor | None) -> None:
        """Add a batch, exactly as the test adds the prediction itself.

        Args:
            module: the network under test.
            outputs: of its test step: all but "pred" are variants.
            batch: of the test.
            counts: bool (B,), False leaves an image out.
        """
        protocol = module.scoring_protocol
        for name, pred in outputs.items():
            if name == "pred":
                continue
            if name not in self._metrics:
                made = DepthMetrics(protocol, constants=module.alignment_constants)
                self._metrics[name] = made.to(module.device)
            metrics = self._metrics[name]
            metrics.update(pred, batch["depth"], batch["valid"], ambiguity=module.ambiguity, counts=counts)

    def compute(self) -> dict[str, dict[str, float]]:
        """Errors by variant, over all processes (each of them has to call this)."""
        return {name: as_floats(metrics.compute()) for name, metrics in self._metrics.items()}


class Alignments(Callback):
    """Scores the same prediction under other alignments; ``results.json`` carries them under "variants".

    A metric network beside itself aligned by median says how much of its error is a matter of scale; a relative one,
    how much the choice of the fit is worth. The plain column of the results is the protocol's own alignment; the others
    are fitted to each image.

    Args:
        modes: keys of `mde.alignment.MODES`; None takes all that fit what the network predicts.

    Raises:
        ConfigError: a mode is unknown, or does not fit what the network predicts; names those that do.
    """

    def __init__(self, modes: Sequence[str] | None = None) -> None:
        self.modes = None if modes is None else tuple(modes)
        self._metrics: dict[str, DepthMetrics] = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._metrics = {}
        if not isinstance(pl_module, DepthModule):
            return
        protocol = pl_module.scoring_protocol
        for mode in FITTING[pl_module.ambiguity] if self.modes is None else self.modes:
            require_mode(mode, pl_module.ambiguity)
            if mode != protocol.alignment or protocol.alignment_scope != "image":
                name = "unaligned" if mode == "none" else f"aligned by {mode}"
                other = replace(protocol, alignment=mode, alignment_scope="image")
                self._metrics[name] = DepthMetrics(other).to(pl_module.device)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        if not isinstance(pl_module, DepthModule):
            return
        counts = pl_module.counted(batch_idx, trainer.test_dataloaders)
        for metrics in self._metrics.values():
            metrics.update(outputs["pred"], batch["depth"], batch["valid"], pl_module.ambiguity, counts)

    def compute(self) -> dict[str, dict[str, float]]:
        """Errors by alignment, over all processes (each of them has to call this)."""
        return {name: as_floats(metrics.compute()) for name, metrics in self._metrics.items()}


class ExtraMetrics(Callback):
    """Scores what is tested by more metrics; ``results.json`` carries them under "extra" and "tables".

    The prediction is brought to the truth's size, aligned and clamped as the protocol says. An `ImageMetric` and a
    `GroupedErrors` get the pixels that count under the protocol and what they name in `needs`: the camera of the
    truth's size, labels, a standard deviation (for which the network is asked once more). Any other metric gets all
    valid pixels, be they beyond the protocol's range or not, as a window of SSIM needs whole neighbourhoods.

    Args:
        metrics: by name; each takes ``update(pred, target, valid, counts)`` in metres, as `mde.metrics.SSIMMetric`. One
            with several values has them as ``<name>_<value>``, a `GroupedErrors` as a table of its name.

    Raises:
        ConfigError: at the first batch, if the data or the network do not have what a metric needs.
    """

    lenient: ClassVar[bool] = False  # leave out what cannot be had, with a line that says so

    def __init__(self, metrics: dict[str, Metric]) -> None:
        self._given = dict(metrics)
        self._metrics = nn.ModuleDict(metrics)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._metrics = nn.ModuleDict(self._given).to(pl_module.device)
        for metric in self._metrics.values():
            metric.reset()  # type: ignore[operator]
            if isinstance(metric, GroupedErrors) and isinstance(pl_module, DepthModule) and pl_module.protocol:
                metric.protocol = pl_module.protocol
            if isinstance(metric, ClassErrors) and not metric.names:
                metric.names = _class_names(trainer)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        if not isinstance(pl_module, DepthModule):
            return
        scene = _Scene(pl_module, outputs["pred"], batch)
        counts = pl_module.counted(batch_idx, trainer.test_dataloaders)
        for name, metric in list(self._metrics.items()):
            if isinstance(metric, ImageMetric | GroupedErrors):
                self._add(name, metric, scene, counts)
            else:
                metric.update(scene.pred, batch["depth"], batch["valid"], counts)  # type: ignore[operator]

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, metric in self._metrics.items():
            lacking = {k: v for k, v in metric.skipped().items() if v} if isinstance(metric, ImageMetric) else {}
            if lacking:
                parts = ", ".join(f"{column} of {count} image(s)" for column, count in lacking.items())
                rank_zero_info(f"{name}: left out of the means, as there was nothing to score: {parts}.")

    def compute(self) -> dict[str, float]:
        """Values by name, over all processes (each of them has to call this)."""
        found: dict[str, Tensor] = {}
        for name, metric in self._metrics.items():
            if not isinstance(metric, GroupedErrors):
                value = metric.compute()  # type: ignore[operator]
                found.update(_named(name, value) if isinstance(value, dict) else {name: value})
        return {name: value for name, value in as_floats(found).items() if not (self.lenient and isnan(value))}

    def tables(self) -> dict[str, dict[str, dict[str, float]]]:
        """Sub-tables: metric -> group -> error -> value, over all processes (each of them has to call this)."""
        grouped = {name: metric for name, metric in self._metrics.items() if isinstance(metric, GroupedErrors)}
        return {
            name: {group: as_floats(row) for group, row in metric.compute().items()} for name, metric in grouped.items()
        }

    def last_per_image(self) -> dict[str, Tensor]:
        """Values of each image of the last batch by the names of `compute`, float64 (B,), of the metrics that keep
        them; NaN where an image has none."""
        found: dict[str, Tensor] = {}
        for name, metric in self._metrics.items():
            if isinstance(metric, ImageMetric) and metric.last is not None:
                found.update(_named(name, dict(zip(metric.columns, metric.last.unbind(1), strict=True))))
            elif isinstance(metric, SSIMMetric) and metric.last is not None:
                found[name] = metric.last
        return found

    def _add(self, name: str, metric: ImageMetric | GroupedErrors, scene: _Scene, counts: Tensor | None) -> None:
        lacking = [reason for need in metric.needs if (reason := scene.lacks(need))]
        if not lacking:
            inputs = {need: getattr(scene, need) for need in metric.needs}
            metric.update(scene.pred, scene.batch["depth"], scene.mask, counts, **inputs)
        elif self.lenient:
            rank_zero_info(f"{name} is left out: {lacking[0]}.")
            del self._metrics[name]
        else:
            raise ConfigError(lacking[0], where=f"metric {name!r}", next_action="leave this metric out")


class FullScores(ExtraMetrics):
    """All metrics of the library with their usual settings, those left out that the data or the network cannot feed.

    ``boundary`` (F1), ``edges`` (distances in pixels), ``normals``, ``planes``, ``points`` (Chamfer and F-score),
    ``uncertainty``, and the tables ``ranges`` and ``classes``.

    Args:
        ranges: edges in metres of the table by distance.
        threshold: metres, of the F-score of point clouds; 0.1 suits rooms, 0.5 streets.
        points: at most so many points of each cloud.
    """

    lenient = True

    def __init__(
        self, ranges: Sequence[float] = (0, 2, 5, 10, 20, 40, 80), threshold: float = 0.1, points: int = 10_000
    ) -> None:
        super().__init__(
            {
                "boundary": BoundaryF1(),
                "edges": EdgeErrors(),
                "normals": NormalErrors(),
                "planes": PlaneErrors(),
                "points": PointErrors(threshold=threshold, points=points),
                "uncertainty": UncertaintyScores(),
                "ranges": RangeErrors(ranges),
                "classes": ClassErrors(),
            }
        )


class _Scene:
    """A batch as metrics want it, at the size of the truth; what nobody asks for is not made."""

    def __init__(self, module: DepthModule, pred: Tensor, batch: Batch) -> None:
        self.module, self.batch = module, batch
        self.protocol = module.scoring_protocol
        prepared = module.prepared(pred, batch)
        self.pred, self.mask = prepared.pred, prepared.mask

    def lacks(self, need: str) -> str | None:
        """Why an input cannot be had, or None; an image without a camera is for the metric to leave out."""
        if need == "labels" and "labels" not in self.batch:
            return "the data give no semantic labels (data.labels true adds them where there are some)"
        if need == "std" and not isinstance(self.module, OffersUncertainty):
            return f"{type(self.module).__name__} gives no standard deviation of its depth"
        if need == "std" and self.protocol.alignment != "none":
            return f"a std in metres does not belong to depth that alignment {self.protocol.alignment!r} has moved"
        return None

    @cached_property
    def intrinsics(self) -> Tensor:
        """(B,3,3), pixels of the truth; NaN where the camera is unknown."""
        return truth_intrinsics(self.batch)

    @property
    def labels(self) -> Tensor:
        """uint8 (B,1,H,W)."""
        return self.batch["labels"]

    @cached_property
    def std(self) -> Tensor:
        """(B,1,H,W), metres; the mean of those whose predictions are averaged, which that of the average does not
        exceed."""
        if not isinstance(self.module, OffersUncertainty):
            raise ConfigError("gives no standard deviation", where=type(self.module).__name__)
        module, plain = self.module, replace(self.protocol, space="given")
        with torch.no_grad(), module.trainer.precision_plugin.forward_context():
            std = averaged(
                lambda each: module.uncertainty(each)[0].float(), self.batch["image"], plain, Ambiguity.METRIC
            )
        size = self.batch["depth"].shape[-2:]
        return self.protocol.factor * F.interpolate(std, size=size, mode="bilinear", align_corners=False)


def as_floats(values: dict[str, Tensor]) -> dict[str, float]:
    """Scalars as plain numbers."""
    return {name: float(value) for name, value in values.items()}


def _named(name: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}_{column}": value for column, value in values.items()}


def _class_names(trainer: Trainer) -> dict[int, str]:
    """What the data module says of its classes in its facts; empty where it says nothing."""
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    facts = datamodule.facts() if isinstance(datamodule, DepthDataModule) else {}
    return {int(number): str(name) for number, name in facts.get("classes", {}).items()}
