"""Test-time averaging: a prediction together with those of the mirrored and the rescaled image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mde.protocol import EvalProtocol, resize, turned
from mde.resizing import resized
from mde.types import Ambiguity

__all__ = ["averaged", "averaged_each"]


def averaged(
    predict: Callable[[Tensor], Tensor],
    image: Tensor,
    protocol: EvalProtocol,
    ambiguity: Ambiguity,
    first: Tensor | None = None,
) -> Tensor:
    """What the protocol averages: predictions at all its scales, each with its mirror image where it says so.

    Args:
        predict: images, float32 (B,3,H,W), to predictions (B,1,h,w) in the unit of `ambiguity`.
        image: float32 (B,3,H,W), RGB in [0,1].
        protocol: its `flip`, `flip_blend`, `scales` and `space` count.
        ambiguity: what predictions mean.
        first: what `predict` gives for `image`, where that is known already.

    Returns:
        (B,1,h,w), as large as the largest of the predictions.
    """

    def once(scaled: Tensor, known: Tensor | None) -> Tensor:
        pred = turned(predict(scaled) if known is None else known, protocol.space, ambiguity)
        if not protocol.flip:
            return pred
        mirrored = turned(predict(scaled.flip(-1)), protocol.space, ambiguity).flip(-1)
        return _ramp(pred, mirrored) if protocol.flip_blend == "ramp" else (pred + mirrored) / 2

    if protocol.scales == (1.0,) and not protocol.flip:
        return predict(image) if first is None else first
    maps = [once(_scaled(image, scale), first if scale == 1 else None) for scale in protocol.scales]
    size = max((each.shape[-2:] for each in maps), key=lambda sides: sides[0] * sides[1])
    mean = torch.stack([resize(each, size, protocol.resize) for each in maps]).mean(0)
    return turned(mean, protocol.space, ambiguity)


def averaged_each(
    predict: Callable[[Tensor], dict[str, Tensor]], image: Tensor, protocol: EvalProtocol, ambiguity: Ambiguity
) -> dict[str, Tensor]:
    """`averaged` of several predictions that the network makes of a picture at once, by name."""

    def stacked(maps: dict[str, Tensor]) -> Tensor:
        return torch.cat(list(maps.values()), 1)

    first = predict(image)
    mean = averaged(lambda each: stacked(predict(each)), image, protocol, ambiguity, stacked(first))
    return dict(zip(first, torch.split(mean, 1, 1), strict=True))


def _scaled(image: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return image
    return resized(image, [max(round(side * scale), 1) for side in image.shape[-2:]])


def _ramp(pred: Tensor, mirrored: Tensor) -> Tensor:
    """The blend of monodepth (utils/evaluate_kitti.py): the mean, but at each side the map that saw it better.

    A network that was trained on stereo pairs knows nothing of what only the other camera sees, at the left end of a
    picture: there the mirrored one is taken alone (5 % of the width), then ever less of it (another 5 %).
    """
    across = torch.linspace(0, 1, pred.shape[-1], dtype=pred.dtype, device=pred.device)
    left = 1 - (20 * (across - 0.05)).clamp(0, 1)
    right = left.flip(0)
    return right * pred + left * mirrored + (1 - left - right) * (pred + mirrored) / 2
