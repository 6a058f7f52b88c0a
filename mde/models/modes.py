"""Networks in use for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Inside, all parts are in evaluation mode; afterwards each is in the mode that it was in.

    >>> network = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    >>> with evaluating(network):
    ...     [part.training for part in network]
    [False, False]
    >>> [part.training for part in network]
    [True, False]
    """
    learning = [part for part in network.modules() if part.training]
    if learning:  # setting the modes of a large network takes as long as preparing its input
        network.eval()
    try:
        yield
    finally:
        for part in learning:
            part.training = True
