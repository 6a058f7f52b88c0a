"""Steady depth of a video: what changes from frame to frame though the scene does not, taken out without a smear.

Both smoothers see each frame once, keep one map, and begin anew at a cut. A perfect prediction stays as it is but for
rounding and errors of the flow: neither takes the motion of the camera for flicker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from mde.errors import ConfigError
from mde.inference.flow import Motion
from mde.metrics.flicker import flicker
from mde.types import Ambiguity

__all__ = ["SMOOTHERS", "FlickerMeter", "FlowSmoothing", "ScaleLock", "make_smoother"]

F32 = NDArray[np.float32]

_POINTS = 8192  # pixels that fits are made from
_FEW = 64  # with fewer common pixels there is nothing to fit
_MOST = {True: 0.1, False: 0.7}  # log of the largest factor, for metres and for relative maps
_TRIMMED = 2.5 * 1.4826  # times the median absolute deviation, which makes it 2.5 standard deviations


@dataclass
class ScaleLock:
    """Takes the flicker of the scale (and where it is unknown, the shift) out of a video.

    Each frame gets one factor. It is fitted to the frame before, by the median ratio over pixels that the motion
    follows, and a tracking filter of second order (alpha and beta, critically damped, with the gains of a growing
    memory for the first frames) tells what the scale does in the long run, a camera that goes forward at a steady pace
    included, from what it does between two frames. Only the latter is taken out, at most a factor of 1.1 of metres and
    2 of a relative map. Maps with an unknown shift get that back as well, by a line through trimmed pixels.

    Args:
        ambiguity: of the maps.
        seconds: time constant; what changes more slowly stays.

    Raises:
        ConfigError: the time is not above 0.
    """

    ambiguity: Ambiguity
    seconds: float = 0.5
    _before: F32 | None = field(default=None, init=False, repr=False)
    _time: float = field(default=0.0, init=False, repr=False)
    _pace: float = field(default=0.0, init=False, repr=False)
    _count: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        _require_seconds(self.seconds)

    def __call__(self, values: F32, time: float, motion: Motion | None) -> F32:
        """The next frame.

        Args:
            values: float32 (H,W), in the unit of `ambiguity`; NaN where unknown.
            time: seconds, rising.
            motion: from the frame before; None for the first one. A cut begins anew.

        Returns:
            The map, float32 (H,W), with its scale corrected; not finite where `values` is not.
        """
        if motion is None or motion.is_cut or self._before is None or self._before.shape != values.shape:
            self._pace, self._count = 0.0, 0
            made = values
        else:
            made = self._locked(values, motion.warp(self._before), motion.seen, max(time - self._time, 1e-6))
        self._before, self._time = made, time
        return made

    def _locked(self, values: F32, warped: F32, seen: NDArray[np.bool_], step: float) -> F32:
        now, before = _common(values, warped, seen, self.ambiguity)
        if now.size < _FEW:
            return values
        shifted = self.ambiguity in (Ambiguity.AFFINE_DEPTH, Ambiguity.AFFINE_DISPARITY)
        scale, shift = _line(now, before) if shifted else (float(np.median(before / now)), 0.0)
        if not scale > 0:
            return values
        self._count += 1
        alpha, beta = _gains(self._count, step / self.seconds)
        ahead = math.log(scale) + self._pace * step  # of this frame, from where the scale should be by now
        self._pace -= beta / step * ahead
        most = _MOST[self.ambiguity is Ambiguity.METRIC]
        kept = min(most, max(-most, (1 - alpha) * ahead))
        return values * np.float32(math.exp(kept)) + np.float32((1 - alpha) * shift)


@dataclass
class FlowSmoothing:
    """Averages each point over time along its motion, behind a `ScaleLock`.

    The frame before is warped onto this one. What a rigid scene does to depth as the camera moves, z' = z (a + b u +
    c v) + d, is fitted and applied to it (trimmed least squares), so that approaching walls do not lag. Then each pixel
    is `share` of the new value and the rest of the old one; the more the two differ, against `jump`, the more of the
    new one. It is all new where the motion cannot be trusted: moving edges and what they uncover are not smeared.

    Args:
        ambiguity: of the maps.
        share: of the new value where both agree, in (0,1]; at 30 frames/s.
        jump: relative difference (of a map with an unknown shift: in its spread) at which nothing of the old one stays.
        seconds: of the `ScaleLock`.

    Raises:
        ConfigError: a setting is out of range.
    """

    ambiguity: Ambiguity
    share: float = 0.3
    jump: float = 0.1
    seconds: float = 0.5
    _before: F32 | None = field(default=None, init=False, repr=False)
    _time: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and self.jump > 0):
            what = f"a share of {self.share:g} and a jump of {self.jump:g} smooth nothing"
            raise ConfigError(what, where="FlowSmoothing", next_action="take a share in (0,1] and a jump above 0")
        self._lock = ScaleLock(self.ambiguity, self.seconds)

    def __call__(self, values: F32, time: float, motion: Motion | None) -> F32:
        """The next frame; as `ScaleLock`."""
        values = self._lock(values, time, motion)
        if motion is not None and not motion.is_cut and self._before is not None:
            values = self._averaged(values, motion, time - self._time)
        self._before, self._time = values, time
        return values

    def _averaged(self, values: F32, motion: Motion, step: float) -> F32:
        if self._before is None or self._before.shape != values.shape:
            return values
        warped = _followed(motion.warp(self._before), values, motion.seen, self.ambiguity)
        share = 1 - (1 - self.share) ** max(1.0, 30 * step)
        with np.errstate(invalid="ignore", divide="ignore"):
            off = (warped - values) / (np.abs(values) if self._is_scaled else _spread(values))
        trusted = motion.seen & (np.abs(off) < self.jump)  # False for NaN
        weight = np.where(trusted, (1 - share) * (1 - (off / self.jump) ** 2), 0.0).astype(np.float32)
        return np.where(weight > 0, values + weight * (warped - values), values)

    @property
    def _is_scaled(self) -> bool:
        return self.ambiguity in (Ambiguity.METRIC, Ambiguity.SCALE)


class FlickerMeter:
    """Mean flicker of a video, frame by frame, over pixels that the motion follows; cuts do not count.

    Of a depth it is the mean relative change ("relative" of `mde.metrics.flicker`), of a map with an unknown shift the
    mean change ("opw") in units of the map's mean absolute deviation from its median.

    Args:
        ambiguity: of the maps.
    """

    def __init__(self, ambiguity: Ambiguity) -> None:
        self.ambiguity = ambiguity
        self._before: F32 | None = None
        self._sum, self._count = 0.0, 0

    def add(self, values: F32, motion: Motion | None) -> None:
        """The next frame, float32 (H,W), and the motion from the one before."""
        before, self._before = self._before, values
        if motion is None or motion.is_cut or before is None or before.shape != values.shape:
            return
        now, past = _common(values, motion.warp(before), motion.seen, self.ambiguity)
        if now.size < _FEW:
            return
        new, old = (torch.from_numpy(each).view(1, 1, 1, -1) for each in (now, past))
        found = flicker(new, old, torch.ones_like(new, dtype=torch.bool))
        scaled = self.ambiguity in (Ambiguity.METRIC, Ambiguity.SCALE)
        self._sum += found["relative"].item() if scaled else found["opw"].item() / _spread(past)
        self._count += 1

    @property
    def value(self) -> float | None:
        """The mean over pairs of frames; None before the second frame."""
        return self._sum / self._count if self._count else None


SMOOTHERS = ("none", "scale", "flow")
"""Names of `make_smoother`."""


def make_smoother(name: str, ambiguity: Ambiguity) -> ScaleLock | FlowSmoothing | None:
    """A smoother of its own for one video; None for "none".

    Raises:
        ConfigError: unknown name.
    """
    if name not in SMOOTHERS:
        raise ConfigError(f"unknown smoothing {name!r}", where="smooth", next_action=f"use {', '.join(SMOOTHERS)}")
    made = {"scale": ScaleLock, "flow": FlowSmoothing}.get(name)
    return None if made is None else made(ambiguity)


def _gains(count: int, share: float) -> tuple[float, float]:
    """Of the filter, for frame `count` after the first: a line through all so far, then the fading memory.

    The steady pair is critically damped with the pole exp(-share) (P. Kalata, "The tracking index", IEEE TAES 1984;
    E. Brookner, "Tracking and Kalman Filtering Made Easy", 1998, 1.2.6 and 1.2.10).
    """
    pole = math.exp(-share)
    growing = 2 * (2 * count + 1) / ((count + 1) * (count + 2)), 6 / ((count + 1) * (count + 2))
    return max(1 - pole**2, growing[0]), max((1 - pole) ** 2, growing[1])


def _common(
    values: F32, warped: F32, seen: NDArray[np.bool_], ambiguity: Ambiguity
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Some pixels of both maps where both are known."""
    both = seen & np.isfinite(values) & np.isfinite(warped)
    if ambiguity in (Ambiguity.METRIC, Ambiguity.SCALE):
        both &= (values > 0) & (warped > 0)
    chosen = np.flatnonzero(both)
    chosen = chosen[:: max(1, chosen.size // _POINTS)]
    return values.ravel()[chosen].astype(np.float64), warped.ravel()[chosen].astype(np.float64)


def _line(now: NDArray[np.float64], before: NDArray[np.float64]) -> tuple[float, float]:
    scale, shift = _trimmed(np.stack((now, np.ones_like(now)), 1), before, np.full(now.size, _spread(before)))
    return float(scale), float(shift)


def _followed(warped: F32, values: F32, seen: NDArray[np.bool_], ambiguity: Ambiguity) -> F32:
    """The warped map after the camera's motion since: the best rigid change of it, see `FlowSmoothing`."""
    scaled = ambiguity in (Ambiguity.METRIC, Ambiguity.SCALE)
    both = seen & np.isfinite(values) & np.isfinite(warped)
    if scaled:
        both &= values > 0
    chosen = np.flatnonzero(both)
    if chosen.size < _FEW:
        return warped
    chosen = chosen[:: max(1, chosen.size // _POINTS)]
    height, width = values.shape
    u, v = np.arange(width, dtype=np.float32) / width - 0.5, np.arange(height, dtype=np.float32)[:, None] / height - 0.5
    old, new = warped.ravel()[chosen].astype(np.float64), values.ravel()[chosen].astype(np.float64)
    basis = np.stack((old, old * u[chosen % width], old * v[chosen // width, 0], np.ones_like(old)), 1)
    unit = np.abs(new) if scaled else np.full(new.size, _spread(new))
    a, b, c, d = (np.float32(each) for each in _trimmed(basis, new, unit))
    return warped * (a + b * u + c * v) + d


def _trimmed(basis: NDArray[np.float64], target: NDArray[np.float64], unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of basis . x = target, errors in units of `unit`, three times without the worst."""
    kept = np.ones(target.size, dtype=bool)
    found: NDArray[np.float64] = np.zeros(basis.shape[1])
    for _ in range(3):
        solved = np.linalg.lstsq(basis[kept] / unit[kept, None], target[kept] / unit[kept], rcond=1e-9)
        found = solved[0].astype(np.float64)
        off = np.abs(basis @ found - target) / unit
        kept = off <= max(_TRIMMED * float(np.median(off)), 1e-9)
    return found


def _spread(values: NDArray[np.floating]) -> float:
    """Mean absolute deviation from the median: what MiDaS measures a map with an unknown scale by."""
    known = values[np.isfinite(values)]
    return float(np.abs(known - np.median(known)).mean()) + 1e-12 if known.size else 1.0


def _require_seconds(seconds: float) -> None:
    if not seconds > 0:
        what = f"a time constant is above 0 s, got {seconds:g}"
        raise ConfigError(what, where="ScaleLock", next_action="0.5 takes out what flickers faster than half a second")
