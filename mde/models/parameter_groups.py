"""Parameter groups: which parameters learn at which factor of the learning rate, and which of them decay.

A method says it of one parameter at a time (`DepthModule.group_of`); parameters of equal settings become one group of
the optimizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from torch import nn
from torch.optim import Optimizer

from mde.errors import ConfigError

__all__ = ["GroupSettings", "OptimizerFactory", "is_norm_or_bias", "make_groups", "make_optimizer"]

OptimizerFactory: TypeAlias = Callable[[Iterable[nn.Parameter]], Optimizer]

GroupSettings: TypeAlias = dict[str, float]
"""Settings of an optimizer's group, such as ``weight_decay``; ``lr_factor`` multiplies the learning rate."""

_NEUTRAL = ("lr_factor", 1.0)


def is_norm_or_bias(parameter: nn.Parameter) -> bool:
    """Scale and shift of norms, biases and single numbers: what has at most one dimension.

    Decay pulls them to zero without making the network simpler (T. He et al., "Bag of Tricks for Image Classification
    with Convolutional Neural Networks", CVPR 2019, section 3.1).
    """
    return parameter.ndim <= 1


def make_groups(
    named: Iterable[tuple[str, nn.Parameter]], group_of: Callable[[str, nn.Parameter], GroupSettings]
) -> list[dict[str, Any]]:
    """Gather the trained parameters by their settings, in the order of their first one.

    Args:
        named: parameters with their dotted names; those that are not trained are left out.
        group_of: name and parameter to settings.

    >>> net = nn.Linear(2, 2)
    >>> groups = make_groups(net.named_parameters(), lambda _, p: {"weight_decay": 0.0} if is_norm_or_bias(p) else {})
    >>> [(len(group.pop("params")), group) for group in groups]
    [(1, {}), (1, {'weight_decay': 0.0})]
    """
    groups: dict[tuple[tuple[str, float], ...], dict[str, Any]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            settings = {key: value for key, value in group_of(name, parameter).items() if (key, value) != _NEUTRAL}
            group = groups.setdefault(tuple(sorted(settings.items())), {"params": [], **settings})
            group["params"].append(parameter)
    return list(groups.values())


def make_optimizer(factory: OptimizerFactory, groups: list[dict[str, Any]]) -> Optimizer:
    """Make the optimizer and apply each group's ``lr_factor``.

    Raises:
        ConfigError: there is nothing to train.
    """
    if not groups:
        hint = "unfreeze a part, such as encoder.frozen_stages 0"
        raise ConfigError("every parameter of the network is frozen", where="model", next_action=hint)
    # a factory that knows nothing of groups is served as long as there is only one
    trained: Any = groups if len(groups) > 1 or len(groups[0]) > 1 else groups[0]["params"]
    optimizer = factory(trained)
    for group in optimizer.param_groups:
        group["lr"] *= group.get("lr_factor", 1.0)
    return optimizer
