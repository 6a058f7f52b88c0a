"""Encoders of timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from mde.errors import ConfigError, nearest
from mde.models.encoders.base import IMAGENET_MEAN, IMAGENET_STD, PROBE_SIZE, Encoder
from mde.models.weights import obtain

__all__ = ["TimmEncoder"]


class TimmEncoder(Encoder):
    """Any network of timm, by name, vision transformers included.

    A transformer's tokens come as maps (B,C,h,w); its picture is padded to whole patches, so that any size works.

    Args:
        name: as in ``timm.list_models()``, with or without a tag after a dot.
        weights: None (random), "pretrained" (timm's for this name and tag, downloaded once), or a state-dict file of
            timm.
        frozen_stages: see `Encoder`.
        options: more arguments for ``timm.create_model``, such as ``{"out_indices": [2, 5, 8, 11]}`` (which features)
            or ``{"img_size": [224, 224]}`` (for networks made for one size, such as Swin).

    Raises:
        ConfigError: unknown name, or options that this network does not take.
        CheckpointError: the weights cannot be had or do not fit.

    >>> TimmEncoder("test_vit").reductions
    (16, 16, 16)
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        frozen_stages: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        import timm

        if not timm.is_model(name):
            raise ConfigError(
                f"unknown timm model {name!r}",
                where="encoder.name",
                next_action=f"nearest: {nearest(name, timm.list_models())}",
            )
        options = dict(options or {})
        net = obtain(lambda download: _timm_net(name, download, options), name, weights, _timm_key)
        config = timm.get_pretrained_cfg(name)
        info = cast(Any, net).feature_info
        super().__init__(
            net,
            mean=IMAGENET_MEAN if config is None else config.mean,
            std=IMAGENET_STD if config is None else config.std,
            frozen_stages=frozen_stages,
            levels=list(zip(info.channels(), info.reduction(), strict=True)),
            probe_size=tuple(options.get("img_size", PROBE_SIZE)),
        )

    def extract(self, x: Tensor) -> list[Tensor]:
        features = cast(list[Tensor], self.net(x))
        channels_last = str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC")  # Swin and its kin
        return [f.permute(0, 3, 1, 2) for f in features] if channels_last else features


def _timm_net(name: str, download: bool, options: Mapping[str, Any]) -> nn.Module:
    import timm

    def make(**extra: Any) -> nn.Module:
        return cast(nn.Module, timm.create_model(name, pretrained=download, features_only=True, **extra))

    try:
        return make(dynamic_img_size=True, dynamic_img_pad=True, **options)
    except TypeError:  # only transformers know these two
        pass
    try:
        return make(**options)
    except (TypeError, RuntimeError, AssertionError) as error:
        if download:
            raise RuntimeError(str(error)) from error
        raise ConfigError(
            f"timm cannot make features of {name} ({str(error).splitlines()[0]})",
            where="encoder.options",
            next_action="check the options, or take another name",
        ) from error


def _timm_key(key: str) -> str:
    """Its feature extractor writes ``layers_0.`` for ``layers.0.`` and puts ``model.`` in front of transformers."""
    return key.removeprefix("model.").replace("_", ".")
