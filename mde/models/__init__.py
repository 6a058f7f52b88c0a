"""Methods, and the encoders, decoders and schedules that they are made of."""

from __future__ import annotations

from mde.models.base import DepthModule
from mde.models.decoders import Decoder, DenseDepthDecoder, TransposedDecoder, UNetDecoder
from mde.models.deeplab_sid import DeepLabSID
from mde.models.dense_depth import DenseDepth
from mde.models.encoders import Encoder, SamEncoder, SmpEncoder, TimmEncoder, TorchvisionEncoder
from mde.models.layers import BilinearUpsample, TransposedUpsample
from mde.models.pretrained import MarigoldDepth, PretrainedDepth
from mde.models.resnet_depth import ResNetDepth
from mde.models.sam_depth import ResidualDecoder, SAMDepth
from mde.models.schedules import Cyclic, OneCycle, PolyDecay, Schedule, WarmupCosine
from mde.models.unet import UNet

__all__ = [
    "DeepLabSID",
    "DenseDepth",
    "MarigoldDepth",
    "PretrainedDepth",
    "ResNetDepth",
    "SAMDepth",
    "UNet",
    "DepthModule",
    "Encoder",
    "SamEncoder",
    "SmpEncoder",
    "TimmEncoder",
    "TorchvisionEncoder",
    "Decoder",
    "DenseDepthDecoder",
    "ResidualDecoder",
    "TransposedDecoder",
    "UNetDecoder",
    "BilinearUpsample",
    "TransposedUpsample",
    "Cyclic",
    "OneCycle",
    "PolyDecay",
    "Schedule",
    "WarmupCosine",
]
