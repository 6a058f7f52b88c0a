"""What an exported file says of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from mde import __version__
from mde.errors import CheckpointError, ConfigError
from mde.models.as_predicted import AsPredicted
from mde.models.base import DepthModule
from mde.types import Ambiguity

__all__ = ["ExportInfo", "info_of", "weights_hash"]

_PREFIX = "mde."
FORMAT = 1
Size = tuple[int, int]


@dataclass(frozen=True)
class ExportInfo:
    """Stands in the file: of ONNX as ``metadata_props``, of torch.export as an extra file, each value as JSON.

    Attributes:
        model: name of the network.
        ambiguity: what the numbers are, a value of `Ambiguity`.
        unit: of the numbers, "m" for metres.
        depth_range: metres that the network can say, (min, max); None where it has no bounds.
        image_size: (height, width) at which the network works, whatever the picture's size; None where it works at the
            picture's own.
        trained_size: (height, width) of the training pictures; None where the checkpoint does not say it.
        batch: pictures in one call; None is any number.
        flip: averaged with the mirrored picture.
        precision: "fp32" or "fp16", of weights and arithmetic. Input is uint8 and output float32 in any case.
        weights: SHA-256 of the weights, the same for every export of one checkpoint.
        version: of this library.
        torch: version that made the file.
        format: of these entries.
    """

    model: str
    ambiguity: str
    unit: str
    depth_range: tuple[float, float] | None
    image_size: Size | None
    trained_size: Size | None
    batch: int | None
    flip: bool
    precision: str
    weights: str
    version: str = __version__
    torch: str = torch.__version__
    format: int = FORMAT

    def to_strings(self) -> dict[str, str]:
        """One text a setting, all names beginning with "mde."."""
        return {f"{_PREFIX}{name}": json.dumps(value) for name, value in asdict(self).items()}

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], where: object) -> ExportInfo:
        """The way back.

        Raises:
            CheckpointError: these are not all entries of an export of this library, or those of a newer version.
        """
        own = {key.removeprefix(_PREFIX): text for key, text in strings.items() if key.startswith(_PREFIX)}
        if not own:
            raise _foreign("it does not say what its numbers mean", where)
        try:
            values = {name: json.loads(text) for name, text in own.items()}
            if values["format"] > FORMAT:
                what = f"written by mde {values['version']}, newer than this {__version__}"
                raise CheckpointError(what, where=where, next_action="upgrade mde")
            made = cls(**{field.name: _plain(values[field.name]) for field in fields(cls)})
            Ambiguity(made.ambiguity)
        except (KeyError, ValueError, TypeError) as error:
            raise _foreign(f"its entries cannot be read ({error})", where) from error
        return made


def info_of(
    method: DepthModule, name: str | None, image_size: Size | None, batch: int | None, flip: bool, half: bool
) -> ExportInfo:
    """What is to stand in the file of a method."""
    codec = method.codec
    return ExportInfo(
        model=name or type(method).__name__,
        ambiguity=method.ambiguity.value,
        unit=method.ambiguity.unit,
        depth_range=None if isinstance(codec, AsPredicted) else (codec.min_depth, codec.max_depth),
        image_size=image_size,
        trained_size=method.image_size,
        batch=batch,
        flip=flip,
        precision="fp16" if half else "fp32",
        weights=weights_hash(method),
    )


def weights_hash(method: torch.nn.Module) -> str:
    """SHA-256 of all names, shapes and numbers of a state dict, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(method.state_dict().items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def network_size(method: DepthModule, size: Size | None, dynamic: bool) -> Size | None:
    """At which size the exported network works: `size`, else that of the training; None for the picture's own.

    Raises:
        ConfigError: both are asked for, or no size is known.
    """
    if dynamic and size is not None:
        raise ConfigError("--size and --dynamic exclude each other", next_action="give one of them")
    if dynamic:
        return None
    found = size or method.image_size
    if found is None:
        hint = "give --size HEIGHTxWIDTH (pictures of that shape are not stretched), or --dynamic"
        raise ConfigError("this network does not say at which size it works", where="size", next_action=hint)
    if min(found) < 1:
        raise ConfigError(f"no picture is {found[0]}x{found[1]}", where="size", next_action="give --size 480x640")
    return found


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _foreign(what: str, where: object) -> CheckpointError:
    hint = "use a file that mde export wrote; of another network only its makers know what the numbers are"
    return CheckpointError(f"not an export of this library: {what}", where=where, next_action=hint)
