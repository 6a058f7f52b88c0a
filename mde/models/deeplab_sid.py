"""Paper 2: depth as classes, spacing-increasing discretization (SID) on DeepLab v2; or by ordinal regression.

The network is that of L.-C. Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs", TPAMI 2018, https://arxiv.org/abs/1606.00915; the discretization that of H. Fu
et al., "Deep Ordinal Regression Network for Monocular Depth Estimation", CVPR 2018, https://arxiv.org/abs/1806.02446.

Faithful: ResNet-101 at output stride 8 (dilations 2 and 4, 42,500,160 parameters), four parallel 3x3 convolutions of
rates 6, 12, 18 and 24, summed (5,234,972 parameters for 71 classes), bilinear enlargement of the logits, cross-entropy
that leaves out what is farther than 80 m, SGD with ten times the learning rate for the head's weights and twenty times
for its biases as in DeepLab, batch norm as it was in the pretrained network, which batches of three ask for.

Deviates: stride and dilation stand in the 3x3 convolutions, as in torchvision's ResNet, where the Caffe original has
the stride in the 1x1; the range starts at 1 m unless told otherwise (the paper states no alpha; 0.001 m, which other
code uses, spends 47 of the 71 classes on what is nearer than 2 m); depth is decoded by the middle of the likeliest
class or by an expectation, where the paper does not say how. The recipes to the letter are the experiments
``kitti/deeplab_sid_paper2`` and ``synthia/deeplab_sid_paper2``, the better ones stand beside them.

With the codec `mde.codecs.Ordinal` the same network is trained by the ordinal regression of Fu et al. (their section
3.3) and nothing else changes, so that classes and ordered questions can be compared. DORN as published has another
head besides (a full-image encoder) and four strips of the picture that are averaged; neither is here.

Numbers: paper 2, table 1, KITTI: AbsRel 0.075, RMSE 2.499, delta1 0.796; its "RMSElog" is a scale-invariant one and its
delta1 does not agree with its AbsRel, so they are no target. KITTI cannot be had where this was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mde.codecs import Binned, DepthCodec, Discretized, Ordinal
from mde.crf import DenseCRF
from mde.errors import ConfigError
from mde.losses import ClassCrossEntropy, DepthLoss, LossMaps, OrdinalLoss
from mde.losses.banded import BandedLoss
from mde.models.base import DepthModule, GroupSettings
from mde.models.encoders import Encoder, SmpEncoder
from mde.models.layers import SummedASPP, resize
from mde.types import Batch, StepOutput

__all__ = ["DeepLabSID"]


class DeepLabSID(DepthModule):
    """DeepLab v2 whose classes are intervals of depth; the codec says whether it is asked which, or beyond which.

    Works as a plain ``nn.Module`` too: ``model(image)`` gives logits, ``model.predict(image)`` metres.

    Args:
        encoder: None is a randomly initialised ResNet-101 of output stride 8; for training give
            ``SmpEncoder("resnet101", weights="pretrained", output_stride=8)``.
        rates: dilations of the parallel convolutions.
        bins: number of classes of the default codec, which is SID on `depth_range`. A codec that is given may also be
            `mde.codecs.Ordinal`; its loss is then `mde.losses.OrdinalLoss`.
        upsample: "logits" enlarges the class maps and then decodes (DeepLab); "depth" decodes at the network's stride
            and enlarges the depth, some hundred times cheaper.
        scales: sizes of the picture, 1 among them, whose class maps are joined by their maximum; each and the maximum
            are supervised (Chen et al., section 4.3; 1, 0.75, 0.5 there).
        head_lr: factors of the learning rate for the weights and the biases of the head; biases do not decay.
        frozen_norm: keep batch norm as it came, statistics and scale.
        crf: refines the posterior by the picture in evaluation and `predict`, at the stride of the network (Chen et
            al., section 3.3); a test then scores what was there before, too. The paper does not say that it was used on
            depth.
        kwargs: codec, loss, optimizer, schedule, depth_range, image_size, protocol: see `DepthModule`.

    Raises:
        ConfigError: the codec has no classes, the loss is for another kind of codec, or a setting is out of range.

    >>> model = DeepLabSID(SmpEncoder("resnet18", output_stride=8), bins=5).eval()
    >>> model.predict(torch.rand(3, 61, 83)).depth.shape
    torch.Size([1, 1, 61, 83])
    """

    codec: Binned

    def __init__(
        self,
        encoder: Encoder | None = None,
        rates: Sequence[int] = (6, 12, 18, 24),
        bins: int = 71,
        upsample: str = "logits",
        scales: Sequence[float] = (1.0,),
        head_lr: tuple[float, float] = (10.0, 20.0),
        frozen_norm: bool = True,
        crf: DenseCRF | None = None,
        **kwargs: Any,
    ) -> None:
        self._bins = bins  # default_codec needs it
        super().__init__(**kwargs)
        _check(self.codec, self.loss, scales)
        if upsample not in ("logits", "depth"):
            hint = "use logits or depth"
            raise ConfigError(f"unknown way to enlarge {upsample!r}", where="model.upsample", next_action=hint)
        self.upsample = upsample
        self.scales = tuple(float(scale) for scale in scales)
        self.head_lr = head_lr
        self.crf = crf
        self.encoder = SmpEncoder("resnet101", output_stride=8) if encoder is None else encoder
        self.head = SummedASPP(self.encoder.channels[-1], self.codec.channels, rates)
        if frozen_norm:
            self.encoder.freeze_norm()

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return Discretized("sid", self._bins, min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        return OrdinalLoss() if isinstance(self.codec, Ordinal) else ClassCrossEntropy()

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) RGB in [0,1] to logits (B,C,H,W), C the codec's channels: K classes, or twice as many."""
        return resize(self.logits(image), image.shape[-2:])

    def logits(self, image: Tensor) -> Tensor:
        """Class maps at the stride of the network, (B,C,H/8,W/8); over `scales` their maximum."""
        maps = self._pyramid(image)
        return maps[0] if len(maps) == 1 else torch.stack(maps).amax(0)

    def raw(self, image: Tensor) -> Tensor:
        return self._refined(self.logits(image), image)

    def raws(self, image: Tensor) -> dict[str, Tensor]:
        """`raw`, and where there is a field what it is without it."""
        maps = self.logits(image)
        plain = {} if self.crf is None else {"without crf": self._enlarged(maps, image)}
        return {"": self._refined(maps, image), **plain}

    def training_loss(self, batch: Batch) -> StepOutput:
        """The loss at full resolution; with `scales`, of each scale and of their maximum, summed."""
        maps = self._pyramid(batch["image"])
        if len(maps) > 1:
            maps.append(torch.stack(maps).amax(0))
        losses = [self.output_loss(each, batch) for each in maps]
        logs = {"output": losses[-1].detach()} if len(losses) > 1 else {}
        return StepOutput(torch.stack(losses).sum(), logs)

    def output_loss(self, raw: Tensor, batch: Batch) -> Tensor:
        """Loss of class maps of any size against the truth at its own; what lies beyond the last edge is left out."""
        depth = batch["depth"]
        counted = batch["valid"] & (depth <= self.codec.max_depth)
        return self.loss.of(LossMaps(raw, depth, counted, self.codec))

    @torch.no_grad()
    def uncertainty(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """How sure the network is of each pixel.

        Args:
            image: (B,3,H,W), RGB in [0,1].

        Returns:
            Standard deviation of the depth in metres and entropy in nats, each (B,1,H,W).
        """
        std, entropy = self.codec.uncertainty(self.raw(image))
        return resize(std, image.shape[-2:]), resize(entropy, image.shape[-2:])

    def group_of(self, name: str, parameter: nn.Parameter) -> GroupSettings:
        settings = super().group_of(name, parameter)
        if not name.startswith("head."):
            return settings
        weights, biases = self.head_lr
        return (
            {"lr_factor": biases, "weight_decay": 0.0} if name.endswith("bias") else {**settings, "lr_factor": weights}
        )

    def _refined(self, maps: Tensor, image: Tensor) -> Tensor:
        if self.crf is not None:
            maps = self.codec.of_posterior(self.crf(self.codec.log_posterior(maps), image))
        return self._enlarged(maps, image)

    def _enlarged(self, maps: Tensor, image: Tensor) -> Tensor:
        return resize(maps, image.shape[-2:]) if self.upsample == "logits" else maps

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        """Class maps of each scale, brought to the size of those of scale 1."""
        size = image.shape[-2:]
        maps = [self._at(image, [round(side * scale) for side in size]) for scale in self.scales]
        target = maps[self.scales.index(1.0)].shape[-2:]
        return [resize(each, target) for each in maps]

    def _at(self, image: Tensor, size: Iterable[int]) -> Tensor:
        return self.head(self.encoder(resize(image, tuple(size)))[-1])  # type: ignore[no-any-return]


def _check(codec: DepthCodec, loss: DepthLoss, scales: Sequence[float]) -> None:
    if not isinstance(codec, Binned):
        what = f"this network predicts classes, {type(codec).__name__} has none"
        raise ConfigError(what, where="model.codec", next_action="use mde.codecs.Discretized or mde.codecs.Ordinal")
    if isinstance(loss, BandedLoss):
        loss.check(codec)
    if 1.0 not in scales or min(scales) <= 0:
        what = f"scales need 1 among them and be above 0, got {list(scales)}"
        raise ConfigError(what, where="model.scales", next_action="give (1.0,) or (1.0, 0.75, 0.5)")
    if len(scales) > 1 and isinstance(codec, Ordinal) and not codec.pairs:
        what = "the maximum over scales of a single logit per question would always favour what is far"
        raise ConfigError(what, where="model.scales", next_action="give the codec pairs: true, or one scale")
