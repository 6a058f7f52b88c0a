"""Files, without decoding them: are they there, whole, and of the kind that their place asks for?"""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import cv2
import h5py
import numpy as np

from mde.data.io import DEPTH_SUFFIXES, IMAGE_SUFFIXES, decode_array, decode_image
from mde.errors import MdeError

__all__ = ["FileLook", "broken_archives", "colour_channels", "look"]

_PIECE = 4096  # bytes of the middle that go into a fingerprint: JPEG and PNG differ everywhere
_TAIL = 64
_ARCHIVES = {".mat", ".h5", ".hdf5", ".zip", ".npz", ".npy", ".parquet"}
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"


class FileLook(NamedTuple):
    """What one file looks like.

    Attributes:
        code: of the finding ("missing-files", "dead-files", "depth-jpeg"), or "" if nothing is wrong.
        fingerprint: 64 bits of size and content; equal for equal files. 0 where the file is not whole.
    """

    code: str
    fingerprint: int


def look(path: Path, role: str) -> FileLook:
    """Look at one file.

    Reads some kilobytes; a file whose end is not as it should be is read and decoded to be sure.

    Args:
        path: the file.
        role: "image", "depth" or "other".
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_TAIL)
            file.seek(size // 2)
            middle = file.read(_PIECE)
            file.seek(max(0, size - _TAIL))
            tail = file.read(_TAIL)
    except OSError:
        return FileLook("missing-files", 0)
    if size == 0 or not _whole(path, role, head, tail):
        return FileLook("dead-files", 0)
    if role == "depth" and head.startswith(_JPEG):
        return FileLook("depth-jpeg", 0)
    digest = hashlib.blake2b(size.to_bytes(8, "big") + middle + tail, digest_size=8).digest()
    return FileLook("", int.from_bytes(digest, "big"))


def broken_archives(root: Path) -> list[Path]:
    """The archives that `root` is or holds (not those of folders below it) that are not whole."""
    found = [root] if root.is_file() else sorted(root.iterdir())
    return [path for path in found if path.suffix.lower() in _ARCHIVES and look(path, "other").code]


def colour_channels(path: Path) -> int:
    """Number of channels of a picture that is not grey; 0 for anything else, three equal channels included."""
    if path.suffix.lower() not in DEPTH_SUFFIXES - {".npy", ".npz"}:
        return 0
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim == 2 or (picture == picture[..., :1]).all():
        return 0
    return int(picture.shape[2])


def _whole(path: Path, role: str, head: bytes, tail: bytes) -> bool:
    suffix = path.suffix.lower()
    try:
        if head.startswith(_PNG):
            return b"IEND" in tail or _decodes(path, role)
        if head.startswith(_JPEG):
            return tail.endswith(b"\xff\xd9") or _decodes(path, role)
        if suffix == ".npy":
            return np.load(path, mmap_mode="r").size > 0  # compares the size of the file with its header
        if suffix in {".npz", ".zip"}:
            return zipfile.is_zipfile(path)
        if suffix in {".mat", ".h5", ".hdf5"}:
            return head.startswith(b"MATLAB 5.0") or _opens_as_hdf5(path)
        if suffix == ".parquet":
            return head.startswith(b"PAR1") and tail.endswith(b"PAR1")
        if suffix in {".png", ".jpg", ".jpeg"}:
            return _decodes(path, role)  # another format under this name
    except (OSError, ValueError):
        return False
    return True


def _decodes(path: Path, role: str) -> bool:
    suffix = path.suffix.lower()
    try:
        data = path.read_bytes()
        if role == "depth" and suffix in DEPTH_SUFFIXES:
            decode_array(data, suffix, path)
        elif suffix in IMAGE_SUFFIXES:
            decode_image(data, path)
    except MdeError as error:
        return "truncated" not in str(error)
    return True


def _opens_as_hdf5(path: Path) -> bool:
    with h5py.File(path, "r"):
        return True
