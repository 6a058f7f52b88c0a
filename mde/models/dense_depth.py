"""DenseDepth with the variations of paper 3 (backbones, frozen encoder, batch norm, deep supervision).

Paper 3: G. Krishna and G. Beura, "Monocular Depth Estimation using Deep Learning". It follows I. Alhashim and P. Wonka,
"High Quality Monocular Depth Estimation via Transfer Learning", 2018, https://arxiv.org/abs/1812.11941.

Faithful: DenseNet-169 cut at DenseDepth's skips, the decoder of its table 1 at full width (42,657,689 parameters with
one head; paper 3 says about 45 million), targets m / depth, the loss of paper 3's equations 1 to 4, an output of half
the input's resolution that is compared with the truth at that size, deep supervision of the last three levels, an
encoder that can be frozen, batch norm in the decoder that can be switched on.

Deviates: bilinear upsampling has half-pixel centres and meets the size of the skip exactly, so that any picture size
works; the truth is made smaller by nearest neighbour, because a bilinear filter invents depths across edges; invalid
pixels are masked instead of inpainted; the heads start at the depth in the middle of the range instead of at y = 0,
which is an infinite depth; the optimizer is the library's default, where paper 3 has Adam with a learning rate of
0.01, a hundred times that of DenseDepth and the likely reason for its divergence.

Numbers: paper 3 publishes loss curves and pictures but no error that could be compared ("we couldn't get a meaningful
quantitative or comparative analysis", section IV.D), so none stands here beside ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mde.models.decoders import DecoderFactory, DenseDepthDecoder
from mde.models.encoders import Encoder, TorchvisionEncoder
from mde.models.supervised import SupervisedModule

__all__ = ["DenseDepth"]


class DenseDepth(SupervisedModule):
    """A pretrained encoder, a plain decoder with skips, and the reciprocal of depth as target.

    Works as a plain ``nn.Module`` too: ``model(image)`` gives network space, ``model.predict(image)`` metres.

    Args:
        encoder: None is a randomly initialised DenseNet-169; for training give
            ``TorchvisionEncoder("densenet169", weights="pretrained")`` or a file.
        decoder: makes the decoder from the encoder's channels, such as ``partial(DenseDepthDecoder, width=0.5)``.
        supervision: weights of the last decoder levels, the finest last; ``(1, 1, 1)`` is paper 3's deep supervision.
        kwargs: codec, loss, optimizer, schedule, depth_range, image_size, protocol: see `DepthModule`.

    >>> import torch
    >>> model = DenseDepth(TorchvisionEncoder("resnet18"), supervision=(1, 1, 1)).eval()
    >>> model.predict(torch.rand(3, 61, 83)).depth.shape
    torch.Size([1, 1, 61, 83])
    """

    def __init__(
        self,
        encoder: Encoder | None = None,
        decoder: DecoderFactory = DenseDepthDecoder,
        supervision: Sequence[float] = (1.0,),
        **kwargs: Any,
    ) -> None:
        encoder = TorchvisionEncoder("densenet169") if encoder is None else encoder
        super().__init__(encoder, decoder(encoder.channels), supervision, head_kernel=3, **kwargs)
