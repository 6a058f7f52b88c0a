"""Encoders of segmentation_models_pytorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from mde.errors import ConfigError, nearest
from mde.models.encoders.base import IMAGENET_MEAN, IMAGENET_STD, Encoder
from mde.models.weights import PRETRAINED, obtain
from mde.rebuild import rebuilding

__all__ = ["SmpEncoder"]


class SmpEncoder(Encoder):
    """An encoder of segmentation_models_pytorch; its ResNets can keep a resolution of 1/8 or 1/16 by dilation.

    Args:
        name: as in ``segmentation_models_pytorch.encoders.get_encoder_names()``.
        weights: None (random), "pretrained" (ImageNet, downloaded once), or a state-dict file of the library.
        frozen_stages: see `Encoder`.
        output_stride: 8, 16 or 32; the reduction of the last feature. DenseNets have 32 only.

    Raises:
        ConfigError: unknown name, or an output stride that this network does not have.
        CheckpointError: the weights cannot be had or do not fit.

    >>> SmpEncoder("resnet18", output_stride=8).reductions
    (2, 4, 8, 8, 8)
    """

    def __init__(self, name: str, weights: str | None = None, frozen_stages: int = 0, output_stride: int = 32) -> None:
        from segmentation_models_pytorch.encoders import get_encoder_names

        if name not in get_encoder_names():
            raise ConfigError(
                f"unknown encoder {name!r} of segmentation_models_pytorch",
                where="encoder.name",
                next_action=f"nearest: {nearest(name, get_encoder_names())}",
            )
        net = obtain(lambda download: _smp_net(name, output_stride, download), name, weights)
        mean, std = (
            _smp_statistics(name) if weights == PRETRAINED and not rebuilding() else (IMAGENET_MEAN, IMAGENET_STD)
        )
        super().__init__(net, mean=mean, std=std, frozen_stages=frozen_stages)

    def extract(self, x: Tensor) -> list[Tensor]:
        features = cast(list[Tensor], self.net(x))
        return features[1:]  # the first one is the picture itself


def _smp_net(name: str, output_stride: int, download: bool) -> nn.Module:
    from segmentation_models_pytorch.encoders import get_encoder

    # dilated afterwards, and here: only so can a refused stride be told from a failed download
    net = cast(Any, get_encoder(name, weights="imagenet" if download else None))
    if output_stride != 32:
        try:
            net.make_dilated(output_stride)
        except (ValueError, NotImplementedError) as error:
            raise ConfigError(
                f"{name} has no output stride {output_stride} ({error})",
                where="encoder.output_stride",
                next_action="use 32, or a ResNet with 8 or 16",
            ) from error
    return cast(nn.Module, net)


def _smp_statistics(name: str) -> tuple[Sequence[float], Sequence[float]]:
    from segmentation_models_pytorch.encoders import get_preprocessing_params

    settings = get_preprocessing_params(name)  # in the cache already, beside the weights
    top = float(settings["input_range"][1])  # 255 for a few; mean and std then are too
    return [m / top for m in settings["mean"]], [s / top for s in settings["std"]]
