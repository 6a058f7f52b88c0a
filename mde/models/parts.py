"""What a data module of several sets tells a method: the truth of each, and how each is scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from mde.errors import ConfigError
from mde.protocol import EvalProtocol
from mde.types import Ambiguity

__all__ = ["HasParts", "HasTruths", "require_learnable"]


@runtime_checkable
class HasTruths(Protocol):
    """A data module that says what its training depth means."""

    @property
    def truths(self) -> Mapping[str, Ambiguity]:
        """What the depth means, by the setting in which it lies."""


@runtime_checkable
class HasParts(Protocol):
    """A data module with a validation loader for each of several sets."""

    @property
    def protocols(self) -> Mapping[str, EvalProtocol]:
        """How each set is scored, in the order of the loaders."""


def require_learnable(datamodule: object, ambiguity: Ambiguity, method: str) -> None:
    """Refuse training depth that leaves open what a method has to learn.

    Args:
        datamodule: any; one that says nothing of its truth has metres.
        ambiguity: what the method's output means.
        method: its name.

    Raises:
        ConfigError: names the first set whose truth does not do.
    """
    for where, truth in datamodule.truths.items() if isinstance(datamodule, HasTruths) else ():
        if not ambiguity.can_learn_from(truth):
            raise ConfigError(
                f"{method} predicts {_words(ambiguity)}, which a truth that is {_words(truth)} cannot teach",
                where=f"{where}.truth",
                next_action="use a method that predicts no more than that, such as RelativeDepth for disparity, or "
                "leave this data out",
            )


def _words(ambiguity: Ambiguity) -> str:
    return {
        Ambiguity.METRIC: "metres",
        Ambiguity.SCALE: "depth up to a factor",
        Ambiguity.AFFINE_DEPTH: "depth up to a scale and a shift",
        Ambiguity.AFFINE_DISPARITY: "1/depth up to a scale and a shift",
    }[ambiguity]
