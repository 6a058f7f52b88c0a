"""What the metrics beyond the ten errors share: named values of each image, averaged over the images that have them.

A metric is a pure function from maps to values per image, and an `ImageMetric` of a few lines that averages them. All
of it runs in NumPy and SciPy on the CPU, in float64: edges, trees and sorted pixels are no work for batched tensors,
and such a metric is an addition to a test, not part of a training step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from mde.errors import ConfigError, DataFormatError
from mde.metrics.functional import require_counts

__all__ = [
    "ImageMetric",
    "Mask",
    "Values",
    "image_values",
    "require_maps",
    "require_needs",
    "require_positive",
    "summands",
]

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Values are rounded to this step before they are added: sums of multiples of 2^-30 below 2^23 are exact in float64, so
# that neither the batch size nor the number of processes changes a bit. 1e-9 of a metre or a degree is no loss.
_STEP = 2.0**-30


class ImageMetric(Metric, ABC):
    """Base: the mean over images of each of `columns`. An image without a value is left out of that column's mean.

    A subclass names its `columns`, what it `needs` beside the maps, and gives `values`.

    Attributes:
        columns: names of the values.
        needs: further inputs of `update`, by name: "intrinsics" (B,3,3) in pixels of the truth, "labels" uint8
            (B,1,H,W), "std" (B,1,H,W) in metres.
        higher: those of `columns` that are better when higher.
        last: float64 (B,C), the values of the last batch by image, NaN where there is none.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    columns: ClassVar[tuple[str, ...]]
    needs: ClassVar[tuple[str, ...]] = ()
    higher: ClassVar[frozenset[str]] = frozenset()

    state: Tensor
    last: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        # one vector, hence one reduction: the sum of each column, the images behind each, and all images
        size = 2 * len(self.columns) + 1
        self.add_state("state", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def values(self, pred: Tensor, target: Tensor, valid: Tensor, **needs: Tensor) -> dict[str, Tensor]:
        """`columns` of each image, float64 (B,) on the CPU, NaN where an image has none; see `update`."""

    def update(
        self, pred: Tensor, target: Tensor, valid: Tensor, counts: Tensor | None = None, **needs: Tensor
    ) -> None:
        """Add a batch.

        Args:
            pred: (B,1,H,W), metres; anything outside `valid`. Not modified.
            target: (B,1,H,W), metres; anything outside `valid`.
            valid: bool (B,1,H,W), the pixels that count.
            counts: bool (B,), False leaves an image out: the duplicates that pad a distributed sampler.
            needs: what `needs` names.

        Raises:
            ConfigError: shapes do not fit, or an input is missing.
            DataFormatError: the prediction is not finite at a pixel that counts; names the image.
        """
        require_maps(pred, target, valid)
        require_needs(type(self).__name__, self.needs, needs)
        used = torch.ones(len(pred), dtype=torch.bool) if counts is None else require_counts(counts, len(pred)).cpu()
        maps = [each.detach().cpu() for each in (pred, target, valid)]
        maps[2] = maps[2] & used.view(-1, 1, 1, 1)
        found = self.values(*maps, **{name: needs[name].detach().cpu() for name in self.needs})
        self.last = torch.stack([found[name] for name in self.columns], 1)
        seen = self.last.isfinite()
        added = torch.cat((summands(self.last, seen).sum(0), seen.sum(0).double(), used.sum()[None].double()))
        # a new tensor: one made under inference mode could not be changed in place outside of it
        self.state = self.state + added.to(self.state.device)

    def compute(self) -> dict[str, Tensor]:
        """The means by column, float64 scalars; NaN where no image has a value."""
        sums, seen, _ = torch.split(self.state, [len(self.columns)] * 2 + [1])
        return dict(zip(self.columns, (sums / seen).unbind(), strict=True))

    def skipped(self) -> dict[str, int]:
        """How many images had no value, by column, over all processes (each of them has to call this)."""
        with self.sync_context():
            *_, images = counted = [int(value) for value in self.state[len(self.columns) :].tolist()]
        return {name: images - count for name, count in zip(self.columns, counted, strict=False)}


def image_values(
    columns: Sequence[str], function: Callable[..., Sequence[float]], *maps: Tensor, **others: Tensor
) -> dict[str, Tensor]:
    """Apply a function picture by picture.

    Args:
        columns: names of what `function` returns.
        function: takes the arrays of one picture, as many as there are tensors, and returns a number per column.
        maps: pred, target and valid, (B,1,H,W); then further maps of this size. They arrive as (H,W), numbers in
            float64, and where the picture has no valid pixel the row is NaN without a call.
        others: further tensors (B,...), passed by name as float64.

    Returns:
        float64 (B,) for each of `columns`.

    Raises:
        ConfigError: shapes differ, or the mask is not bool.
        DataFormatError: the prediction is not finite at a valid pixel.
    """
    require_maps(*maps)
    rows = []
    for i in range(len(maps[0])):
        arrays = [_array(each[i, 0]) for each in maps]
        if not arrays[2].any():
            rows.append([float("nan")] * len(columns))
            continue
        if not np.isfinite(arrays[0][arrays[2]]).all():
            hint = "look for NaN in the weights or the loss; nothing of this batch was counted"
            what = "the prediction is not finite at a pixel that counts"
            raise DataFormatError(what, where=f"image {i} of the batch", next_action=hint)
        rows.append([float(x) for x in function(*arrays, **{name: _array(each[i]) for name, each in others.items()})])
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(columns))
    return dict(zip(columns, table.unbind(1), strict=True))


def require_positive(where: str, **settings: float) -> None:
    """Raise a `ConfigError` unless each setting is a number above 0."""
    for name, value in settings.items():
        if not value > 0:
            raise ConfigError(f"{name} must be above 0, got {value}", where=where, next_action="give a positive number")


def require_needs(where: str, names: Sequence[str], given: Mapping[str, Tensor]) -> None:
    """Raise a `ConfigError` unless each input of `names` is given."""
    missing = [name for name in names if name not in given]
    if missing:
        hint = f"pass {', '.join(f'{name}=' for name in missing)}"
        raise ConfigError(f"needs {' and '.join(missing)}", where=where, next_action=hint)


def summands(values: Tensor, seen: Tensor) -> Tensor:
    """Values, float64 of any shape, as they are to be added: rounded so that their sum is exact, 0 where not `seen`."""
    return torch.where(seen, (values / _STEP).round() * _STEP, 0.0)


def require_maps(pred: Tensor, target: Tensor, valid: Tensor, *more: Tensor) -> None:
    """Raise a `ConfigError` unless all are (B,1,H,W) and `valid` is bool."""
    fits = pred.ndim == 4 and pred.shape[1] == 1 and all(m.shape == pred.shape for m in (target, valid, *more))
    if not fits or valid.dtype != torch.bool:
        shapes = ", ".join(str(tuple(m.shape)) for m in (pred, target, valid, *more))
        raise ConfigError(
            f"a metric needs maps of one shape (B,1,H,W) and a bool mask, got {shapes} and {valid.dtype}",
            next_action="resize the prediction to the ground truth first (EvalProtocol.prepare does)",
        )


def _array(tensor: Tensor) -> NDArray[Any]:
    array = tensor.detach().cpu()
    return np.asarray((array.double() if array.is_floating_point() else array).numpy())
