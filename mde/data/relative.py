"""Training depth that is known only up to a scale, or a scale and a shift: each frame brought into a common range.

Structure from motion (MegaDepth) knows depth up to a factor, stereo films and other networks disparity up to a scale
and a shift, and each frame has constants of its own. Whatever numbers the files hold, a frame becomes the same after
`relative_depth`: what nobody knows cannot be learnt, and codecs find depths in their range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mde.data.dataset import ChangedDataset, DepthDataset, RawSample
from mde.types import Ambiguity

__all__ = ["RelativeDataset", "relative_depth"]

_Values = NDArray[Any]


def relative_depth(
    depth: NDArray[np.float32], valid: NDArray[np.bool_], truth: Ambiguity, depth_range: tuple[float, float]
) -> NDArray[np.float32]:
    """One frame's depth without what `truth` leaves open.

    Args:
        depth: float32 (H,W), above 0 where valid, in any unit.
        valid: bool (H,W).
        truth: METRIC leaves the depth as it is; SCALE puts its median to the geometric middle of the range;
            AFFINE_DEPTH and AFFINE_DISPARITY stretch depth, or 1/depth, over the range.
        depth_range: (min, max), as that of a data module.

    Returns:
        float32 (H,W), 0 outside the mask. But for SCALE, all of it lies in the range.

    >>> depth = np.array([[2.0, 4.0, 0.0]], np.float32)
    >>> relative_depth(7 * depth, depth > 0, Ambiguity.AFFINE_DEPTH, (1.0, 10.0)).tolist()
    [[1.0, 10.0, 0.0]]
    """
    out = np.zeros_like(depth)
    known = depth[valid].astype(np.float64)
    if known.size:
        out[valid] = _WAYS[truth](known, *depth_range)
    return out


def _stretched(values: _Values, low: float, high: float) -> _Values:
    first, last = values.min(), values.max()
    share = (values - first) / (last - first) if last > first else np.zeros_like(values)
    return low + share * (high - low)


_WAYS: Mapping[Ambiguity, Callable[[_Values, float, float], _Values]] = MappingProxyType(
    {
        Ambiguity.METRIC: lambda depth, low, high: depth,
        Ambiguity.SCALE: lambda depth, low, high: depth * np.sqrt(low * high) / np.median(depth),
        Ambiguity.AFFINE_DEPTH: _stretched,
        Ambiguity.AFFINE_DISPARITY: lambda depth, low, high: 1 / _stretched(1 / depth, 1 / high, 1 / low),
    }
)


class RelativeDataset(ChangedDataset):
    """Another data set with the depth of each frame made relative: the same frames, files, transform and seed.

    Args:
        dataset: what the frames come from.
        truth: what its depth means.
        depth_range: where the depth goes; see `relative_depth`.
    """

    def __init__(self, dataset: DepthDataset, truth: Ambiguity, depth_range: tuple[float, float]) -> None:
        super().__init__(dataset)
        self.truth, self.depth_range = truth, depth_range

    def read(self, index: int) -> RawSample:
        raw = self.dataset.read(index).checked()
        depth = relative_depth(raw.depth, raw.valid, self.truth, self.depth_range)
        # a frame of a store becomes a plain one: what the store holds of its depth no longer counts
        kept = {field.name: getattr(raw, field.name) for field in fields(RawSample)}
        return RawSample(**{**kept, "depth": depth, "valid": depth > 0})
