"""Encoders of torchvision."""

from __future__ import annotations

import re
from typing import cast

import torch
from torch import Tensor, nn

from mde.errors import ConfigError, nearest
from mde.models.encoders.base import Encoder
from mde.models.weights import obtain

__all__ = ["TorchvisionEncoder"]

# the last layer before each halving of the resolution; for DenseNet the skips of DenseDepth (Alhashim and Wonka 2018,
# table 1: conv1/relu, pool1, pool2, pool3, and the last block). The 1x1 convolution before the classifier that
# MobileNet and EfficientNet end with is left out, as timm does: it quadruples the decoder and adds no resolution.
_TAPS: dict[str, tuple[str, ...]] = {
    r"densenet\d+": ("relu0", "pool0", "transition1", "transition2", "norm5"),
    r"resnet\d+|resnext\d+_.*|wide_resnet\d+_2": ("relu", "layer1", "layer2", "layer3", "layer4"),
    r"mobilenet_v2": ("1", "3", "6", "13", "17"),
    r"efficientnet_b\d": ("1", "2", "3", "5", "7"),
    r"convnext_(tiny|small|base|large)": ("1", "3", "5", "7"),
}


class TorchvisionEncoder(Encoder):
    """A classification network of torchvision up to its last feature map, with torchvision's own parameter names.

    Args:
        name: a DenseNet, ResNet, ResNeXt, MobileNet V2, EfficientNet or ConvNeXt. ``densenet169`` is paper 3's.
        weights: None (random), "pretrained" (ImageNet, downloaded once), or a state-dict file of torchvision.
        frozen_stages: see `Encoder`.

    Raises:
        ConfigError: unknown name.
        CheckpointError: the weights cannot be had or do not fit.

    >>> encoder = TorchvisionEncoder("resnet18")
    >>> encoder.channels, encoder.reductions
    ((64, 64, 128, 256, 512), (2, 4, 8, 16, 32))
    """

    def __init__(self, name: str = "densenet169", weights: str | None = None, frozen_stages: int = 0) -> None:
        taps = _taps_of(name)
        net = obtain(lambda download: _torchvision_net(name, taps[-1], download), name, weights, _torchvision_key)
        self._taps = taps  # before the constructor, which measures by `extract`
        super().__init__(net, frozen_stages=frozen_stages)

    def extract(self, x: Tensor) -> list[Tensor]:
        features = []
        for name, layer in _body(self.net).named_children():
            x = layer(x)
            if name in self._taps:
                # DenseNet's last layer is a batch norm; its ReLU stands in torchvision's forward
                features.append(torch.relu(x) if name == "norm5" else x)
        return features


def _taps_of(name: str) -> tuple[str, ...]:
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    families = {n: taps for n in known for pattern, taps in _TAPS.items() if re.fullmatch(pattern, n)}
    if name not in families:
        raise ConfigError(
            f"unknown torchvision encoder {name!r}",
            where="encoder.name",
            next_action=f"nearest: {nearest(name, families)}",
        )
    return families[name]


def _torchvision_net(name: str, last: str, download: bool) -> nn.Module:
    import torchvision

    net = cast(nn.Module, torchvision.models.get_model(name, weights="DEFAULT" if download else None, progress=False))
    # what comes after the last tap would be parameters without a gradient
    children = [child for child, _ in _body(net).named_children()]
    for child in children[children.index(last) + 1 :]:
        delattr(_body(net), child)
    if _body(net) is not net:
        for child in [child for child, _ in net.named_children() if child != "features"]:
            delattr(net, child)
    return net


def _body(net: nn.Module) -> nn.Module:
    return cast(nn.Module, getattr(net, "features", net))


def _torchvision_key(key: str) -> str:
    """DenseNet files of torchvision write ``norm.1`` where the network has ``norm1``."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key)
