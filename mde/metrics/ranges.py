"""The errors by distance: near pixels hide far ones in a mean over the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from mde.errors import ConfigError
from mde.metrics.groups import GroupedErrors

__all__ = ["RangeErrors"]


class RangeErrors(GroupedErrors):
    """The ten errors over the pixels whose true depth lies in each range.

    Args:
        edges: metres, rising; a range holds its near edge and not its far one.
        pooling: see `GroupedErrors`.

    Raises:
        ConfigError: the edges do not rise from 0 or more.

    >>> import torch
    >>> truth = torch.tensor([[[[1.0, 3.0, 4.0]]]])
    >>> metric = RangeErrors((0, 2, 5))
    >>> metric.update(truth * 1.1, truth, truth > 0)
    >>> {name: round(row["rmse"].item(), 3) for name, row in metric.compute().items()}
    {'0-2': 0.1, '2-5': 0.354}
    """

    def __init__(self, edges: Sequence[float] = (0, 2, 5, 10, 20, 40, 80), pooling: str | None = None) -> None:
        rising = all(near < far for near, far in pairwise(edges))
        if len(edges) < 2 or edges[0] < 0 or not rising:
            hint = "give rising metres, such as [0, 2, 5, 10]"
            raise ConfigError(f"no ranges between {list(edges)}", where="RangeErrors.edges", next_action=hint)
        super().__init__(len(edges) - 1, pooling)
        self.edges = tuple(float(edge) for edge in edges)

    def masks(self, target: Tensor, valid: Tensor, **needs: Tensor) -> Iterator[tuple[int, Tensor]]:
        for group, (near, far) in enumerate(pairwise(self.edges)):
            yield group, valid & (target >= near) & (target < far)

    def name_of(self, group: int) -> str:
        """Such as "0-2", in metres."""
        return f"{self.edges[group]:g}-{self.edges[group + 1]:g}"
