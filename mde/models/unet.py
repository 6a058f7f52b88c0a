"""U-Net trained from scratch: paper 3's baseline (section IV.C).

Paper 3: G. Krishna and G. Beura, "Monocular Depth Estimation using Deep Learning". The network is that of O.
Ronneberger, P. Fischer and T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015,
https://arxiv.org/abs/1505.04597.

Faithful: widths 64 to 1024, two 3x3 convolutions per level, max pooling, 2x2 transposed convolutions, skips, a 1x1
head: 31,031,745 parameters, or 31,037,633 with batch norm. The target, the loss and deep supervision are those of
paper 3's DenseDepth, at full resolution; the paper feeds 320x320.

Deviates: convolutions are padded, so that the output has the input's size (paper 3 must do so too: its output is
320x320); sizes that 16 does not divide work, a level is brought to the size of its skip; heads start in the middle of
the depth range.

Numbers: paper 3 publishes a loss curve that overfits (figure 3) and no error that could be compared, so none stands
here beside ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from mde.models.decoders import UNetDecoder
from mde.models.layers import DoubleConv
from mde.models.supervised import SupervisedModule

__all__ = ["ContractingPath", "UNet"]

WIDTHS = (64, 128, 256, 512, 1024)  # Ronneberger et al. 2015, figure 1


class ContractingPath(nn.Module):
    """The left side of the U: a double convolution per level, max pooling between.

    Args:
        widths: channels of the levels, finest first.
        norm: batch norm after each convolution.
    """

    def __init__(self, widths: Sequence[int], norm: bool) -> None:
        super().__init__()
        self.channels = tuple(widths)
        before = (3, *widths[:-1])  # RGB first
        self.blocks = nn.ModuleList(DoubleConv(i, o, norm=norm) for i, o in zip(before, widths, strict=True))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B,3,H,W) RGB in [0,1] to one (B,widths[i],H/2^i,W/2^i) per level, finest first."""
        x = image - 0.5  # from scratch, so no data set's mean: zero-centred is what the initialisation assumes
        features: list[Tensor] = []
        for block in self.blocks:
            x = block(F.max_pool2d(x, 2) if features else x)
            features.append(x)
        return features


class UNet(SupervisedModule):
    """The plain U-Net on the reciprocal of depth, at full resolution.

    Args:
        widths: channels of the levels, finest first.
        norm: batch norm after each convolution, which then has no bias.
        supervision: weights of the last decoder levels, the finest last; ``(1, 1, 1)`` is paper 3's deep supervision.
        kwargs: codec, loss, optimizer, schedule, depth_range, image_size, protocol: see `DepthModule`.

    >>> import torch
    >>> UNet(widths=(4, 8, 16)).eval()(torch.rand(1, 3, 30, 41)).shape
    torch.Size([1, 1, 30, 41])
    """

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        norm: bool = True,
        supervision: Sequence[float] = (1.0,),
        **kwargs: Any,
    ) -> None:
        encoder = ContractingPath(widths, norm)
        super().__init__(encoder, UNetDecoder(encoder.channels, norm), supervision, head_kernel=1, **kwargs)
