"""What to start from today: any encoder, a decoder, a head, a codec and a loss, each by one line of a configuration.

No paper's method, but the parts that today's share. With `VitEncoder`, `DPTDecoder` and ``hidden=32`` the network is
that of DPT (R. Ranftl, A. Bochkovskiy, V. Koltun, "Vision Transformers for Dense Prediction", ICCV 2021,
https://arxiv.org/abs/2103.13413) in the form of Depth Anything V2 (L. Yang et al., NeurIPS 2024,
https://arxiv.org/abs/2406.09414), metric with `SigmoidHead`; with `BinsHead` its depth is that of AdaBins (S. Bhat, I.
Alhashim, P. Wonka, CVPR 2021, https://arxiv.org/abs/2011.14141).

Faithful: decoder and output convolutions give transformers' numbers for its weights (`tests/models/test_fusion.py`).
Learning rates that shrink from block to block are those of BEiT (H. Bao et al., ICLR 2022) as timm has them.

Deviates: pictures are resized to whole patches and maps back again; see `VitEncoder`, `SigmoidHead`, `BinsHead`.

Numbers: what was measured stands in docs/methods.md; pretrained transformers could not be had where this was written.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mde.codecs import Binned, DepthCodec, Log, Ordinal
from mde.errors import ConfigError
from mde.losses import ClassCrossEntropy, DepthLoss, OrdinalLoss, SILogLoss
from mde.models.base import DepthModule, GroupSettings
from mde.models.decoders import DecoderFactory
from mde.models.encoders import Encoder, VitEncoder
from mde.models.fusion import DPTDecoder
from mde.models.heads import HeadFactory, SigmoidHead
from mde.models.layers import resize

__all__ = ["DepthNet"]


class DepthNet(DepthModule):
    """Encoder, decoder, head.

    Works as a plain ``nn.Module`` too: ``model(image)`` gives network space, ``model.predict(image)`` metres. Where
    the head has a posterior (`BinsHead`, or `LinearHead` with classes) there is ``uncertainty(image)`` as in
    `DeepLabSID`.

    Args:
        encoder: None is a randomly initialised DINOv2 ViT-S; for training give
            ``VitEncoder("vit_small_patch14_dinov2", weights="pretrained")``.
        decoder: makes the decoder from the encoder's channels: `DPTDecoder` for plain transformers, `LightDecoder` or
            any other for pyramids.
        head: makes the head from the decoder's channels and the codec, such as ``partial(SigmoidHead, hidden=32)``.
        layer_decay: factor of the learning rate from each block of a `VitEncoder` to the one before it; 1 is none, 0.65
            to 0.9 is usual with pretrained weights. It multiplies with `encoder_lr`.
        kwargs: codec, loss, optimizer, schedule, depth_range, image_size, protocol: see `DepthModule`.

    Raises:
        ConfigError: `layer_decay` is not in (0, 1], or the encoder has no layers to tell apart.

    >>> model = DepthNet(VitEncoder("test_vit", blocks=(0, 2, 4, 5))).eval()
    >>> model.predict(torch.rand(3, 61, 83)).depth.shape
    torch.Size([1, 1, 61, 83])
    """

    def __init__(
        self,
        encoder: Encoder | None = None,
        decoder: DecoderFactory = DPTDecoder,
        head: HeadFactory = SigmoidHead,
        layer_decay: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = VitEncoder("vit_small_patch14_dinov2") if encoder is None else encoder
        self.layer_decay = self._checked_decay(layer_decay)
        self.decoder = decoder(self.encoder.channels)
        self.head = head(self.decoder.channels, self.codec)
        if self.head.has_posterior(self.codec):
            self.uncertainty = self._uncertainty  # only then: callbacks ask who has this method
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # see SupervisedModule

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return Log(min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        if isinstance(self.codec, Binned):
            return OrdinalLoss() if isinstance(self.codec, Ordinal) else ClassCrossEntropy()
        return SILogLoss()

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) RGB in [0,1] to (B,codec.channels,H,W), network space."""
        size = image.shape[-2:]
        features = self.encoder(image)
        levels = self.decoder(features)
        return resize(self.head(levels, size), size)

    def group_of(self, name: str, parameter: nn.Parameter) -> GroupSettings:
        settings = super().group_of(name, parameter)
        if self.layer_decay == 1 or not name.startswith("encoder.") or not isinstance(self.encoder, VitEncoder):
            return settings
        layer, last = self.encoder.layer_of(name.removeprefix("encoder."))
        return {**settings, "lr_factor": settings["lr_factor"] * self.layer_decay ** (last - layer)}

    @torch.no_grad()
    def _uncertainty(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """How sure the network is of each pixel.

        Args:
            image: (B,3,H,W), RGB in [0,1].

        Returns:
            Standard deviation of the depth in metres and entropy in nats, each (B,1,H,W).
        """
        size = image.shape[-2:]
        std, entropy = self.head.uncertainty(self.decoder(self.encoder(image)), size, self.codec)
        return resize(std, size), resize(entropy, size)

    def _checked_decay(self, decay: float) -> float:
        if not 0 < decay <= 1:
            hint = "1 is none, 0.75 is usual"
            raise ConfigError(f"layer_decay is in (0, 1], got {decay}", where="model.layer_decay", next_action=hint)
        if decay != 1 and not isinstance(self.encoder, VitEncoder):
            what = f"layer_decay needs the layers of a VitEncoder, {type(self.encoder).__name__} does not tell them"
            raise ConfigError(what, where="model.layer_decay", next_action="leave it out, or give encoder_lr")
        return float(decay)
