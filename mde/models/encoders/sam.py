"""The image encoder of Segment Anything, also in the pruned sizes of SlimSAM.

A. Kirillov et al., "Segment Anything", ICCV 2023, https://arxiv.org/abs/2304.02643; Z. Chen et al., "SlimSAM: 0.1% Data
Makes Segment Anything Slim", NeurIPS 2024, https://arxiv.org/abs/2312.05284. The network is that of transformers; its
attention is replaced by one that gives the same numbers in less time and memory (`sam_attention`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Tensor, nn
from torch.nn import functional as F

from mde.errors import CheckpointError, ConfigError
from mde.models.encoders.base import Encoder
from mde.models.encoders.sam_attention import BlockedAttention
from mde.models.lora import add_lora
from mde.models.weights import hub_within_reach, obtain
from mde.resizing import resized

__all__ = ["SAM_CHECKPOINTS", "SamEncoder"]

SAM_CHECKPOINTS: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "slimsam-77": ("nielsr/slimsam-77-uniform", {"hidden_size": 168, "mlp_dim": 696}),
        "slimsam-50": ("nielsr/slimsam-50-uniform", {"hidden_size": 384, "mlp_dim": 1536}),
        "vit-b": ("facebook/sam-vit-base", {}),
        "vit-l": (
            "facebook/sam-vit-large",
            {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
            | {"global_attn_indexes": [5, 11, 17, 23]},
        ),
        "vit-h": (
            "facebook/sam-vit-huge",
            {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16}
            | {"global_attn_indexes": [7, 15, 23, 31]},
        ),
    }
)
"""Short names: where the weights lie on the Hugging Face hub, and in what the network differs from ViT-B."""

# transformers' default of 1e-10 makes a random network say 0 everywhere
_RANDOM = {"initializer_range": 0.02}
_SHAPE = (
    *("hidden_size", "mlp_dim", "num_hidden_layers", "num_attention_heads", "global_attn_indexes", "window_size"),
    *("image_size", "patch_size", "output_channels", "qkv_bias", "use_abs_pos", "use_rel_pos", "layer_norm_eps"),
)
# amplitude of the positions of a random encoder: AbsRel of rooms/sam 2 % lower after 1500 steps, 0.5 % after 4000
_SINES = 0.3
# names of the authors' own files, as regular expressions, and of transformers
_ORIGINAL = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.blocks\.(\d+)\.", r".layers.\1."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
)


class SamEncoder(Encoder):
    """A picture of any size to one feature of 256 channels, frozen unless told otherwise.

    Inside, the picture's longer side is brought to `image_size`, and zeros fill it up to a square, below and to the
    right, after normalisation. What is made of the filling is cut off again, so the feature has the picture's shape:
    (B,256,48,64) of a picture of 480x640 or of 768x1024. `reductions` counts pixels of the resized picture.

    Args:
        name: "slimsam-77", "slimsam-50", "vit-b", "vit-l", "vit-h" (`SAM_CHECKPOINTS`), or the name on the Hugging
            Face hub or local folder of any checkpoint of SAM.
        weights: None (random), "pretrained" (those of `name`, downloaded once), or a state-dict file with the names of
            transformers (``vision_encoder.…``) or of SAM's authors (``image_encoder.…``).
        image_size: pixels; the network is made for another input by resizing its tables of positions. None: as it came,
            1024. Attention costs the fourth power of it.
        trainable_blocks: the last so many blocks and what follows them are trained; -1 trains everything.
        lora_rank: above 0, the attention of frozen blocks is corrected by trained layers of this rank (`LoRALinear`).
        config: settings of transformers' ``SamVisionConfig`` that differ from those of a short `name`, such as
            ``{"hidden_size": 24}``; with another name they stand in place of its ``config.json``.

    Raises:
        ConfigError: transformers is missing, or a setting is out of range.
        CheckpointError: the weights or the configuration cannot be had or do not fit.
    """

    def __init__(
        self,
        name: str = "slimsam-77",
        weights: str | None = None,
        image_size: int | None = None,
        trainable_blocks: int = 0,
        lora_rank: int = 0,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        place, settings = _architecture(name, config)
        if name not in SAM_CHECKPOINTS:  # rebuilt from a checkpoint, it must not need this folder or the hub again
            self._given_args = {**self._given_args, "config": settings}
        net = obtain(lambda download: _sam_net(place, settings, download), name, weights, _common_key)
        net = _at_size(net, image_size)
        made: Any = cast(Any, net).config
        self.image_size, patch = int(made.image_size), int(made.patch_size)
        if made.use_rel_pos:
            for layer in _blocks(net):
                layer.attn = BlockedAttention(cast(nn.Module, layer.attn))
        super().__init__(
            net,  # mean and std of ImageNet are those that SAM was trained with
            levels=[(made.output_channels, patch)],
            frozen_stages=-1 if trainable_blocks == 0 and lora_rank == 0 else 0,
        )
        if not self.fully_frozen:
            self._train_only(trainable_blocks, lora_rank)

    def extract(self, x: Tensor) -> list[Tensor]:
        height, width = (-(-side // self.reductions[0]) for side in self.content(x.shape[-2:]))
        return [self._whole(x)[..., :height, :width]]

    def padded(self, image: Tensor) -> Tensor:
        """The feature of the whole square, what is made of the filling included: (B,256,S/16,S/16).

        Args:
            image: float (B,3,H,W), RGB in [0,1].
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.fully_frozen):
            return self._whole((image - self.mean) / self.std)

    def content(self, size: tuple[int, ...] | torch.Size) -> tuple[int, int]:
        """(height, width) to which a picture of (height, width) is resized before the filling."""
        scale = self.image_size / max(size)
        height, width = (max(1, int(side * scale + 0.5)) for side in size)
        return height, width

    def _whole(self, x: Tensor) -> Tensor:
        size = self.content(x.shape[-2:])
        x = F.pad(resized(x, size), (0, self.image_size - size[1], 0, self.image_size - size[0]))
        return cast(Tensor, self.net(x).last_hidden_state)

    def _train_only(self, blocks: int, lora_rank: int) -> None:
        layers = _blocks(self.net)
        if not -1 <= blocks <= len(layers) or lora_rank < 0:
            raise ConfigError(
                f"trainable_blocks is {blocks} and lora_rank {lora_rank}, this encoder has {len(layers)} blocks",
                where="encoder",
                next_action=f"give 0 (frozen) to {len(layers)} blocks, or -1 (train all), and a rank of at least 0",
            )
        if blocks == -1:
            return
        self.net.requires_grad_(False)
        frozen, trained = layers[: len(layers) - blocks], layers[len(layers) - blocks :]
        for part in [*trained, self.net.get_submodule("vision_encoder.neck")] if blocks else []:
            part.requires_grad_(True)
        for layer in frozen if lora_rank else []:
            add_lora(layer, ("attn.qkv", "attn.proj"), lora_rank)


def _architecture(name: str, config: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Where the weights lie, and the settings of the network."""
    if name in SAM_CHECKPOINTS:
        place, settings = SAM_CHECKPOINTS[name]
        return place, {**settings, **(config or {})}
    return name, dict(config) if config is not None else _read_config(name)


def _read_config(name: str) -> dict[str, Any]:
    try:
        with hub_within_reach():
            found = _transformers().SamVisionConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"no configuration of a SAM encoder at {name!r} ({str(error).strip().splitlines()[0]})",
            where="encoder.name",
            next_action=f"use {', '.join(SAM_CHECKPOINTS)}, a folder with config.json, or run once with a network",
        ) from error
    return {key: getattr(found, key) for key in _SHAPE}


def _sam_net(place: str, settings: Mapping[str, Any], download: bool) -> nn.Module:
    library = _transformers()
    config = library.SamVisionConfig(**{**_RANDOM, **settings})
    if not download:
        return _with_sines(library.SamVisionModel(config))
    level = library.logging.get_verbosity()
    library.logging.set_verbosity_error()  # or it lists every tensor of SAM's prompt encoder and mask decoder
    try:
        net, report = library.SamVisionModel.from_pretrained(place, config=config, output_loading_info=True)
    finally:
        library.logging.set_verbosity(level)
    missing = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
    if missing:  # transformers would leave them random
        raise RuntimeError(f"{len(missing)} tensors of the encoder are not in it, the first is {missing[0]}")
    return cast(nn.Module, net.float())


def _with_sines(net: nn.Module) -> nn.Module:
    """A random encoder knows at first where each patch lies: transformers begins with tables of zeros."""
    config: Any = cast(Any, net).config
    if config.use_abs_pos and config.hidden_size % 4 == 0:
        side = config.image_size // config.patch_size
        sines = build_sincos2d_pos_embed([side, side], config.hidden_size).view(1, side, side, -1)
        cast(Any, net).vision_encoder.pos_embed.data.copy_(_SINES * sines)
    return net


def _at_size(net: nn.Module, image_size: int | None) -> nn.Module:
    """The network for square pictures of another size, its tables of positions resized linearly."""
    config: Any = cast(Any, net).config
    if image_size in (None, config.image_size):
        return net
    if not isinstance(image_size, int) or image_size < config.patch_size or image_size % config.patch_size:
        what = f"image_size must be a multiple of {config.patch_size}, got {image_size}"
        raise ConfigError(what, where="encoder.image_size", next_action="512, 768 and 1024 are usual")
    made = _transformers().SamVisionModel(type(config)(**{**config.to_dict(), "image_size": image_size}))
    wanted = made.state_dict()
    made.load_state_dict({key: _resized(value, wanted[key].shape) for key, value in net.state_dict().items()})
    return cast(nn.Module, made)


def _resized(table: Tensor, shape: torch.Size) -> Tensor:
    """A table (1,h,w,c) or (length,c) of positions at another size; any other tensor has its shape already."""
    if table.shape == shape:
        return table
    if table.ndim == 2:
        return F.interpolate(table.T[None], size=shape[0], mode="linear")[0].T
    moved = F.interpolate(table.permute(0, 3, 1, 2), size=shape[1:3], mode="bilinear", align_corners=False)
    return moved.permute(0, 2, 3, 1)


def _blocks(net: nn.Module) -> list[nn.Module]:
    return list(net.get_submodule("vision_encoder.layers").children())


def _common_key(key: str) -> str:
    for pattern, name in _ORIGINAL:
        key = re.sub(pattern, name, key)
    return key


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError("SAM encoders need transformers", next_action="pip install 'mde[sam]'") from error
    return transformers
