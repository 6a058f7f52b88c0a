"""What predicts: one of our checkpoints, a network of the Hugging Face hub, an exported file, or a method in memory."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mde.errors import CheckpointError, ConfigError
from mde.inference.tiling import TiledDepth
from mde.models.as_predicted import AsPredicted
from mde.models.base import DepthModule
from mde.models.checkpoint import find_checkpoint, load
from mde.models.inputs import in_unit_range
from mde.models.modes import evaluating
from mde.models.pretrained import MarigoldDepth, PretrainedDepth
from mde.models.pretrained.known import known
from mde.resizing import resized
from mde.types import Ambiguity, Prediction

__all__ = ["Exported", "HasUncertainty", "Network", "Settings", "open_network"]


@runtime_checkable
class Exported(Protocol):
    """A network without its code, such as `mde.inference.OnnxModel`."""

    @property
    def ambiguity(self) -> Ambiguity:
        """What the numbers are."""

    @property
    def info(self) -> Any:
        """With `model`, its name; `depth_range`, (min, max) in metres or None; `image_size`, (height, width) at which
        it works or None; `weights`, their hash."""

    def predict(self, image: Tensor, flip: bool = False) -> Prediction:
        """uint8 or float (B,3,H,W) to maps of that size."""


@runtime_checkable
class HasUncertainty(Protocol):
    """A method that says how sure it is."""

    def uncertainty(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B,3,H,W) in [0,1] to standard deviation in metres and entropy in nats, each (B,1,H,W)."""


@dataclass(frozen=True)
class Settings:
    """How a network is used; see `mde.inference.Predictor`."""

    device: str = "auto"
    precision: str = "32"
    flip: bool = False
    image_size: tuple[int, int] | None = None
    tiles: tuple[int, int] | None = None
    uncertainty: bool = False

    def __post_init__(self) -> None:
        if self.precision not in ("32", "bf16"):
            raise ConfigError(f"unknown precision {self.precision!r}", where="precision", next_action="use 32 or bf16")
        if self.image_size is not None and min(self.image_size) < 1:
            what = f"no picture is {self.image_size[0]}x{self.image_size[1]}"
            raise ConfigError(what, where="image_size", next_action="give (height, width) in pixels")


@dataclass(frozen=True)
class Network:
    """A network ready to use.

    Attributes:
        name: of the network.
        ambiguity: what its numbers are.
        depth_range: metres that it can say; None where it has no bounds.
        works_at: (height, width) to which pictures are stretched, whatever their shape; None where the network keeps
            their shape or has a rule of its own.
        weights: a hash of the file or of the numbers in memory.
        device: where it runs.
        predict: uint8 or float32 (B,3,H,W) to the map and, where it was asked for, the standard deviation in metres;
            each float32 (B,1,H,W).
    """

    name: str
    ambiguity: Ambiguity
    depth_range: tuple[float, float] | None
    works_at: tuple[int, int] | None
    weights: str
    device: str
    predict: Callable[[Tensor], tuple[Tensor, Tensor | None]]


def open_network(checkpoint: str | Path | DepthModule | Exported, settings: Settings) -> Network:
    """Make a network ready.

    Args:
        checkpoint: a ``.ckpt`` of this library or a run folder; a file of ``mde export`` (``.onnx``, ``.pt2``); name or
            folder of a depth network of the Hugging Face hub; a method or an exported model in memory.
        settings: how to use it.

    Raises:
        CheckpointError: it cannot be read.
        ConfigError: settings that do not suit it, an unknown device, an extra that is missing.
    """
    device = _device(settings.device)
    own = not isinstance(checkpoint, str | Path)
    opened = checkpoint if not isinstance(checkpoint, str | Path) else _opened(checkpoint, device, settings.device)
    weights = "" if own or not Path(str(checkpoint)).is_file() else _file_hash(Path(str(checkpoint)))
    if isinstance(opened, DepthModule):
        if settings.tiles is not None and own:  # it would freeze the parameters of a method that is being trained
            opened = copy.deepcopy(opened)
        hub = isinstance(opened, PretrainedDepth | MarigoldDepth) and not own and not weights
        name = Path(str(checkpoint)).name if hub else type(opened).__name__
        return _of_module(opened if own else opened.to(device), name, weights, settings)
    if isinstance(opened, Exported):
        return _of_export(opened, weights, settings)
    what = f"a {type(opened).__name__} is no depth network"
    raise ConfigError(what, where="checkpoint", next_action="give a file, a name, a DepthModule or an OnnxModel")


def _of_module(method: DepthModule, name: str, weights: str, settings: Settings) -> Network:
    size, codec = settings.image_size, method.codec
    weights = weights or _weights_hash(method)
    _require_metric_std(method.ambiguity, settings)
    depth_range = None if isinstance(codec, AsPredicted) else (codec.min_depth, codec.max_depth)
    works_at = size or method.image_size
    device, used, sure = method.device, method, method if isinstance(method, HasUncertainty) else None
    if settings.tiles is not None:
        if size is not None:
            method.image_size, size = size, None
        used, sure = TiledDepth(method, tiles=settings.tiles).to(device).eval(), None
        name = f"{name} ({settings.tiles[0]}x{settings.tiles[1]} tiles)"

    def predict(pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        low = settings.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16) if low else nullcontext():
            if settings.uncertainty and sure is not None:
                values = used.predict(pictures, settings.flip, size).values
                return values.float(), _said_std(used, sure, pictures, size).float()
            return _with_flip_std(lambda x, flip: used.predict(x, flip, size).values.float(), pictures, settings)

    return Network(name, method.ambiguity, depth_range, works_at, weights, str(device), predict)


def _of_export(model: Exported, weights: str, settings: Settings) -> Network:
    changed = {"image_size": settings.image_size, "tiles": settings.tiles, "precision": settings.precision != "32"}
    for name, value in changed.items():
        if value:
            hint = "give it the checkpoint, or export that again with other settings (mde export)"
            raise ConfigError("this is fixed in an exported file", where=name, next_action=hint)
    _require_metric_std(model.ambiguity, settings)

    def predict(pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        return _with_flip_std(lambda x, flip: model.predict(x, flip).values, pictures, settings)

    info = model.info
    weights = weights or str(info.weights)
    return Network(info.model, model.ambiguity, info.depth_range, info.image_size, weights, "file", predict)


def _with_flip_std(
    values_of: Callable[[Tensor, bool], Tensor], pictures: Tensor, settings: Settings
) -> tuple[Tensor, Tensor | None]:
    """The map; with `uncertainty` also the standard deviation of the two maps of the picture and its mirror image."""
    if not settings.uncertainty:
        return values_of(pictures, settings.flip), None
    seen, mirrored = values_of(pictures, False), values_of(pictures.flip(-1), False).flip(-1)
    return (seen + mirrored) / 2 if settings.flip else seen, (seen - mirrored).abs() / 2


@torch.no_grad()
def _said_std(method: DepthModule, sure: HasUncertainty, pictures: Tensor, size: tuple[int, int] | None) -> Tensor:
    """What the method itself says, found at the size where it works and brought back to that of the pictures."""
    whole = tuple(pictures.shape[-2:])
    image = in_unit_range(pictures.to(method.device))
    inner = size or method.image_size or whole
    with evaluating(method):
        std = sure.uncertainty(resized(image, inner))[0]
    return resized(std, whole)


def _require_metric_std(ambiguity: Ambiguity, settings: Settings) -> None:
    if settings.uncertainty and ambiguity is not Ambiguity.METRIC:
        what = f"a {ambiguity.unit} has no standard deviation in metres"
        raise ConfigError(what, where="uncertainty", next_action="leave it out, or take a metric network")


def _opened(checkpoint: str | Path, device: torch.device, asked: str) -> DepthModule | Exported:
    path = find_checkpoint(checkpoint)
    if path.suffix in (".onnx", ".pt2"):
        from mde.inference.export import OnnxModel, TorchModel

        # as asked: ONNX Runtime need not have the device that torch has
        return OnnxModel(path, asked) if path.suffix == ".onnx" else TorchModel(path)
    if path.suffix == ".ckpt" or path.is_file():
        return load(path, device)
    if known().get(str(checkpoint), {}).get("family") == "marigold":
        return MarigoldDepth(str(checkpoint)).eval()
    return PretrainedDepth(str(checkpoint)).eval()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has one for each kind of absence
        reason = str(error).strip().splitlines()[0][:160]
        what = f"cannot use the device {name!r} ({reason})"
        raise ConfigError(what, where="device", next_action="use auto or cpu") from error


def _weights_hash(method: DepthModule) -> str:
    """Of numbers and of what surrounds them: the same weights behind another codec are another network."""
    from mde.inference.export.info import weights_hash

    try:
        made: Any = method.rebuild_spec
    except CheckpointError:  # an object without a plain form
        made = repr(method)
    return hashlib.sha256(f"{weights_hash(method)} {made}".encode()).hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
