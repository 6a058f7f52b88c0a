"""Exported files, opened: the same use for ONNX and torch.export, without the code of the method."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.errors import CheckpointError, ConfigError, DataFormatError
from mde.inference.export.info import ExportInfo
from mde.models.inputs import ImageInput, image_tensor
from mde.types import Ambiguity, Prediction

__all__ = ["INFO_FILE", "ExportedModel", "OnnxModel", "TorchModel"]

INFO_FILE = "mde.json"
"""Extra file of a torch.export archive that holds the `ExportInfo`."""
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class ExportedModel(ABC):
    """Base: a file that predicts.

    Attributes:
        path: of the file.
        info: what it says of itself.
    """

    path: Path
    info: ExportInfo

    @property
    def ambiguity(self) -> Ambiguity:
        """What the numbers are."""
        return Ambiguity(self.info.ambiguity)

    @abstractmethod
    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One call of the file, as many pictures as it takes: uint8 (B,H,W,3) to float32 (B,1,H,W)."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predict pictures of one size.

        Args:
            images: uint8 (B,H,W,3), RGB, any B, H and W above 0.

        Returns:
            float32 (B,1,H,W); metres where `ambiguity` is METRIC.

        Raises:
            DataFormatError: another type or shape.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.size == 0:
            what = f"an exported network takes uint8 (B,H,W,3), got {images.dtype} {images.shape}"
            raise DataFormatError(what, where=self.path, next_action="use predict, which takes any picture")
        step = self.info.batch
        if step is None:
            return self.run(images)
        parts = [_filled(images[start : start + step], step) for start in range(0, len(images), step)]
        return np.concatenate([self.run(part) for part in parts])[: len(images)]

    def predict(self, image: ImageInput, flip: bool = False) -> Prediction:
        """Predict one picture, or a batch tensor, at its own size, as `DepthModule.predict` does.

        Args:
            image: path, PIL image, NumPy (H,W,3) RGB, or tensor (3,H,W) / (B,3,H,W); uint8 or float in [0,1], which is
                rounded to bytes.
            flip: average with the mirrored prediction, besides what the file does itself.

        Returns:
            A `Prediction` whose maps are (B,1,H,W) at the picture's own size.
        """
        pictures = (image_tensor(image) * 255).round().to(torch.uint8).cpu()
        values = self._of_tensor(pictures)
        if flip:
            values = (values + self._of_tensor(pictures.flip(-1)).flip(-1)) / 2
        return Prediction(values, self.ambiguity)

    def _of_tensor(self, pictures: Tensor) -> Tensor:
        return torch.from_numpy(self(pictures.permute(0, 2, 3, 1).contiguous().numpy()))


class OnnxModel(ExportedModel):
    """An ONNX file of `mde export`, run by ONNX Runtime.

    Args:
        path: the file.
        device: "cpu", "cuda", or "auto", which takes a GPU where this ONNX Runtime can use one.
        threads: of one operation; None leaves it to ONNX Runtime (one per core).

    Raises:
        CheckpointError: no such file, no ONNX, cut off, or of another library.
        ConfigError: onnxruntime is missing, or cannot use the device.
    """

    def __init__(self, path: str | Path, device: str = "auto", threads: int | None = None) -> None:
        self.path = _existing(path)
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # its warnings speak of its own optimisations
        if threads is not None:
            options.intra_op_num_threads = threads
        providers = _providers(device, runtime.get_available_providers())
        try:
            self._session = runtime.InferenceSession(str(self.path), options, providers=providers)
        except Exception as error:  # ONNX Runtime has a class of its own for each kind of damage
            raise _unreadable("ONNX", self.path, error) from error
        self.info = ExportInfo.from_strings(self._session.get_modelmeta().custom_metadata_map, self.path)
        self._input = self._session.get_inputs()[0].name

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            values: NDArray[np.float32] = self._session.run(None, {self._input: images})[0]
        except Exception as error:  # as above
            what = f"ONNX Runtime failed on {images.shape} ({' '.join(str(error).split())[:200]})"
            raise CheckpointError(what, where=self.path, next_action="try smaller pictures or batches") from error
        return values


class TorchModel(ExportedModel):
    """A ``.pt2`` file of `mde export`, run by torch without the code of the method.

    Args:
        path: the file.

    Raises:
        CheckpointError: no such file, no archive of torch.export, cut off, or of another library.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = _existing(path)
        extra = {INFO_FILE: ""}
        try:
            program = torch.export.load(str(self.path), extra_files=extra)
        except Exception as error:  # there is no end to what bytes of another kind raise
            raise _unreadable("torch.export", self.path, error) from error
        self.info = ExportInfo.from_strings(_strings(extra[INFO_FILE]), self.path)
        self._module = program.module()

    @torch.no_grad()
    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        values: Tensor = self._module(torch.from_numpy(images))
        return values.numpy()


def _strings(text: str) -> dict[str, str]:
    """What `INFO_FILE` holds; nothing where it is absent or damaged."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _filled(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """So many pictures: the last one is repeated."""
    return np.concatenate((images, np.repeat(images[-1:], count - len(images), axis=0)))


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise CheckpointError("no such file", where=path, next_action="write it: mde export CHECKPOINT -o FILE")
    return Path(path)


def _unreadable(kind: str, path: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    hint = "the file may be cut off or of another kind: export it again with mde export"
    return CheckpointError(f"not a readable {kind} file ({reason})", where=path, next_action=hint)


def _providers(device: str, available: list[str]) -> list[str]:
    if device not in ("auto", *_PROVIDERS):
        hint = "use cpu, cuda or auto"
        raise ConfigError(f"unknown device {device!r}", where="OnnxModel", next_action=hint)
    wanted = [_PROVIDERS["cuda"]] if device != "cpu" and _PROVIDERS["cuda"] in available else []
    if device == "cuda" and not wanted:
        what = f"this ONNX Runtime cannot use a GPU; it has {', '.join(available)}"
        raise ConfigError(what, where="device", next_action="pip install onnxruntime-gpu, or use the cpu")
    return [*wanted, _PROVIDERS["cpu"]]


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError("ONNX files need onnxruntime", next_action="pip install 'mde[export]'") from error
    return onnxruntime
