"""Dense depth from sparse: holes filled by the nearest measurement, or smoothly along the picture.

Off by default: filled depth is a guess. For training it gives networks with gradient losses something to look at
(DenseDepth trains on filled depth); for evaluation it makes other numbers than published ones, which is why a protocol
names its ground truth.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from mde.data.colorization import colorize
from mde.data.dataset import ChangedDataset, DepthDataset, RawSample
from mde.errors import ConfigError, nearest

__all__ = ["INFILL_METHODS", "InfilledDataset", "infill"]

_Method = Callable[[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8]], NDArray[np.float32]]


def infill(
    depth: NDArray[np.float32], valid: NDArray[np.bool_], image: NDArray[np.uint8], method: str
) -> NDArray[np.float32]:
    """Fill the holes of a depth map.

    Args:
        depth: float32 (H,W), metres; what is not valid is not looked at.
        valid: bool (H,W).
        image: uint8 (H,W,3), RGB, of the same camera.
        method: key of `INFILL_METHODS`: "nearest" takes the measurement at the smallest distance in pixels, "levin"
            interpolates where the picture is smooth (`mde.data.colorization`; about a second for 480x640).

    Returns:
        float32 (H,W): known pixels as they are, all others between the smallest and the largest known depth; all 0 if
        no pixel is known.

    Raises:
        ConfigError: there is no such method.

    >>> depth, image = np.array([[2, 0, 0, 3]], np.float32), np.zeros((1, 4, 3), np.uint8)
    >>> infill(depth, depth > 0, image, "nearest").tolist()
    [[2.0, 2.0, 3.0, 3.0]]
    """
    require_method(method)
    if not valid.any():
        return np.zeros_like(depth)
    if valid.all():
        return depth
    return INFILL_METHODS[method](depth, valid, image)


def require_method(method: str) -> None:
    """Raise a `ConfigError` unless this is the name of a method."""
    if method not in INFILL_METHODS:
        hint = f"nearest: {nearest(method, INFILL_METHODS)}"
        raise ConfigError(f"unknown way to fill depth {method!r}", where="data.infill", next_action=hint)


def _nearest(depth: NDArray[np.float32], valid: NDArray[np.bool_], image: NDArray[np.uint8]) -> NDArray[np.float32]:
    # cv2.distanceTransformWithLabels knows the nearest pixel only approximately
    rows, columns = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return np.asarray(depth[rows, columns])


def _levin(depth: NDArray[np.float32], valid: NDArray[np.bool_], image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return colorize(depth, valid, image, _nearest(depth, valid, image))


INFILL_METHODS: Mapping[str, _Method] = MappingProxyType({"nearest": _nearest, "levin": _levin})
"""Ways to fill holes, by name."""
_SLOW = frozenset({"levin"})


class InfilledDataset(ChangedDataset):
    """Another data set with its depth filled: the same frames, files, transform and seed, and no holes.

    A frame without any measurement stays empty.

    Args:
        dataset: what is filled.
        method: "nearest" or "levin"; see `infill`.
        folder: where filled depth is kept from one epoch to the next, 4 bytes per filled pixel; None fills anew each
            time, and so does "nearest", which is no slower than a file. The key is the content of the frame, so that
            other settings of the data set never find a stale entry, and one folder may serve many data sets.

    Raises:
        ConfigError: there is no such method.
    """

    def __init__(self, dataset: DepthDataset, method: str, folder: str | Path | None = None) -> None:
        require_method(method)
        super().__init__(dataset)
        self.method = method
        self.folder = None if folder is None else Path(folder)

    def read(self, index: int) -> RawSample:
        raw = self.dataset.read(index).checked()
        depth, right = self._filled(raw), raw.right
        if right is not None and right.depth is not None:
            seen = replace(raw, image=right.image, depth=right.depth, valid=right.depth > 0)
            right = replace(right, depth=self._filled(seen))
        return replace(raw, depth=depth, valid=depth > 0, right=right)

    def _filled(self, raw: RawSample) -> NDArray[np.float32]:
        if self.folder is None or self.method not in _SLOW or raw.valid.all() or not raw.valid.any():
            return infill(raw.depth, raw.valid, raw.image, self.method)
        path = self.folder / f"{self._key(raw)}.npy"
        kept = _load(path, int(np.count_nonzero(~raw.valid)))
        if kept is None:
            kept = infill(raw.depth, raw.valid, raw.image, self.method)[~raw.valid]
            _save(path, kept)
        depth = raw.depth.copy()
        depth[~raw.valid] = kept
        return depth

    def _key(self, raw: RawSample) -> str:
        digest = blake2b(f"{self.method} {raw.depth.shape}".encode(), digest_size=16)
        for content in (np.where(raw.valid, raw.depth, np.float32(0)), raw.image):
            digest.update(np.ascontiguousarray(content).data)
        return f"{digest.hexdigest()[:2]}/{digest.hexdigest()}"  # a folder of 100 000 files is slow on network disks


def _load(path: Path, count: int) -> NDArray[np.float32] | None:
    """What `_save` wrote, or None if it is not there or not whole."""
    try:
        kept = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = isinstance(kept, np.ndarray) and kept.dtype == np.float32 and kept.shape == (count,)
    return kept if whole else None


def _save(path: Path, values: NDArray[np.float32]) -> None:
    """Write beside the target and rename: another process sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, values)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
