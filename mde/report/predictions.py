"""Folders of predicted maps that any tool wrote: which file belongs to which frame, and what its numbers mean.

A prediction is read as it is: nothing is masked, so that a zero, a negative number or NaN reaches the evaluation and is
reported there. An integer 65535, which marks a hole in a measured map, is a far depth in a predicted one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mde.data.encodings import DepthEncoding, get_encoding
from mde.data.formats import NUMPY_FAULTS
from mde.data.io import DEPTH_SUFFIXES, read_array
from mde.data.noted import facts_of, read_noted
from mde.data.pairing import listed, natural, role_and_key
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.types import Ambiguity

__all__ = ["FARTHEST", "MetricMaps", "Pairing", "PredictionFolder", "find_maps", "flat_name", "pair"]

FARTHEST = 1e6
"""Metres: no prediction from a disparity is farther, so that all stay finite; beyond any protocol's range."""

_NUMPY = frozenset({".npy", ".npz"})
_OWN_KEY = "values"  # as `mde predict` calls it
_DRAWN = ("_color.png", "_side.png", "_std.png")  # how it names pictures
_WORDS = re.compile(r"^(pred|preds|prediction|output|out|result)[._-]|[._-](pred|preds|prediction|output|out|result)$")


class Pairing(NamedTuple):
    """Which file holds the prediction of which frame.

    Attributes:
        files: by frame id, in the order of the ids.
        missing: ids without a file.
        surplus: files without an id, relative to the folder.
        rule: by what they were paired, for people.
    """

    files: dict[str, Path]
    missing: list[str]
    surplus: list[str]
    rule: str


def flat_name(frame_id: str) -> str:
    """A frame id as one file name: folders become underscores, as in the files of ``mde predict``.

    >>> flat_name("kitchen_0028b/rgb 45")
    'kitchen_0028b_rgb_45'
    """
    return re.sub(r"[^\w.-]+", "_", frame_id).strip("_") or "sample"


def _bare(name: str) -> str:
    """Without the words that say what a file is: ``depth/00045_pred`` is ``00045``."""
    key = role_and_key(Path(f"{_WORDS.sub('', name)}.png"))[1]
    return _WORDS.sub("", key) or name


def _last(name: str) -> str:
    return _bare(name).rsplit("/", 1)[-1]


RULES: dict[str, Callable[[str], str]] = {
    "path": lambda name: name,
    "flattened path": flat_name,
    "path without words such as depth and pred": _bare,
    "flattened path without such words": lambda name: flat_name(_bare(name)),
    "file name": _last,
}
"""Ways to compare a frame id with the path of a file, without its suffix; the strictest first."""


def pair(ids: Sequence[str], files: Mapping[str, Path], by_order: bool = False) -> Pairing:
    """Find the file of each frame by the strictest of `RULES` that finds most.

    A rule that two frames, or two files of one frame, have in common is not used: nothing is paired by chance.

    Args:
        ids: of the frames.
        files: by their path relative to the folder, without suffix, in natural order.
        by_order: the first file belongs to the first frame, and so on, whatever they are called.

    Raises:
        ConfigError: `by_order` with other than one file for each frame.
    """
    if by_order:
        if len(ids) != len(files):
            hint = "leave it out to pair by name"
            raise ConfigError(f"{len(files)} files for {len(ids)} frames", where="pairing by order", next_action=hint)
        return Pairing(dict(zip(ids, files.values(), strict=True)), [], [], "order")
    best: tuple[str, dict[str, str]] = ("path", {})
    for rule, key in RULES.items():
        found = _matches(ids, files, key)
        if len(found) > len(best[1]):
            best = (rule, found)
    rule, names = best
    used = set(names.values())
    return Pairing(
        {frame: files[names[frame]] for frame in ids if frame in names},
        [frame for frame in ids if frame not in names],
        [name for name in files if name not in used],
        rule,
    )


def _matches(ids: Sequence[str], files: Mapping[str, Path], key: Callable[[str], str]) -> dict[str, str]:
    """Frame id -> name of its file; empty if a key stands for two frames, or for two files of a frame."""
    frames = {key(frame): frame for frame in ids}
    if len(frames) < len(ids):
        return {}
    found: dict[str, str] = {}
    for name in files:
        frame = frames.get(key(name))
        if frame in found:
            return {}
        if frame is not None:
            found[frame] = name
    return found


class PredictionFolder:
    """The predictions in a folder, read one by one.

    Args:
        root: the folder; files may lie in folders below it.
        ambiguity: what the numbers mean; None takes what the files of ``mde predict`` say of themselves, and metres for
            all others. Pictures that it drew of its maps are left out.
        encoding: of the numbers: a name of `mde.data.encodings.ENCODINGS`, metres per unit, or a `DepthEncoding`. May
            be left out for floats in metres and for relative maps. Of kind "disparity", depth is its scale divided by
            the number.
        key: name of the array in npz files; default "values", "depth", or the only one.
        pattern: only files whose path below `root` fits, such as ``*.npy``.

    Raises:
        DatasetNotFoundError: no such folder, or no file that can hold a map.
        ConfigError: the encoding is unknown, or does not fit the ambiguity.
        DataFormatError: two files differ in their suffix alone.
    """

    def __init__(
        self,
        root: str | Path,
        ambiguity: Ambiguity | None = None,
        encoding: DepthEncoding | str | float | None = None,
        key: str | None = None,
        pattern: str = "*",
    ) -> None:
        self.root, self.key = Path(root), key
        self.encoding = None if encoding is None else get_encoding(encoding)
        self.files = find_maps(self.root, pattern, skip=self._is_picture)
        if ambiguity is None:
            ambiguity = self._said_by(next(iter(self.files.values()))) or Ambiguity.METRIC
        self.ambiguity = ambiguity
        _require_fitting(self.encoding, ambiguity)

    def pair(self, ids: Sequence[str], by_order: bool = False) -> Pairing:
        """The file of each frame; see `pair`."""
        return pair(ids, self.files, by_order)

    def read(self, path: Path) -> NDArray[np.float32]:
        """The map in a file of this folder, (h,w), in the unit of `ambiguity`.

        A disparity of zero or less is farther than anything, and becomes `FARTHEST` metres.

        Raises:
            DataFormatError: it cannot be read, is no map, says that it means something else, or holds integers of which
                nobody said what they mean.
        """
        said = self._said_by(path)
        if said is not None and said is not self.ambiguity:
            what = f"the file says that it is {said.value}, and it was to be read as {self.ambiguity.value}"
            raise DataFormatError(what, where=path, next_action="leave the ambiguity out, or split the folder")
        if said is not None and self.key is None and (self.encoding is None or path.suffix.lower() == ".png"):
            return self._own(path)
        raw, encoding = _plane(self._array(path), path), self.encoding
        if encoding is None and raw.dtype.kind in "iu" and self.ambiguity is Ambiguity.METRIC:
            what = f"the file holds integers ({raw.dtype}), and nobody said how many metres a unit is"
            hint = "give the encoding (kitti is 1/256 m, millimetres, or metres per unit as a number), or the ambiguity"
            raise DataFormatError(what, where=path, next_action=hint)
        if encoding is None:
            return raw.astype(np.float32)
        if encoding.kind == "disparity":
            return (encoding.scale / np.maximum(raw.astype(np.float64), encoding.scale / FARTHEST)).astype(np.float32)
        return np.multiply(raw, np.float32(encoding.scale), dtype=np.float32)

    def _array(self, path: Path) -> NDArray[Any]:
        if path.suffix.lower() not in _NUMPY:
            return read_array(path, self.encoding or DepthEncoding())
        with _opened(path) as stored:
            return stored if isinstance(stored, np.ndarray) else np.asarray(stored[self._key_in(stored.files, path)])

    def _key_in(self, keys: Sequence[str], path: Path) -> str:
        for key in (self.key,) if self.key else (_OWN_KEY, "depth"):
            if key in keys:
                return key
        if self.key is None and len(keys) == 1:
            return keys[0]
        what = f"no array {self.key!r}" if self.key else "nobody said which array is the prediction"
        raise DataFormatError(f"{what} ({', '.join(keys)})", where=path, next_action="name it: --key NAME")

    def _said_by(self, path: Path) -> Ambiguity | None:
        """What a file of ``mde predict`` says of itself."""
        facts = facts_of(path)
        return Ambiguity(facts["ambiguity"]) if facts and facts.get("kind") == "map" else None

    def _own(self, path: Path) -> NDArray[np.float32]:
        """The map in a file that says itself what its numbers mean."""
        if self.encoding is not None:
            hint = "leave the encoding out"
            raise DataFormatError("the file says itself what its numbers mean", where=path, next_action=hint)
        noted = read_noted(path)
        if noted is None:
            raise DataFormatError("the file changed while it was read", where=path, next_action="score it again")
        values = np.asarray(_plane(noted.values, path), np.float32)
        if noted.ambiguity in (Ambiguity.METRIC, Ambiguity.SCALE):
            return np.minimum(values, np.float32(FARTHEST))  # infinite: farther than the file can say
        return values

    def _is_picture(self, path: Path) -> bool:
        """A picture that ``mde predict`` drew of a map."""
        if not path.name.endswith(_DRAWN):
            return False
        facts = facts_of(self.root / path)
        return facts is not None and facts.get("kind") != "map"


class MetricMaps(Mapping[str, NDArray[np.float32]]):
    """The maps of a folder by the last part of their names, read when they are asked for; what an export takes.

    Args:
        folder: predictions in metres.

    Raises:
        ConfigError: they are relative.
        DataFormatError: two files have one name.
    """

    def __init__(self, folder: PredictionFolder) -> None:
        if folder.ambiguity is not Ambiguity.METRIC or (folder.encoding and folder.encoding.kind == "disparity"):
            hint = "use a metric network, or align them to measured depth first"
            raise ConfigError(f"these are {folder.ambiguity.unit}, no metres", where=folder.root, next_action=hint)
        self._folder = folder
        self._paths = {_last(name): path for name, path in folder.files.items()}
        if len(self._paths) < len(folder.files):
            hint = "give a folder with one file a frame"
            raise DataFormatError("two files have one name", where=folder.root, next_action=hint)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self._folder.read(self._paths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An npy or npz file; what goes wrong with it, also later in the block, becomes a `DataFormatError`."""
    try:
        loaded = np.load(path, allow_pickle=False)
        with nullcontext() if isinstance(loaded, np.ndarray) else loaded:
            yield loaded
    except NUMPY_FAULTS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataFormatError(f"no NumPy file ({reason})", where=path, next_action="write it again") from error


def find_maps(root: Path, pattern: str = "*", skip: Callable[[Path], bool] | None = None) -> dict[str, Path]:
    """Files that can hold a map, by their path below `root` without suffix, in natural order.

    Args:
        root: a folder.
        pattern: only files whose path below `root` fits.
        skip: leaves out files, by their path below `root`.

    Raises:
        DatasetNotFoundError: no such folder, or no such file in it.
        DataFormatError: two files differ in their suffix alone.
    """
    if not root.is_dir():
        raise DatasetNotFoundError("no such folder", where=root, next_action="give the folder of the predictions")
    known = (path for path in root.rglob("*") if path.suffix.lower() in DEPTH_SUFFIXES and path.is_file())
    paths = [path for path in known if fnmatch(path.relative_to(root).as_posix(), pattern)]
    paths = [path for path in paths if skip is None or not skip(path.relative_to(root))]
    if not paths:
        what = f"no file that can hold a map ({', '.join(sorted(DEPTH_SUFFIXES))})"
        raise DatasetNotFoundError(what, where=root / pattern, next_action="check the folder and the pattern")
    found: dict[str, Path] = {}
    twice = []
    for path in sorted(paths, key=lambda path: natural(path.relative_to(root).as_posix())):
        name = path.relative_to(root).as_posix().removesuffix(path.suffix)
        twice += [path.relative_to(root).as_posix()] if name in found else []
        found.setdefault(name, path)
    if twice:
        what = listed("files differ from another in their suffix alone", twice)
        raise DataFormatError(what, where=root, next_action=f"give a pattern, such as '*{found[name].suffix}'")
    return found


def _plane(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """The (H,W) numbers of an array that may have axes of length 1 around them."""
    while array.ndim > 2 and 1 in (array.shape[0], array.shape[-1]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim == 2 and array.size and array.dtype.kind in "iuf":
        return array
    what = f"a prediction is one number per pixel, this is {array.dtype} {array.shape}"
    raise DataFormatError(what, where=path, next_action="write one file a frame, (H,W); a picture of a depth is none")


def _require_fitting(encoding: DepthEncoding | None, ambiguity: Ambiguity) -> None:
    if encoding is None:
        return
    if encoding.kind == "ray":
        hint = "turn it into z-depth first (mde.geometry.ray_to_z)"
        raise ConfigError("predictions along viewing rays cannot be scored", where="encoding", next_action=hint)
    if encoding.kind == "disparity" and ambiguity is Ambiguity.AFFINE_DISPARITY:
        hint = "leave the encoding out; or give the ambiguity metric or scale, whose depth is scale / disparity"
        raise ConfigError("a relative disparity with a shift has no scale to invert it by", next_action=hint)
