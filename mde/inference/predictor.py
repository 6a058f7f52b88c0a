"""`Predictor`: a trained network as a function from pictures to depth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray

from mde.errors import ConfigError, DataFormatError, MdeError
from mde.inference.camera import Camera
from mde.inference.inputs import Source
from mde.inference.networks import Exported, Settings, open_network
from mde.inference.pictures import Picture, PictureInput, picture_of
from mde.inference.result import DepthResult
from mde.types import Ambiguity

if TYPE_CHECKING:
    from mde.models.base import DepthModule

__all__ = ["Outcome", "Predictor", "chunks"]

Outcome: TypeAlias = DepthResult | DataFormatError

_ON_ACCELERATOR = 8  # pictures in one batch; a CPU gains nothing by more than one


class Predictor:
    """A trained network, ready for pictures of any size.

    Called with one picture it gives a `DepthResult`, called with many (list, iterator, a batch) an iterator that
    computes each result when it is asked for, so that memory does not grow with their number. One of our networks works
    at the size of its training, to which a picture is stretched, whatever its shape: the values are exactly those of
    `DepthModule.predict` (in a batch, up to rounding). Those of other authors resize by their own rules.

    Args:
        checkpoint: a ``.ckpt`` of this library, or the folder of a run; name or folder of a depth network of the
            Hugging Face hub; a file of ``mde export`` (``.onnx``, ``.pt2``); or a `DepthModule` or `OnnxModel` itself.
        device: "auto" (a GPU where there is one), "cpu", "cuda", …; a module stays where it is.
        precision: "32", or "bf16" for the network's arithmetic.
        flip: average with the prediction of the mirrored picture, in twice the time.
        image_size: (height, width) at which the network works, in place of that of its training.
        tiles: (rows, columns) of overlapping tiles for large pictures, see `TiledDepth`.
        batch_size: pictures of equal size that are predicted together; default 8 on a GPU, 1 on a CPU.
        uncertainty: results with a standard deviation: the method's own where it has one (`DeepLabSID`), else that of
            the two maps of a picture and its mirror image. Takes another prediction.
        camera: how the pictures were taken; default what their EXIF data say.

    Raises:
        CheckpointError: the network cannot be read.
        ConfigError: settings that do not suit it, an unknown device, an extra that is missing.

    >>> from mde.models import UNet
    >>> network = Predictor(UNet(widths=(4, 8), image_size=(16, 24)))
    >>> result = network(np.zeros((30, 40, 3), np.uint8), camera=Camera(fov=60))
    >>> result.values.shape, result.unit, result.model
    ((30, 40), 'm', 'UNet')
    """

    def __init__(
        self,
        checkpoint: str | Path | DepthModule | Exported,
        device: str = "auto",
        precision: str = "32",
        flip: bool = False,
        image_size: tuple[int, int] | None = None,
        tiles: tuple[int, int] | None = None,
        batch_size: int | None = None,
        uncertainty: bool = False,
        camera: Camera | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            what = f"a batch has at least one picture, got {batch_size}"
            raise ConfigError(what, where="batch_size", next_action="give 1 or more")
        self.settings = Settings(device, precision, flip, image_size, tiles, uncertainty)
        self.network = open_network(checkpoint, self.settings)
        self.batch_size = batch_size or (_ON_ACCELERATOR if self.network.device.startswith("cuda") else 1)
        self.camera = camera or Camera()

    @property
    def ambiguity(self) -> Ambiguity:
        """What the numbers of the results are."""
        return self.network.ambiguity

    @property
    def model(self) -> str:
        """Name of the network."""
        return self.network.name

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a string is an iterable, too, and counts as a path
        self, pictures: PictureInput | Source, order: str = ..., camera: Camera | None = ...
    ) -> DepthResult: ...

    @overload
    def __call__(
        self, pictures: Iterable[PictureInput | Source], order: str = ..., camera: Camera | None = ...
    ) -> Iterator[DepthResult]: ...

    def __call__(self, pictures: Any, order: str = "rgb", camera: Camera | None = None) -> Any:
        """Predict.

        Args:
            pictures: one, or many: a list, an iterator, an array (B,H,W,3) or a tensor (B,3,H,W). One is a path, a PIL
                image, an array (H,W,3) or tensor (3,H,W) of uint8 or float in [0,1], a `Picture` or a `Source`.
            order: of the channels of arrays and tensors: "rgb", or "bgr" as OpenCV reads them.
            camera: in place of the one of the predictor.

        Returns:
            A `DepthResult` at the size of the picture, which is turned upright as its EXIF orientation says; or an
            iterator of them, in the order of the pictures.

        Raises:
            DataFormatError: a picture that cannot be read or predicted, or a camera for another shape of picture.
            ConfigError: the order is unknown.
        """
        if isinstance(pictures, np.ndarray | torch.Tensor):
            many = pictures.ndim == 4
        else:
            many = isinstance(pictures, Iterable) and not isinstance(pictures, str | Path | Picture)
        if many:
            return self._stream((_read(each, order) for each in pictures), camera)
        return next(self._stream([_read(pictures, order)], camera))

    def outcomes(self, pictures: Sequence[Picture], camera: Camera | None = None) -> list[Outcome]:
        """Predict pictures that are in memory, those of equal size together; an error in place of what failed."""
        found: dict[int, Outcome] = {}
        by_size: dict[tuple[object, ...], list[int]] = {}
        for index, picture in enumerate(pictures):
            by_size.setdefault((picture.size, picture.image.dtype), []).append(index)
        for indices in by_size.values():
            for start in range(0, len(indices), self.batch_size):
                batch = indices[start : start + self.batch_size]
                made = self._batch([pictures[index] for index in batch], camera or self.camera)
                found.update(zip(batch, made, strict=True))
        return [found[index] for index in range(len(pictures))]

    def _stream(self, pictures: Iterable[Picture], camera: Camera | None) -> Iterator[DepthResult]:
        for chunk in chunks(pictures, self.batch_size):
            for outcome in self.outcomes(chunk, camera):
                if isinstance(outcome, DataFormatError):
                    raise outcome
                yield outcome

    def _batch(self, pictures: Sequence[Picture], camera: Camera) -> list[Outcome]:
        try:
            cameras = [camera.intrinsics(picture.size, picture.focal_px) for picture in pictures]
        except DataFormatError as error:  # all have the same size
            return [error] * len(pictures)
        tensor = torch.from_numpy(np.stack([picture.image for picture in pictures])).permute(0, 3, 1, 2)
        try:
            values, std = self.network.predict(tensor)
        except (RuntimeError, ValueError, MdeError) as error:  # such as tiles of less than a pixel
            if len(pictures) > 1:  # one at a time needs less memory, and says whose fault it is
                return [outcome for each in pictures for outcome in self._batch([each], camera)]
            return [_failed(pictures[0], error)]
        maps = _arrays(values)
        stds: Sequence[NDArray[np.float32] | None] = [None] * len(maps) if std is None else _arrays(std)
        return [
            DepthResult(
                values=each, ambiguity=self.ambiguity, image=picture.shown, intrinsics=intrinsics,
                depth_range=self.network.depth_range, model=self.model, source=picture.name, std=deviation,
            )
            for each, deviation, picture, intrinsics in zip(maps, stds, pictures, cameras, strict=True)
        ]  # fmt: skip


def chunks(pictures: Iterable[Any], batch_size: int) -> Iterator[list[Any]]:
    """Consecutive pictures, as many at once as batches of equal size can be made of.

    Upright and lying photographs take turns in most folders: among four batches' worth few batches stay unfilled.
    """
    count = 1 if batch_size == 1 else 4 * batch_size
    iterator = iter(pictures)
    while chunk := list(islice(iterator, count)):
        yield chunk


def _read(given: PictureInput | Source, order: str) -> Picture:
    return given.read() if isinstance(given, Source) else picture_of(given, order)


def _arrays(maps: torch.Tensor) -> list[NDArray[np.float32]]:
    """(B,1,H,W) as maps that do not keep the whole batch alive."""
    return [np.array(each[0], np.float32) for each in maps.cpu().numpy()]


def _failed(picture: Picture, error: Exception) -> DataFormatError:
    reason = " ".join(str(error).partition(". Next:")[0].split())[:200] or type(error).__name__
    what = f"the network failed on {picture.size[1]}x{picture.size[0]} pixels ({reason})"
    return DataFormatError(what, where=picture.name, next_action="give another image_size (--size HxW)")
