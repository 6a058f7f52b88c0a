"""The contract of every loss, and the first step that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from mde.errors import ConfigError
from mde.losses.maps import LossMaps, Space
from mde.masking import at_least_float32, fill
from mde.rebuild import Rebuildable

__all__ = ["CameraLoss", "DepthLoss", "check_shapes", "log_ratio", "residual", "safe_sqrt"]


class DepthLoss(Rebuildable, nn.Module, ABC):
    """A loss between a predicted and a true map, over valid pixels only.

    * The mask is a parameter and is never derived from the values.
    * What lies under the mask never changes the value or the gradient, NaN and infinity included.
    * An empty mask gives a 0 that is connected to the graph.
    * All pixels (or windows) of a batch that count weigh the same, whichever image they belong to: the loss of a batch
      is the mean of the losses of its images, weighted by how much of each image counts. Where a root, a largest error
      or the like is taken of the whole batch instead, the loss says so.
    * The result is float32 also under autocast and for half-precision inputs; float64 inputs give float64.
    * `space` says where it works: on metres, or in the codec's network space, whatever that is.
    """

    space: ClassVar[Space] = Space.NETWORK

    def of(self, maps: LossMaps) -> Tensor:
        """The loss of maps that are brought to its space; this is what a method calls."""
        loss: Tensor = self(*maps.of(self.space))
        return loss

    @abstractmethod
    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Return the scalar loss.

        Args:
            pred: (B,1,H,W), the network's output.
            target: (B,1,H,W), same space and size as `pred`.
            valid: bool (B,1,H,W), True where `target` is known.

        Raises:
            ConfigError: the three differ in shape, or `valid` is not boolean.
        """


class CameraLoss(DepthLoss):
    """A loss of points in space: it works on metres and needs the camera."""

    space = Space.METRES

    def of(self, maps: LossMaps) -> Tensor:
        loss: Tensor = self(*maps.of(self.space), maps.intrinsics)
        return loss

    @abstractmethod
    def forward(  # type: ignore[override]
        self, pred: Tensor, target: Tensor, valid: Tensor, intrinsics: Tensor
    ) -> Tensor:
        """Return the scalar loss.

        Args:
            pred: (B,1,H,W), metres.
            target: (B,1,H,W), metres.
            valid: bool (B,1,H,W), True where `target` is known.
            intrinsics: (B,3,3), pixels of the maps.

        Raises:
            ConfigError: the three differ in shape, or `valid` is not boolean.
        """


def check_shapes(pred: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
    """Refuse what would broadcast silently: (B,1,H,W) against (B,H,W) gives a (B,B,H,W) full of wrong differences.

    Args:
        pred: (B,C,H,W).
        target: (B,C,H,W).
        valid: bool (B,C,H,W), or None where there is no mask.

    Raises:
        ConfigError: they differ in shape, are not four-dimensional, or `valid` is not boolean.
    """
    given = {"pred": pred, "target": target} | ({} if valid is None else {"valid": valid})
    shapes = {name: tuple(values.shape) for name, values in given.items()}
    if len(set(shapes.values())) > 1 or pred.ndim != 4:
        raise ConfigError(
            f"a loss needs maps of one shape (B,1,H,W), got {shapes}",
            next_action="resize the prediction to the ground truth and add missing axes",
        )
    if valid is not None and valid.dtype != torch.bool:
        raise ConfigError(f"valid must be boolean, is {valid.dtype}", next_action="pass a mask, such as depth > 0")


def residual(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """``pred - target``, at least float32, and 0 outside the mask in value and gradient.

    Args:
        pred: (B,C,H,W), any space.
        target: (B,C,H,W), the space of `pred`; garbage allowed outside the mask, in `pred` too.
        valid: bool (B,C,H,W).

    Raises:
        ConfigError: see `check_shapes`.
    """
    check_shapes(pred, target, valid)
    return fill(at_least_float32(pred) - at_least_float32(target), valid)


def log_ratio(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """``ln pred - ln target``, at least float32, and 0 outside the mask in value and gradient.

    Args:
        pred: (B,C,H,W), metres, above 0 where valid; garbage allowed elsewhere.
        target: (B,C,H,W), metres, above 0 where valid; garbage allowed elsewhere.
        valid: bool (B,C,H,W).

    Raises:
        ConfigError: see `check_shapes`.
    """
    check_shapes(pred, target, valid)
    pred, target = (fill(at_least_float32(depth), valid, 1.0) for depth in (pred, target))
    return pred.log() - target.log()


def safe_sqrt(values: Tensor) -> Tensor:
    """Root of values of at least 0, any shape, with the gradient of the values themselves where they are 0."""
    # the root is not differentiable at 0, and torch.where alone would let its NaN through
    return torch.where(values > 0, torch.where(values > 0, values, 1).sqrt(), values)
