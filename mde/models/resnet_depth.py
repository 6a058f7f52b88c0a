"""Paper 1: a partly frozen ResNet-50 and five transposed convolutions.

D. Saia, "Monocular Depth Estimation" (a course project; the recipe is that of its author's code).

Faithful: ResNet-50 without its pooling and its classifier, of which only the last stage is trained, four 4x4 transposed
convolutions of stride 2 with batch norm and ReLU and a fifth without (23,508,032 and 19,533,633 parameters, 34,498,369
of them trained), metres out without an activation, 0.6 RMSE + 0.4 (1 - SSIM) with SSIM constants for a range of 1 on
metres up to 20 and zero padding, Adam under CyclicLR stepped per batch (`mde.models.schedules.Cyclic`).

Deviates: what is frozen keeps its batch norm statistics too, where the author's go on moving
(``frozen_statistics=False`` is the letter); pictures are normalised by the statistics of the weights, where the
author's are not; the head starts at the middle of the range; pictures whose sides are no multiple of 32 are met by a
bilinear resize; invalid pixels are masked. The recipe to the letter is the experiment ``unreal/resnet_paper1``, the
better one ``unreal/resnet``.

Numbers: paper 1 reports RMSE 2.57 and SSIM 0.46 on its own Unreal Engine set (section 5). Its SSIM is not that of a
range of 20; the set cannot be had where this was written.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mde.codecs import DepthCodec, Metres
from mde.losses import DepthLoss, RMSELoss, SSIMLoss, WeightedSum
from mde.models.base import DepthModule
from mde.models.decoders import DecoderFactory, TransposedDecoder
from mde.models.encoders import Encoder, TorchvisionEncoder
from mde.models.layers import resize
from mde.models.supervised import middle_of

__all__ = ["ResNetDepth"]


class ResNetDepth(DepthModule):
    """An encoder's last feature, enlarged by learned steps of two.

    Works as a plain ``nn.Module`` too: ``model(image)`` gives network space, ``model.predict(image)`` metres.

    Args:
        encoder: None is a randomly initialised ResNet-50, all trained; for training give
            ``TorchvisionEncoder("resnet50", weights="pretrained", frozen_stages=4)``.
        decoder: makes the decoder from the encoder's channels.
        frozen_statistics: batch norm of what is frozen stays as it came; False lets its statistics follow the data.
        kwargs: codec, loss, optimizer, schedule, depth_range, image_size, protocol: see `DepthModule`.

    >>> import torch
    >>> model = ResNetDepth(TorchvisionEncoder("resnet18"), frozen_statistics=True).eval()
    >>> model.predict(torch.rand(3, 61, 83)).depth.shape
    torch.Size([1, 1, 61, 83])
    """

    def __init__(
        self,
        encoder: Encoder | None = None,
        decoder: DecoderFactory = TransposedDecoder,
        frozen_statistics: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = TorchvisionEncoder("resnet50") if encoder is None else encoder
        self.decoder = decoder(self.encoder.channels)
        self.head = nn.ConvTranspose2d(self.decoder.channels[-1], 1, 4, 2, 1)
        nn.init.constant_(self.head.bias, middle_of(self.codec))  # type: ignore[arg-type]
        self.frozen_statistics = frozen_statistics
        self.train()

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return Metres(min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        # SSIMLoss is (1 - SSIM) / 2
        ssim = SSIMLoss(data_range=1.0, padding="zero")
        return WeightedSum({"rmse": RMSELoss(), "ssim": ssim}, {"rmse": 0.6, "ssim": 0.8})

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) RGB in [0,1] to (B,1,H,W), network space."""
        features = self.encoder(image)
        levels = self.decoder(features)
        raw: Tensor = self.head(levels[-1])
        return resize(raw, image.shape[-2:])

    def train(self, mode: bool = True) -> ResNetDepth:
        super().train(mode)
        if not self.frozen_statistics:
            for module in self.encoder.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.train(mode)
        return self
