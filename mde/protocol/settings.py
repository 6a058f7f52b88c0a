"""`EvalProtocol`: the settings, what they mean, and the path from a prediction to the pixels that are scored."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mde.alignment import MODES, POOLED, Fit, apply_fit, fit, require_mode
from mde.alignment.whole import require_pooling
from mde.errors import ConfigError, ProtocolMismatchError, nearest
from mde.protocol.crops import CROPS, Window
from mde.protocol.spaces import RESIZES, SPACES, resize, turned
from mde.types import Ambiguity

__all__ = ["EvalProtocol", "HasProtocol", "Prepared", "require_same"]

_CHOICES: dict[str, Iterable[str]] = {
    "crop": CROPS,
    "alignment": MODES,
    "pooling": ("image", "pixel", "mse", "batch16"),
    "resize": RESIZES,
    "space": SPACES,
    "bounds": ("exclusive", "inclusive", "positive"),
    "silog": ("silog", "eigen", "half"),
    "rmse_log": ("plain", "si", "si_mse"),
    "flip_blend": ("mean", "ramp"),
    "alignment_scope": ("image", "set", "train"),
    "alignment_pooling": POOLED,
}
# What a fingerprint has covered from the beginning; what came later changes it only where it is not at its default.
_FIRST = ("min_depth", "max_depth", "crop", "alignment", "flip", "pooling", "ground_truth")
_ABOUT = ("name", "source")  # for people


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


class Cropped(NamedTuple):
    """The rows of the crop of what is scored, and of the truth; the prediction is not clamped. Else as `Prepared`."""

    pred: Tensor
    target: Tensor
    mask: Tensor
    degenerate: Tensor


@dataclass(frozen=True)
class EvalProtocol:
    """How a prediction is scored. The defaults are what most tables show.

    Attributes:
        name: for people; no part of the fingerprint.
        min_depth: metres; ground truth must be above it, predictions are clamped to it.
        max_depth: metres; ground truth must be below it (the "cap"), predictions are clamped to it.
        crop: key of `CROPS`.
        alignment: an `mde.alignment.Alignment` or its string; "none" for metric predictions.
        flip: average the prediction with that of the mirrored image (DenseDepth, ZoeDepth).
        pooling: "image" averages the errors of images (what published tables do), "pixel" takes the errors of all
            pixels of the set together (DenseDepth), "mse" is "image" but for rmse, the root of the mean of the images'
            mean squares (paper 0), "batch16" is "image" but for rmse, the mean over 16 images in a row of the rmse of
            their pixels together (paper 1; one process only, as it depends on the order).
        ground_truth: which truth it is meant for, such as "raw", "filled" or "velodyne".
        resize: key of `RESIZES`, how a prediction is brought to the size of the truth.
        space: key of `SPACES`, where predictions are resized and averaged with one another.
        factor: what a prediction of depth is multiplied with before anything else; 5.4 makes metres of a network that
            monodepth2 trained on stereo pairs.
        bounds: "exclusive" counts truth strictly inside the range, "inclusive" (Depth Anything V2) also at its ends,
            "positive" (DenseDepth, paper 0) all truth above 0, so that the range limits predictions only.
        clamp: limit predictions to the range; without it (Depth Anything V2) one that is not positive is an error.
        min_pixels: images with fewer pixels that count are left out (10 in Depth Anything V2).
        swapped: prediction and truth change places in the errors: abs_rel divides by the prediction (DenseDepth).
        silog: what the error of this name is, d being ln p - ln g: "silog" is 100 sqrt(var d) (KITTI, BTS), "eigen" is
            var(d) / 2 (Eigen et al. 2014, eq. 1), "half" is sqrt(mean d^2 - (mean d)^2 / 2) (Depth Anything V2).
        rmse_log: likewise: "plain" is sqrt(mean d^2), "si" is sqrt(var d), "si_mse" is var d (paper 2, eq. 5, to the
            letter).
        scales: of the image; predictions of all are averaged.
        flip_blend: "mean", or "ramp": at each side the 5 % that the mirrored image sees better, blended over another
            5 % (monodepth, monodepth2).
        alignment_scope: what one fit is for: each "image", the whole evaluated "set" in a pass before (paper 0), or the
            set as it was found on the images of "train".
        alignment_pooling: key of `mde.alignment.POOLED`, how the constants of a set are found.
        source: whose convention it is; for people, no part of the fingerprint.

    Raises:
        ConfigError: a setting is unknown, out of range, or contradicts another.
    """

    name: str = "none"
    min_depth: float = 1e-3
    max_depth: float = 1e3
    crop: str = "none"
    alignment: str = "none"
    flip: bool = False
    pooling: str = "image"
    ground_truth: str = "as given"
    resize: str = "bilinear"
    space: str = "given"
    factor: float = 1.0
    bounds: str = "exclusive"
    clamp: bool = True
    min_pixels: int = 1
    swapped: bool = False
    silog: str = "silog"
    rmse_log: str = "plain"
    scales: tuple[float, ...] = (1.0,)
    flip_blend: str = "mean"
    alignment_scope: str = "image"
    alignment_pooling: str = "pixel"
    source: str = ""

    def __post_init__(self) -> None:
        # a YAML file says 80 where Python says 80.0, and a list for a tuple: one protocol, hence one fingerprint
        try:
            for key in ("min_depth", "max_depth", "factor"):
                object.__setattr__(self, key, float(getattr(self, key)))
            key = "scales"
            object.__setattr__(self, key, tuple(float(scale) for scale in self.scales))
        except (TypeError, ValueError) as error:
            what = f"{key} of a protocol is not a number (or a list of them, for scales): {getattr(self, key)!r}"
            hint = "give such as max_depth 80 and scales [1.0, 0.75]"
            raise ConfigError(what, where=f"protocol {self.name!r}", next_action=hint) from error
        object.__setattr__(self, "alignment", str(self.alignment))
        for key, valid in _CHOICES.items():
            if (value := getattr(self, key)) not in valid:
                hint = f"nearest: {nearest(str(value), valid)}"
                raise ConfigError(f"unknown {key} {value!r}", where=f"protocol {self.name!r}", next_action=hint)
        self._require_numbers()
        self._require_consistent()

    def _require_numbers(self) -> None:
        if not 0 < self.min_depth < self.max_depth < math.inf:
            raise ConfigError(
                f"a protocol needs 0 < min_depth < max_depth, both finite, got {self.min_depth} and {self.max_depth}",
                where=self.name,
                next_action="give both in metres, such as 0.001 and 80",
            )
        for key, good, hint in (
            ("factor", 0 < self.factor < math.inf, "give a positive number, such as 5.4"),
            ("min_pixels", self.min_pixels >= 1, "give 1 to leave out images without a pixel only"),
            ("scales", bool(self.scales) and all(0 < s < math.inf for s in self.scales), "give such as [1.0, 0.75]"),
        ):
            if not good:
                what = f"{key} of a protocol is out of range: {getattr(self, key)}"
                raise ConfigError(what, where=f"protocol {self.name!r}", next_action=hint)

    def _require_consistent(self) -> None:
        if self.alignment_scope != "image":
            require_pooling(self.alignment, self.alignment_pooling)
        elif self.alignment_pooling != "pixel":
            what = "alignment_pooling says how the constants of a set are found, and each image has its own here"
            hint = "set alignment_scope to set or train, or leave alignment_pooling out"
            raise ConfigError(what, where=f"protocol {self.name!r}", next_action=hint)
        if self.flip_blend != "mean" and not self.flip:
            hint = "set flip to true, or leave flip_blend out"
            raise ConfigError("flip_blend without flip", where=f"protocol {self.name!r}", next_action=hint)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with every setting but the name and the source.

        >>> EvalProtocol(name="a").fingerprint == EvalProtocol(name="b").fingerprint
        True
        >>> EvalProtocol().fingerprint == EvalProtocol(max_depth=80.0).fingerprint
        False
        """
        default = {f.name: f.default for f in fields(self)}
        settings = {k: v for k, v in asdict(self).items() if k in _FIRST or (k not in _ABOUT and v != default[k])}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """All settings and the fingerprint, as plain data for a result file."""
        return {**asdict(self), "scales": list(self.scales), "fingerprint": self.fingerprint}

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
        """Pixels that count: valid, inside the range, inside the crop; none of an image with fewer than `min_pixels`.

        Args:
            target: (B,1,H,W), metres.
            valid: bool (B,1,H,W).
        """
        top, bottom, left, right = self.window(*target.shape[-2:])
        mask = torch.zeros_like(valid)
        mask[..., top:bottom, :] = self._counted(target[..., top:bottom, :], valid[..., top:bottom, :], left, right)
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
        self,
        pred: Tensor,
        target: Tensor,
        valid: Tensor,
        ambiguity: Ambiguity = Ambiguity.METRIC,
        constants: Fit | None = None,
    ) -> Prepared:
        """As `prepare`, and says which images did not determine their alignment.

        The fit sees the pixels that count and no others. Plus and minus infinity are clamped like any number out of
        range; NaN passes through and is for the metric to report.

        Args:
            constants: of the whole set, where `alignment_scope` is not "image" (`DepthModule.alignment_constants`).

        Raises:
            ConfigError: also if these constants are missing.
        """
        pred = self.resized(pred, target, valid, ambiguity)
        mask = self.mask(target, valid)
        pred, degenerate = self._aligned(pred, target, mask, ambiguity, constants)
        return Prepared(pred.clamp(*self.limits) if self.limits else pred, mask, degenerate)

    def cropped(
        self, pred: Tensor, target: Tensor, valid: Tensor, ambiguity: Ambiguity, constants: Fit | None = None
    ) -> Cropped:
        """The same path for the rows of the crop alone and without the clamp: what a metric needs, in less time."""
        pred = self.resized(pred, target, valid, ambiguity)
        top, bottom, left, right = self.window(*target.shape[-2:])
        # whole rows, as they are contiguous
        pred, target, valid = (t[..., top:bottom, :] for t in (pred, target, valid))
        mask = self._counted(target, valid, left, right)
        pred, degenerate = self._aligned(pred, target, mask, ambiguity, constants)
        return Cropped(pred, target, mask, degenerate)

    @property
    def limits(self) -> tuple[float, float] | None:
        """What predictions are clamped to, metres; None where they are not."""
        return (self.min_depth, self.max_depth) if self.clamp else None

    def resized(self, pred: Tensor, target: Tensor, valid: Tensor, ambiguity: Ambiguity) -> Tensor:
        """The prediction at the size of the truth, float32 (float64 for float64), before any alignment.

        Raises:
            ConfigError: the tensors do not fit each other, or the alignment does not fit the ambiguity.
        """
        _require_batch(pred, target, valid)
        # a depth up to a factor is metric once the factor is given
        known = ambiguity is Ambiguity.SCALE and self.factor != 1
        require_mode(self.alignment, Ambiguity.METRIC if known else ambiguity)
        pred = pred if pred.dtype == torch.float64 else pred.float()
        if pred.shape[-2:] != target.shape[-2:]:
            mixed = resize(turned(pred, self.space, ambiguity), target.shape[-2:], self.resize)
            pred = turned(mixed, self.space, ambiguity)
        return pred if self.factor == 1 else pred * self.factor

    def _aligned(
        self, pred: Tensor, target: Tensor, mask: Tensor, ambiguity: Ambiguity, constants: Fit | None
    ) -> tuple[Tensor, Tensor]:
        """The prediction in metres, and which images fell back."""
        if self.alignment == "none":
            return pred, torch.zeros(len(pred), dtype=torch.bool, device=pred.device)
        if self.alignment_scope == "image":
            constants = fit(pred, target, mask, self.alignment)
        elif constants is None:
            what = (
                f"protocol {self.name!r} aligns by constants of the whole {self.alignment_scope}, and none were given"
            )
            hint = "find them with mde.alignment.GlobalFit in a pass before (DepthModule does)"
            raise ConfigError(what, where="protocol.alignment_scope", next_action=hint)
        return apply_fit(pred, constants, self.alignment), constants.degenerate.expand(len(pred))

    def _counted(self, target: Tensor, valid: Tensor, left: int, right: int) -> Tensor:
        """`mask` of the rows of the crop, whose columns are from `left` to `right`."""
        low, high = (0.0, math.inf) if self.bounds == "positive" else (self.min_depth, self.max_depth)
        inclusive = self.bounds == "inclusive"
        if target.device.type == "cpu" and target.dtype.itemsize >= torch.float32.itemsize:
            # comparisons of NumPy are vectorised where those of torch's CPU build are not: a quarter of the time
            metres = target.detach().numpy()
            made = np.greater_equal(metres, low) if inclusive else np.greater(metres, low)
            made &= np.less_equal(metres, high) if inclusive else np.less(metres, high)
            made &= valid.numpy()
            mask = torch.from_numpy(made)
        elif inclusive:
            mask = valid & (target >= low) & (target <= high)
        else:
            mask = valid & (target > low) & (target < high)
        mask[..., :left] = False
        mask[..., right:] = False
        if self.min_pixels > 1:
            mask &= (mask.flatten(1).sum(1) >= self.min_pixels).view(-1, 1, 1, 1)
        return mask


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


def require_same(first: EvalProtocol, second: EvalProtocol) -> None:
    """Refuse to compare results of two protocols.

    Raises:
        ProtocolMismatchError: names each setting that differs, with both values.
    """
    a, b = asdict(first), asdict(second)
    different = [f"{k}: {a[k]!r} against {b[k]!r}" for k in a if k not in _ABOUT and a[k] != b[k]]
    if different:
        raise ProtocolMismatchError(
            f"results under {first.name!r} and {second.name!r} are not comparable ({'; '.join(different)})",
            next_action="evaluate both under one protocol",
        )


@runtime_checkable
class HasProtocol(Protocol):
    """Something that says how predictions on it are scored, such as a data module."""

    protocol: EvalProtocol
