"""The formats of outputs by name, and writing them so that no file is ever half written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.data.formats.notes import sidecar, with_note
from mde.data.noted import encode_map, note_text
from mde.errors import ConfigError, nearest
from mde.inference.outputs.clouds import depth_cloud, depth_mesh, glb_bytes, ply_bytes, require_metric
from mde.inference.outputs.colour import ColourScale
from mde.inference.outputs.pictures import depth_picture, png_bytes, side_picture, std_picture
from mde.types import Ambiguity

if TYPE_CHECKING:
    from mde.inference.result import DepthResult

__all__ = ["FORMATS", "paths", "require", "save", "write", "write_whole"]


class _Format(NamedTuple):
    """One format.

    Attributes:
        about: for people.
        ending: of the file, behind the stem of the input: an output never has the name of its input.
        encode: the bytes of the file.
        metric: only metres can be written so.
        beside: a second file holds the note.
    """

    about: str
    ending: str
    encode: Callable[[DepthResult, ColourScale | None], bytes]
    metric: bool = False
    beside: bool = False


def paths(stem: Path, formats: Sequence[str]) -> list[Path]:
    """Where `write` puts the formats; the sidecar of npy and PFM is not among them.

    >>> [path.name for path in paths(Path("out/a"), ["png16", "color"])]
    ['a_depth.png', 'a_color.png']
    """
    return [stem.with_name(stem.name + _known(name).ending) for name in formats]


def require(formats: Sequence[str], ambiguity: Ambiguity) -> None:
    """Before any work is done: can maps of this ambiguity be written so?

    Raises:
        ConfigError: a format is unknown, wants metres of a relative map, or has the file of another one.
    """
    files = [path.name for path in paths(Path("x"), formats)]
    if len(set(files)) < len(files):
        what = f"two of the formats {', '.join(formats)} are written to the same file"
        raise ConfigError(what, where="format", next_action="give one of them")
    for name in formats:
        if _known(name).metric:
            require_metric(ambiguity, where=f"format {name}")


def write(result: DepthResult, stem: Path, formats: Sequence[str], scale: ColourScale | None = None) -> list[Path]:
    """Write a result in several formats; folders are made.

    Args:
        result: the map.
        stem: folder and name of the files, without a suffix; see `paths`.
        formats: names of `FORMATS`.
        scale: of the colours; None finds one for this picture alone.

    Returns:
        The files, in the order of the formats.

    Raises:
        ConfigError: as of `require`; a point cloud without intrinsics; a folder that cannot be written.
    """
    require(formats, result.ambiguity)
    made = paths(stem, formats)
    for name, path in zip(formats, made, strict=True):
        _put(result, path, _FORMATS[name], scale)
    return made


def save(result: DepthResult, path: Path, name: str | None = None, scale: ColourScale | None = None) -> Path:
    """Write a result in one format to exactly this path; see `DepthResult.save`."""
    suffix = path.suffix.lower()
    if name is None and suffix not in _BY_SUFFIX:
        what = f"no format for files of type {suffix or 'none'}"
        raise ConfigError(what, where=path, next_action=f"use {', '.join(_BY_SUFFIX)}, or give the format")
    chosen = _known(name or _BY_SUFFIX[suffix])
    own = {other for other, known in _BY_SUFFIX.items() if _FORMATS[known].ending.endswith(_last(chosen.ending))}
    if suffix not in own:
        what = f"format {name} is stored in {' or '.join(sorted(own))}, not in {suffix or 'a file without suffix'}"
        raise ConfigError(what, where=path, next_action="change the suffix or the format")
    require([name or _BY_SUFFIX[suffix]], result.ambiguity)
    _put(result, path, chosen, scale)
    return path


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename it: a kill leaves the old file or the new one, never half of one.

    Raises:
        ConfigError: the folder cannot be written.
        OSError: the disk is full.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(data)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        what = f"this file cannot be written ({error.strerror})"
        raise ConfigError(what, where=path, next_action="give a folder that you may write to") from error


def _put(result: DepthResult, path: Path, kind: _Format, scale: ColourScale | None) -> None:
    data = kind.encode(result, scale)
    if kind.beside:  # first: whoever sees the map finds what it means
        write_whole(sidecar(path), note_text(result.noted).encode("ascii"))
    write_whole(path, data)


def _known(name: str) -> _Format:
    if name not in _FORMATS:
        raise ConfigError(f"unknown output format {name!r}", next_action=f"nearest: {nearest(name, _FORMATS)}")
    return _FORMATS[name]


def _last(ending: str) -> str:
    return ending[ending.rindex(".") :]


def _raw(suffix: str, step: float | None = None) -> Callable[[DepthResult, ColourScale | None], bytes]:
    return lambda result, _: encode_map(result.noted, suffix, step)


def _color(result: DepthResult, scale: ColourScale | None) -> bytes:
    return _noted_picture(result, depth_picture(result, scale), ".png")


def _color_jpg(result: DepthResult, scale: ColourScale | None) -> bytes:
    return _noted_picture(result, depth_picture(result, scale), ".jpg")


def _side(result: DepthResult, scale: ColourScale | None) -> bytes:
    return _noted_picture(result, side_picture(result, scale), ".png")


def _std(result: DepthResult, _: ColourScale | None) -> bytes:
    return _noted_picture(result, std_picture(result), ".png")


def _noted_picture(result: DepthResult, picture: NDArray[np.uint8], suffix: str) -> bytes:
    data = png_bytes(picture)
    if suffix == ".jpg":
        data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    return with_note(data, note_text(result.noted, kind="picture of a map"))


def _ply(result: DepthResult, _: ColourScale | None) -> bytes:
    return ply_bytes(depth_cloud(result), note_text(result.noted, kind="point cloud"))


def _glb(result: DepthResult, _: ColourScale | None) -> bytes:
    return glb_bytes(depth_cloud(result), note_text(result.noted, kind="point cloud"))


def _mesh(result: DepthResult, _: ColourScale | None) -> bytes:
    return glb_bytes(depth_mesh(result), note_text(result.noted, kind="mesh"))


_FORMATS: Mapping[str, _Format] = MappingProxyType(
    {
        "png16": _Format("16-bit PNG with the finest step that fits, stated in the file", "_depth.png", _raw(".png")),
        "png16-256": _Format("16-bit PNG in 1/256 m, as KITTI's", "_depth.png", _raw(".png", 1 / 256), metric=True),
        "png16-mm": _Format("16-bit PNG in millimetres, up to 65 m", "_depth.png", _raw(".png", 1e-3), metric=True),
        "npz": _Format("NumPy archive of floats with all that is known", "_depth.npz", _raw(".npz")),
        "npy": _Format(
            "NumPy array of floats, and what is known as JSON beside", "_depth.npy", _raw(".npy"), beside=True
        ),
        "tiff": _Format("TIFF of floats", "_depth.tiff", _raw(".tiff")),
        "exr": _Format("OpenEXR of floats (needs the extra exr)", "_depth.exr", _raw(".exr")),
        "pfm": _Format("PFM of floats, and what is known as JSON beside", "_depth.pfm", _raw(".pfm"), beside=True),
        "color": _Format("picture of the map, PNG", "_color.png", _color),
        "color-jpg": _Format("picture of the map, JPEG", "_color.jpg", _color_jpg),
        "side": _Format("photograph beside the map with a colour bar, PNG", "_side.png", _side),
        "std": _Format("picture of the standard deviation with a colour bar, PNG", "_std.png", _std),
        "ply": _Format("coloured point cloud in metres", "_cloud.ply", _ply, metric=True),
        "glb": _Format("coloured point cloud in metres, glTF", "_cloud.glb", _glb, metric=True),
        "mesh": _Format("coloured surface in metres, cut at edges, glTF", "_mesh.glb", _mesh, metric=True),
    }
)

FORMATS: Mapping[str, str] = MappingProxyType({name: kind.about for name, kind in _FORMATS.items()})
"""What can be written: the names of the formats and what they are."""

_BY_SUFFIX = {
    ".png": "png16",
    ".npz": "npz",
    ".npy": "npy",
    ".tiff": "tiff",
    ".tif": "tiff",
    ".exr": "exr",
    ".pfm": "pfm",
    ".jpg": "color-jpg",
    ".jpeg": "color-jpg",
    ".ply": "ply",
    ".glb": "glb",
}
