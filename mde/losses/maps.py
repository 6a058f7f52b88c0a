"""The maps that losses compare, in each space a loss may work in."""

from __future__ import annotations

import copy
from enum import Enum
from functools import cached_property

import torch
from torch import Tensor

from mde.codecs import DepthCodec
from mde.errors import ConfigError

__all__ = ["LossMaps", "Space"]


class Space(Enum):
    """What the numbers that a loss compares are."""

    NETWORK = "network"  # what the codec makes of a depth: its values, or its classes against logits
    METRES = "metres"  # depth within the codec's range; the gradient goes through the codec, and back from outside


class LossMaps:
    """A prediction and its truth, encoded or decoded when a loss asks for it.

    Args:
        raw: (B,C,h,w), the network's output.
        depth: (B,1,H,W), metres; H,W = h,w but for losses that bring the two together themselves.
        valid: bool (B,1,H,W).
        codec: of the network.
        intrinsics: (B,3,3), pixels of `raw`; None where no camera is known.
    """

    def __init__(
        self, raw: Tensor, depth: Tensor, valid: Tensor, codec: DepthCodec, intrinsics: Tensor | None = None
    ) -> None:
        self.raw, self.depth, self.valid = raw, depth, valid
        self.codec = codec
        self._intrinsics = intrinsics

    def of(self, space: Space) -> tuple[Tensor, Tensor, Tensor]:
        """Prediction, target and mask in a space."""
        if space is Space.NETWORK:
            return self.raw, self._encoded, self.valid
        return self._decoded, self._reachable, self.valid

    def beside(self, raw: Tensor) -> LossMaps:
        """Another output of the same size against the same truth, which is encoded once for all."""
        other = copy.copy(self)
        other.raw, other.__dict__["_encoded"] = raw, self._encoded
        other.__dict__.pop("_decoded", None)
        return other

    @property
    def intrinsics(self) -> Tensor:
        """(B,3,3), pixels of the maps.

        Raises:
            ConfigError: a camera of the batch is not known.
        """
        if self._intrinsics is None or not torch.isfinite(self._intrinsics).all():
            hint = "give the data set its intrinsics, or use a loss that needs no camera"
            raise ConfigError("this loss works on points in space, and the camera is unknown", next_action=hint)
        return self._intrinsics

    @cached_property
    def _encoded(self) -> Tensor:
        return self.codec.encode(self.depth)

    @cached_property
    def _reachable(self) -> Tensor:
        """What lies outside the codec's range is its end, as in `_encoded`: more the network cannot say."""
        return self.depth.clamp(self.codec.min_depth, self.codec.max_depth)

    @cached_property
    def _decoded(self) -> Tensor:
        return self.codec.decode_through(self.raw)
