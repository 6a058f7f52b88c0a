"""A picture and what each network says of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mde.errors import DataFormatError
from mde.inference.anchors import scale_by_points
from mde.inference.camera import Camera
from mde.inference.pictures import Picture, decode_upright
from mde.inference.predictor import Predictor
from mde.inference.result import DepthResult

__all__ = ["Network", "Seen", "in_metres", "look", "open_upload", "thinned", "titles"]


@dataclass(frozen=True)
class Network:
    """A network under the name by which the page calls it."""

    title: str
    predictor: Predictor


@dataclass(frozen=True)
class Seen:
    """A picture and one result a network, as they come from the networks.

    Attributes:
        picture: as it was read.
        results: at its size, without a camera.
        titles: of the networks.
        seconds: each network took.
    """

    picture: Picture
    results: tuple[DepthResult, ...]
    titles: tuple[str, ...]
    seconds: tuple[float, ...]


def titles(names: Sequence[str]) -> list[str]:
    """What the page calls networks: their names, told apart by letters where there are several.

    >>> titles(["UNet"]), titles(["UNet", "UNet"])
    (['UNet'], ['A: UNet', 'B: UNet'])
    """
    return list(names) if len(names) == 1 else [f"{letter}: {name}" for letter, name in zip("AB", names, strict=True)]


def open_upload(path: str | Path, max_megapixels: float, name: str | None = None) -> Picture:
    """Read an uploaded file into memory and delete it, whatever it is.

    Raises:
        DataFormatError: no picture, damaged, or larger than the limit, which its header says before it is decoded.
    """
    file = Path(path)
    name, data = name or file.name, file.read_bytes()
    file.unlink()
    if not data:
        raise DataFormatError("the file is empty", where=name, next_action="export or fetch it again")
    return decode_upright(data, name, name, max_megapixels)


def look(networks: Sequence[Network], picture: Picture) -> Seen:
    """Ask each network.

    Raises:
        DataFormatError: a network failed on this picture.
    """
    results, seconds = [], []
    for network in networks:
        start = time.perf_counter()
        results.append(replace(network.predictor(picture), intrinsics=None))
        seconds.append(time.perf_counter() - start)
    return Seen(picture, tuple(results), tuple(network.title for network in networks), tuple(seconds))


def in_metres(
    seen: Seen, camera: Camera, anchors: Sequence[tuple[float, float, float]]
) -> tuple[list[DepthResult], list[str]]:
    """The results with a camera, fitted to points of known depth where some are given.

    Args:
        seen: of `look`.
        camera: how the picture was taken; nothing at all leaves it to its EXIF data.
        anchors: (x, y, metres), see `scale_by_points`.

    Returns:
        The results, and a line about each fit.

    Raises:
        ConfigError: too few anchors for the ambiguity, or a depth that is not above 0.
        DataFormatError: an anchor beside the picture, or anchors that contradict the map.
    """
    intrinsics = camera.intrinsics(seen.picture.size, seen.picture.focal_px)
    results = [replace(result, intrinsics=intrinsics) for result in seen.results]
    if not anchors:
        return results, []
    fits = [scale_by_points(result, anchors) for result in results]
    notes = [f"{title}: {fit.about}" for title, fit in zip(seen.titles, fits, strict=True)]
    return [fit.result for fit in fits], notes


def thinned(result: DepthResult, most: int) -> DepthResult:
    """The result at the pixels in the middle of equal squares, at most `most` of them; values stay what they are.

    The middle of a square of s pixels is pixel s // 2 of it; the intrinsics follow. A rest at the right and lower end
    that fills no square is left out.
    """
    step = step_of(result.values.shape, most)
    if step == 1:
        return result
    rows, columns = (size // step * step for size in result.values.shape)
    kept = (slice(step // 2, rows, step), slice(step // 2, columns, step))
    camera = None
    if result.intrinsics is not None:
        moved = np.array([[1, 0, -(step // 2)], [0, 1, -(step // 2)], [0, 0, 1]], np.float64)
        camera = np.diag([1 / step, 1 / step, 1]) @ moved @ result.intrinsics
    image = None if result.image is None else np.ascontiguousarray(result.image[kept])
    std = None if result.std is None else np.ascontiguousarray(result.std[kept])
    return replace(result, values=np.ascontiguousarray(result.values[kept]), image=image, std=std, intrinsics=camera)


def step_of(size: tuple[int, ...], most: int) -> int:
    """Side of the squares of `thinned`.

    >>> step_of((480, 640), 307_200), step_of((480, 640), 100_000)
    (1, 2)
    """
    step = 1
    while (size[0] // step) * (size[1] // step) > most and step < min(size):
        step += 1
    return step
