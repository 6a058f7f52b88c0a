"""Methods, and the encoders, decoders and schedules that they are made of."""

from __future__ import annotations

from mde.models.base import DepthModule
from mde.models.decoders import Decoder, DenseDepthDecoder, TransposedDecoder, UNetDecoder
from mde.models.deeplab_sid import DeepLabSID
from mde.models.dense_depth import DenseDepth
from mde.models.depth_net import DepthNet
from mde.models.eigen import EigenDepth
from mde.models.encoders import Encoder, SamEncoder, SmpEncoder, TimmEncoder, TorchvisionEncoder, VitEncoder
from mde.models.fusion import DPTDecoder, LightDecoder
from mde.models.heads import BinsHead, Head, LinearHead, SigmoidHead
from mde.models.layers import BilinearUpsample, TransposedUpsample
from mde.models.pretrained import MarigoldDepth, PretrainedDepth
from mde.models.relative_depth import RelativeDepth
from mde.models.resnet_depth import ResNetDepth
from mde.models.sam_depth import ResidualDecoder, SAMDepth
from mde.models.schedules import Cyclic, Milestones, OneCycle, PolyDecay, Schedule, WarmupCosine
from mde.models.stereo_depth import StereoDepth
from mde.models.unet import UNet

__all__ = [
    "DeepLabSID",
    "DenseDepth",
    "DepthNet",
    "EigenDepth",
    "MarigoldDepth",
    "PretrainedDepth",
    "RelativeDepth",
    "ResNetDepth",
    "SAMDepth",
    "StereoDepth",
    "UNet",
    "DepthModule",
    "Encoder",
    "SamEncoder",
    "SmpEncoder",
    "TimmEncoder",
    "TorchvisionEncoder",
    "VitEncoder",
    "Decoder",
    "DPTDecoder",
    "LightDecoder",
    "DenseDepthDecoder",
    "ResidualDecoder",
    "TransposedDecoder",
    "UNetDecoder",
    "Head",
    "BinsHead",
    "LinearHead",
    "SigmoidHead",
    "BilinearUpsample",
    "TransposedUpsample",
    "Cyclic",
    "Milestones",
    "OneCycle",
    "PolyDecay",
    "Schedule",
    "WarmupCosine",
]
