"""Features of a frozen encoder, computed once and kept on disk, so that later epochs cost the decoder only.

What is found depends on nothing but content: a file is named by a hash of the very pixels that enter the encoder, and
lies in a folder named by a hash of the encoder's weights, settings and structure. So no augmentation, weights file or
change of settings can lead to another picture's features: what is not known is computed. A mirrored picture is another
picture with a file of its own.

Features are kept in half precision where that costs less than a thousandth of their norm, and else as they are. What
is computed now is rounded likewise, so that a run sees the same numbers with a full and with an empty folder.

Each picture is one file (safetensors, read through mapped memory), written beside its place and renamed: any number of
processes may read and write one folder without a lock, and one that is killed leaves nothing that is ever read.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import chain
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from mde import __version__
from mde.errors import ConfigError, DataFormatError
from mde.models.encoders import Encoder
from mde.rebuild import spec_of

__all__ = ["CachedFeatures", "FeatureFolder", "fingerprint"]

_FORMAT = 1  # changes with what a file holds
_SUFFIX, _PARTIAL = ".safetensors", ".partial"
_ROUNDING = 1e-3  # relative; half precision of ordinary features costs 2e-4
_SAME = 0.05  # relative; bfloat16 on another machine stays below, another network's features are off by about 1
_FORGOTTEN = 3600  # seconds after which an unfinished file belongs to a killed process
_RECOUNT = 128  # files that are written between two looks at what other processes wrote
_SPARE = 1e9  # bytes that are left free on the disk


class FeatureFolder:
    """A folder of features with a limit to its size, shared by all encoders and processes.

    Args:
        path: made if need be.
        size_gb: at most so many gigabytes (10**9 bytes) are kept; what is beyond is computed anew each time.
        pictures: how many a run will show, for the estimate that is shown before the first is written.

    Raises:
        ConfigError: the folder cannot be made, or the limit is not above 0.
    """

    def __init__(self, path: str | Path, size_gb: float = 20.0, pictures: int | None = None) -> None:
        if size_gb <= 0:
            raise ConfigError(f"size_gb must be above 0, got {size_gb}", where="FeatureCache.size_gb")
        self.path = Path(path)
        self.limit = size_gb * 1e9
        self.pictures = pictures
        self.full = False
        self._used = 0.0
        self._until_recount = 0
        self._announced = False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            hint = "give a folder that you may write to"
            raise ConfigError(f"no folder for features ({error})", where=path, next_action=hint) from error

    def read(self, key: str) -> list[Tensor] | None:
        """The features of one picture, or None where there are none that can be read."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            found = load_file(self._file(key))
        except (OSError, SafetensorError):  # not there, or cut off by a full disk
            return None
        return [found[str(level)] for level in range(len(found))]

    def write(self, key: str, features: Sequence[Tensor]) -> bool:
        """Keep the features of one picture; False where there is no room."""
        from safetensors.torch import save

        content = save({str(level): feature.cpu().contiguous() for level, feature in enumerate(features)})
        if not self._has_room(len(content), key):
            return False
        target = self._file(key)
        partial = target.with_name(f".{target.name}.{os.getpid()}{_PARTIAL}")
        try:
            target.parent.mkdir(exist_ok=True)
            partial.write_bytes(content)
            os.replace(partial, target)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            self._stop(str(error))
            return False
        self._used += len(content)
        return True

    def _has_room(self, size: int, key: str) -> bool:
        if self.full:
            return False
        if self._until_recount == 0:
            self._until_recount = _RECOUNT
            self._recount()
            if not self._announced:
                self._announced = True
                self._announce(size, key.partition("/")[0])
        self._until_recount -= 1
        if self._used + size > self.limit:
            self._stop(f"it has reached its limit of {_size(self.limit)}")
        return not self.full

    def _recount(self) -> None:
        """Look at what is there, also of other processes, and sweep out what killed ones left."""
        self._used = 0.0
        for file in self.path.glob("*/*"):
            with suppress(OSError):  # another process has just renamed it
                state = file.stat()
                if file.suffix == _PARTIAL and time.time() - state.st_mtime > _FORGOTTEN:
                    file.unlink()
                else:
                    self._used += state.st_size
        if shutil.disk_usage(self.path).free < _SPARE:
            self._stop("its disk is full")

    def _announce(self, size: int, encoder: str) -> None:
        free = shutil.disk_usage(self.path).free
        one = f"{_size(size)} a picture"
        all_ = "" if self.pictures is None else f", {_size(size * self.pictures)} for {self.pictures} pictures"
        rank_zero_info(
            f"Keeping features in {self.path}: {one}{all_}, as much again for each variant by augmentation (mirroring: "
            f"one). {_size(self._used)} are there, the limit is {_size(self.limit)}, {_size(free)} are "
            "free."
        )
        if self.pictures is not None and size * self.pictures > min(self.limit - self._used, free):
            rank_zero_warn("Not all of them fit: the others are computed each time. Raise size_gb, or make room.")
        others = sorted(other.name for other in self.path.iterdir() if other.is_dir() and other.name != encoder)
        if others:
            rank_zero_info(f"It also holds features of other encoders, free to delete: {', '.join(others)}")

    def _stop(self, why: str) -> None:
        if not self.full:
            self.full = True
            rank_zero_warn(f"No more features are kept in {self.path}: {why}. What is there goes on being used.")

    def _file(self, key: str) -> Path:
        return self.path / f"{key}{_SUFFIX}"


class CachedFeatures:
    """Stands in for `Encoder.compute`: looks features up, computes those that are missing, and keeps them.

    An encoder that may change is passed by: one that is not `fully_frozen`, has a parameter that is trained, or a layer
    in training mode (batch norm with moving statistics, dropout).

    The first features found that this process did not write are computed once more and compared. That catches what no
    hash sees, such as another version of the code behind an encoder.

    Args:
        folder: where they are kept.

    Attributes:
        asked: pictures looked up in training mode since `restart`.
        found: how many of them were there.
        training: False passes by while the encoder is in training mode, so that evaluation alone is served.
    """

    def __init__(self, folder: FeatureFolder) -> None:
        self.folder = folder
        self.training = True
        self._written: set[str] = set()
        self._trusted = False
        self._state: tuple[object, ...] = ()
        self._name = ""
        self.restart()

    def restart(self) -> None:
        """Count from zero."""
        self.asked = self.found = 0

    def __call__(self, encoder: Encoder, image: Tensor) -> list[Tensor]:
        """Features as of ``encoder.compute(image)``, rounded to half precision, with channels last in memory.

        Args:
            encoder: whose features.
            image: float (B,3,H,W), RGB in [0,1].

        Raises:
            DataFormatError: the folder holds other features than the encoder's under its name.
        """
        if (encoder.training and not self.training) or not _is_constant(encoder):
            return encoder.compute(image)
        keys = [f"{self._named(encoder)}/{key}" for key in _picture_keys(image)]
        known = [self.folder.read(key) for key in keys]
        missing = [index for index, features in enumerate(known) if features is None]
        if encoder.training:
            self.asked += len(keys)
            self.found += len(keys) - len(missing)
        self._check(encoder, image, keys, known)
        if missing:
            levels = encoder.compute(image[missing])
            computed = [[_rounded(feature) for feature in _channels_last(level)] for level in levels]
            for index, *features in zip(missing, *computed, strict=True):
                known[index] = features
                if self.folder.write(keys[index], features):
                    self._written.add(keys[index])
        by_level = zip(*(features for features in known if features is not None), strict=True)
        stacked = [torch.stack([one.to(image.device, image.dtype) for one in level]) for level in by_level]
        return [level.permute(0, 3, 1, 2) for level in stacked]

    def _named(self, encoder: Encoder) -> str:
        # in-place changes count a tensor's version up, a move to another device changes its address
        state = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for _, t in _tensors(encoder))
        if state != self._state:
            self._state, self._name = state, fingerprint(encoder)
        return self._name

    def _check(
        self, encoder: Encoder, image: Tensor, keys: Sequence[str], known: Sequence[list[Tensor] | None]
    ) -> None:
        foreign = ((i, f) for i, f in enumerate(known) if f is not None and keys[i] not in self._written)
        index, found = next(foreign, (0, None))
        if self._trusted or found is None:
            return
        for kept, level in zip(found, encoder.compute(image[index : index + 1]), strict=True):
            new = _channels_last(level)[0].float()
            if kept.shape != new.shape or not _distance(kept.to(new), new) <= _SAME:
                where = self.folder.path / keys[index].partition("/")[0]
                what = "these features are not those that the encoder computes now, of the same picture by same weights"
                raise DataFormatError(what, where=where, next_action="delete this folder")
        self._trusted = True


def fingerprint(encoder: Encoder) -> str:
    """16 hexadecimal digits that change with the weights, the settings and the structure of an encoder.

    Raises:
        CheckpointError: an argument of the encoder has no plain form.
    """
    about = [_FORMAT, __version__, torch.__version__, spec_of(encoder, where="encoder"), repr(encoder)]
    digest = sha256(json.dumps(about).encode())
    for name, tensor in _tensors(encoder):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def _picture_keys(image: Tensor) -> Iterator[str]:
    """32 hexadecimal digits of each picture's pixels, and of the precision in which the encoder works."""
    kind = image.device.type
    autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    about = f"{image.dtype} {autocast} {tuple(image.shape[1:])}".encode()
    for picture in image.detach().cpu():
        digest = sha256(about)  # half the time of blake2b on processors with instructions for it
        digest.update(_bytes(picture))
        yield digest.hexdigest()[:32]


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _tensors(encoder: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(encoder.named_parameters(), encoder.named_buffers())


def _is_constant(encoder: Encoder) -> bool:
    layers = (module for module in encoder.modules() if module is not encoder)
    return (
        encoder.fully_frozen
        and not any(parameter.requires_grad for parameter in encoder.parameters())
        and not any(layer.training for layer in layers)
    )


def _channels_last(level: Tensor) -> Tensor:
    """(B,C,h,w) to (B,h,w,C), in which features are kept: paper 0's decoder takes 0.88 of the time on them (CPU)."""
    return level.permute(0, 2, 3, 1)


def _rounded(feature: Tensor) -> Tensor:
    """In half precision, unless that loses too much: values above 65504 or all near 0."""
    if feature.element_size() <= 2:
        return feature
    half = feature.half()
    return half if _distance(half.to(feature), feature) <= _ROUNDING else feature


def _distance(one: Tensor, other: Tensor) -> float:
    """Relative, 0 for two tensors of zeros, and not a number or infinite where one of them is."""
    return float((one - other).norm() / other.norm().clamp(min=torch.finfo(other.dtype).tiny))


def _size(count: float) -> str:
    """
    >>> _size(2_231_000_000), _size(512_000)
    ('2.2 GB', '0.5 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
