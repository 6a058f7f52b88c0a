"""Findings about the numbers in the depth maps and about single images. Each check is a function of the tally."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mde.doctor.findings import Finding, finding
from mde.doctor.tally import Tally

__all__ = ["Meant", "check_numbers", "unit_zone"]

LITTLE = 0.002  # share of known pixels; one line of a lidar covers some 0.1 % of an image, 64 lines 4 %
HOLES = 0.05  # share of unknown pixels worth a line
CLIPPED = 0.05  # share of a frame at its largest depth
SOME = 0.2  # share of frames that make something a habit of the data set
FEW = 256  # distinct numbers: what 8 bits hold
COARSE = 0.01  # step between two near depths, relative: 0.3 % for a Kinect at 1 m, 4 % for 8 bits over 10 m
ENOUGH_PIXELS = 4000  # known pixels, from which so few numbers are suspicious
OTHER_UNIT = 3.0  # factor between two units in use: 1/256 and 1/1000 m differ by 3.9
BORDER = 2  # pixels


class Meant(NamedTuple):
    """What the data set is meant to be.

    Attributes:
        span: metres that depth should lie in, of the data module and its protocol.
        documented: True where the layout fixes the encoding, so that it needs no guess.
        proposal: metres per unit proposed from the numbers in the files, with the reason; None without files.
    """

    span: tuple[float, float]
    documented: bool
    proposal: tuple[float, str] | None = None


def check_numbers(tally: Tally, meant: Meant) -> Iterator[Finding]:
    """All findings of this file."""
    yield from _unreadable(tally)
    if len(tally):
        yield from _bits(tally, meant)
        yield from _unit(tally, meant)
        yield from _emptiness(tally)
        yield from _saturation(tally, meant)
        yield from _odd_numbers(tally)
        yield from _images(tally)


def unit_zone(span: tuple[float, float]) -> tuple[float, float]:
    """Medians in metres that scenes with this largest depth usually have: 6 % to 60 % of it.

    Indoors (10 m) 0.6 to 6 m, on the road (80 m) 5 to 48 m. Sets measured: 7-Scenes 1.7 m, NYU Depth v2 2.7 m, KITTI
    some 15 m.
    """
    return 0.06 * span[1], 0.6 * span[1]


def _unreadable(tally: Tally) -> Iterator[Finding]:
    for code in dict.fromkeys(code for code, _, _ in tally.problems):
        cases = [(name, what) for other, name, what in tally.problems if other == code]
        kinds = list(dict.fromkeys(what for _, what in cases))
        more = f" (and {len(kinds) - 1} other messages)" if len(kinds) > 1 else ""
        yield finding(code, f"{_frames(len(cases))}: {kinds[0]}{more}", [name for name, _ in cases])


def _bits(tally: Tally, meant: Meant) -> Iterator[Finding]:
    distinct, pixels = tally["distinct"], tally["known"] * tally["height"] * tally["width"]
    few = (distinct <= FEW) & (tally["step"] > COARSE) & (pixels > ENOUGH_PIXELS) & (tally["flat"] != 1)
    if "uint8" in tally.dtypes:
        text = f"{tally.dtypes['uint8']} of {len(tally)} depth maps have 8 bits"
        if meant.documented:
            yield finding("depth-8-bit", f"{text}, as this layout has", severity="info", next_action="nothing")
        else:
            yield finding("depth-8-bit", text)
    elif few.mean() > SOME:
        text = f"{_frames(int(few.sum()))} hold at most {FEW} different depths, as if they had once been 8-bit"
        yield finding("few-values", text, _names(tally, few), severity="info" if meant.documented else None)


def _unit(tally: Tally, meant: Meant) -> Iterator[Finding]:
    inside, median, low, high = tally["inside"], tally["median"], tally["low"], tally["high"]
    if np.isnan(median).all():
        return
    typical = float(np.nanmedian(median))
    range_text = f"{meant.span[0]:g} to {meant.span[1]:g} m"
    spread = f"1 % below {np.nanmedian(low):.3g} m, median {typical:.3g} m, 99 % below {np.nanmedian(high):.3g} m"
    scale, proposal = float(np.nanmedian(tally["scale"])) if _any(tally["scale"]) else None, meant.proposal
    other = proposal if proposal and scale and not 1 / OTHER_UNIT < proposal[0] / scale < OTHER_UNIT else None
    hint = None
    if other:
        hint = f"try --set depth_scale={other[0]:.6g} (now {scale:.6g} m per unit): {other[1]}"
    if np.nanmean(inside) < 0.5:
        text = f"only {np.nanmean(inside):.0%} of the known pixels lie in {range_text} ({spread})"
        yield finding("wrong-unit", text, _names(tally, inside < 0.5), next_action=hint)
        return
    zone = unit_zone(meant.span)
    if other and not meant.documented and not zone[0] <= typical <= zone[1]:
        text = (
            f"median depth is {typical:.3g} m, where {zone[0]:.2g} to {zone[1]:.2g} m is usual for depth {range_text}"
        )
        yield finding("suspect-unit", text, next_action=hint)
    beyond = tally["beyond"]
    if np.nanmean(beyond) > 0.001:
        text = f"{np.nanmean(beyond):.1%} of the known pixels are beyond {meant.span[1]:g} m"
        yield finding("beyond-cap", text, _names(tally, beyond > 0.01))


def _emptiness(tally: Tally) -> Iterator[Finding]:
    known, flat = tally["known"], tally["flat"] == 1
    empty = known == 0
    little = ~empty & (known < LITTLE)
    if empty.any():
        yield finding("no-depth", f"{_frames(int(empty.sum()))} have no known pixel", _names(tally, empty))
    if little.any():
        text = f"{_frames(int(little.sum()))} know less than {LITTLE:.1%} of their pixels"
        yield finding("little-depth", text, _names(tally, little))
    constant = flat & ~empty
    if constant.any():
        text = f"{_frames(int(constant.sum()))} have one depth everywhere"
        yield finding("constant-depth", text, _names(tally, constant))
    if 1 - known.mean() > HOLES:
        never = float((tally.known == 0).mean())
        where = f"; {never:.0%} of the picture is never known" if never > 0.01 else ""
        low, high = np.percentile(1 - known, (5, 95))
        yield finding("holes", f"{1 - known.mean():.0%} of the pixels have no depth ({low:.0%} to {high:.0%}){where}")


def _saturation(tally: Tally, meant: Meant) -> Iterator[Finding]:
    top, share = tally["top"], tally["at_top"]
    clipped = (share > CLIPPED) & (tally["flat"] != 1)
    if not clipped.any():
        return
    values, counts = np.unique(np.round(top[clipped], 3), return_counts=True)
    value, count = float(values[counts.argmax()]), int(counts.max())
    if count < max(2, SOME * len(tally)):  # a wall straight ahead, and not a habit
        return
    same = clipped & (np.abs(top - value) < 2e-3)
    text = f"in {_frames(count)}, {np.median(share[same]):.0%} of the known pixels are at {value:g} m"
    if abs(value - meant.span[1]) < 0.01 * meant.span[1] or meant.documented:
        hint = "nothing: a protocol counts depth strictly below its cap"
        text += ", where the data set is clipped"
        yield finding("clipped-depth", text, _names(tally, same), severity="info", next_action=hint)
    else:
        yield finding("clipped-depth", text, _names(tally, same))


def _odd_numbers(tally: Tally) -> Iterator[Finding]:
    non_finite, negative = np.nan_to_num(tally["non_finite"]), np.nan_to_num(tally["negative"])
    if non_finite.any():
        text = f"{int(non_finite.sum())} pixels of {_frames(int(np.count_nonzero(non_finite)))} are NaN or infinite"
        yield finding("non-finite", text, _names(tally, non_finite > 0))
    if negative.any():
        text = f"{int(negative.sum())} pixels of {_frames(int(np.count_nonzero(negative)))} are below 0"
        yield finding("negative-depth", text, _names(tally, negative > 0))


def _images(tally: Tally) -> Iterator[Finding]:
    sizes, counts = np.unique(np.stack([tally["height"], tally["width"]]), axis=1, return_counts=True)
    if len(counts) > 1:
        shown = ", ".join(f"{int(w)}x{int(h)} ({n})" for (h, w), n in zip(sizes.T[:8], counts, strict=False))
        yield finding("mixed-sizes", f"{len(counts)} sizes: {shown}")
    grey, border = tally["grey"] == 1, tally["border"]
    if grey.any():
        yield finding("grey-images", f"{_frames(int(grey.sum()))} have three equal channels", _names(tally, grey))
    framed = border >= BORDER
    if framed.mean() > 0.5:
        text = f"{_frames(int(framed.sum()))} have a white or black frame, {np.median(border[framed]):.0f} px wide"
        yield finding("border", text, _names(tally, framed))


def _any(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).any())


def _names(tally: Tally, chosen: NDArray[np.bool_]) -> list[str]:
    return [tally.names[row] for row in np.flatnonzero(chosen)]


def _frames(count: int) -> str:
    return f"{count} frame{'s' if count != 1 else ''}"
