"""Encoder, decoder, heads: what the methods of paper 3 share, deep supervision included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mde.codecs import DepthCodec, Reciprocal
from mde.errors import ConfigError
from mde.losses import DenseDepthLoss, DepthLoss, LossMaps, WeightedSum
from mde.models.base import DepthModule
from mde.models.decoders import Decoder
from mde.models.layers import LevelHeads, resize
from mde.types import Batch, StepOutput

__all__ = ["SupervisedModule"]


class SupervisedModule(DepthModule):
    """A U-shaped network that works on m / depth and is supervised on the last levels of its decoder.

    Each supervised level has a head of one channel; its map is brought bilinearly to the size of the finest head, the
    truth to the same size by nearest neighbour, and the losses are added by weight. Inference uses the finest head
    alone.

    The loss acts on the raw output, before any clamp, so an output outside the encoded range (zero and below included)
    still has its full gradient. `DepthCodec.decode` clamps the raw output into the range before it divides, which
    keeps depths finite; the gradient through that clamp is 0 outside the range, and nothing trains through it.

    Args:
        encoder: a picture (B,3,H,W) in [0,1] to features, finest first.
        decoder: features to levels, coarse to fine.
        supervision: one weight per supervised level, **the finest last**: ``(1.0,)`` is the output alone, ``(1, 1, 1)``
            paper 3's deep supervision (section III.D, which states no weights).
        head_kernel: kernel size of the heads, odd.
        kwargs: see `DepthModule`.

    Raises:
        ConfigError: more weights than levels, none, or a last weight of 0 (the output itself would not be trained).
    """

    def __init__(
        self, encoder: nn.Module, decoder: Decoder, supervision: Sequence[float], head_kernel: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.supervision = tuple(float(weight) for weight in supervision)
        if not self.supervision or min(self.supervision) < 0 or self.supervision[-1] == 0:
            raise ConfigError(
                f"supervision needs weights of at least 0, the last (finest) above 0, got {self.supervision}",
                where="model.supervision",
                next_action="give (1.0,) for the output alone, or (1, 1, 1) for the last three levels",
            )
        self.encoder = encoder
        self.decoder = decoder
        self.heads = LevelHeads(
            decoder.channels, len(self.supervision), kernel_size=head_kernel, bias=middle_of(self.codec)
        )
        # channels-last weights: a step takes 0.82 of the time on a CPU, inference 0.80 (benchmarks/bench_step.py)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return Reciprocal(min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        # the largest value that the truth can take: m / min_depth for the reciprocal, 100 for 0.1 to 10 m
        return DenseDepthLoss(data_range=max(map(abs, self.codec.encoded_range)))

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) RGB in [0,1] to (B,1,H,W), network space."""
        features = self.encoder(image)
        levels = self.decoder(features)
        raw = self.heads.last(levels)
        return resize(raw, image.shape[-2:])

    def training_loss(self, batch: Batch) -> StepOutput:
        """Weighted sum over the supervised levels at the size of the finest.

        Logs each level, ``level_1`` the finest, and of the finest the terms of a `WeightedSum`.
        """
        raws = self.heads(self.decoder(self.encoder(batch["image"])))
        size = raws[-1].shape[-2:]
        finest = self.maps(raws[-1], batch)
        terms = [self._terms(finest.beside(resize(raw, size))) for raw in raws]
        parts = [torch.stack(list(each.values())).sum() for each in terms]
        total = torch.stack([weight * part for weight, part in zip(self.supervision, parts, strict=True)]).sum()
        levels = {f"level_{len(parts) - i}": part for i, part in enumerate(parts)} if len(parts) > 1 else {}
        logs = {**(terms[-1] if len(terms[-1]) > 1 else {}), **levels}
        return StepOutput(total, {name: value.detach() for name, value in logs.items()})

    def _terms(self, maps: LossMaps) -> dict[str, Tensor]:
        return self.loss.parts_of(maps) if isinstance(self.loss, WeightedSum) else {"loss": self.loss.of(maps)}


def middle_of(codec: DepthCodec) -> float:
    """Network-space value of the depth halfway through the range, at which the heads start.

    Measured on fresh synthetic batches of 1 to 10 m (Adam 1e-3, mean of three seeds): after 60 steps the loss of a
    small U-Net is 0.35 from there, 0.84 from a bias of 0 and 0.96 from the geometric middle; of a small DenseDepth
    0.30, 0.39 and 0.80.

    >>> round(middle_of(Reciprocal(0.1, 10.0)), 2)
    1.98
    """
    middle = torch.tensor((codec.min_depth + codec.max_depth) / 2, dtype=torch.float64, device="cpu")
    return float(codec.encode(middle))
