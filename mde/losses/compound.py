"""Weighted sums of losses, and the one of DenseDepth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mde.errors import ConfigError
from mde.losses.base import CameraLoss, DepthLoss
from mde.losses.gradient import GradientLoss
from mde.losses.maps import LossMaps
from mde.losses.pixel import L1Loss
from mde.losses.ssim import SSIMLoss

__all__ = ["DenseDepthLoss", "WeightedSum"]


class WeightedSum(DepthLoss):
    """The sum of several losses, each times its weight; under `of` each works in its own space.

    Called on maps directly it takes them as they are, which is refused where its terms work in different spaces or need
    a camera.

    Args:
        terms: losses by the name under which they appear in logs (a Python identifier).
        weights: a factor for each name, at least 0; a name left out weighs 1.

    Raises:
        ConfigError: there is no term, a name cannot be used, or a weight is negative, not finite or of no term.

    >>> loss = WeightedSum({"depth": L1Loss(), "edges": GradientLoss()}, {"depth": 0.5})
    >>> pred, target = torch.full((1, 1, 2, 2), 3.0), torch.ones(1, 1, 2, 2)
    >>> {name: float(term) for name, term in loss.parts(pred, target, target > 0).items()}
    {'depth': 1.0, 'edges': 0.0}
    """

    def __init__(self, terms: dict[str, DepthLoss], weights: dict[str, float] | None = None) -> None:
        super().__init__()
        _check_names(terms)
        self.weights = _checked_weights(terms, weights or {})
        self.terms = nn.ModuleDict(terms)

    def parts(self, pred: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """The weighted terms by name, scalars still connected to the graph: their sum is the loss.

        Args:
            pred: (B,1,H,W), any space.
            target: (B,1,H,W), the space of `pred`.
            valid: bool (B,1,H,W).

        Raises:
            ConfigError: the terms work in different spaces, or one of them needs a camera.
        """
        _check_one_space(self)
        return {name: self.weights[name] * term(pred, target, valid) for name, term in self.terms.items()}

    def parts_of(self, maps: LossMaps) -> dict[str, Tensor]:
        """As `parts`, each term in its own space."""
        return {name: self.weights[name] * cast(DepthLoss, term).of(maps) for name, term in self.terms.items()}

    def of(self, maps: LossMaps) -> Tensor:
        return torch.stack(list(self.parts_of(maps).values())).sum()

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return torch.stack(list(self.parts(pred, target, valid).values())).sum()

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={weight:g}" for name, weight in self.weights.items())


class DenseDepthLoss(WeightedSum):
    """``0.1 * L1 + gradients + (1 - SSIM) / 2``, on reciprocal depth (`mde.codecs.Reciprocal`), never on metres.

    Sources: Alhashim and Wonka 2018 (DenseDepth), equation 1, which Krishna ("Monocular Depth Estimation using Deep
    Learning") takes over as equation 1. SSIM has a Gaussian window of 11 with sigma 1.5 and no padding, as in
    DenseDepth's code.

    Args:
        data_range: largest value of the network space, max depth / min depth: 100 for NYU (0.1 m to 10 m).
        depth_weight: of the L1 term, the lambda of the papers.
        gradient_weight: of the gradient term.
        ssim_weight: of the SSIM term.

    Raises:
        ConfigError: a weight is negative or the range is not above 0; on forward, an image is smaller than 11 pixels.
    """

    def __init__(
        self,
        data_range: float,
        depth_weight: float = 0.1,
        gradient_weight: float = 1.0,
        ssim_weight: float = 1.0,
    ) -> None:
        super().__init__(
            {"depth": L1Loss(), "gradient": GradientLoss(), "ssim": SSIMLoss(data_range)},
            {"depth": depth_weight, "gradient": gradient_weight, "ssim": ssim_weight},
        )


def _check_one_space(loss: WeightedSum) -> None:
    spaces = {name: term.space.value for name, term in _leaves(loss)}
    cameras = [name for name, term in _leaves(loss) if isinstance(term, CameraLoss)]
    if len(set(spaces.values())) > 1 or cameras:
        found = ", ".join(f"{name}: {space}" for name, space in spaces.items())
        what = f"these maps alone cannot serve all terms ({found}; with a camera: {', '.join(cameras) or 'none'})"
        hint = "call loss.of(mde.losses.LossMaps(raw, depth, valid, codec, intrinsics))"
        raise ConfigError(what, where=type(loss).__name__, next_action=hint)


def _leaves(loss: WeightedSum, path: str = "") -> Iterator[tuple[str, DepthLoss]]:
    for name, term in loss.terms.items():
        if isinstance(term, WeightedSum):
            yield from _leaves(term, f"{path}{name}.")
        else:
            yield f"{path}{name}", cast(DepthLoss, term)


def _check_names(terms: Mapping[str, DepthLoss]) -> None:
    if not terms:
        raise ConfigError("a sum of losses needs at least one term", where="terms", next_action="give {name: loss}")
    # a ModuleDict keeps its terms as attributes, which must not hide its methods
    bad = [name for name in terms if not name.isidentifier() or hasattr(nn.ModuleDict, name)]
    if bad:
        raise ConfigError(f"{bad} cannot name a term", where="terms", next_action="use a plain word such as 'depth'")


def _checked_weights(terms: Mapping[str, DepthLoss], weights: Mapping[str, float]) -> dict[str, float]:
    unknown = sorted(set(weights) - set(terms))
    if unknown:
        known = ", ".join(terms)
        raise ConfigError(f"weights for {unknown}, which are no terms", where="weights", next_action=f"terms: {known}")
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ConfigError(f"a weight must be at least 0 and finite, got {weight}", where=f"weights.{name}")
    return {name: float(weights.get(name, 1.0)) for name in terms}
