"""Evaluation protocols: everything that decides a number besides the prediction itself, in one frozen object.

The same weights score a delta1 of 0.93 or 0.84 by protocol alone. A protocol therefore has a fingerprint that every
result carries, and two results of different fingerprints are not compared.

The path is always the same: resize the prediction to the ground truth (bilinear, half-pixel centres) -> align -> clamp
to [min_depth, max_depth] -> keep pixels that are valid, strictly inside the range, and inside the crop -> errors.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mde.alignment import MODES, apply_fit, fit, require_mode
from mde.errors import ConfigError, DataFormatError, ProtocolMismatchError, nearest
from mde.types import Ambiguity

__all__ = ["CROPS", "PROTOCOLS", "EvalProtocol", "HasProtocol", "Prepared", "get_protocol", "require_same"]

Window = tuple[int, int, int, int]
"""Half-open (top, bottom, left, right) in pixels."""


def _fraction_crop(top: float, bottom: float, left: float, right: float) -> Callable[[int, int], Window]:
    # int() truncation as in the evaluators of monodepth and BTS
    return lambda h, w: (int(top * h), int(bottom * h), int(left * w), int(right * w))


def _kb_crop(inner: Callable[[int, int], Window]) -> Callable[[int, int], Window]:
    """A crop taken inside KITTI's benchmark crop of 352x1216: bottom rows, middle columns (BTS, bts_dataloader.py)."""

    def window(h: int, w: int) -> Window:
        if h < 352 or w < 1216:
            raise DataFormatError(
                f"the benchmark crop of KITTI needs ground truth of at least 352x1216, this one is {h}x{w}",
                next_action="evaluate at the native size, or use a protocol without '_kb'",
            )
        above, before = h - 352, int((w - 1216) / 2)
        top, bottom, left, right = inner(352, 1216)
        return above + top, above + bottom, before + left, before + right

    return window


def _nyu_crop(top: int, bottom: int, left: int, right: int) -> Callable[[int, int], Window]:
    def window(h: int, w: int) -> Window:
        if (h, w) != (480, 640):
            raise DataFormatError(
                f"the NYU crops are defined on 480x640 ground truth, this one is {h}x{w}",
                next_action="evaluate at the native size, or use a protocol without a crop",
            )
        return top, bottom, left, right

    return window


_GARG = _fraction_crop(0.40810811, 0.99189189, 0.03594771, 0.96405229)

CROPS: dict[str, Callable[[int, int], Window]] = {
    "none": lambda h, w: (0, h, 0, w),
    # Eigen et al. 2014 on NYU, as in BTS (bts_eval.py) and Marigold
    "nyu_eigen": _nyu_crop(45, 471, 41, 601),
    # DenseDepth (utils.py), its inclusive bounds made half-open
    "nyu_densedepth": _nyu_crop(20, 460, 24, 616),
    # Garg et al. 2016 and Eigen et al. 2014 on KITTI, fractions as in monodepth (evaluate_kitti.py), of the full image
    "kitti_garg": _GARG,
    "kitti_eigen": _fraction_crop(0.3324324, 0.91351351, 0.0359477, 0.96405229),
    "kitti_kb": _kb_crop(lambda h, w: (0, h, 0, w)),
    # the same fractions of the 352x1216 crop: AdaBins, ZoeDepth (data_mono.py) and Marigold; some rows differ
    "kitti_garg_kb": _kb_crop(_GARG),
}


class Prepared(NamedTuple):
    """What is scored.

    Attributes:
        pred: (B,1,H,W), metres, within the range of the protocol; NaN stays NaN.
        mask: bool (B,1,H,W), the pixels that count.
        degenerate: bool (B,), images whose alignment fell back (see `mde.alignment.fit`); all False without alignment.
    """

    pred: Tensor
    mask: Tensor
    degenerate: Tensor


@dataclass(frozen=True)
class EvalProtocol:
    """How a prediction is scored.

    Attributes:
        name: for people; no part of the fingerprint.
        min_depth: metres; ground truth must be strictly above it, predictions are clamped to it.
        max_depth: metres; ground truth must be strictly below it (the "cap"), predictions are clamped to it.
        crop: key of `CROPS`.
        alignment: key of `mde.alignment.MODES`; "none" for metric predictions.
        flip: average the prediction with that of the mirrored image.
        pooling: "image" averages per-image errors (what published tables do), "pixel" pools all pixels of the set.
        ground_truth: which truth it is meant for, such as "raw", "filled" or "velodyne".
    """

    name: str = "none"
    min_depth: float = 1e-3
    max_depth: float = 1e3
    crop: str = "none"
    alignment: str = "none"
    flip: bool = False
    pooling: str = "image"
    ground_truth: str = "as given"

    def __post_init__(self) -> None:
        # a YAML file says 80 where Python says 80.0: one protocol, hence one fingerprint
        for key in ("min_depth", "max_depth"):
            object.__setattr__(self, key, float(getattr(self, key)))
        if not 0 < self.min_depth < self.max_depth < math.inf:
            raise ConfigError(
                f"a protocol needs 0 < min_depth < max_depth, both finite, got {self.min_depth} and {self.max_depth}",
                where=self.name,
                next_action="give both in metres, such as 0.001 and 80",
            )
        for value, valid, key in (
            (self.crop, CROPS, "crop"),
            (self.alignment, MODES, "alignment"),
            (self.pooling, ("image", "pixel"), "pooling"),
        ):
            if value not in valid:
                hint = f"nearest: {nearest(value, valid)}"
                raise ConfigError(f"unknown {key} {value!r}", where=f"protocol {self.name!r}", next_action=hint)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with every setting but the name.

        >>> EvalProtocol(name="a").fingerprint == EvalProtocol(name="b").fingerprint
        True
        >>> EvalProtocol().fingerprint == EvalProtocol(max_depth=80.0).fingerprint
        False
        """
        settings = {k: v for k, v in asdict(self).items() if k != "name"}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """All settings and the fingerprint, as plain data for a result file."""
        return {**asdict(self), "fingerprint": self.fingerprint}

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> EvalProtocol:
        """The way back from `to_dict`; a missing setting takes its default.

        Raises:
            ConfigError: a setting is unknown or out of range.
        """
        known = {f.name for f in fields(cls)}
        unknown = set(settings) - known - {"fingerprint"}
        if unknown:
            hint = f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"unknown protocol settings {sorted(unknown)}", next_action=hint)
        return cls(**{k: v for k, v in settings.items() if k in known})

    def window(self, height: int, width: int) -> Window:
        """The crop in pixels for ground truth of this size: (top, bottom, left, right), half-open."""
        return CROPS[self.crop](height, width)

    def mask(self, target: Tensor, valid: Tensor) -> Tensor:
        """Pixels that count: valid, strictly inside the range, inside the crop.

        Args:
            target: (B,1,H,W), metres.
            valid: bool (B,1,H,W).
        """
        top, bottom, left, right = self.window(*target.shape[-2:])
        mask = torch.zeros_like(valid)
        # whole rows first, as they are contiguous, then the columns
        inside, depth, known = (t[..., top:bottom, :] for t in (mask, target, valid))
        if target.device.type == "cpu" and target.dtype.itemsize >= torch.float32.itemsize:
            # comparisons of NumPy are vectorised where those of torch's CPU build are not: a quarter of the time
            made, metres = inside.numpy(), depth.detach().numpy()
            np.greater(metres, self.min_depth, out=made)
            np.logical_and(made, metres < self.max_depth, out=made)
            np.logical_and(made, known.numpy(), out=made)
        else:
            inside.copy_(known & (depth > self.min_depth) & (depth < self.max_depth))
        inside[..., :left] = False
        inside[..., right:] = False
        return mask

    def prepare(
        self, pred: Tensor, target: Tensor, valid: Tensor, ambiguity: Ambiguity = Ambiguity.METRIC
    ) -> tuple[Tensor, Tensor]:
        """The common path up to the mask: resize, align, clamp; `prepare_reported` without its report.

        Args:
            pred: (B,1,h,w), what the network gives, in the unit of `ambiguity`; any size. Not modified.
            target: (B,1,H,W), metres.
            valid: bool (B,1,H,W).
            ambiguity: what the numbers of `pred` mean.

        Returns:
            The prediction in metres within [min_depth, max_depth], (B,1,H,W), and the mask of pixels that count.

        Raises:
            ConfigError: the alignment does not fit the ambiguity, or the tensors do not fit each other.
            DataFormatError: the crop is not defined for ground truth of this size.
        """
        made = self.prepare_reported(pred, target, valid, ambiguity)
        return made.pred, made.mask

    def prepare_reported(
        self, pred: Tensor, target: Tensor, valid: Tensor, ambiguity: Ambiguity = Ambiguity.METRIC
    ) -> Prepared:
        """As `prepare`, and says which images did not determine their alignment.

        A relative disparity is resized before it is inverted (as monodepth2 does). The fit sees the pixels that count
        and no others. Plus and minus infinity are clamped like any number out of range; NaN passes through and is for
        the metric to report.
        """
        _require_batch(pred, target, valid)
        require_mode(self.alignment, ambiguity)
        pred = pred if pred.dtype == torch.float64 else pred.float()
        if pred.shape[-2:] != target.shape[-2:]:
            pred = F.interpolate(pred, size=target.shape[-2:], mode="bilinear", align_corners=False)
        mask = self.mask(target, valid)
        degenerate = torch.zeros(len(pred), dtype=torch.bool, device=pred.device)
        if self.alignment != "none":
            constants = fit(pred, target, mask, self.alignment)
            pred, degenerate = apply_fit(pred, constants, self.alignment), constants.degenerate
        return Prepared(pred.clamp(self.min_depth, self.max_depth), mask, degenerate)


def _require_batch(pred: Tensor, target: Tensor, valid: Tensor) -> None:
    """Refuse tensors that would broadcast into something else than one map per image."""
    fits = pred.ndim == target.ndim == 4 and pred.shape[:2] == target.shape[:2] and target.shape[1] == 1
    if fits and target.shape == valid.shape and valid.dtype == torch.bool:
        return
    raise ConfigError(
        f"evaluation needs pred (B,1,h,w), target (B,1,H,W) and bool valid (B,1,H,W), got {tuple(pred.shape)}, "
        f"{tuple(target.shape)} and {valid.dtype} {tuple(valid.shape)}",
        where="EvalProtocol.prepare",
    )


PROTOCOLS: dict[str, EvalProtocol] = {
    p.name: p
    for p in (
        EvalProtocol(name="none"),
        EvalProtocol(name="rooms", min_depth=1e-3, max_depth=10.0, ground_truth="rendered"),
        EvalProtocol(name="street", min_depth=1e-3, max_depth=80.0, ground_truth="rendered"),
        EvalProtocol(name="nyu_eigen", min_depth=1e-3, max_depth=10.0, crop="nyu_eigen", ground_truth="raw"),
        EvalProtocol(name="nyu_eigen_filled", min_depth=1e-3, max_depth=10.0, crop="nyu_eigen", ground_truth="filled"),
        EvalProtocol(name="nyu_densedepth", max_depth=10.0, crop="nyu_densedepth", flip=True, ground_truth="filled"),
        EvalProtocol(name="kitti_eigen_garg_80", max_depth=80.0, crop="kitti_garg", ground_truth="official"),
        EvalProtocol(name="kitti_eigen_garg_80_kb", max_depth=80.0, crop="kitti_garg_kb", ground_truth="official"),
        EvalProtocol(name="kitti_eigen_garg_50", max_depth=50.0, crop="kitti_garg", ground_truth="official"),
        EvalProtocol(name="kitti_eigen_garg_80_velodyne", max_depth=80.0, crop="kitti_garg", ground_truth="velodyne"),
        EvalProtocol(name="kitti_eigen_80", max_depth=80.0, crop="kitti_eigen", ground_truth="velodyne"),
        # the benchmark counts every measured pixel; its files hold less than 256 m
        EvalProtocol(name="kitti_official", max_depth=256.0, ground_truth="official"),
        EvalProtocol(name="kinect", min_depth=1e-3, max_depth=10.0, ground_truth="raw"),
        EvalProtocol(name="synthia_80", max_depth=80.0, ground_truth="rendered"),
        EvalProtocol(name="unreal_80", max_depth=80.0, ground_truth="rendered"),
        EvalProtocol(name="unreal_20", max_depth=20.0, ground_truth="rendered"),
    )
}


def get_protocol(name: str) -> EvalProtocol:
    """Return a named protocol.

    Raises:
        ConfigError: there is none of this name; the message lists the nearest.

    >>> get_protocol("kitti_eigen_garg_80").max_depth
    80.0
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {name!r}", next_action=f"nearest: {nearest(name, PROTOCOLS)}")
    return replace(PROTOCOLS[name])


def require_same(first: EvalProtocol, second: EvalProtocol) -> None:
    """Refuse to compare results of two protocols.

    Raises:
        ProtocolMismatchError: names each setting that differs, with both values.
    """
    a, b = asdict(first), asdict(second)
    different = [f"{k}: {a[k]!r} against {b[k]!r}" for k in a if k != "name" and a[k] != b[k]]
    if different:
        raise ProtocolMismatchError(
            f"results under {first.name!r} and {second.name!r} are not comparable ({'; '.join(different)})",
            next_action="evaluate both under one protocol",
        )


@runtime_checkable
class HasProtocol(Protocol):
    """Something that says how predictions on it are scored, such as a data module."""

    protocol: EvalProtocol
