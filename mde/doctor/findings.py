"""What the doctor can find: one row a check, with its usual severity and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["CHECKS", "SEVERITIES", "Check", "Finding", "finding", "ordered"]

SEVERITIES = ("error", "warning", "info")
"""From what makes training or evaluation wrong, over what probably does, to what one should know."""


class Check(NamedTuple):
    """A row of `CHECKS`."""

    severity: str
    title: str
    next_action: str


@dataclass(frozen=True)
class Finding:
    """Something that was found.

    Attributes:
        code: key of `CHECKS`.
        severity: one of `SEVERITIES`.
        title: a few words.
        message: what was seen, with the numbers behind it.
        next_action: what to do.
        count: how many frames or files it is about; 0 if about the data set as a whole.
        items: their ids, or their paths relative to the root; all of them.
    """

    code: str
    severity: str
    title: str
    message: str
    next_action: str
    count: int = 0
    items: Sequence[str] = field(default_factory=tuple)


_EXPORT = "fetch or export these files again"
_PAIR = "give each image its depth map, or write list files train.txt and val.txt with lines 'image depth'"

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        # opening
        "cannot-open": Check("error", "the data module refuses", "do what its message says"),
        "unknown-layout": Check("error", "no known layout", "arrange it as one of the layouts, or name it by --layout"),
        "reader-says": Check("info", "note of the reader", "set what it names, if it is wrong"),
        "made-data": Check("info", "rendered frames", "train on the real data set for results that mean something"),
        "test-is-val": Check("info", "testing uses the validation part", "add a test part before you publish numbers"),
        # files
        "unpaired": Check("error", "image or depth without its partner", _PAIR),
        "missing-files": Check("error", "files that a list names are missing", "fetch them, or take them off the list"),
        "dead-files": Check("error", "empty or truncated files", _EXPORT),
        "unreadable": Check("error", "frames that cannot be read", _EXPORT),
        "depth-jpeg": Check("error", "depth stored as JPEG", "export depth losslessly: 16-bit PNG, or npy"),
        "depth-colour": Check(
            "error",
            "depth with colour channels",
            "name its packing by --set encoding=…, or export one number per pixel",
        ),
        "size-mismatch": Check("error", "image and depth differ in size", "register the depth to the image"),
        "mixed-sizes": Check("info", "frames of several sizes", "set data.eval_batch_size to 1"),
        # numbers
        "depth-8-bit": Check("warning", "8-bit depth", "export 16 bits: 256 steps over 10 m are 4 cm each"),
        "few-values": Check("warning", "few distinct depths", "export the depth before it is rounded"),
        "wrong-unit": Check("error", "depth in the wrong unit", "set the scale: --set depth_scale=METRES_PER_UNIT"),
        "suspect-unit": Check(
            "warning", "the unit may be wrong", "compare one distance with the real scene, then set depth_scale"
        ),
        "beyond-cap": Check("info", "depth beyond the protocol's range", "nothing: evaluation leaves these pixels out"),
        "no-depth": Check("error", "frames without any depth", "take these frames out"),
        "little-depth": Check(
            "warning", "frames with hardly any depth", "look at them; take them out if they are broken"
        ),
        "holes": Check("info", "pixels without depth", "mask them (mde does); do not read 0 as a distance"),
        "constant-depth": Check("error", "constant depth maps", _EXPORT),
        "clipped-depth": Check(
            "warning", "depth saturates", "declare the value as invalid: --set depth_invalid=[VALUE]"
        ),
        "non-finite": Check("info", "NaN or infinity in depth files", "nothing: mde reads them as unknown"),
        "negative-depth": Check(
            "warning", "negative depth", "look at what the exporter means by it; mde reads it as unknown"
        ),
        # geometry
        "ray-distance": Check(
            "error", "distance along rays, read as z", "read it with --set depth_kind=ray and the camera"
        ),
        "divided-twice": Check("error", "z-depth, read as distance along rays", "read it with --set depth_kind=z"),
        "inverted-depth": Check(
            "error", "disparity or inverted depth", "read it with --set depth_kind=disparity and its scale"
        ),
        "misaligned": Check("warning", "depth is shifted against the image", "register depth to the colour camera"),
        "mirrored": Check("error", "depth is turned against the image", "turn the depth maps back"),
        "frame-shift": Check("error", "depth belongs to the neighbouring frame", "pair by time stamp, or rename"),
        "no-camera": Check("info", "camera unknown", "give intrinsics or horizontal_fov, if you need point clouds"),
        "odd-camera": Check(
            "warning", "intrinsics that do not fit the image", "scale them with the image: fx·w'/w, fy·h'/h"
        ),
        # images
        "grey-images": Check("info", "grey images", "check that colour was not lost on the way"),
        "border": Check("info", "frame around the images", "crop it in training; NYU's protocols leave it out"),
        # splits
        "few-frames": Check("info", "few frames in a split", "take its metrics with care"),
        "same-id": Check("error", "one id, several frames", "a frame may be in one split only, once"),
        "duplicates": Check("warning", "identical images within a split", "remove the copies"),
        "leak": Check("error", "identical images in two splits", "take them out of training"),
        "near-duplicates": Check(
            "warning", "nearly identical images in two splits", "split by scene or sequence, not by frame"
        ),
        "interrupted": Check("warning", "stopped before the end", "run it again for the rest"),
    }
)
"""All checks by code."""


def finding(
    code: str,
    message: str,
    items: Iterable[str] = (),
    *,
    severity: str | None = None,
    next_action: str | None = None,
) -> Finding:
    """A finding of a known code; severity and next action default to those of its check."""
    check, affected = CHECKS[code], tuple(items)
    return Finding(
        code,
        severity or check.severity,
        check.title,
        message,
        next_action or check.next_action,
        len(affected),
        affected,
    )


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first; equal ones in the order of `CHECKS`.

    A data module that refuses is no finding of its own where it is known why: it becomes an info.
    """
    found = list(findings)
    if any(f.severity == "error" and f.code not in ("cannot-open", "unknown-layout") for f in found):
        found = [finding(f.code, f.message, f.items, severity="info") if f.code == "cannot-open" else f for f in found]
    codes = list(CHECKS)
    return sorted(found, key=lambda f: (SEVERITIES.index(f.severity), codes.index(f.code)))
