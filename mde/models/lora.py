"""Low-rank adaptation: a frozen linear layer and a small trained correction.

E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, https://arxiv.org/abs/2106.09685.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mde.errors import ConfigError

__all__ = ["LoRALinear", "add_lora", "merge_lora"]


class LoRALinear(nn.Linear):
    """y = W x + b + up(down(x)) with `down` and `up` of low rank (section 4.1).

    It takes over the weight and bias of a layer, under their names, so that state dicts go on fitting, and begins as
    that layer: `up` is 0. The paper's alpha equals the rank here, which its section 4.1 calls a matter of the learning
    rate.

    Args:
        linear: the layer; whether it is trained stays as it is.
        rank: of the correction, at least 1.

    Raises:
        ConfigError: the rank is below 1.

    >>> import torch
    >>> layer = nn.Linear(8, 6)
    >>> adapted, x = LoRALinear(layer, rank=2), torch.rand(3, 8)
    >>> torch.equal(adapted(x), layer(x)), adapted.lora_down.shape, adapted.lora_up.shape
    (True, torch.Size([2, 8]), torch.Size([6, 2]))
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        if rank < 1:
            raise ConfigError(f"the rank must be at least 1, got {rank}", where="lora", next_action="4 to 16 is usual")
        self.weight, self.bias = linear.weight, linear.bias
        self.lora_down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))  # as nn.Linear starts

    def forward(self, input: Tensor) -> Tensor:
        """(...,in_features) to (...,out_features)."""
        return super().forward(input) + F.linear(F.linear(input, self.lora_down), self.lora_up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One plain layer of the weight W + up down: the same outputs, none of the correction's cost (section 4.1)."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        layer.weight = nn.Parameter(self.weight + self.lora_up @ self.lora_down, self.weight.requires_grad)
        layer.bias = self.bias
        return layer.train(self.training)


def add_lora(module: nn.Module, names: Sequence[str], rank: int) -> None:
    """Put a `LoRALinear` in the place of linear layers.

    Args:
        module: is changed in place.
        names: of the layers, dotted.
        rank: see `LoRALinear`.

    Raises:
        ConfigError: a name is not that of a linear layer.
    """
    for name in names:
        parent, _, child = name.rpartition(".")
        layer = module.get_submodule(name)
        if not isinstance(layer, nn.Linear):
            hint = "name layers of the type nn.Linear"
            raise ConfigError(f"{name} is a {type(layer).__name__}", where="lora", next_action=hint)
        setattr(module.get_submodule(parent), child, LoRALinear(layer, rank))


def merge_lora(module: nn.Module) -> None:
    """Put plain layers in the place of all `LoRALinear`, once the training is over: to use the network elsewhere.

    Args:
        module: is changed in place.

    >>> net = nn.Sequential(nn.Linear(4, 4))
    >>> add_lora(net, ["0"], rank=2)
    >>> merge_lora(net)
    >>> list(net.state_dict())
    ['0.weight', '0.bias']
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoRALinear):
                setattr(parent, name, child.merged())
