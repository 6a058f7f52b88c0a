"""The protocol's ten errors over groups of pixels, such as ranges of depth or semantic classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from mde.errors import ConfigError, DataFormatError
from mde.metrics.functional import NAMES, SUMS, errors_from_sums, failed_images, pixel_sums, require_counts
from mde.metrics.images import require_maps, require_needs, summands
from mde.protocol import EvalProtocol

__all__ = ["GroupedErrors"]


class GroupedErrors(Metric, ABC):
    """Base: a table of errors, one row a group of pixels.

    With pooling "image" a row is the mean over the images that have a pixel of the group, as the errors of the whole
    set are; an image with few pixels of it then weighs as much as one with many. "pixel" takes all pixels together.

    Args:
        groups: how many there are.
        pooling: "image" or "pixel"; None pools by pixel where `protocol` does, else by image.

    Attributes:
        protocol: whose definitions of the errors hold (silog, rmse_log, swapped); the callback sets it.

    Raises:
        ConfigError: unknown pooling.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    needs: ClassVar[tuple[str, ...]] = ()

    state: Tensor

    def __init__(self, groups: int, pooling: str | None = None) -> None:
        super().__init__()
        if pooling not in ("image", "pixel", None):
            hint = "use 'image' or 'pixel'"
            raise ConfigError(f"unknown pooling {pooling!r}", where=type(self).__name__, next_action=hint)
        self.pooling = pooling
        self.protocol = EvalProtocol()
        size = (groups, len(NAMES) + len(SUMS) + 1)
        self.add_state("state", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def masks(self, target: Tensor, valid: Tensor, **needs: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The number of a group and its pixels, bool (B,1,H,W), for each group that may occur in the batch."""

    @abstractmethod
    def name_of(self, group: int) -> str:
        """Head of the row."""

    def update(
        self, pred: Tensor, target: Tensor, valid: Tensor, counts: Tensor | None = None, **needs: Tensor
    ) -> None:
        """Add a batch.

        Args:
            pred: (B,1,H,W), metres, positive where valid. Not modified.
            target: (B,1,H,W), metres.
            valid: bool (B,1,H,W), the pixels that count.
            counts: bool (B,), False leaves an image out.
            needs: what `needs` names.

        Raises:
            ConfigError: shapes do not fit, or an input is missing.
            DataFormatError: a prediction is not positive and finite at a pixel that counts; off the CPU `compute`
                raises instead.
        """
        require_maps(pred, target, valid)
        require_needs(type(self).__name__, self.needs, needs)
        if counts is not None:
            valid = valid & require_counts(counts, len(pred)).to(valid.device).view(-1, 1, 1, 1)
        state = self.state.clone()
        for group, mask in self.masks(target, valid, **{name: needs[name] for name in self.needs}):
            sums = pixel_sums(target, pred, mask) if self.protocol.swapped else pixel_sums(pred, target, mask)
            failed = failed_images(sums) if sums.device.type == "cpu" else []
            if failed:
                raise self._unusable(group, f"image {', '.join(map(str, failed))} of the batch")
            seen = sums[:, :1] > 0
            errors = summands(self._errors(sums), seen)
            state[group] += torch.cat((errors, sums, seen), 1).sum(0).to(state.device)
        self.state = state

    def compute(self) -> dict[str, dict[str, Tensor]]:
        """Errors by name, with "images" and "pixels", of each group that has a pixel; float64 scalars.

        Raises:
            DataFormatError: a prediction was not positive and finite at a pixel that counts.
        """
        by_pixel = (self.pooling or self.protocol.pooling) == "pixel"
        table = {}
        for group in torch.nonzero(self.state[:, -1]).flatten().tolist():
            errors, sums, images = torch.split(self.state[group], [len(NAMES), len(SUMS), 1])
            row = self._errors(sums) if by_pixel else errors / images
            if not bool(row.isfinite().all()):
                raise self._unusable(group, f"one of {int(images[0])} images")
            counted = {"images": images[0], "pixels": sums[0]}
            table[self.name_of(group)] = {**dict(zip(NAMES, row.unbind(), strict=True)), **counted}
        return table

    def _errors(self, sums: Tensor) -> Tensor:
        return errors_from_sums(sums, self.protocol.silog, self.protocol.rmse_log)

    def _unusable(self, group: int, where: str) -> DataFormatError:
        return DataFormatError(
            f"the prediction is not positive and finite at a pixel of {self.name_of(group)!r}",
            where=where,
            next_action="clamp the prediction (EvalProtocol does), and look for NaN in the weights",
        )
