"""Tested images that a run keeps for its report: ``samples/`` holds pictures, truth and prediction at a bounded width.

``samples.json`` names the images, ``<position>.npz`` holds the maps in float16 (0.05 % of a depth), ``<position>.jpg``
the picture. Predictions are metres after the protocol's alignment, as they were scored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mde.data.formats import NUMPY_FAULTS
from mde.errors import DataFormatError
from mde.geometry import resize_intrinsics

__all__ = [
    "FOLDER",
    "KeptImage",
    "Sample",
    "Samples",
    "read_sample",
    "read_samples",
    "remove_sample",
    "write_sample",
    "write_samples",
]

FOLDER = "samples"
"""Below the folder of a run."""

_INDEX = "samples.json"
_FORMAT = 1
_JPEG_QUALITY = 90
_HINT = "run `mde test` again: it writes the folder anew"

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """One tested image.

    Attributes:
        id: stable sample id.
        image: uint8 (H,W,3) RGB; covers the field of view of the maps at a size of its own.
        depth: float32 (h,w), z-depth in metres, 0 where unknown.
        counted: bool (h,w), the pixels that the protocol scored.
        pred: float32 (h,w), metres after the protocol's alignment and clamp.
        intrinsics: float64 (3,3), pixels of the maps; NaN where the camera is unknown.
    """

    id: str
    image: NDArray[np.uint8]
    depth: Map
    counted: Mask
    pred: Map
    intrinsics: NDArray[np.float64]

    @property
    def known(self) -> Mask:
        """bool (h,w), where there is truth."""
        return self.depth > 0

    def thinned(self, width: int) -> Sample:
        """At most `width` pixels wide: of each square of pixels one stays, the nearest to its centre that was scored.

        Nothing is averaged, so each remaining number is one that was measured or predicted, truth and prediction at
        the same pixel, and sparse truth stays as dense as it looks. Rows and columns that fill no square are cut off.
        """
        height, full = self.depth.shape
        step = math.ceil(full / width)
        rows, columns = max(1, height // step), max(1, full // step)
        place = _chosen(self.counted, self.known, step, rows, columns)
        seen = _cut(self.image, rows * step / height, columns * step / full)
        scale = torch.from_numpy(self.intrinsics)
        return replace(
            self,
            image=_narrowed(seen, width),
            depth=self.depth[place],
            counted=self.counted[place],
            pred=self.pred[place],
            intrinsics=resize_intrinsics(scale, 1 / step, 1 / step).numpy(),
        )


@dataclass(frozen=True)
class KeptImage:
    """What the index says of an image.

    Attributes:
        id: stable sample id.
        position: in the test set, from 0; names the files.
        abs_rel: of this image; NaN where no pixel counts.
        spread: one of those that are spread evenly over the set.
        worst: one of those with the largest abs_rel.
    """

    id: str
    position: int
    abs_rel: float
    spread: bool
    worst: bool


@dataclass(frozen=True)
class Samples:
    """The images that a run kept.

    Attributes:
        folder: where they are.
        images: in the order of the test set.
        ambiguity: value of the `Ambiguity` of the network's output, before the alignment.
        fingerprint: of the protocol.
    """

    folder: Path
    images: Sequence[KeptImage]
    ambiguity: str
    fingerprint: str

    def find(self, sample_id: str) -> KeptImage | None:
        """The image of this id, if it was kept."""
        return next((image for image in self.images if image.id == sample_id), None)

    def read(self, sample_id: str) -> Sample | None:
        """The sample of this id, if it was kept.

        Raises:
            DataFormatError: its files are missing or damaged.
        """
        kept = self.find(sample_id)
        return None if kept is None else read_sample(self.folder, kept.position)


def write_sample(folder: Path, position: int, sample: Sample) -> None:
    """Write the two files of an image; `folder` exists."""
    done, jpeg = cv2.imencode(".jpg", sample.image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    if not done:
        raise OSError(f"{sample.id}: the picture could not be encoded")
    _file(folder, position, "jpg").write_bytes(jpeg.tobytes())
    np.savez_compressed(
        _file(folder, position, "npz"),
        id=np.array(sample.id),
        depth=_half(sample.depth),
        pred=_half(sample.pred),
        counted=sample.counted,
        intrinsics=sample.intrinsics,
    )


def read_sample(folder: Path, position: int) -> Sample:
    """Read the two files of an image.

    Raises:
        DataFormatError: one is missing or damaged.
    """
    path = _file(folder, position, "npz")
    picture = cv2.imread(str(path.with_suffix(".jpg")), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise DataFormatError("the picture is missing or damaged", where=path.with_suffix(".jpg"), next_action=_HINT)
    try:
        with np.load(path, allow_pickle=False) as held:
            return Sample(
                id=str(held["id"]),
                image=np.asarray(picture, np.uint8),
                depth=held["depth"].astype(np.float32),
                counted=held["counted"].astype(bool),
                pred=held["pred"].astype(np.float32),
                intrinsics=held["intrinsics"].astype(np.float64),
            )
    except (KeyError, *NUMPY_FAULTS) as error:
        raise DataFormatError(f"not the maps of a sample ({error})", where=path, next_action=_HINT) from error


def remove_sample(folder: Path, position: int) -> None:
    """Remove the files of an image, where there are any."""
    for suffix in ("npz", "jpg"):
        _file(folder, position, suffix).unlink(missing_ok=True)


def write_samples(samples: Samples) -> None:
    """Write the index, and remove files of images that it does not name."""
    images = [asdict(image) for image in samples.images]
    for image in images:
        image["abs_rel"] = image["abs_rel"] if math.isfinite(image["abs_rel"]) else None
    content = {"format": _FORMAT, "ambiguity": samples.ambiguity, "protocol": samples.fingerprint, "images": images}
    (samples.folder / _INDEX).write_text(json.dumps(content, indent=1) + "\n")
    named = {image.position for image in samples.images}
    for path in samples.folder.glob("[0-9]*.npz"):
        if int(path.stem) not in named:
            remove_sample(samples.folder, int(path.stem))


def read_samples(run: str | Path) -> Samples | None:
    """The images that a run kept; None where it kept none.

    Args:
        run: its folder.

    Raises:
        DataFormatError: the index is damaged, or of a newer version.
    """
    path = Path(run) / FOLDER / _INDEX
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content["format"] > _FORMAT:
            raise DataFormatError("samples of a newer version", where=path, next_action="upgrade mde")
        images = [KeptImage(**{**image, "abs_rel": _number(image["abs_rel"])}) for image in content["images"]]
        return Samples(path.parent, images, str(content["ambiguity"]), str(content["protocol"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataFormatError(f"not an index of samples ({error})", where=path, next_action=_HINT) from error


def _file(folder: Path, position: int, suffix: str) -> Path:
    return folder / f"{position:06d}.{suffix}"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _half(values: Map) -> NDArray[np.float16]:
    return np.clip(values, 0, np.finfo(np.float16).max).astype(np.float16)


def _chosen(counted: Mask, known: Mask, step: int, rows: int, columns: int) -> tuple[Any, Any]:
    """Indices (rows,columns) of the pixel of each square that stays."""
    inside = np.arange(min(step, counted.shape[0])), np.arange(min(step, counted.shape[1]))
    y, x = (axis.ravel() for axis in np.meshgrid(*inside, indexing="ij"))
    from_centre = np.argsort((2 * y - step + 1) ** 2 + (2 * x - step + 1) ** 2, kind="stable")
    y, x = y[from_centre], x[from_centre]
    top, left = step * np.arange(rows)[:, None, None], step * np.arange(columns)[None, :, None]
    rank = counted[top + y, left + x].astype(np.int8) + known[top + y, left + x]
    best = rank.argmax(-1)  # the first of the best is the nearest to the centre
    return top[..., 0] + y[best], left[..., 0] + x[best]


def _cut(image: NDArray[np.uint8], rows: float, columns: float) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    return image[: max(1, round(min(rows, 1.0) * height)), : max(1, round(min(columns, 1.0) * width))]


def _narrowed(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    if image.shape[1] <= width:
        return image
    size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
