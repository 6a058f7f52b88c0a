"""A network for relative disparity, trained up to scale and shift on any mixture of data sets (MiDaS).

R. Ranftl, K. Lasinger, D. Hafner, K. Schindler and V. Koltun, "Towards Robust Monocular Depth Estimation: Mixing
Datasets for Zero-shot Cross-dataset Transfer", TPAMI 2020, https://arxiv.org/abs/1907.01341.

Faithful: the network says disparity (1/depth) up to an unknown scale and shift of each picture; prediction and truth
are normalised per picture by their median and mean absolute deviation (equations 5 and 6), compared by the mean
absolute difference and by gradients at four scales with a weight of 0.5 (equation 11), so that truth in metres, up to
a factor, or as relative disparity trains one network; equal parts of every data set in each batch
(`mde.data.MixedDataModule`); evaluation after a least-squares fit of scale and shift in disparity (`midas_nyu` and
`midas_kitti` of `mde.protocol`).

Deviates: encoder and decoder are injected, by default a ResNet-50 (as in the paper's ablations) under DenseDepth's
decoder instead of the refinement blocks of Xian et al. 2018; the largest residuals are not trimmed, because the truth
of the sets here is measured or rendered; multi-objective (Pareto) mixing is left out; no output activation holds the
disparity above 0, as the fit may shift it anyway.

Numbers: the paper's networks were trained on other data (ReDWeb, MegaDepth, 3D movies …), so none stands here beside
ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mde.codecs import DepthCodec
from mde.errors import ConfigError
from mde.losses import DepthLoss, ScaleShiftInvariantLoss
from mde.losses.maps import Space
from mde.models.as_predicted import AsPredicted
from mde.models.decoders import DecoderFactory, DenseDepthDecoder
from mde.models.encoders import Encoder, TorchvisionEncoder
from mde.models.supervised import SupervisedModule
from mde.types import Ambiguity

__all__ = ["RelativeDepth"]


class RelativeDepth(SupervisedModule):
    """An encoder and a decoder that say relative disparity: larger is nearer, no unit.

    It learns from metric truth and from truth up to a scale, or up to a scale and shift of disparity; it has to be
    evaluated under a protocol with ``alignment: disparity_scale_shift``, and gives no metric plots or points.

    Args:
        encoder: None is a randomly initialised ResNet-50.
        decoder: makes the decoder from the encoder's channels.
        supervision: weights of the last decoder levels, the finest last.
        kwargs: see `DepthModule`. The codec is `AsPredicted`, and no other one; a `loss` should not depend on the scale
            and shift of its target.

    Raises:
        ConfigError: a codec that makes metres of the output is given, or a loss that works on metres.

    >>> import torch
    >>> model = RelativeDepth(TorchvisionEncoder("resnet18")).eval()
    >>> model.predict(torch.rand(3, 61, 83)).unit
    'relative disparity'
    """

    ambiguity = Ambiguity.AFFINE_DISPARITY

    def __init__(
        self,
        encoder: Encoder | None = None,
        decoder: DecoderFactory = DenseDepthDecoder,
        supervision: Sequence[float] = (1.0,),
        **kwargs: Any,
    ) -> None:
        encoder = TorchvisionEncoder("resnet50") if encoder is None else encoder
        super().__init__(encoder, decoder(encoder.channels), supervision, head_kernel=3, **kwargs)
        if not (isinstance(self.codec, AsPredicted) and self.codec.disparity):
            what = f"relative disparity is no depth that a {type(self.codec).__name__} could decode"
            raise ConfigError(what, where="model.codec", next_action="leave it out")
        for term in self.loss.modules():
            if isinstance(term, DepthLoss) and term.space is Space.METRES:
                what = f"{type(term).__name__} compares metres, and the output is a relative disparity"
                raise ConfigError(what, where="model.loss", next_action="leave it out, or use a metric method")

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return AsPredicted(min_depth, max_depth, disparity=True)

    def default_loss(self) -> DepthLoss:
        return ScaleShiftInvariantLoss()
