"""The results of a video in order: made steady, and their flicker measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mde.inference.flow import motion
from mde.inference.result import DepthResult
from mde.inference.temporal import FlickerMeter, FlowSmoothing, ScaleLock, make_smoother

__all__ = ["Steady"]


class Steady:
    """Smooths the results of one video, which come in order, and measures what flickers before and after.

    Args:
        smooth: one of `mde.inference.temporal.SMOOTHERS`.

    Attributes:
        flicker: so far, of what comes out, see `FlickerMeter`; None before the second frame.
        flicker_before: the same of what goes in; None where nothing is smoothed.

    Raises:
        ConfigError: unknown smoothing; when the first result comes.
    """

    def __init__(self, smooth: str) -> None:
        self.smooth = smooth
        self.flicker: float | None = None
        self.flicker_before: float | None = None
        self._smoother: ScaleLock | FlowSmoothing | None = None
        self._meters: tuple[FlickerMeter, FlickerMeter] | None = None
        self._before: NDArray[np.uint8] | None = None

    def __call__(self, result: DepthResult, image: NDArray[np.uint8], time: float) -> DepthResult:
        """The next result, its frame uint8 (H,W,3), and its time in seconds."""
        if self._meters is None:  # only now it is known what the values are: a scale may have made metres of them
            self._meters = FlickerMeter(result.ambiguity), FlickerMeter(result.ambiguity)
            self._smoother = make_smoother(self.smooth, result.ambiguity)
        moved = None if self._before is None else motion(self._before, image, fine=self.smooth == "flow")
        self._before = image
        before, after = self._meters
        if self._smoother is not None:
            before.add(result.values, moved)
            result = replace(result, values=self._smoother(result.values, time, moved))
        after.add(result.values, moved)
        self.flicker, self.flicker_before = after.value, before.value
        return result
