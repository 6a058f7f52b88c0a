"""The errors by what a pixel shows, for data sets with semantic classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mde.errors import ConfigError
from mde.metrics.groups import GroupedErrors

__all__ = ["ClassErrors"]

_CLASSES = 256  # labels are uint8


class ClassErrors(GroupedErrors):
    """The ten errors over the pixels of each semantic class.

    Args:
        names: of the class ids; a class without a name is called by its id.
        pooling: see `GroupedErrors`.

    >>> import torch
    >>> truth, labels = torch.ones(1, 1, 2, 2), torch.tensor([[[[3, 3], [8, 8]]]], dtype=torch.uint8)
    >>> metric = ClassErrors({8: "car"})
    >>> metric.update(truth + (labels == 8), truth, truth > 0, labels=labels)
    >>> {name: row["abs_rel"].item() for name, row in metric.compute().items()}
    {'class 3': 0.0, 'car': 1.0}
    """

    needs = ("labels",)

    def __init__(self, names: Mapping[int, str] | None = None, pooling: str | None = None) -> None:
        super().__init__(_CLASSES, pooling)
        self.names = {int(number): name for number, name in (names or {}).items()}

    def masks(self, target: Tensor, valid: Tensor, **needs: Tensor) -> Iterator[tuple[int, Tensor]]:
        labels = needs["labels"]
        if labels.shape != valid.shape or labels.dtype != torch.uint8:
            what = f"needs labels uint8 {tuple(valid.shape)}, got {labels.dtype} {tuple(labels.shape)}"
            raise ConfigError(what, where="ClassErrors", next_action="give the class of each pixel of the truth")
        for number in torch.unique(labels[valid]).tolist():
            yield number, valid & (labels == number)

    def name_of(self, group: int) -> str:
        return self.names.get(group, f"class {group}")
