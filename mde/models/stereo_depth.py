"""Depth from stereo pairs, without depth labels or with a few: two rows of paper 2's table.

Self-supervised ("LRC"): C. Godard, O. Mac Aodha and G. J. Brostow, "Unsupervised Monocular Depth Estimation with
Left-Right Consistency", CVPR 2017, https://arxiv.org/abs/1609.03677. Semi-supervised: Y. Kuznietsov, J. Stückler and B.
Leibe, "Semi-Supervised Deep Learning for Monocular Depth Map Prediction", CVPR 2017, https://arxiv.org/abs/1702.02706.

Faithful: from the left picture alone the network says the disparities of both cameras, at up to four scales; each
picture is rebuilt from the other one, and compared by 0.85 (1 - SSIM) / 2 + 0.15 L1 with a box window of 3x3;
edge-aware smoothness weighs 0.1 / 2^scale and left-right consistency 1, both on disparities as a share of the picture's
width; the scales are summed. Semi-supervised training adds a BerHu term where depth is known.

Deviates:

- The network says depth in its codec's space and not the share of the width by which pixels move, at most 0.3. The
  disparity follows from fx * baseline / depth of each batch. So a picture gives metres without a scale and without a
  camera, training pairs may have other cameras and baselines than each other, and evaluation is that of every method.
- What lies outside of the other picture does not count; the paper compares it with the border's colour there.
- The loss of all scales is taken at full size, after enlarging the depth (Godard et al., "Digging Into Self-Supervised
  Monocular Depth Estimation", ICCV 2019, section 3.2); ``full_resolution: false`` is the paper.
- The terms of both directions are averaged, where the paper adds them: one factor of 2 in all terms.
- Any encoder and decoder of the library; the finest head stands at their finest level, half the picture's size for
  most. Heads do not see what the coarser one said.
- The supervised term acts in the codec's space, where Kuznietsov et al. have metres, which far errors would govern; its
  weight is constant; there is one network for left pictures (theirs sees both), and no term for occlusions.

Numbers: KITTI cannot be had where this was written, so none of the papers' stands here beside ours.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mde.codecs import DepthCodec, Disparity
from mde.errors import ConfigError
from mde.geometry import shift_columns, stereo_disparity
from mde.losses import BerHuLoss, DepthLoss, PhotometricLoss, SmoothnessLoss
from mde.masking import masked_mean
from mde.models.base import DepthModule
from mde.models.decoders import DecoderFactory, UNetDecoder
from mde.models.encoders import Encoder, TorchvisionEncoder
from mde.models.layers import LevelHeads, resize
from mde.resizing import resized
from mde.types import Batch, StepOutput

__all__ = ["StereoDepth", "stereo_terms"]


class StereoDepth(DepthModule):
    """Trained on stereo pairs, used on single pictures; metric.

    Training needs `right`, `baseline` and `intrinsics` of a batch. Its `depth` counts with a `supervised_weight` above
    0 alone. Validation and test need the left picture only; there ``val/loss`` is the supervised distance, whatever the
    weight, so it watches the training and takes no part in it.

    Args:
        encoder: None is a randomly initialised ResNet-50.
        decoder: makes the decoder from the encoder's channels.
        scales: how many of the decoder's last levels say depth in training.
        full_resolution: compare pictures at full size for every scale, or at the size of the scale (the paper).
        photometric: compares a picture with the one that was rebuilt from its partner.
        smoothness: of a disparity, given its picture.
        smoothness_weight: at the finest scale; halved at each coarser one.
        consistency_weight: of the left-right consistency.
        supervised_weight: of `loss` where depth is known and within the codec's range; 0 is purely self-supervised.
        kwargs: codec, loss, optimizer, schedule, depth_range, image_size, protocol: see `DepthModule`. The codec needs
            a single channel; `Disparity` is the default, and BerHu the loss.

    Raises:
        ConfigError: the codec works on classes, more scales than levels, or a negative weight.

    >>> model = StereoDepth(TorchvisionEncoder("resnet18"), scales=2).eval()
    >>> model.predict(torch.rand(3, 61, 83)).depth.shape
    torch.Size([1, 1, 61, 83])
    """

    def __init__(
        self,
        encoder: Encoder | None = None,
        decoder: DecoderFactory = UNetDecoder,
        scales: int = 4,
        full_resolution: bool = True,
        photometric: PhotometricLoss | None = None,
        smoothness: SmoothnessLoss | None = None,
        smoothness_weight: float = 0.1,
        consistency_weight: float = 1.0,
        supervised_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.codec.channels != 1:
            what = f"this network says one depth per camera, {type(self.codec).__name__} needs {self.codec.channels}"
            raise ConfigError(what, where="model.codec", next_action="use mde.codecs.Disparity or Log")
        self.weights = _checked_weights(smoothness_weight, consistency_weight, supervised_weight)
        self.full_resolution = full_resolution
        self.photometric = PhotometricLoss() if photometric is None else photometric
        self.smoothness = SmoothnessLoss() if smoothness is None else smoothness
        self.encoder = TorchvisionEncoder("resnet50") if encoder is None else encoder
        self.decoder = decoder(self.encoder.channels)
        if not 1 <= scales <= len(self.decoder.channels):
            what = f"{scales} scales, the decoder has {len(self.decoder.channels)} levels"
            raise ConfigError(what, where="model.scales", next_action=f"give 1 to {len(self.decoder.channels)}")
        start = _logit_of_middle(self.codec)
        self.heads = LevelHeads(self.decoder.channels, scales, kernel_size=3, bias=start, outputs=2)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as `SupervisedModule`

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return Disparity(min_depth, max_depth)

    def default_loss(self) -> DepthLoss:
        return BerHuLoss()

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) RGB in [0,1] to network space (B,1,H,W), of the camera that took it."""
        levels = self.decoder(self.encoder(image))
        both = self._squashed(self.heads.last(levels))  # (B,2,h,w)
        return resize(both[:, :1], image.shape[-2:])

    def both_cameras(self, image: Tensor) -> list[Tensor]:
        """Left pictures (B,3,H,W) to network space (B,2,h,w) of the left and the right camera, finest scale first."""
        levels = self.decoder(self.encoder(image))
        return [self._squashed(logits) for logits in reversed(self.heads(levels))]

    def training_loss(self, batch: Batch) -> StepOutput:
        """The sum over the scales, and the supervised term; logs the weighted terms.

        Raises:
            ConfigError: the batch has no stereo pairs, or their calibration is unknown.
        """
        left, right = batch["image"], _right_of(batch)
        reach = stereo_disparity(left.new_ones(()), batch["intrinsics"], batch["baseline"]) / left.shape[-1]
        raws = self.both_cameras(left)
        scales = [self._scale_terms(raw, left, right, reach, 0.5**i) for i, raw in enumerate(raws)]
        terms = {name: torch.stack([each[name] for each in scales]).sum() for name in scales[0]}
        if weight := self.weights["supervised"]:
            # at full size: a smaller truth would lose most of what a lidar measured
            terms["supervised"] = weight * self.output_loss(resize(raws[0][:, :1], left.shape[-2:]), batch)
        logs = {name: term.detach() for name, term in terms.items()}
        return StepOutput(torch.stack(list(terms.values())).sum(), logs)

    def output_loss(self, raw: Tensor, batch: Batch) -> Tensor:
        """Supervised distance of the left camera's depth; what lies beyond the codec's range is left out."""
        within = batch["valid"] & (batch["depth"] <= self.codec.max_depth)
        return super().output_loss(raw, {**batch, "valid": within})

    def _scale_terms(self, raw: Tensor, left: Tensor, right: Tensor, reach: Tensor, factor: float) -> dict[str, Tensor]:
        size = left.shape[-2:] if self.full_resolution else raw.shape[-2:]
        share = reach / self.codec.decode_through(resize(raw, size))  # (B,2,h,w), of the width
        pictures = resized(left, size), resized(right, size)
        terms = stereo_terms(share[:, :1], share[:, 1:], *pictures, self.photometric, self.smoothness)
        weights = {"smoothness": factor * self.weights["smoothness"], "consistency": self.weights["consistency"]}
        return {name: weights.get(name, 1.0) * term for name, term in terms.items()}

    def _squashed(self, logits: Tensor) -> Tensor:
        near, far = self.codec.encoded_range
        return near + (far - near) * logits.sigmoid()


def stereo_terms(
    of_left: Tensor,
    of_right: Tensor,
    left: Tensor,
    right: Tensor,
    photometric: PhotometricLoss,
    smoothness: SmoothnessLoss,
) -> dict[str, Tensor]:
    """Godard et al. 2017, section 3.2: how well two disparities explain a pair, each term a mean of both directions.

    Args:
        of_left: (B,1,H,W), disparity of the left camera in its own pixels, as a share of the width.
        of_right: (B,1,H,W), of the right camera in its own pixels, likewise.
        left: (B,3,H,W), RGB in [0,1].
        right: (B,3,H,W), likewise.
        photometric: compares pictures.
        smoothness: of a disparity, given its picture.

    Returns:
        "photometric" (no unit), "smoothness" and "consistency" (shares of the width): scalars, not weighted.
    """
    # both directions as one batch: the left picture's pixels lie further left in the right one, and the other way round
    disparity, other = torch.cat((of_left, of_right)), torch.cat((of_right, of_left))
    picture, partner = torch.cat((left, right)), torch.cat((right, left))
    columns = torch.cat((of_left, -of_right)) * left.shape[-1]
    found, inside = shift_columns(torch.cat((partner, other), dim=1), columns)
    return {
        "photometric": photometric(found[:, :-1], picture, inside),
        "smoothness": smoothness(disparity, picture),
        "consistency": masked_mean((disparity - found[:, -1:]).abs(), inside),
    }


def _right_of(batch: Batch) -> Tensor:
    if "right" not in batch or "baseline" not in batch:
        raise ConfigError(
            "this method trains on stereo pairs, and the batches have no right picture",
            where=f"batch of {batch['id'][0]}" if batch["id"] else "batch",
            next_action="set data.stereo: true (ProceduralDataModule and KITTIDataModule have pairs)",
        )
    return batch["right"]


def _logit_of_middle(codec: DepthCodec) -> float:
    """Where the heads start: the geometric middle of the range. From too near, pictures are compared far from their
    true place, where they say nothing about the direction to it."""
    middle = torch.tensor(math.sqrt(codec.min_depth * codec.max_depth), dtype=torch.float64, device="cpu")
    near, far = codec.encoded_range
    share = (float(codec.encode(middle)) - near) / (far - near)
    return math.log(share / (1 - share))


def _checked_weights(smoothness: float, consistency: float, supervised: float) -> dict[str, float]:
    weights = {"smoothness": smoothness, "consistency": consistency, "supervised": supervised}
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            what = f"a weight must be at least 0 and finite, got {weight}"
            raise ConfigError(what, where=f"model.{name}_weight", next_action="0 leaves the term out")
    return {name: float(weight) for name, weight in weights.items()}
