"""`PretrainedDepth`: any depth network of the Hugging Face hub, scored and trained like a method of this library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from mde.codecs import DepthCodec
from mde.errors import ConfigError
from mde.losses import DepthLoss
from mde.models.as_predicted import AsPredicted, loss_for
from mde.models.base import DepthModule, GroupSettings
from mde.models.parameter_groups import make_groups
from mde.models.pretrained.families import ambiguity_of, family_of
from mde.models.pretrained.loading import make_network, plain_config, read_config, read_preprocessing
from mde.models.weights import PRETRAINED
from mde.rebuild import rebuilding
from mde.types import Ambiguity

__all__ = ["PretrainedDepth"]

# What these networks hold and a picture's depth does not depend on: of pre-training, of the first fusion, of prompts.
# Distributed training refuses parameters that no gradient reaches.
_IDLE = re.compile(r"mask_token$|\.0\.residual_layer1\.|prompt_depth_layer\.|^dpt\.layernorm\.")


class PretrainedDepth(DepthModule):
    """A depth network of other authors, with its own preprocessing and its ambiguity declared.

    Depth Anything V1 and V2 (relative and metric), DPT and MiDaS, ZoeDepth, GLPN, Depth Pro, and whatever else
    transformers loads for depth estimation. Used as it came by ``mde test``, trained on by ``mde fit``. PromptDepth
    Anything runs without its prompt, which no data set here has: its depth is then known up to scale and shift.

    The output is not clamped to `depth_range`: the protocol aligns what the network said. A metric network trains on
    metres (L1), a relative one on disparity or depth up to scale and shift (`ScaleShiftInvariantLoss`). A relative
    Depth Anything becomes a metric one, its last ReLU a sigmoid times 10 m, by
    ``config={"depth_estimation_type": "metric", "max_depth": 10}``, and has to be trained then.

    Args:
        name: a short name (``mde info pretrained`` lists them with their licences), "owner/name" on the hub, or a local
            folder with ``config.json``, ``preprocessor_config.json`` and ``model.safetensors``.
        weights: "pretrained" (those of `name`), None (random), or a state-dict file.
        config: settings that differ from the network's ``config.json``; with ``model_type`` among them they stand in
            its place and nothing is read: a small network of a family, to train from scratch.
        preprocessing: settings of `Preprocessing` that differ from the network's, such as ``{"size": [252, 336]}``.
        ambiguity: what the numbers mean, such as "metric", where it is not what the configuration declares.
        frozen_backbone: train only what follows the backbone.
        kwargs: see `DepthModule`. Its `codec` is `AsPredicted`, and no other one.

    Raises:
        ConfigError: transformers is missing, or a setting is wrong.
        CheckpointError: the network cannot be had: offline and not kept from before, no such folder, files missing.
    """

    takes_bytes = True

    def __init__(
        self,
        name: str = "depth-anything-v2-small",
        weights: str | None = PRETRAINED,
        config: Mapping[str, Any] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        ambiguity: str | None = None,
        frozen_backbone: bool = False,
        **kwargs: Any,
    ) -> None:
        made = read_config(name, config or {})
        on_its_own = "model_type" in (config or {})
        self.preprocessing = read_preprocessing(name, made, preprocessing, from_files=not on_its_own)
        self.ambiguity = ambiguity_of(made, ambiguity)
        self._family = family_of(made.model_type)
        # rebuilt from a checkpoint, it must not need this folder or the hub again
        settings = {"config": plain_config(made), "preprocessing": self.preprocessing.to_dict()}
        self._given_args = {**self._given_args, **settings}
        # jsonargparse hands a nested flag's null over as the word "None"
        wanted = None if weights == "None" or rebuilding() else weights
        net = make_network(name, made, wanted)
        if wanted is None:
            _wake(net)
        super().__init__(**kwargs)
        if not isinstance(self.codec, AsPredicted):
            raise ConfigError(
                f"a pretrained network says {self.ambiguity.unit}, which a {type(self.codec).__name__} cannot decode",
                where="model.codec",
                next_action="leave it out",
            )
        self.net = net
        self.backbone = _backbone_of(net)
        self.frozen_backbone = frozen_backbone
        for part, parameter in net.named_parameters():
            if _IDLE.search(part) or (frozen_backbone and part.startswith(f"{self.backbone}.")):
                parameter.requires_grad_(False)

    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        return AsPredicted(min_depth, max_depth, disparity=self.ambiguity is Ambiguity.AFFINE_DISPARITY)

    def default_loss(self) -> DepthLoss:
        return loss_for(self.ambiguity)

    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) RGB, in [0,1] or uint8, to (B,1,H,W), in the unit of `ambiguity`; a larger disparity is nearer."""
        output = self.net(self.preprocessing(image))
        return self._family.output(output, partial(self.preprocessing.restore, size=image.shape[-2:]))

    def train(self, mode: bool = True) -> PretrainedDepth:
        """As `nn.Module.train`; a frozen backbone stays as in use."""
        super().train(mode)
        if getattr(self, "frozen_backbone", False):
            self.net.get_submodule(self.backbone).eval()
        return self

    def group_of(self, name: str, parameter: nn.Parameter) -> GroupSettings:
        """As in `DepthModule`: `encoder_lr` is for the backbone."""
        prefix = f"net.{self.backbone}."
        return super().group_of(f"encoder.{name.removeprefix(prefix)}" if name.startswith(prefix) else name, parameter)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return make_groups(self.named_parameters(), self.group_of)


def _backbone_of(net: nn.Module) -> str:
    """The name of the part that was pre-trained on pictures: an own network, or the family's encoder."""
    names = ("backbone", str(getattr(net, "base_model_prefix", "")))
    found = next((name for name in names if isinstance(getattr(net, name, None), nn.Module)), None)
    if found is None:
        what = f"a {type(net).__name__} has no backbone that is known here"
        raise ConfigError(what, where="model.name", next_action="use a family that mde info pretrained lists")
    return found


def _wake(net: nn.Module) -> None:
    """Random networks of transformers cannot be trained as they come: their convolutions have a deviation of 0.02
    whatever their width, so that a picture changes the output by 1e-7, and a head that ends in a ReLU says 0 everywhere
    half of the time. Convolutions begin as torch makes them, such a head at 1."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    head: nn.Module = getattr(net, "head", net)
    layers = [module for module in head.modules() if isinstance(module, nn.Conv2d | nn.ReLU | nn.Sigmoid)]
    if len(layers) > 1 and isinstance(layers[-1], nn.ReLU) and isinstance(layers[-2], nn.Conv2d):
        bias = layers[-2].bias
        if bias is not None:
            nn.init.ones_(bias)
