"""Paper 0: a frozen Segment Anything encoder and a small convolutional decoder.

S. Song, "Monocular Depth Estimation with Segment Anything Model" (a course project; what the text leaves open is that
of its author's code).

Faithful: SlimSAM's encoder, frozen; two transposed convolutions and a convolution, each with a ReLU and a residual
block of ResNet after it, a last convolution and a sigmoid (570,753 parameters); depth over the range's far end as
target; mean squared error after a bilinear resize to the picture's size; Adam at 0.001 and batches of 4.

Deviates: the part of the square that holds no picture is cut off before the resize. The author's code stretches it
along, so that its maps of 4:3 pictures are squeezed to three quarters of their height; as it trains on squares, the
network never learns to undo that. `paper0_pad_bug` brings it back. The sigmoid is not multiplied by 255, which pushes
it to 0.004 and its gradient to nothing; `paper0_scale255` brings that back. Invalid pixels are masked.

Numbers: paper 0, table 1, on the last 1 % of DenseDepth's 50,688 frames: AbsRel 0.463, RMSE 0.131 of a range of 10 m,
hence 1.31 m; always saying the mean depth of the set gives about 0.41 and 1.24 m.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mde.codecs import DepthCodec, Linear
from mde.losses import DepthLoss, MSELoss
from mde.models.base import DepthModule
from mde.models.decoders import Decoder, DecoderFactory
from mde.models.encoders import SamEncoder
from mde.models.layers import LevelHeads, resize

__all__ = ["ResidualDecoder", "SAMDepth"]

_BYTE = 255.0  # of the 8-bit maps that the author's truth comes from


class ResidualDecoder(Decoder):
    """Two steps of two by transposed convolutions and one convolution, each followed by a ReLU and a residual block.

    Args:
        encoder_channels: only the last, coarsest feature is used.
        widths: channels of the three levels.

    >>> ResidualDecoder((256,))([torch.zeros(1, 256, 3, 4)])[-1].shape
    torch.Size([1, 32, 12, 16])
    """

    def __init__(self, encoder_channels: Sequence[int], widths: Sequence[int] = (128, 64, 32)) -> None:
        super().__init__()
        from torchvision.models.resnet import BasicBlock

        self.channels = tuple(widths)
        *steps, last = pairwise((encoder_channels[-1], *widths))
        layers: list[nn.Module] = [nn.ConvTranspose2d(i, o, kernel_size=2, stride=2) for i, o in steps]
        layers.append(nn.Conv2d(*last, kernel_size=3, padding=1))
        self.levels = nn.ModuleList(
            nn.Sequential(layer, nn.ReLU(inplace=True), BasicBlock(width, width))
            for layer, width in zip(layers, widths, strict=True)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(B,C,h,w) to (B,128,2h,2w), (B,64,4h,4w) and (B,32,4h,4w)."""
        levels = [features[-1]]
        for level in self.levels:
            levels.append(level(levels[-1]))
        return levels[1:]


class SAMDepth(DepthModule):
    """SAM's feature, decoded to a quarter of SAM's input size, and resized to the picture.

    Works as a plain ``nn.Module`` too: ``model(image)`` gives network space, ``model.predict(image)`` metres.

    Args:
        encoder: None is a randomly initialised SlimSAM-77; for training give
            ``SamEncoder("slimsam-77", weights="pretrained")``.
        decoder: makes the decoder from the encoder's channels; it enlarges four times.
        paper0_pad_bug: stretch the map of the whole square, filling included and with aligned corners, to the picture.
        paper0_scale255: multiply the sigmoid by 255 although the target ends at 1.
        kwargs: codec, loss, optimizer, schedule, depth_range, image_size, protocol: see `DepthModule`.
    """

    def __init__(
        self,
        encoder: SamEncoder | None = None,
        decoder: DecoderFactory = ResidualDecoder,
        paper0_pad_bug: bool = False,
        paper0_scale255: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = SamEncoder() if encoder is None else encoder
        self.decoder = decoder(self.encoder.channels)
        self.head = LevelHeads(self.decoder.channels, 1, kernel_size=3, bias=0.0)  # 0.5: the middle of the range
        self.paper0_pad_bug = paper0_pad_bug
        self.far_end = max(map(abs, self.codec.encoded_range)) * (_BYTE if paper0_scale255 else 1.0)

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return Linear(min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        return MSELoss()

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) RGB in [0,1] to (B,1,H,W), network space."""
        size = image.shape[-2:]
        feature = self.encoder.padded(image) if self.paper0_pad_bug else self.encoder(image)[-1]  # (B,256,48,64)
        levels = self.decoder([feature])
        raw = self.far_end * torch.sigmoid(self.head.last(levels))  # (B,1,192,256)
        if self.paper0_pad_bug:
            return F.interpolate(raw, size=size, mode="bilinear", align_corners=True)
        return resize(self._without_filling(raw, feature, size), size)

    def _without_filling(self, raw: Tensor, feature: Tensor, size: torch.Size) -> Tensor:
        """The map without the filling in the last row or column of feature cells; see `SamEncoder`."""
        cell = (
            self.encoder.reductions[-1] * feature.shape[-1] / raw.shape[-1]
        )  # pixels of SAM's input in one of the map
        height, width = (max(1, round(side / cell)) for side in self.encoder.content(size))
        return raw[..., :height, :width]
