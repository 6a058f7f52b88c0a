"""Encoders: a picture in, a list of feature maps out, finest first.

The contract holds for convolutional networks and vision transformers alike: every feature is (B,C,h,w), with its
`channels` and its `reductions` (input pixels per feature pixel). The picture comes in as RGB in [0,1]; mean and
standard deviation belong to the weights and hence live here, as buffers, so that no data set ever needs to know them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mde.errors import ConfigError
from mde.rebuild import Rebuildable

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "PROBE_SIZE", "Encoder"]

# statistics of the ImageNet training set in RGB, as torchvision's recipes use them
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PROBE_SIZE = (64, 64)  # two pixels at reduction 32: the smallest picture that tells the reductions apart


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
        frozen_stages: how many stages are frozen now, from 0 to all.
        fully_frozen: whether all of them are.
        cache: stands in for `compute` where one is set (`mde.callbacks.FeatureCache`).

    Raises:
        ConfigError: `frozen_stages` is out of range.
    """

    mean: Tensor
    std: Tensor
    cache: Callable[[Encoder, Tensor], list[Tensor]] | None = None

    def __init__(
        self,
        net: nn.Module,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        frozen_stages: int = 0,
        levels: Sequence[tuple[int, int]] | None = None,
        probe_size: tuple[int, int] = PROBE_SIZE,
    ) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std)).view(1, 3, 1, 1))
        self._probe_size = probe_size
        self._frozen_modules: tuple[str, ...] = ()
        self._frozen_norms: tuple[str, ...] = ()
        self._thawable: list[nn.Parameter] = []
        self.frozen_stages, self.fully_frozen = 0, False
        measured = self._measure() if levels is None else levels
        self.channels = tuple(int(c) for c, _ in measured)
        self.reductions = tuple(int(r) for _, r in measured)
        self.freeze(frozen_stages)

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
        return self.compute(image) if self.cache is None else self.cache(self, image)

    def compute(self, image: Tensor) -> list[Tensor]:
        """As `forward`, always by the network itself."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.fully_frozen):
            return self.extract((image - self.mean) / self.std)

    def train(self, mode: bool = True) -> Encoder:
        """As `nn.Module.train`, but batch norm and dropout of what is frozen stay as in use."""
        super().train(mode)
        for name in (*self._frozen_modules, *self._frozen_norms):
            self.net.get_submodule(name).training = False
        return self

    # ---- freezing ----------------------------------------------------------------------------------------------------

    def freeze(self, stages: int) -> None:
        """Freeze the first stages and thaw the others; what `freeze_norm` or the caller froze stays so.

        Args:
            stages: as `frozen_stages` of the constructor.

        Raises:
            ConfigError: out of range.
        """
        if not -1 <= stages <= len(self.channels):
            raise ConfigError(
                f"frozen_stages is {stages}, this encoder has {len(self.channels)} stages",
                where="encoder.frozen_stages",
                next_action=f"give 0 (train all) to {len(self.channels)}, or -1 (freeze all)",
            )
        for parameter in self._thawable:
            parameter.requires_grad_(True)
        self.frozen_stages = len(self.channels) if stages == -1 else stages
        self.fully_frozen = self.frozen_stages == len(self.channels)
        if self.fully_frozen:
            parameters, names = list(self.net.parameters()), [name for name, _ in self.net.named_modules()]
        else:
            parameters, names = self._reached_by(self.frozen_stages) if stages else ([], [])
        self._thawable = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in self._thawable:
            parameter.requires_grad_(False)
        self._frozen_modules = tuple(names)
        self.train(self.training)

    def freeze_norm(self) -> None:
        """Keep batch norm as it came, statistics and scale, in every stage: what small batches ask for."""
        norms = {name: module for name, module in self.net.named_modules() if isinstance(module, nn.BatchNorm2d)}
        frozen = {id(parameter) for module in norms.values() for parameter in module.parameters()}
        for module in norms.values():
            module.requires_grad_(False)
        self._thawable = [parameter for parameter in self._thawable if id(parameter) not in frozen]
        self._frozen_norms = tuple(norms)
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
                parameters = [p for p in self.net.parameters() if p.requires_grad]
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
