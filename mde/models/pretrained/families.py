"""What the families of depth networks in transformers differ in: input, meaning of the output, way to the map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mde.errors import ConfigError, nearest
from mde.masking import at_least_float32
from mde.models.encoders.base import IMAGENET_MEAN, IMAGENET_STD
from mde.models.pretrained.preprocessing import Preprocessing
from mde.types import Ambiguity

__all__ = ["FAMILIES", "Family", "ambiguity_of", "family_of"]

Restore = Callable[..., Tensor]
"""`Preprocessing.restore` for the size of a picture."""

_HALF = (0.5, 0.5, 0.5)
_DEPTHS = (Ambiguity.METRIC, Ambiguity.SCALE, Ambiguity.AFFINE_DEPTH)
_ANY = tuple(Ambiguity)


def _plain(output: Any, restore: Restore) -> Tensor:
    return restore(output.predicted_depth[:, None])


def _depth_pro(output: Any, restore: Restore) -> Tensor:
    """Metres from the inverse depth of a camera whose width is its focal length (Bochkovskii et al. 2024, section 3).

    With the field of view phi across the picture, depth = 1 / (C * 2 tan(phi / 2)). It is resized before it is
    inverted, and limited to 0.1 mm to 10 km, as by the image processor of transformers.
    """
    inverse = restore(output.predicted_depth[:, None], mode="bilinear")
    if output.field_of_view is not None:
        angle = torch.deg2rad(at_least_float32(output.field_of_view)).reshape(-1, 1, 1, 1)
        inverse = inverse * (2 * torch.tan(angle / 2))
    return 1 / inverse.clamp(1e-4, 1e4)


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        preprocessing: what its published weights were trained with, where no image processor's file says so.
        possible: what the numbers can mean, the first by default.
        output: from the network's output to a map (B,1,H,W).
    """

    preprocessing: Preprocessing
    possible: tuple[Ambiguity, ...] = _ANY
    output: Callable[[Any, Restore], Tensor] = _plain


_DEPTH_ANYTHING = Preprocessing(
    (518, 518), keep_aspect=True, multiple=14, resample="bicubic", mean=IMAGENET_MEAN, std=IMAGENET_STD
)
_RELATIVE = (Ambiguity.AFFINE_DISPARITY,)

FAMILIES: dict[str, Family] = {
    "depth_anything": Family(_DEPTH_ANYTHING, _RELATIVE),
    # trained on MiDaS' disparities, but there are also metric ones with the same config (DINOv2's on NYU)
    "dpt": Family(
        Preprocessing((384, 384), resample="bicubic", mean=_HALF, std=_HALF), (Ambiguity.AFFINE_DISPARITY, *_DEPTHS)
    ),
    "zoedepth": Family(
        Preprocessing(
            (384, 512), keep_aspect=True, multiple=32, align_corners=True, reflect=3.0, mean=_HALF, std=_HALF
        ),
        _DEPTHS,
    ),
    "glpn": Family(Preprocessing(multiple=32, round_down=True), _DEPTHS),
    "depth_pro": Family(Preprocessing((1536, 1536), antialias=False, mean=_HALF, std=_HALF), _DEPTHS, _depth_pro),
    # its output between 0 and 1 is stretched over the prompt's range: without a prompt, depth up to scale and shift
    "prompt_depth_anything": Family(_DEPTH_ANYTHING.changed({"size": (756, 756)}), (Ambiguity.AFFINE_DEPTH,)),
}
_OTHER = Family(Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD))


def family_of(model_type: str) -> Family:
    """The family of transformers' ``config.model_type``; for one that is not known here everything is possible."""
    return FAMILIES.get(model_type, _OTHER)


def ambiguity_of(config: Any, wanted: str | None) -> Ambiguity:
    """What the network's numbers mean.

    Args:
        config: of transformers.
        wanted: the user's word for it; None takes what the configuration declares.

    Raises:
        ConfigError: no such ambiguity, one that the network cannot have, or a family that declares none.
    """
    possible = _possible(config)
    if wanted is None:
        if config.model_type in FAMILIES:
            return possible[0]
        raise ConfigError(
            f"what the numbers of a {config.model_type} network mean is not known",
            where="model.ambiguity",
            next_action=f"say it: one of {', '.join(a.value for a in Ambiguity)}",
        )
    found = next((a for a in Ambiguity if wanted.lower() in (a.value, a.name.lower())), None)
    if found is None:
        hint = f"nearest: {nearest(wanted, [a.value for a in Ambiguity])}"
        raise ConfigError(f"unknown ambiguity {wanted!r}", where="model.ambiguity", next_action=hint)
    if found not in possible:
        raise ConfigError(
            f"this {config.model_type} network cannot be {found.value}: it predicts {possible[0].unit}"
            f"{' in metres' if possible[0] is Ambiguity.METRIC else ''}",
            where="model.ambiguity",
            next_action=f"leave it out, or give one of {', '.join(a.value for a in possible)}",
        )
    return found


def _possible(config: Any) -> tuple[Ambiguity, ...]:
    if config.model_type == "depth_anything" and config.depth_estimation_type == "metric":
        return _DEPTHS
    if config.model_type == "depth_pro" and not config.use_fov_model:
        return _DEPTHS[1:]  # without the focal length the factor is unknown
    return family_of(config.model_type).possible
