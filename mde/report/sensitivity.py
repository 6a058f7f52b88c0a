"""One pass over predictions that scores them under every combination of conventions: crop, cap, alignment, pooling, ….

Each image is read once, and what combinations share is made once: a resize serves all crops, a mask that two ranges
have in common is gathered once, an alignment serves all clamps, and poolings follow from the sums of each image. The
numbers are those that `DepthMetrics` gives for each combination alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.alignment import FITTING, apply_fit, fit, require_mode
from mde.errors import ConfigError, DataFormatError, nearest
from mde.metrics.functional import SUMS, pixel_sums
from mde.protocol import CROPS, RESIZES, EvalProtocol
from mde.report.conventions import Convention, Sensitivity
from mde.report.pairs import Case
from mde.report.pooling import Pools
from mde.types import Ambiguity

__all__ = ["combinations", "default_axes", "sensitivity"]

_FREE = ("pooling", "silog", "rmse_log", "name", "source")
"""Settings that change nothing before the sums of an image."""

_LIMIT = 100_000  # combinations: a table of more is no help


def sensitivity(
    cases: Iterable[Case],
    reference: EvalProtocol,
    axes: Mapping[str, Sequence[Any]],
    ambiguity: Ambiguity = Ambiguity.METRIC,
) -> Sensitivity:
    """Score predictions under every combination of settings, in one pass.

    Args:
        cases: predictions with their truth, such as a `PairedFolder`.
        reference: the protocol that the combinations vary, and that effects are counted from.
        axes: values by field of `EvalProtocol`; that of the reference is added where it is missing.
        ambiguity: what the predictions mean.

    Raises:
        ConfigError: an axis or a value is unknown, an alignment does not fit the predictions, or there are too many
            combinations.
        DataFormatError: a prediction is NaN at a pixel that counts, a crop is not defined for the truth, or no image
            has a pixel that counts.
    """
    axes = with_reference(reference, axes)
    protocols = combinations(reference, axes, ambiguity)
    measured = {protocol: replace(protocol, **_plain_free()) for protocol in protocols}
    distinct = list(dict.fromkeys(measured.values()))
    place = {protocol: number for number, protocol in enumerate(distinct)}
    pools = Pools.empty(len(distinct))
    for case in cases:
        pools.add(*_Image(case, ambiguity).measure(distinct))
    conventions = [_convention(protocol, pools, place[measured[protocol]]) for protocol in protocols]
    own = conventions[protocols.index(reference)]
    if not own.images:
        raise DataFormatError("no image has a pixel that counts", next_action="check the protocol's range and crop")
    return Sensitivity(own, axes, conventions, _notes(conventions))


def with_reference(reference: EvalProtocol, axes: Mapping[str, Sequence[Any]]) -> dict[str, tuple[Any, ...]]:
    """The axes without repeated values, the value of the reference first.

    Raises:
        ConfigError: there is no such setting, or one that a pass over predictions cannot vary.
    """
    known = {field.name for field in fields(EvalProtocol)} - {*_NOT_VARIED, "name", "source"}
    for axis in axes:
        if axis not in known:
            raise ConfigError(f"cannot vary {axis!r}", where="axes", next_action=f"nearest: {nearest(axis, known)}")
    return {axis: tuple(dict.fromkeys((getattr(reference, axis), *values))) for axis, values in axes.items()}


_NOT_VARIED = ("flip", "flip_blend", "scales", "alignment_scope", "alignment_pooling", "ground_truth")
"""Settings that belong to the predictions or to the whole set."""


def combinations(
    reference: EvalProtocol, axes: Mapping[str, Sequence[Any]], ambiguity: Ambiguity = Ambiguity.METRIC
) -> list[EvalProtocol]:
    """All combinations of the axes, all else as in the reference.

    Raises:
        ConfigError: a value is not allowed, an alignment does not fit, or there are too many.
    """
    if reference.alignment_scope != "image":
        hint = "give a protocol with alignment_scope image; mde evaluate scores this one"
        raise ConfigError("conventions are compared with a fit for each image", where=reference.name, next_action=hint)
    count = int(np.prod([len(values) for values in axes.values()]))
    if count > _LIMIT:
        hint = f"give fewer values; there are {', '.join(f'{len(v)} of {k}' for k, v in axes.items())}"
        raise ConfigError(f"{count} combinations are too many", next_action=hint)
    made = [replace(reference, **dict(zip(axes, values, strict=True))) for values in product(*axes.values())]
    for alignment in {protocol.alignment for protocol in made}:
        require_mode(alignment, ambiguity)
    return made


def default_axes(reference: EvalProtocol, ambiguity: Ambiguity, size: tuple[int, int]) -> dict[str, tuple[Any, ...]]:
    """The conventions that published numbers on such data differ in.

    Args:
        reference: the protocol of the data.
        ambiguity: what the predictions mean; alignments that fit it are compared, the slow robust ones left out.
        size: (H,W) of the truth; crops that are not defined for it are left out.
    """
    kitti = _defined("kitti_kb", size) and size[1] > 3 * size[0]
    crops = [name for name in CROPS if _defined(name, size) and (kitti or not name.startswith("kitti"))]
    return with_reference(
        reference,
        {
            "crop": crops,
            "max_depth": (50.0, 80.0) if kitti else (),
            "bounds": ("exclusive", "inclusive", "positive"),
            "alignment": [mode for mode in FITTING[ambiguity] if not mode.startswith("robust")],
            "clamp": (True, False),
            "resize": tuple(RESIZES),
            "swapped": (False, True),
            "pooling": ("image", "pixel", "mse", "batch16"),
        },
    )


def _defined(crop: str, size: tuple[int, int]) -> bool:
    try:
        CROPS[crop](*size)
    except DataFormatError:
        return False
    return True


def _plain_free() -> dict[str, Any]:
    """The free settings at their defaults."""
    return {field.name: field.default for field in fields(EvalProtocol) if field.name in _FREE}


def _convention(protocol: EvalProtocol, pools: Pools, row: int) -> Convention:
    images, skipped, degenerate = (int(count) for count in pools.counts[row])
    return Convention(protocol, pools.metrics(row, protocol), images, skipped, degenerate)


def _notes(conventions: Sequence[Convention]) -> list[str]:
    undefined = sum(not np.isfinite(each.metrics["abs_rel"]) for each in conventions)
    if not undefined:
        return []
    return [f"{undefined} combinations have no value: without a clamp a prediction is zero or less, or nothing counts."]


class _Image:
    """What the combinations share on one image; everything is made when it is first needed."""

    def __init__(self, case: Case, ambiguity: Ambiguity) -> None:
        self.id, self.ambiguity = case.id, ambiguity
        self.pred = case.prediction
        self.target, self.valid = case.target
        self._resized: dict[Any, Tensor] = {}
        self._masks: dict[Any, tuple[int, NDArray[np.intp]]] = {}
        self._numbers: dict[bytes, int] = {}
        self._gathered: dict[Any, Tensor] = {}
        self._aligned: dict[Any, tuple[Tensor, bool, tuple[float, float]]] = {}
        self._sums: dict[Any, Tensor] = {}

    def measure(self, protocols: Sequence[EvalProtocol]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Sums (K,11), the columns of `mde.metrics.functional.SUMS`, and where the alignment fell back, (K,)."""
        found = [self._of(protocol) for protocol in protocols]
        return torch.cat([sums for sums, _ in found]).numpy(), np.array([fell for _, fell in found])

    def _of(self, protocol: EvalProtocol) -> tuple[Tensor, bool]:
        mask, positions = self._mask(protocol)
        if not positions.size:
            return torch.zeros((1, len(SUMS)), dtype=torch.float64), False
        fits = self.pred.shape[-2:] == self.target.shape[-2:]  # then nothing is resized, by whatever rule
        source = (protocol.factor,) if fits else (protocol.resize, protocol.space, protocol.factor)
        key = (source, mask, protocol.alignment)
        if key not in self._aligned:
            self._aligned[key] = self._align(protocol, source, mask, positions)
        pred, degenerate, (lowest, highest) = self._aligned[key]
        # a clamp that changes nothing is none
        limits = protocol.limits
        if limits is not None and limits[0] <= lowest and highest <= limits[1]:
            limits = None
        last = (key, limits, protocol.swapped)
        if last not in self._sums:
            clamped = pred if limits is None else pred.clamp(*limits)
            self._sums[last] = self._score(protocol, clamped, self._truth(mask, positions))
        return self._sums[last], degenerate

    def _mask(self, protocol: EvalProtocol) -> tuple[int, NDArray[np.intp]]:
        """The pixels that count: a number that equal masks have in common, and their positions."""
        key = (protocol.crop, protocol.min_depth, protocol.max_depth, protocol.bounds, protocol.min_pixels)
        if key not in self._masks:
            made = protocol.mask(self.target, self.valid).numpy().ravel()
            number = self._numbers.setdefault(np.packbits(made).tobytes(), len(self._numbers))
            self._masks[key] = number, np.flatnonzero(made)
        return self._masks[key]

    def _align(
        self, protocol: EvalProtocol, source: Hashable, mask: int, positions: NDArray[np.intp]
    ) -> tuple[Tensor, bool, tuple[float, float]]:
        """The pixels of the prediction that count, aligned; whether the fit fell back; and their range."""
        if source not in self._resized:
            self._resized[source] = protocol.resized(self.pred, self.target, self.valid, self.ambiguity)
        pred, degenerate = _taken(self._resized[source], positions), False
        if protocol.alignment != "none":
            everything = torch.ones_like(pred, dtype=torch.bool)
            constants = fit(pred, self._truth(mask, positions), everything, protocol.alignment)
            pred, degenerate = apply_fit(pred, constants, protocol.alignment), bool(constants.degenerate)
        return pred, degenerate, (float(pred.min()), float(pred.max()))

    def _truth(self, mask: int, positions: NDArray[np.intp]) -> Tensor:
        if mask not in self._gathered:
            self._gathered[mask] = _taken(self.target, positions)
        return self._gathered[mask]

    def _score(self, protocol: EvalProtocol, pred: Tensor, truth: Tensor) -> Tensor:
        pair = (truth, pred) if protocol.swapped else (pred, truth)
        sums = pixel_sums(*pair, torch.ones_like(pred, dtype=torch.bool))
        if protocol.clamp and not bool(sums.isfinite().all()):
            hint = "write it again, or leave it out"
            raise DataFormatError("the prediction is NaN at a pixel that counts", where=self.id, next_action=hint)
        return sums


def _taken(maps: Tensor, positions: NDArray[np.intp]) -> Tensor:
    return torch.from_numpy(maps.numpy().reshape(-1).take(positions)).view(1, 1, 1, -1)
