"""Encoders: a picture in, feature maps out, finest first. One file for each library that they come from."""

from mde.models.encoders.base import Encoder
from mde.models.encoders.sam import SamEncoder
from mde.models.encoders.smp import SmpEncoder
from mde.models.encoders.timm import TimmEncoder
from mde.models.encoders.torchvision import TorchvisionEncoder
from mde.models.encoders.vit import VitEncoder

__all__ = ["Encoder", "SamEncoder", "SmpEncoder", "TimmEncoder", "TorchvisionEncoder", "VitEncoder"]
