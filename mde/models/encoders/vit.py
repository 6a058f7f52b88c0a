"""Plain vision transformers of timm: DINOv2, DINOv3, SAM, MAE, DeiT and their kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from mde.errors import ConfigError, nearest
from mde.models.encoders.base import IMAGENET_MEAN, IMAGENET_STD, Encoder
from mde.models.layers import resize
from mde.models.lora import add_lora
from mde.models.weights import obtain

__all__ = ["VitEncoder"]


class VitEncoder(Encoder):
    """Tokens of some blocks of a vision transformer, as maps of the patch's stride.

    A picture whose sides are no multiples of the patch is resized to the nearest ones (480x640 to 476x644 for patches
    of 14), as Depth Anything does: so the maps cover the picture exactly, where a padded one would be squeezed. Tables
    of positions are resized by timm to whatever the picture has; class and register tokens are left out.

    Args:
        name: as in ``timm.list_models()``, with or without a tag after a dot, such as "vit_small_patch14_dinov2".
        weights: None (random), "pretrained" (timm's for this name and tag, downloaded once), or a state-dict file of
            timm.
        blocks: whose tokens are given, from 0; None takes the last block of each quarter, such as (2, 5, 8, 11) of 12.
            What follows the last is left out.
        norm: apply the network's last norm to all of them, as Depth Anything does (for SAM that is its neck).
        frozen_stages: see `Encoder`; a stage ends with one of `blocks`.
        lora_rank: above 0, everything is frozen but corrections of this rank to the attention of each block
            (`mde.models.lora`).
        options: more arguments for ``timm.create_model``, such as ``{"depth": 4, "embed_dim": 96}``.

    Attributes:
        layers: which layer each parameter belongs to, by its name in timm: 0 is the embedding, then the blocks.

    Raises:
        ConfigError: unknown name, not a plain vision transformer, or settings that do not fit.
        CheckpointError: the weights cannot be had or do not fit.

    >>> encoder = VitEncoder("test_vit", blocks=(1, 3, 5))
    >>> encoder.channels, encoder.reductions
    ((64, 64, 64), (16, 16, 16))
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        blocks: Sequence[int] | None = None,
        norm: bool = True,
        frozen_stages: int = 0,
        lora_rank: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        import timm
        from timm.models import group_parameters

        if not timm.is_model(name):
            hint = f"nearest: {nearest(name, timm.list_models())}"
            raise ConfigError(f"unknown timm model {name!r}", where="encoder.name", next_action=hint)
        net = obtain(lambda download: _vit(name, download, options or {}), name, weights)
        self._indices = _prune(net, blocks, norm)
        self._norm = norm
        config = timm.get_pretrained_cfg(name)
        self._patch = int(cast(Any, net).patch_embed.feat_ratio())
        super().__init__(
            net,
            mean=IMAGENET_MEAN if config is None else config.mean,
            std=IMAGENET_STD if config is None else config.std,
            frozen_stages=frozen_stages,
            probe_size=(2 * self._patch, 2 * self._patch),
        )
        if lora_rank:
            self._adapt(lora_rank)
        self.layers: Mapping[str, int] = group_parameters(net, cast(Any, net).group_matcher(), reverse=True)

    def extract(self, x: Tensor) -> list[Tensor]:
        x = resize(x, [max(round(side / self._patch), 1) * self._patch for side in x.shape[-2:]])
        out = cast(Any, self.net).forward_intermediates(
            x, indices=self._indices, norm=self._norm, output_fmt="NCHW", intermediates_only=True
        )
        return cast(list[Tensor], out)

    def layer_of(self, name: str) -> tuple[int, int]:
        """Layer of a parameter, by its name in this module, and the number of the last layer."""
        return self.layers[name.removeprefix("net.")], max(self.layers.values())

    def _adapt(self, rank: int) -> None:
        if self.frozen_stages:
            hint = "leave frozen_stages out: with lora_rank all but the corrections is frozen"
            raise ConfigError("lora_rank and frozen_stages exclude each other", where="encoder", next_action=hint)
        self.net.requires_grad_(False)
        for block in cast(Any, self.net).blocks:
            if hasattr(block.attn, "qkv_bias_separate"):  # or EVA reads the layer's weight past its correction
                block.attn.qkv_bias_separate = True
            add_lora(block, ("attn.qkv", "attn.proj"), rank)


def _vit(name: str, download: bool, options: Mapping[str, Any]) -> nn.Module:
    import timm

    def make(**extra: Any) -> nn.Module:
        return cast(nn.Module, timm.create_model(name, pretrained=download, num_classes=0, **extra, **options))

    try:
        net = make(dynamic_img_size=True)
    except TypeError:  # SAM's always is, and does not know the word
        try:
            net = make()
        except TypeError as error:
            hint = "check the options"
            what = f"timm cannot make {name} ({error})"
            raise ConfigError(what, where="encoder.options", next_action=hint) from error
    if not (hasattr(net, "blocks") and hasattr(net, "patch_embed") and hasattr(net, "prune_intermediate_layers")):
        hint = "use TimmEncoder, or a name such as vit_small_patch14_dinov2"
        raise ConfigError(f"{name} is not a plain vision transformer", where="encoder.name", next_action=hint)
    if cast(Any, net).patch_embed.strict_img_size:
        what = f"{name} takes pictures of one size alone"
        raise ConfigError(what, where="encoder.name", next_action="take another, such as vit_small_patch14_dinov2")
    return net


def _prune(net: nn.Module, blocks: Sequence[int] | None, norm: bool) -> list[int]:
    """Leave out what no feature needs; returns the blocks' numbers."""
    depth = len(cast(Any, net).blocks)
    wanted = [(i + 1) * depth // 4 - 1 for i in range(4)] if blocks is None else list(blocks)
    if not wanted or sorted(set(wanted)) != wanted or not 0 <= wanted[0] <= wanted[-1] < depth:
        what = f"blocks {wanted} are no ascending choice of this network's {depth}"
        raise ConfigError(what, where="encoder.blocks", next_action=f"give numbers from 0 to {depth - 1}")
    cast(Any, net).prune_intermediate_layers(wanted, prune_norm=not norm, prune_head=True)
    return wanted
