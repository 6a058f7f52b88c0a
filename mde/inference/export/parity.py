"""Does an exported file say what the network says? Numbers, pixels, milliseconds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mde.data.procedural import ProceduralDataset
from mde.data.transforms import EvalTransform
from mde.errors import ConfigError
from mde.inference.export.info import Size
from mde.inference.export.models import ExportedModel, OnnxModel
from mde.models.base import DepthModule

__all__ = ["LIMITS", "Limit", "Parity", "compare", "rendered_pictures"]

Picture = NDArray[np.uint8]
_FLOOR = 0.01  # of the mean: below it a number near 0 of a relative map is not divided by itself


@dataclass(frozen=True)
class Limit:
    """How far an export may be from its network.

    Attributes:
        drift: relative difference, of the mean, and of a pixel that counts as equal.
        share: of pixels that may differ by more. Where two classes are equally likely, rounding decides, and the depth
            is that of one or the other.
    """

    drift: float
    share: float


LIMITS = {"fp32": Limit(1e-3, 1e-3), "fp16": Limit(2e-2, 1e-2)}
"""By the precision of the file. Numbers of float16 have 11 bits, a relative rounding of 5e-4 in each layer."""


@dataclass(frozen=True)
class Parity:
    """An exported file beside its network in PyTorch.

    Attributes:
        pictures: that were compared, mirrored ones included.
        max_abs: largest difference, in the unit of the numbers.
        max_relative: largest relative difference.
        abs_rel: mean relative difference: AbsRel of the file with the network as truth.
        beyond: share of pixels whose relative difference is above `tolerance`.
        tolerance: for `abs_rel`, and of a pixel.
        allowed: for `beyond`.
        pytorch_ms: of one picture in PyTorch, the median of interleaved runs.
        exported_ms: likewise of the file.
        threads: of both.
        size: (height, width) of the picture that was timed.
    """

    pictures: int
    max_abs: float
    max_relative: float
    abs_rel: float
    beyond: float
    tolerance: float
    allowed: float
    pytorch_ms: float
    exported_ms: float
    threads: int
    size: Size

    @property
    def passed(self) -> bool:
        """Both limits are kept; NaN in one map alone is beyond all."""
        return self.abs_rel <= self.tolerance and self.beyond <= self.allowed

    def write(self, path: str | Path) -> None:
        """As JSON."""
        Path(path).write_text(json.dumps({"passed": self.passed, **asdict(self)}, indent=2) + "\n")


def compare(
    method: DepthModule, exported: ExportedModel, pictures: Iterable[Picture] | None = None, runs: int = 5
) -> Parity:
    """Predict pictures by both, and time both on the first.

    Args:
        method: that was exported.
        exported: its file.
        pictures: uint8 (H,W,3), RGB, of any sizes, one at least; None takes `rendered_pictures`. Each is
            predicted in a batch with its mirror image and itself upside down.
        runs: of the timing.
    """
    tally, first = _Tally(LIMITS[exported.info.precision]), None
    with _working_at(method, exported.info.image_size):
        for picture in rendered_pictures() if pictures is None else pictures:
            first = picture if first is None else first
            batch = np.stack((picture, picture[:, ::-1], picture[::-1]))
            tally.add(_in_pytorch(method, exported, batch), exported(batch))
        if first is None:
            raise ConfigError("there is no picture to compare", where="parity", next_action="give a folder of pictures")
        return tally.report(first.shape[:2], *_latency(method, exported, first, runs))


def rendered_pictures() -> Iterator[Picture]:
    """Three rooms of the procedural world, of three shapes: uint8 (H,W,3), RGB."""
    for index, (height, width) in enumerate(((240, 320), (180, 320), (333, 247))):
        rooms = ProceduralDataset("rooms", "test", index + 1, height, width, EvalTransform((height, width)))
        yield rooms.read(index).image


def _in_pytorch(method: DepthModule, exported: ExportedModel, images: Picture) -> NDArray[np.float32]:
    """What the network itself says: uint8 (B,H,W,3) to float32 (B,1,H,W)."""
    return method.predict(torch.from_numpy(images).permute(0, 3, 1, 2), flip=exported.info.flip).values.cpu().numpy()


@contextmanager
def _working_at(method: DepthModule, size: Size | None) -> Iterator[None]:
    """Inside, `predict` works at another size; None is the picture's own."""
    own, method.image_size = method.image_size, size
    try:
        yield
    finally:
        method.image_size = own


def _latency(method: DepthModule, exported: ExportedModel, picture: Picture, runs: int) -> tuple[float, float]:
    """Milliseconds of one picture in PyTorch and by the file, on equally many threads; medians of runs in turn."""
    if isinstance(exported, OnnxModel):
        exported = OnnxModel(exported.path, "cpu", threads=torch.get_num_threads())
    image, times = picture[None], []
    for _ in range(runs + 1):
        start = time.perf_counter()
        _in_pytorch(method, exported, image)
        middle = time.perf_counter()
        exported(image)
        times.append((middle - start, time.perf_counter() - middle))
    pytorch, file = np.median(times[1:], axis=0)  # the first one allocates
    return float(pytorch) * 1e3, float(file) * 1e3


class _Tally:
    """Sums over all pixels."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.pictures = self.pixels = self.beyond = 0
        self.max_abs = self.max_relative = self.total = 0.0

    def add(self, wanted: NDArray[np.float32], found: NDArray[np.float32]) -> None:
        """Count a batch; what is NaN or infinite in both alike is equal."""
        alike = (wanted == found) | (np.isnan(wanted) & np.isnan(found))
        finite = np.isfinite(wanted)
        floor = _FLOOR * np.abs(wanted[finite]).mean(dtype=np.float64) if finite.any() else 0.0
        with np.errstate(invalid="ignore"):  # of two infinities, which are alike
            difference = np.abs(found.astype(np.float64) - wanted)
            relative = difference / np.maximum(np.abs(wanted), max(floor, np.finfo(np.float32).tiny))
        difference, relative = (
            np.where(alike, 0, np.where(np.isnan(values), np.inf, values)) for values in (difference, relative)
        )
        self.pictures += len(wanted)
        self.pixels += relative.size
        self.beyond += int((relative > self.limit.drift).sum())
        self.total += float(relative.sum())
        self.max_abs = max(self.max_abs, float(difference.max()))
        self.max_relative = max(self.max_relative, float(relative.max()))

    def report(self, size: tuple[int, ...], pytorch_ms: float, exported_ms: float) -> Parity:
        """All that was counted."""
        return Parity(
            pictures=self.pictures,
            max_abs=self.max_abs,
            max_relative=self.max_relative,
            abs_rel=self.total / self.pixels,
            beyond=self.beyond / self.pixels,
            tolerance=self.limit.drift,
            allowed=self.limit.share,
            pytorch_ms=pytorch_ms,
            exported_ms=exported_ms,
            threads=torch.get_num_threads(),
            size=(size[0], size[1]),
        )
