"""Depth maps that say themselves what their numbers mean: the files that predictions are written to.

Each carries a note (`mde.data.formats.notes`): ambiguity, unit, range, intrinsics, the model's and the source's name.
A pixel without a depth is NaN; one that is farther than a file can say is infinite. Floats come back bit for bit from
npy, npz, TIFF, EXR and PFM. A 16-bit PNG holds ``offset + scale * number``, with 0 for "no depth" and 65535 for
"farther"; what it holds comes back to half of `scale`, a depth below that to one `scale`.
"""

from __future__ import annotations

import json
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.data.formats import NUMPY_FAULTS, decode_pixels, read_bytes
from mde.data.formats.exr import read_exr, write_exr
from mde.data.formats.notes import NOTE_KEY, note_of, with_note
from mde.errors import ConfigError, DataFormatError
from mde.types import Ambiguity

__all__ = ["NOTED_SUFFIXES", "NotedMap", "encode_map", "facts_of", "note_text", "plain_depth", "read_noted"]

NOTED_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".npy", ".npz", ".tif", ".tiff", ".exr", ".pfm"})

_LEVELS = 65534  # numbers from 1 on; 0 and 65535 mean "no depth" and "farther" to most readers of depth maps
_POSITIVE = (Ambiguity.METRIC, Ambiguity.SCALE)  # nothing lies at a distance of zero or less
_HINT = "write it again with mde predict"


class NotedMap(NamedTuple):
    """A map with what its numbers mean.

    Attributes:
        values: float32 (H,W), in the unit of `ambiguity`; NaN where there is no depth, infinite where it is too far to
            be said.
        ambiguity: what `values` are.
        intrinsics: float64 (3,3), pixels of `values`; None where the camera is unknown.
        depth_range: metres that the network can say, (min, max); None where it has no bounds.
        model: name of the network.
        source: name of the picture.
        std: float32 (H,W), standard deviation, metres; None where the network does not say it.
    """

    values: NDArray[np.float32]
    ambiguity: Ambiguity
    intrinsics: NDArray[np.float64] | None = None
    depth_range: tuple[float, float] | None = None
    model: str = ""
    source: str = ""
    std: NDArray[np.float32] | None = None


def plain_depth(values: NDArray[np.float32], ambiguity: Ambiguity) -> NDArray[np.float32]:
    """The map with NaN wherever it says nothing: NaN, minus infinity, and a metric depth of zero or less.

    >>> plain_depth(np.array([[-1.0, 2.0]], np.float32), Ambiguity.METRIC).tolist()
    [[nan, 2.0]]
    """
    with np.errstate(invalid="ignore"):
        known = values > (0 if ambiguity in _POSITIVE else -np.inf)
    return np.where(known, values, np.float32(np.nan)).astype(np.float32, copy=False)


def note_text(noted: NotedMap, **more: object) -> str:
    """What is known of a map, as one line of JSON in ASCII; `more` are further facts."""
    known = noted.intrinsics is not None and np.isfinite(noted.intrinsics).all()
    facts = {
        NOTE_KEY: 1,
        "kind": "map",
        "ambiguity": noted.ambiguity.value,
        "unit": noted.ambiguity.unit,
        "size": list(noted.values.shape),
        "depth_range": None if noted.depth_range is None else [float(end) for end in noted.depth_range],
        "intrinsics": np.asarray(noted.intrinsics).tolist() if known else None,
        "model": noted.model,
        "source": noted.source,
    }
    return json.dumps({**facts, **more})


def encode_map(noted: NotedMap, suffix: str, step: float | None = None) -> bytes:
    """The bytes of a file; npy and PFM need their note beside, see `mde.data.formats.notes.sidecar`.

    Args:
        noted: the map; `std` goes into npz and EXR only.
        suffix: ".png", ".npy", ".npz", ".tiff", ".exr" or ".pfm".
        step: of a PNG, metres per unit; None takes the finest with which the network's range fits, or the map where
            it goes beyond that range or there is none.

    Raises:
        ConfigError: a step in metres for a relative map, or EXR without its extra.
    """
    noted = noted._replace(values=plain_depth(noted.values, noted.ambiguity))
    if suffix == ".png":
        return _to_png(noted, step)
    if suffix == ".npz":
        return _to_npz(noted)
    if suffix == ".exr":
        return _to_exr(noted)
    made = BytesIO()
    if suffix == ".npy":
        np.save(made, noted.values)
    elif suffix == ".pfm":  # the bottom row first; a negative scale says little-endian
        made.write(b"Pf\n%d %d\n-1.0\n" % noted.values.shape[::-1] + noted.values[::-1].astype("<f4").tobytes())
    else:
        from PIL import Image  # OpenCV writes no description

        Image.fromarray(noted.values).save(made, "TIFF", tiffinfo={270: note_text(noted)})
    return made.getvalue()


def facts_of(path: Path) -> dict[str, Any] | None:
    """What a file says of itself, as `note_text` wrote it; None where it says nothing that this library understands.

    Raises:
        DataFormatError: it cannot be read.
    """
    if path.suffix.lower() not in NOTED_SUFFIXES:
        return None
    if path.suffix.lower() == ".npz":
        stored = _arrays(path)
        own = {"values", "ambiguity"} <= stored.keys()
        facts: Any = {NOTE_KEY: 1, "kind": "map", "ambiguity": str(stored["ambiguity"])} if own else None
    else:
        try:
            facts = json.loads(note_of(path) or "")
        except ValueError:  # a file beside that another tool wrote
            return None
    known = isinstance(facts, dict) and NOTE_KEY in facts and facts.get("ambiguity") in [a.value for a in Ambiguity]
    return facts if known else None


def read_noted(path: Path) -> NotedMap | None:
    """Read a map; None where the file does not say what its numbers mean.

    Raises:
        DataFormatError: the file is missing or damaged, or says that it is a picture of a map.
        ConfigError: it is EXR, and the extra is not installed.
    """
    data = read_bytes(path)
    facts = facts_of(path)
    if facts is None:
        return None
    if facts.get("kind") != "map":
        what = f"this is a {facts.get('kind')}, not the depth itself"
        raise DataFormatError(what, where=path, next_action="give the raw file: png16, npz, npy, tiff, exr or pfm")
    try:
        if path.suffix.lower() == ".npz":
            return _from_npz(_arrays(path))
        return _from_pixels(decode_pixels(data, path.suffix, path), facts, _std_in(data, path))
    except (KeyError, TypeError, ValueError) as error:
        raise DataFormatError(f"what it says of itself is damaged ({error})", where=path, next_action=_HINT) from error


def _from_pixels(pixels: NDArray[Any], facts: dict[str, Any], std: NDArray[np.float32] | None) -> NotedMap:
    values = pixels
    if list(pixels.shape) != facts["size"]:
        raise ValueError(f"it is {list(pixels.shape)} and was written as {facts['size']}")
    if pixels.dtype.kind == "u":
        values = facts["offset"] + facts["scale"] * pixels.astype(np.float64)
        values[pixels == 0], values[pixels > _LEVELS] = np.nan, np.inf
    ends, camera = facts["depth_range"], facts["intrinsics"]
    return NotedMap(
        values.astype(np.float32),
        Ambiguity(facts["ambiguity"]),
        None if camera is None else np.array(camera, np.float64).reshape(3, 3),
        None if ends is None else (float(ends[0]), float(ends[1])),
        str(facts["model"]),
        str(facts["source"]),
        std,
    )


def _to_png(noted: NotedMap, step: float | None) -> bytes:
    scale, offset = _steps(noted, step)
    values = noted.values.astype(np.float64)
    numbers = np.nan_to_num((values - offset) / scale, nan=0.0)
    # what is known stays known, however small; rounding half up would not: 0 means "no depth"
    numbers = np.where(np.isnan(values), 0, np.clip(np.rint(numbers), 1, _LEVELS + 1)).astype(np.uint16)
    plus = f"{offset:.9g} + " if offset else ""
    comment = f"{noted.ambiguity.unit} = {plus}{scale:.9g} * number; 0: no depth; {_LEVELS + 1}: farther"
    data = cv2.imencode(".png", numbers)[1].tobytes()
    return with_note(data, note_text(noted, scale=scale, offset=offset), comment)


def _steps(noted: NotedMap, step: float | None) -> tuple[float, float]:
    """Scale and offset of a PNG. A depth has no offset, so that readers who know the scale alone read it right."""
    if step is not None:
        if noted.ambiguity is not Ambiguity.METRIC:
            what = f"a step in metres cannot hold {noted.ambiguity.unit}"
            raise ConfigError(what, next_action="write png16, which takes the step that fits, or give a scale anchor")
        return step, 0.0
    known = noted.values[np.isfinite(noted.values)].astype(np.float64)
    low, high = (float(known.min()), float(known.max())) if known.size else (1.0, 1.0)
    if noted.ambiguity in _POSITIVE:
        last = noted.depth_range[1] if noted.depth_range and noted.ambiguity is Ambiguity.METRIC else 0.0
        return (last if high <= np.float32(last) < np.inf else high) / _LEVELS, 0.0
    scale = (high - low) / (_LEVELS - 1) or 1.0
    return scale, low - scale


def _to_npz(noted: NotedMap) -> bytes:
    """Not compressed: that takes longer than a small network."""
    made = BytesIO()
    given = {name: value for name, value in noted._asdict().items() if value is not None}
    # the names of the files of `mde predict` on data sets (mde.callbacks.predictions)
    about = {"ambiguity": noted.ambiguity.value, "unit": noted.ambiguity.unit, "id": given.pop("source")}
    np.savez(made, **{**given, **about})
    return made.getvalue()


def _from_npz(stored: dict[str, NDArray[Any]]) -> NotedMap:
    std, camera, ends = (stored.get(name) for name in ("std", "intrinsics", "depth_range"))
    return NotedMap(
        np.asarray(stored["values"], np.float32),
        Ambiguity(str(stored["ambiguity"])),
        None if camera is None else camera.astype(np.float64).reshape(3, 3),
        None if ends is None else (float(ends[0]), float(ends[1])),
        str(stored.get("model", "")),
        str(stored.get("id", "")),
        None if std is None else std.astype(np.float32),
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):  # an npy file with a wrong suffix
            return {}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except NUMPY_FAULTS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataFormatError(f"no NumPy file ({reason})", where=path, next_action="write it again") from error


def _to_exr(noted: NotedMap) -> bytes:
    with tempfile.TemporaryDirectory() as folder:  # the library writes to memory only since 3.5
        path = Path(folder, "depth.exr")
        write_exr(path, noted.values, {NOTE_KEY: note_text(noted)}, {} if noted.std is None else {"std": noted.std})
        return path.read_bytes()


def _std_in(data: bytes, path: Path) -> NDArray[np.float32] | None:
    return read_exr(data, path)[0].get("std") if path.suffix.lower() == ".exr" else None
