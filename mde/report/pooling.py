"""Averages over images by every rule at once, for many conventions side by side, in memory that does not grow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mde.metrics.functional import LOG_NAMES, NAMES, SUMS, errors_from_sums, log_errors_from_sums
from mde.protocol import EvalProtocol

__all__ = ["Pools"]

_GROUP = 16  # images in a row of the pooling "batch16", see `mde.protocol.EvalProtocol`
_SQUARES = SUMS.index("sq")
_OTHER_LOGS = {"si": "rmse_log_si", "si_mse": "si_log_mse", "eigen": "silog_eigen", "half": "silog_half"}

Rows = NDArray[np.float64]


@dataclass
class Pools:
    """What is added up over the images for each of K conventions; make it with `empty`.

    Attributes:
        counts: (K,3): images that count, images without a pixel that does, images whose alignment fell back.
        pixels: (K,11), the columns are `SUMS`.
        errors: (K,10) sums of the errors of images, the columns are `NAMES`.
        logs: (K,4) likewise of `LOG_NAMES`.
        squares: (K,) of the mean squares of images.
        group: (K,2) squares and pixels of the images in a row that are no whole group yet.
        groups: (K,2) the sum of the rmse of groups, and their number.
        images: how many were added.
    """

    counts: NDArray[np.int64]
    pixels: Rows
    errors: Rows
    logs: Rows
    squares: Rows
    group: Rows
    groups: Rows
    images: int = 0

    @classmethod
    def empty(cls, count: int) -> Pools:
        """For `count` conventions."""
        return cls(
            counts=np.zeros((count, 3), np.int64),
            pixels=np.zeros((count, len(SUMS))),
            errors=np.zeros((count, len(NAMES))),
            logs=np.zeros((count, len(LOG_NAMES))),
            squares=np.zeros(count),
            group=np.zeros((count, 2)),
            groups=np.zeros((count, 2)),
        )

    def add(self, sums: Rows, degenerate: NDArray[np.bool_]) -> None:
        """Add an image.

        Args:
            sums: (K,11), the columns are `SUMS`; the pixel count is 0 where the image does not count.
            degenerate: (K,), where its alignment fell back.
        """
        seen = sums[:, 0] > 0
        self.counts += np.stack((seen, ~seen, seen & degenerate), axis=1)
        some = torch.from_numpy(sums[seen])
        self.pixels[seen] += sums[seen]
        self.errors[seen] += errors_from_sums(some).numpy()
        self.logs[seen] += log_errors_from_sums(some).numpy()
        self.squares[seen] += sums[seen, _SQUARES] / sums[seen, 0]
        self.group += sums[:, [_SQUARES, 0]]
        self.images += 1
        if self.images % _GROUP == 0:
            self.groups += _of_group(self.group)
            self.group[:] = 0.0

    def metrics(self, row: int, protocol: EvalProtocol) -> dict[str, float]:
        """The errors of a convention by name, averaged and defined as `protocol` says; NaN where no image counts."""
        if not self.counts[row, 0]:
            return dict.fromkeys(NAMES, float("nan"))
        if protocol.pooling == "pixel":
            errors = errors_from_sums(torch.from_numpy(self.pixels[row]), protocol.silog, protocol.rmse_log)
            return dict(zip(NAMES, errors.tolist(), strict=True))
        images = self.counts[row, 0]
        found = dict(zip(NAMES, (self.errors[row] / images).tolist(), strict=True))
        for name, definition in (("silog", protocol.silog), ("rmse_log", protocol.rmse_log)):
            if definition in _OTHER_LOGS:
                found[name] = float(self.logs[row, LOG_NAMES.index(_OTHER_LOGS[definition])] / images)
        if protocol.pooling == "mse":
            found["rmse"] = float(np.sqrt(self.squares[row] / images))
        elif protocol.pooling == "batch16":
            total, number = self.groups[row] + _of_group(self.group[row : row + 1])[0]
            found["rmse"] = float(total / number)
        return found


def _of_group(group: Rows) -> Rows:
    """The rmse of a group and 1, (K,2); zeros where it has no pixel."""
    some = group[:, 1] > 0
    rmse = np.sqrt(np.divide(group[:, 0], group[:, 1], out=np.zeros(len(group)), where=some))
    return np.stack((rmse, some.astype(float)), axis=1)
