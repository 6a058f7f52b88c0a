"""What is measured of one frame: a handful of numbers and a few maps of fixed size."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.data.dataset import DepthDataset, RawSample
from mde.data.io import DEPTH_SUFFIXES, read_array
from mde.doctor.edges import EdgeMaps, correlate, edge_maps, mirrored_scores, overlap
from mde.doctor.files import colour_channels, look
from mde.doctor.hashes import difference_hash
from mde.doctor.planes import PlaneEvidence, measure_planes
from mde.errors import MdeError
from mde.geometry import intrinsics_from_fov

__all__ = [
    "ASSUMED_FOV",
    "BINS",
    "GRID",
    "Measured",
    "frame_name",
    "measure_frame",
    "measure_neighbours",
    "own_files",
    "roles",
]

ASSUMED_FOV = 60.0
"""Horizontal field of view in degrees that the plane test takes where the camera is unknown."""

BINS = np.geomspace(0.01, 1000, 101)
"""Edges of the histogram of depth in metres; 20 bins a decade."""

GRID = (24, 32)
"""Rows and columns of the map of holes."""

_FLAT_BORDER = 4.0  # grey levels that a row of a frame around the image may vary by (JPEG)


@dataclass
class Measured:
    """One frame. Without a sample (`problem` is set, or its files are known to be broken) only the names are filled.

    Attributes:
        split: of the frame.
        index: in its split.
        name: its id.
        problem: (code, what), if it could not be read.
        read: True if it could.
        numbers: see `_numbers`.
        histogram: pixels in `BINS`.
        known: share of known pixels on `GRID`.
        hash: of the image, see `difference_hash`.
        shifts: correlation of edges over shifts, or None.
        mirrored: see `mirrored_scores`, or None.
        planes: see `measure_planes`.
        dtype: of the depth file, "" where it is not a file of its own.
    """

    split: str
    index: int
    name: str
    problem: tuple[str, str] | None = None
    read: bool = False
    numbers: dict[str, float] = field(default_factory=dict)
    histogram: NDArray[np.int64] | None = None
    known: NDArray[np.float32] | None = None
    hash: int = 0
    shifts: NDArray[np.float64] | None = None
    mirrored: NDArray[np.float64] | None = None
    planes: PlaneEvidence | None = None
    dtype: str = ""


def measure_frame(dataset: DepthDataset, split: str, index: int, span: tuple[float, float]) -> Measured:
    """Read and measure a frame; whatever a reader throws at a broken file becomes a `problem`.

    Args:
        dataset: of the split.
        split: its name.
        index: of the frame.
        span: depths in metres that are meant to be there, of the data module and its protocol.
    """
    made = Measured(split, index, frame_name(dataset, index))
    try:
        if any(looked.code for looked in map(look, *_files(dataset, index))):
            return made  # reported with the files
        sample = dataset.read(index)
        if sample.image.shape[:2] != sample.depth.shape:
            (h, w), (rows, columns) = sample.image.shape[:2], sample.depth.shape
            made.problem = "size-mismatch", f"image {w}x{h}, depth {columns}x{rows}"
            return made
        sample.checked()
    except Exception as error:  # a damaged archive makes its reader throw nearly anything
        made.problem = _diagnose(dataset, index, error)
        return made
    made.read, made.name = True, sample.id
    raw = _raw_depth(dataset, index)
    made.dtype = "" if raw is None else str(raw.dtype)
    made.numbers = _numbers(sample, span) | _raw_numbers(raw, sample)
    made.histogram = np.histogram(sample.depth[sample.valid], BINS)[0]
    made.known = cv2.resize(sample.valid.astype(np.float32), GRID[::-1], interpolation=cv2.INTER_AREA)
    made.hash = difference_hash(sample.image)
    made.planes = measure_planes(sample.depth, sample.valid, _camera(sample))
    edges = edge_maps(sample.image, sample.depth, sample.valid)
    if edges is not None:
        _compare_edges(made, edges)
    return made


def measure_neighbours(dataset: DepthDataset, index: int) -> tuple[float, float] | None:
    """How much better the depth of the frame before and of the one after lies on this image than its own depth.

    None where one of the three cannot be read or has no edges.
    """
    try:
        samples = [dataset.read(index + step).checked() for step in (-1, 0, 1)]
    except Exception:  # reported by `measure_frame`
        return None
    maps = [edge_maps(sample.image, sample.depth, sample.valid) for sample in samples]
    if any(edges is None for edges in maps):
        return None
    before, own, after = (edges.depth for edges in maps if edges is not None)
    image = maps[1].image  # type: ignore[union-attr]
    here = overlap(image, own)
    return overlap(image, before) - here, overlap(image, after) - here


def frame_name(dataset: DepthDataset, index: int) -> str:
    """The id of a frame, if it can be told without reading it or reading it works; else its number."""
    try:
        return dataset.frame_id(index)
    except Exception:
        return f"#{index}"


def own_files(dataset: DepthDataset, index: int) -> tuple[Path, ...]:
    """The image, the depth map and others of one frame; none, where frames lie together in archives."""
    files = tuple(Path(path) for path in dataset.files(index))
    if len(files) < 2 or len(dataset) < 2:
        return files[: len(files) if len(files) > 1 else 0]
    return () if files[0] in map(Path, dataset.files(index - 1 if index else 1)) else files


def roles(count: int) -> tuple[str, ...]:
    """What the files of a frame are (`DepthDataset.files`)."""
    return ("image", "depth", *["other"] * count)[:count] if count > 1 else ("other",) * count


def _compare_edges(made: Measured, edges: EdgeMaps) -> None:
    made.shifts = correlate(edges.image, edges.depth)
    made.mirrored = mirrored_scores(edges)
    made.numbers |= {"overlap": overlap(edges.image, edges.depth), "edge_scale": edges.scale}


def _files(dataset: DepthDataset, index: int) -> tuple[list[Path], tuple[str, ...]]:
    """The image and the depth map, where they are files of their own, and the roles of the two."""
    files = list(own_files(dataset, index)[:2])
    return files, roles(len(files))


def _diagnose(dataset: DepthDataset, index: int, error: Exception) -> tuple[str, str] | None:
    """Why a frame could not be read; None where its files are reported already."""
    every = dataset.files(index)
    if any(look(Path(path), role).code for path, role in zip(every, roles(len(every)), strict=True)):
        return None  # reported with the files
    files, _ = _files(dataset, index)
    channels = colour_channels(files[1]) if len(files) > 1 else 0
    if channels:
        return "depth-colour", f"{channels} channels that differ"
    text = str(error) if isinstance(error, MdeError) else f"{type(error).__name__}: {error}"
    return "unreadable", text.splitlines()[0] if text else type(error).__name__


def _raw_depth(dataset: DepthDataset, index: int) -> NDArray[Any] | None:
    """The numbers of the depth file, where it is a file of its own that can be read as one map."""
    files = own_files(dataset, index)
    if len(files) < 2 or files[1].suffix.lower() not in DEPTH_SUFFIXES:
        return None
    try:
        return read_array(files[1])
    except MdeError:
        return None


def _numbers(sample: RawSample, span: tuple[float, float]) -> dict[str, float]:
    depth, valid = sample.depth, sample.valid
    known = depth[valid]
    height, width = depth.shape
    made = {"height": height, "width": width, "known": float(valid.mean())}
    made |= _camera_numbers(sample.intrinsics, height, width)
    image = sample.image
    made["grey"] = float((image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all())
    made["border"] = float(_border(image))
    if known.size == 0:
        return made
    low, median, high = np.percentile(known, (1, 50, 99))
    top = float(known.max())
    made |= {"low": low, "median": median, "high": high, "top": top, "flat": float(known.min() == top)}
    made["at_top"] = float((known == top).mean())
    made["inside"] = float(((known >= span[0]) & (known <= span[1])).mean())
    made["beyond"] = float((known > span[1]).mean())
    rows = np.nonzero(valid)[0]
    if rows.min() < rows.max() and not made["flat"]:
        made["rows"] = float(np.corrcoef(rows, 1 / known)[0, 1])
    return made


def _raw_numbers(raw: NDArray[Any] | None, sample: RawSample) -> dict[str, float]:
    """What the file says before it becomes metres: holes of each kind, steps, and the scale that the reader uses."""
    if raw is None:
        return {}
    made: dict[str, float] = {}
    if raw.dtype.kind == "f":
        made["non_finite"] = float(np.count_nonzero(~np.isfinite(raw)))
    if raw.dtype.kind != "u":
        made["negative"] = float(np.count_nonzero((raw < 0) & np.isfinite(raw)))
    if raw.shape != sample.depth.shape or not sample.valid.any():
        return made
    known = raw[sample.valid]
    values = np.unique(known)
    near = values[: max(2, len(values) // 2)].astype(
        np.float64
    )  # a Kinect's own steps are coarse far away, and only there
    made["distinct"] = float(len(values))
    made["step"] = float(np.median(np.diff(near) / near[1:])) if len(values) > 1 else 0.0
    ratio = sample.depth[sample.valid] / known.astype(np.float64)
    low, scale, high = np.percentile(ratio, (5, 50, 95))
    if high - low < 1e-3 * scale:  # otherwise it is no scale but a disparity, or along rays
        made["scale"] = float(scale)
    return made


def _camera_numbers(intrinsics: NDArray[np.float32], height: int, width: int) -> dict[str, float]:
    if not np.isfinite(intrinsics).all():
        return {}
    fx, fy, cx, cy = (float(intrinsics[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    angle = float(np.degrees(2 * np.arctan(width / 2 / fx))) if fx > 0 else 0.0
    return {"cx": (cx + 0.5) / width, "cy": (cy + 0.5) / height, "fov": angle, "aspect": fx / fy if fy else 0.0}


def _border(image: NDArray[np.uint8]) -> int:
    """Width in pixels of a white or black frame around the image: the narrowest of its four sides."""
    widths = []
    for side in (image, image[::-1], image.swapaxes(0, 1), image.swapaxes(0, 1)[::-1]):
        lines = side[: max(1, len(side) // 8)].reshape(max(1, len(side) // 8), -1)
        even = (lines.std(axis=1) < _FLAT_BORDER) & ((lines.mean(axis=1) > 245) | (lines.mean(axis=1) < 10))
        widths.append(int(np.argmin(even)) if not even.all() else len(even))
    return min(widths)


def _camera(sample: RawSample) -> NDArray[np.float32]:
    if np.isfinite(sample.intrinsics).all() and sample.intrinsics[0, 0] > 0 and sample.intrinsics[1, 1] > 0:
        return sample.intrinsics
    height, width = sample.depth.shape
    return np.asarray(intrinsics_from_fov(height, width, ASSUMED_FOV).numpy())
