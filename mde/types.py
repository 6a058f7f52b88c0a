"""The types that cross module borders: what a batch holds, what a step returns, what a prediction means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, NotRequired, TypedDict

from torch import Tensor

from mde.errors import ConfigError

__all__ = ["Ambiguity", "Batch", "Prediction", "StepOutput"]


class Batch(TypedDict):
    """A batch as every method receives it. Pixels of `image`, `depth` and `valid` cover the same field of view.

    In training ``h, w = H, W``. In validation and test the ground truth keeps its native size, and the prediction is
    resized to it. ``depth`` is exactly 0 wherever ``valid`` is False.

    Of a stereo pair ``image`` is always the left picture; both have the same size and ``intrinsics``. What the left
    camera sees at column u and depth z, the right one sees in the same row at u - fx * baseline / z.
    """

    image: Tensor  # float32 (B,3,H,W), RGB in [0,1], not normalised
    depth: Tensor  # float32 (B,1,h,w), z-depth in metres, finite, 0 where unknown
    valid: Tensor  # bool (B,1,h,w), True where the sensor measured
    intrinsics: Tensor  # float32 (B,3,3), in pixels of `image`; NaN where the camera is unknown
    id: list[str]  # stable sample ids
    labels: NotRequired[Tensor]  # uint8 (B,1,h,w), semantic classes; only in evaluation, only where asked for
    right: NotRequired[Tensor]  # float32 (B,3,H,W), other picture of a rectified pair; only in training, if asked for
    baseline: NotRequired[Tensor]  # float32 (B,), metres above 0 from the camera of `image` to that of `right`


class Ambiguity(Enum):
    """What the numbers of a network mean, and hence how they may be compared with the truth."""

    METRIC = "metric"  # metres
    SCALE = "scale"  # depth up to an unknown factor
    AFFINE_DEPTH = "affine_depth"  # depth up to an unknown scale and shift
    AFFINE_DISPARITY = "affine_disparity"  # 1/depth up to an unknown scale and shift

    def can_learn_from(self, truth: Ambiguity) -> bool:
        """Whether truth that is known up to `truth` fixes all that a prediction of this kind must get right.

        >>> Ambiguity.AFFINE_DISPARITY.can_learn_from(Ambiguity.SCALE)
        True
        >>> Ambiguity.METRIC.can_learn_from(Ambiguity.SCALE)
        False
        """
        # a factor on depth is one on disparity; a shift of one is no shift of the other
        scaled = truth is Ambiguity.SCALE and self is not Ambiguity.METRIC
        return truth in (Ambiguity.METRIC, self) or scaled

    @property
    def unit(self) -> str:
        """ "m" for metres, otherwise a phrase that says what the numbers are.

        >>> Ambiguity.METRIC.unit, Ambiguity.AFFINE_DISPARITY.unit
        ('m', 'relative disparity')
        """
        if self is Ambiguity.METRIC:
            return "m"
        return "relative disparity" if self is Ambiguity.AFFINE_DISPARITY else "relative depth"


@dataclass(frozen=True)
class Prediction:
    """A predicted map together with what its numbers mean.

    Attributes:
        values: float32 (B,1,H,W), at the size of the input image.
        ambiguity: what `values` are; see `Ambiguity`.
    """

    values: Tensor
    ambiguity: Ambiguity

    @property
    def unit(self) -> str:
        """ "m" when `values` are metres."""
        return self.ambiguity.unit

    @property
    def depth(self) -> Tensor:
        """Depth, float32 (B,1,H,W): metres for METRIC, unitless for a relative depth.

        Raises:
            ConfigError: the values are a relative disparity, which is no depth before it is aligned.
        """
        if self.ambiguity is Ambiguity.AFFINE_DISPARITY:
            raise ConfigError(
                "this prediction is a relative disparity, not a depth",
                next_action="align it to measured depth first (mde.align, disparity_scale_shift), or read .values",
            )
        return self.values


class StepOutput(NamedTuple):
    """What `DepthModule.training_loss` returns: the scalar to minimise and its detached parts for the log."""

    loss: Tensor
    logs: Mapping[str, Tensor] = {}
