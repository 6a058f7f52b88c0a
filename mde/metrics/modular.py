"""`DepthMetrics`: the ten depth errors under a protocol, as one torchmetrics Metric."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from mde.alignment import Fit
from mde.errors import ConfigError, DataFormatError
from mde.metrics.functional import (
    LOG_NAMES,
    NAMES,
    SUMS,
    all_errors,
    errors_from_sums,
    failed_images,
    log_errors_from_sums,
    pixel_sums,
    require_counts,
)
from mde.protocol import EvalProtocol
from mde.types import Ambiguity

__all__ = ["BatchErrors", "Counts", "DepthMetrics"]

# Errors of an image are rounded to this step before they are added. Sums of multiples of 2^-34 below 2^19 are exact in
# float64 (53 bits), and exact sums do not depend on order: neither the batch size nor the number of processes changes a
# single bit. The step is 6e-11, far below the noise of a float32 prediction.
_STEP = 2.0**-34
_COARSER = 2.0**8  # times the step for mean squares, which are larger
_GROUP = 16  # images that paper 1 scores together
_POOLINGS = ("image", "pixel", "mse", "batch16")
# What the state holds: sums over images of their errors, of those of other definitions, and of their mean squares; sums
# over all pixels; how many images counted, were skipped, and fell back.
_PARTS = [len(NAMES), len(LOG_NAMES), 1, len(SUMS), 3]
_RMSE = NAMES.index("rmse")

_Values = Any  # an array on a CPU, a tensor elsewhere


class BatchErrors(NamedTuple):
    """The errors of each image of one batch.

    Attributes:
        errors: float64 (B,10), the columns are `NAMES`; NaN for an image that is in no average.
        pixels: int64 (B,), the pixels that count; 0 for an image that was left out.
        degenerate: bool (B,), images whose alignment fell back.
    """

    errors: Tensor
    pixels: Tensor
    degenerate: Tensor


class Counts(NamedTuple):
    """How much went into a result.

    Attributes:
        images: images with at least one pixel that counts.
        pixels: pixels that count, over all images.
        skipped: images without one; they are in no average.
        degenerate: images whose alignment fell back (see `mde.alignment.fit`); they are in the averages.
    """

    images: int
    pixels: int
    skipped: int
    degenerate: int


class DepthMetrics(Metric):
    """The ten errors of `depth_errors`, averaged as a protocol says, over what it keeps.

    One Metric, not a MetricCollection: with its default compute_groups=True a collection merges metrics whose states
    are equal after the first batch, and an easy first batch makes the three deltas equal for good. All states are sums
    in float64 in one vector, so one reduction joins the processes.

    Args:
        protocol: resizes, aligns, clamps and masks, and says what the errors are.
        pooling: "image", "pixel", "mse" or "batch16", see `EvalProtocol`; default: as the protocol says.
        prefix: put before each name in the result, such as "val/".
        constants: of the whole set, where the protocol's `alignment_scope` is not "image".

    Raises:
        ConfigError: unknown pooling.

    >>> truth = torch.tensor([[[[1.0, 2.0, 0.0]]]])
    >>> metric = DepthMetrics(EvalProtocol(max_depth=10.0), prefix="val/")
    >>> metric.update(1.1 * truth, truth, truth > 0)
    >>> round(metric.compute()["val/abs_rel"].item(), 4), metric.counts().pixels
    (0.1, 2)
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    state: Tensor
    groups: Tensor

    last: BatchErrors | None = None
    """What the last `update` found, image by image."""

    def __init__(
        self, protocol: EvalProtocol, pooling: str | None = None, prefix: str = "", constants: Fit | None = None
    ) -> None:
        super().__init__()
        self.protocol = protocol
        self.pooling = protocol.pooling if pooling is None else pooling
        if self.pooling not in _POOLINGS:
            hint = f"use {', '.join(_POOLINGS)}"
            raise ConfigError(f"unknown pooling {pooling!r}", where="DepthMetrics", next_action=hint)
        self.prefix = prefix
        self.constants = constants
        self.add_state("state", torch.zeros(sum(_PARTS), dtype=torch.float64), dist_reduce_fx="sum")
        # of whole groups of images the sum of their rmse and their number; then squares, pixels and images of the next
        self.add_state("groups", torch.zeros(5, dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        pred: Tensor,
        target: Tensor,
        valid: Tensor,
        ambiguity: Ambiguity = Ambiguity.METRIC,
        counts: Tensor | None = None,
    ) -> None:
        """Add a batch.

        Args:
            pred: (B,1,h,w), what the network gives, any size; garbage allowed where no pixel counts. Not modified.
            target: (B,1,H,W), metres.
            valid: bool (B,1,H,W), where the sensor measured.
            ambiguity: what the numbers of `pred` mean.
            counts: bool (B,), False leaves an image out entirely: the duplicates that pad a distributed sampler.

        Raises:
            DataFormatError: a prediction is NaN (or, under a protocol that does not clamp, not positive and finite) at
                a pixel that counts; names the image. Off the CPU `compute` raises instead, as looking at the values
                here would make the host wait. An infinity is clamped to the range.
            ConfigError: the alignment does not fit the ambiguity, or shapes do not fit.
        """
        crop = self.protocol.cropped(pred, target, valid, ambiguity, self.constants)
        counted = None if counts is None else require_counts(counts, len(pred)).to(crop.mask.device)
        sums = self._sums(crop.pred, crop.target, crop.mask if counted is None else crop.mask & _per_image(counted))
        if sums.device.type == "cpu":
            self._require_finite(sums)
            arrays = (t if t is None else t.numpy() for t in (sums, crop.degenerate, counted))
            errors, tally = _tally(self.protocol, np.zeros(sum(_PARTS)), *arrays)
            errors, tally = torch.from_numpy(errors), torch.from_numpy(tally)
        else:
            errors, tally = _tally(self.protocol, sums.new_zeros(sum(_PARTS)), sums, crop.degenerate, counted)
        self.last = BatchErrors(errors, sums[:, 0].long(), crop.degenerate)
        # a new tensor: one made under inference mode could not be changed in place outside of it
        self.state = self.state + tally.to(self.state.device)
        if self.pooling == "batch16":
            self.groups = _grouped(self.groups, sums if counted is None else sums[counted])

    def _sums(self, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """The sums over pixels of each image, (B,11)."""
        limits = self.protocol.limits
        if not self.protocol.swapped:
            return pixel_sums(pred, target, mask, limits)
        return pixel_sums(target, pred if limits is None else pred.clamp(*limits), mask)

    def compute(self) -> dict[str, Tensor]:
        """The errors as float64 scalars by name, NaN while no image counted.

        Raises:
            DataFormatError: a prediction was NaN at a pixel that counts.
        """
        errors, _, squares, sums, tallies = torch.split(self.state, _PARTS)
        if self.pooling == "pixel":
            result = errors_from_sums(sums, self.protocol.silog, self.protocol.rmse_log)
        else:
            result = errors / tallies[0]
        if self.pooling == "mse":
            result[_RMSE] = (squares[0] / tallies[0]).sqrt()
        elif self.pooling == "batch16":
            result[_RMSE] = self._mean_of_groups()
        if tallies[0] > 0 and not bool(result.isfinite().all()):
            raise DataFormatError(
                "a prediction was NaN at a pixel that counts",
                where=f"one of {int(tallies[0])} images",
                next_action="evaluate on the CPU, which names the image, and look for NaN in the weights",
            )
        return {f"{self.prefix}{name}": value for name, value in zip(NAMES, result.unbind(), strict=True)}

    def other_definitions(self) -> dict[str, Tensor]:
        """What else is called rmse_log or silog, float64 scalars by name (`LOG_NAMES`), pooled as the ten errors are;
        over all processes (each of them has to call this)."""
        with self.sync_context():
            _, others, _, sums, tallies = torch.split(self.state, _PARTS)
            result = log_errors_from_sums(sums) if self.pooling == "pixel" else others / tallies[0]
        return {f"{self.prefix}{name}": value for name, value in zip(LOG_NAMES, result.unbind(), strict=True)}

    def counts(self) -> Counts:
        """How many images and pixels went in, over all processes (each of them has to call this)."""
        with self.sync_context():
            *_, sums, tallies = torch.split(self.state, _PARTS)
            images, skipped, degenerate = (int(value) for value in tallies.tolist())
            pixels = int(sums[0])
        return Counts(images=images, pixels=pixels, skipped=skipped, degenerate=degenerate)

    def _mean_of_groups(self) -> Tensor:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            processes = torch.distributed.get_world_size()
            if processes > 1:
                what = f"rmse over {_GROUP} images in a row depends on their order, which {processes} processes share"
                raise ConfigError(what, where="protocol.pooling", next_action="evaluate with one process")
        total, whole, squares, pixels, _ = self.groups
        return (total + (squares / pixels.clamp(min=1)).sqrt()) / (whole + (pixels > 0))

    def _require_finite(self, sums: Tensor) -> None:
        failed = failed_images(sums)
        if failed:
            raise DataFormatError(
                "the prediction is NaN at a pixel that counts"
                if self.protocol.clamp
                else "the prediction is not positive and finite at a pixel that counts",
                where=f"image {', '.join(map(str, failed))} of the batch",
                next_action="look for NaN in the weights or the loss; nothing of this batch was counted"
                if self.protocol.clamp
                else "use a protocol that clamps; nothing of this batch was counted",
            )


def _per_image(flags: Tensor) -> Tensor:
    return flags.view(-1, 1, 1, 1)


def _tally(
    protocol: EvalProtocol, tally: _Values, sums: _Values, degenerate: _Values, counted: _Values | None
) -> tuple[_Values, _Values]:
    """Errors of each image, (B,10), and what the batch adds to the state, (29,), put into `tally`.

    In operators that arrays and tensors share: on a CPU a handful of numbers takes NumPy a fifth of the time of torch.
    """
    errors, others = all_errors(sums, protocol.silog, protocol.rmse_log)
    seen = sums[:, 0] > 0
    ten, five = errors / _STEP, others / _STEP
    five[:, 4] /= _COARSER
    ten[~seen] = 0
    five[~seen] = 0
    # whole numbers, whose sums are exact
    tally[:10] = ten.round().sum(0) * _STEP
    tally[10:15] = five.round().sum(0) * _STEP
    tally[14] *= _COARSER
    tally[15:26] = sums.sum(0)
    tally[26] = seen.sum()
    tally[27] = (~seen if counted is None else ~seen & counted).sum()
    tally[28] = (seen & degenerate).sum()
    return errors, tally


def _grouped(groups: Tensor, sums: Tensor) -> Tensor:
    """The groups after more images; one without a pixel has its place in them, too."""
    total, whole, squares, pixels, images = groups.tolist()
    for count, square in sums[:, [0, 3]].tolist():
        squares, pixels, images = squares + (square if count else 0.0), pixels + count, images + 1
        if images == _GROUP:
            if pixels:
                total, whole = total + math.sqrt(squares / pixels), whole + 1
            squares, pixels, images = 0.0, 0.0, 0
    return torch.tensor((total, whole, squares, pixels, images), dtype=torch.float64, device=groups.device)
