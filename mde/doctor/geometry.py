"""Findings about geometry: what kind of depth, does it lie on its image, does the camera fit.

All of them weigh evidence over many frames and abstain where it is weak: the mean must stand out against its own
standard error, and be large enough to matter.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mde.doctor.edges import MIRRORS, RADIUS
from mde.doctor.findings import Finding, finding
from mde.doctor.frame import ASSUMED_FOV
from mde.doctor.tally import Tally

__all__ = ["check_geometry", "evidence", "plane_exponent"]

FRAMES = 6  # fewer frames convince nobody
SIGMAS = 4.0
GAIN = 0.02  # of a correlation coefficient
SHIFT = 2.5  # pixels of the common size; depth of consumer sensors is rarely registered better than to one or two
EXPONENT = 0.35  # distance from -1, 0 or 1 that is still called that
ROWS = 0.1  # correlation of 1/depth with the row, from which a frame votes
VOTES = 0.75  # share of the voting frames that decides
CENTRE = 0.15  # of the image: distance of the principal point from its centre
FIELD_OF_VIEW = (20.0, 140.0)  # degrees
ASPECT = 1.5  # fx / fy; a resize from 4:3 to a square gives 1.33


def check_geometry(tally: Tally) -> Iterator[Finding]:
    """All findings of this file."""
    if len(tally) == 0:
        return
    yield from _kind(tally)
    yield from _direction(tally)
    turned = list(_mirrored(tally))
    shifted = [] if turned else list(_neighbours(tally))
    yield from turned or shifted or _misaligned(tally)
    yield from _camera(tally)


def evidence(gains: NDArray[np.float64]) -> tuple[float, float]:
    """Mean, and mean over its standard error; (0, 0) for fewer than `FRAMES` numbers."""
    known = gains[np.isfinite(gains)]
    if len(known) < FRAMES:
        return 0.0, 0.0
    error = float(known.std(ddof=1)) / len(known) ** 0.5
    mean = float(known.mean())
    return mean, mean / max(error, 1e-6)


def plane_exponent(tally: Tally) -> tuple[float, float, int]:
    """Median over frames of the exponent k (`mde.doctor.planes`), its standard error, and the number of frames."""
    known = tally["exponent"][tally["patches"] > 0]
    if len(known) < FRAMES:
        return float("nan"), float("inf"), len(known)
    middle = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - middle)))  # standard deviation of a normal distribution
    return middle, 1.2533 * spread / len(known) ** 0.5, len(known)


def _kind(tally: Tally) -> Iterator[Finding]:
    k, error, frames = plane_exponent(tally)
    assumed = not np.isfinite(tally["fov"]).any()
    nearest = int(np.sign(k)) if np.isfinite(k) and abs(abs(k) - 1) < EXPONENT else 0
    if nearest == 0 or SIGMAS * error > abs(k):
        return
    camera = f", taking a field of view of {ASSUMED_FOV:g} degrees" if assumed else ""
    text = f"planes fit z·n^k with k = {k:.2f} ± {error:.2f} ({frames} frames{camera}; z-depth has 0"
    if nearest > 0:
        yield finding("ray-distance", f"{text}, distance along rays 1)", severity="warning" if assumed else None)
    else:
        yield finding("divided-twice", f"{text}, z that was divided by n -1)")


def _direction(tally: Tally) -> Iterator[Finding]:
    """Two independent signs: planes, and that the lower part of a picture is usually nearer."""
    slope, planes = tally["rows"], tally["inverse"]
    rising, falling = np.count_nonzero(slope > ROWS), np.count_nonzero(slope < -ROWS)
    plane_sum, plane_sigmas = evidence(planes)
    upside = falling + rising >= FRAMES and falling > VOTES * (falling + rising)
    rows_text = f"the bottom is farther than the top in {falling} of {falling + rising} frames"
    if plane_sum < -0.1 and plane_sigmas < -SIGMAS:
        also = f", and {rows_text}" if upside else ""
        text = f"planes are flat in the numbers and not in their inverse ({plane_sigmas:.0f} sigma){also}"
        yield finding("inverted-depth", text)
    elif upside:
        unsure = plane_sum > 0.1 and plane_sigmas > SIGMAS
        hint = "look at the pictures: is near shown as near?" if unsure else None
        planes_text = "; planes look like depth" if unsure else ""
        severity = "info" if unsure else None
        yield finding("inverted-depth", f"{rows_text}{planes_text}", severity=severity, next_action=hint)


def _mirrored(tally: Tally) -> Iterator[Finding]:
    found = [evidence(tally[f"mirror_{i}"]) for i in range(len(MIRRORS))]
    best = max(range(len(MIRRORS)), key=lambda i: found[i][0])
    gain, sigmas = found[best]
    if gain > GAIN and sigmas > SIGMAS:
        text = f"turned {MIRRORS[best]}, its edges lie better on those of the image (+{gain:.2f}, {sigmas:.0f} sigma)"
        yield finding("mirrored", text)


def _neighbours(tally: Tally) -> Iterator[Finding]:
    gains = np.array(tally.neighbours, np.float64).reshape(-1, 2)
    found = [evidence(gains[:, side]) for side in (0, 1)]
    side = int(found[1][0] > found[0][0])
    gain, sigmas = found[side]
    if gain > GAIN and sigmas > SIGMAS:
        whose = ("before", "after")[side]
        text = f"the depth of the frame {whose} lies better on the image (+{gain:.2f} in edge correlation"
        yield finding("frame-shift", f"{text}, {sigmas:.0f} sigma, {len(gains)} frames tried)")


def _misaligned(tally: Tally) -> Iterator[Finding]:
    n = tally.shift_count
    if n < FRAMES:
        return
    peak = np.unravel_index(int(tally.shift_mean.argmax()), tally.shift_mean.shape)
    dy, dx = int(peak[0]) - RADIUS, int(peak[1]) - RADIUS
    mean = tally.gain_sum[peak] / n
    error = np.sqrt(max(tally.gain_squares[peak] / n - mean**2, 1e-12) / (n - 1))
    if np.hypot(dx, dy) < SHIFT or mean < GAIN or mean < SIGMAS * error:
        return
    scale = float(np.nanmedian(tally["edge_scale"]))
    text = f"depth lies best on the image when moved by {dx * scale:+.0f} px across and {dy * scale:+.0f} px down"
    yield finding("misaligned", f"{text} (+{mean:.2f} in edge correlation, {mean / error:.0f} sigma, {n} frames)")


def _camera(tally: Tally) -> Iterator[Finding]:
    x, y, angle, aspect = (tally[name] for name in ("cx", "cy", "fov", "aspect"))
    known = np.isfinite(x)
    if not known.any():
        yield finding("no-camera", "no frame has intrinsics")
        return
    with np.errstate(invalid="ignore"):
        outside = known & ((x < 0) | (x > 1) | (y < 0) | (y > 1))
        aside = known & ((np.abs(x - 0.5) > CENTRE) | (np.abs(y - 0.5) > CENTRE))
        odd_angle = known & ((angle < FIELD_OF_VIEW[0]) | (angle > FIELD_OF_VIEW[1]))
        odd_aspect = known & ~((aspect < ASPECT) & (aspect > 1 / ASPECT))
    odd = aside | odd_angle | odd_aspect
    if not odd.any():
        return
    factor_x, factor_y = 2 * float(np.median(x[odd])), 2 * float(np.median(y[odd]))
    text = (
        f"principal point at {factor_x / 2:.0%} of the width and {factor_y / 2:.0%} of the height, "
        f"field of view {np.median(angle[odd]):.0f} degrees, fx/fy {np.median(aspect[odd]):.2f}"
    )
    if aside.any() and abs(factor_x / factor_y - 1) < 0.1:
        text += f"; they fit an image {factor_x:.2f} times as large"
    names = [tally.names[row] for row in np.flatnonzero(odd)]
    yield finding("odd-camera", text, names, severity="error" if outside.any() else None)
