"""Encoders: a picture in, a list of feature maps out, finest first.

The contract holds for convolutional networks and vision transformers alike: every feature is (B,C,h,w), with its
`channels` and its `reductions` (input pixels per feature pixel). The picture comes in as RGB in [0,1]; mean and
standard deviation belong to the weights and hence live here, as buffers, so that no data set ever needs to know them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mde.errors import ConfigError, nearest
from mde.models.weights import PRETRAINED, obtain
from mde.rebuild import Rebuildable, rebuilding

__all__ = ["Encoder", "SmpEncoder", "TimmEncoder", "TorchvisionEncoder"]

# statistics of the ImageNet training set in RGB, as torchvision's recipes use them
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_PROBE_SIZE = (64, 64)  # two pixels at reduction 32: the smallest picture that tells the reductions apart


class Encoder(Rebuildable, nn.Module, ABC):
    """Base: normalises, extracts, and keeps what is frozen as it was.

    A subclass makes its network, hands it to this constructor and implements `extract`.

    Args:
        net: the network; its parameters are the encoder's.
        mean: of the pictures the weights were trained on, RGB in [0,1].
        std: likewise.
        frozen_stages: the first n features, and all that they are made from, are not trained; -1 freezes everything.
            Paper 3 saw a frozen encoder converge on 1000 pictures where a trained one did not (section IV.D).
        levels: (channels, reduction) of each feature; None measures them with one tiny picture.
        probe_size: (height, width) of that picture.

    Attributes:
        channels: of each feature, finest first.
        reductions: input pixels per feature pixel, finest first, such as (2, 4, 8, 16, 32).

    Raises:
        ConfigError: `frozen_stages` is out of range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        frozen_stages: int = 0,
        levels: Sequence[tuple[int, int]] | None = None,
        probe_size: tuple[int, int] = _PROBE_SIZE,
    ) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std)).view(1, 3, 1, 1))
        self._probe_size = probe_size
        self._frozen_modules: tuple[str, ...] = ()
        self.fully_frozen = False
        measured = self._measure() if levels is None else levels
        self.channels = tuple(int(c) for c, _ in measured)
        self.reductions = tuple(int(r) for _, r in measured)
        self._freeze(frozen_stages)

    @abstractmethod
    def extract(self, x: Tensor) -> list[Tensor]:
        """Normalised picture (B,3,H,W) to features (B,C,h,w), finest first."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of a picture.

        Args:
            image: float (B,3,H,W), RGB in [0,1].

        Returns:
            One (B,C,h,w) per entry of `channels`, finest first; h and w are about H and W over the reduction.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.fully_frozen):
            return self.extract((image - self.mean) / self.std)

    def train(self, mode: bool = True) -> Encoder:
        """As `nn.Module.train`, but batch norm and dropout of what is frozen stay as in use."""
        super().train(mode)
        for name in self._frozen_modules:
            self.net.get_submodule(name).training = False
        return self

    # ---- freezing ----------------------------------------------------------------------------------------------------

    def _freeze(self, stages: int) -> None:
        if not -1 <= stages <= len(self.channels):
            raise ConfigError(
                f"frozen_stages is {stages}, this encoder has {len(self.channels)} stages",
                where="encoder.frozen_stages",
                next_action=f"give 0 (train all) to {len(self.channels)}, or -1 (freeze all)",
            )
        if stages == 0:
            return
        self.fully_frozen = stages in (-1, len(self.channels))
        if self.fully_frozen:
            parameters, names = list(self.net.parameters()), [name for name, _ in self.net.named_modules()]
        else:
            parameters, names = self._reached_by(stages)
        for parameter in parameters:
            parameter.requires_grad_(False)
        self._frozen_modules = tuple(names)
        self.train(self.training)

    def _reached_by(self, stages: int) -> tuple[list[nn.Parameter], list[str]]:
        """Parameters and modules that the first features depend on: asked of autograd, so it holds for any network."""
        outputs: list[tuple[str, Tensor]] = []
        hooks = [
            module.register_forward_hook(lambda _m, _a, out, name=name: outputs.append((name, out)))
            for name, module in self.net.named_modules()
            if next(module.children(), None) is None
        ]
        try:
            with torch.enable_grad():
                features = self._probe()
                seen = [(name, out) for name, out in outputs if isinstance(out, Tensor) and out.requires_grad]
                parameters = list(self.net.parameters())
                total = torch.stack([feature.sum() for feature in features[:stages]]).sum()
                grads = torch.autograd.grad(total, [*parameters, *(out for _, out in seen)], allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
        reached = [p for p, grad in zip(parameters, grads, strict=False) if grad is not None]
        leaves: dict[str, bool] = {}
        for (name, _), grad in zip(seen, grads[len(parameters) :], strict=True):
            leaves[name] = leaves.get(name, False) or grad is not None
        return reached, [name for name, _ in self.net.named_modules() if _all_frozen(name, leaves)]

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def _probe(self) -> list[Tensor]:
        was_training = self.training
        self.eval()
        image = self.mean.new_zeros(1, 3, *self._probe_size).requires_grad_(torch.is_grad_enabled())
        try:
            return self.extract(image)
        finally:
            nn.Module.train(self, was_training)

    def _measure(self) -> list[tuple[int, int]]:
        with torch.no_grad():
            return [(f.shape[1], round(self._probe_size[0] / f.shape[2])) for f in self._probe()]


def _all_frozen(name: str, leaves: Mapping[str, bool]) -> bool:
    """Whether all leaves at or under a module belong to the frozen part; a module may read its own `training` flag."""
    inside = [frozen for leaf, frozen in leaves.items() if leaf == name or not name or leaf.startswith(name + ".")]
    return bool(inside) and all(inside)


# ---- torchvision -----------------------------------------------------------------------------------------------------

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


# ---- timm ------------------------------------------------------------------------------------------------------------


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
            probe_size=tuple(options.get("img_size", _PROBE_SIZE)),
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


# ---- segmentation_models_pytorch -------------------------------------------------------------------------------------


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
