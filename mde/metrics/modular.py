"""`DepthMetrics`: the ten depth errors under a protocol, as one torchmetrics Metric."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from mde.errors import ConfigError, DataFormatError
from mde.metrics.functional import NAMES, SUMS, errors_from_sums, failed_images, pixel_sums, require_counts
from mde.protocol import EvalProtocol
from mde.types import Ambiguity

__all__ = ["BatchErrors", "Counts", "DepthMetrics"]

# Errors of an image are rounded to this step before they are added. Sums of multiples of 2^-34 below 2^19 are exact in
# float64 (53 bits), and exact sums do not depend on order: neither the batch size nor the number of processes changes a
# single bit. The step is 6e-11, far below the noise of a float32 prediction.
_STEP = 2.0**-34


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
    """The ten errors of `depth_errors`, averaged over images (or pooled over pixels) under a protocol.

    One Metric, not a MetricCollection: with its default compute_groups=True a collection merges metrics whose states
    are equal after the first batch, and an easy first batch makes the three deltas equal for good. All states are sums
    in float64 in one vector, so one reduction joins the processes.

    Args:
        protocol: resizes, aligns, clamps and masks.
        pooling: "image" averages the errors of images, "pixel" takes the errors of all pixels together (rmse is then
            the root of the pooled mean square); default: as the protocol says.
        prefix: put before each name in the result, such as "val/".

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

    last: BatchErrors | None = None
    """What the last `update` found, image by image."""

    def __init__(self, protocol: EvalProtocol, pooling: str | None = None, prefix: str = "") -> None:
        super().__init__()
        self.protocol = protocol
        self.pooling = protocol.pooling if pooling is None else pooling
        if self.pooling not in ("image", "pixel"):
            hint = "use 'image' or 'pixel'"
            raise ConfigError(f"unknown pooling {pooling!r}", where="DepthMetrics", next_action=hint)
        self.prefix = prefix
        # the sum of per-image errors, the sums over pixels (their first is the pixel count), and three counts of images
        size = len(NAMES) + len(SUMS) + 3
        self.add_state("state", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

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
            DataFormatError: a prediction is NaN at a pixel that counts; names the image. Off the CPU `compute` raises
                instead, as looking at the values here would make the host wait. An infinity is clamped to the range.
            ConfigError: the alignment does not fit the ambiguity, or shapes do not fit.
        """
        prepared = self.protocol.prepare_reported(pred, target, valid, ambiguity)
        mask = prepared.mask
        if counts is not None:
            mask = mask & require_counts(counts, len(pred)).view(-1, 1, 1, 1)
        sums = pixel_sums(prepared.pred, target, mask)
        if sums.device.type == "cpu":
            self._require_finite(sums)
        self.last = BatchErrors(errors_from_sums(sums), sums[:, 0].long(), prepared.degenerate)
        # a new tensor: one made under inference mode could not be changed in place outside of it
        self.state = self.state + _tally(sums, self.last, counts).to(self.state.device)

    def compute(self) -> dict[str, Tensor]:
        """The errors as float64 scalars by name, NaN while no image counted.

        Raises:
            DataFormatError: a prediction was NaN at a pixel that counts.
        """
        errors, sums, tallies = torch.split(self.state, [len(NAMES), len(SUMS), 3])
        result = errors_from_sums(sums) if self.pooling == "pixel" else errors / tallies[0]
        if tallies[0] > 0 and not bool(result.isfinite().all()):
            raise DataFormatError(
                "a prediction was NaN at a pixel that counts",
                where=f"one of {int(tallies[0])} images",
                next_action="evaluate on the CPU, which names the image, and look for NaN in the weights",
            )
        return {f"{self.prefix}{name}": value for name, value in zip(NAMES, result.unbind(), strict=True)}

    def counts(self) -> Counts:
        """How many images and pixels went in, over all processes (each of them has to call this)."""
        with self.sync_context():
            images, skipped, degenerate = (int(value) for value in self.state[-3:].tolist())
            pixels = int(self.state[len(NAMES)])
        return Counts(images=images, pixels=pixels, skipped=skipped, degenerate=degenerate)

    @staticmethod
    def _require_finite(sums: Tensor) -> None:
        failed = failed_images(sums)
        if failed:
            raise DataFormatError(
                "the prediction is NaN at a pixel that counts",
                where=f"image {', '.join(map(str, failed))} of the batch",
                next_action="look for NaN in the weights or the loss; nothing of this batch was counted",
            )


def _tally(sums: Tensor, found: BatchErrors, counts: Tensor | None) -> Tensor:
    """What a batch adds to the state, float64 (24,)."""
    seen = sums[:, :1] > 0
    errors = torch.where(seen, (found.errors / _STEP).round() * _STEP, 0.0)
    skipped = ~seen if counts is None else ~seen & counts[:, None]
    return torch.cat((errors, sums, seen, skipped, seen & found.degenerate[:, None]), dim=1).sum(0)
