"""A frame as bytes on its way into a batch, and the batches made of such frames.

Floats are four times as large as the bytes they come from, so they are made late and once: straight into the batch
tensor, whichever way the frame came (files, a store, another process).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.data.dataset import RawSample
from mde.errors import DataFormatError
from mde.types import Batch

__all__ = [
    "Arrays",
    "Pixels",
    "StoredSample",
    "assemble",
    "batch_of",
    "fill",
    "interleaved",
    "planes_of",
    "to_floats",
    "unequal_sizes",
]

_LEVEL = np.float32(1 / 255)


class Pixels(NamedTuple):
    """One frame after resizing and augmentation, except for what is done while it is copied.

    Attributes:
        planes: red, green and blue of the result, uint8 (H,W) each.
        depth: float32 (h,w), z-depth in metres; or uint16 (h,w), multiples of `step`.
        valid: bool (h,w); what `depth` holds outside of it does not matter. None: `depth` is 0 wherever it is unknown.
        intrinsics: float32 (3,3), of the result.
        id: stable name.
        mirrored: planes, depth and mask are still to be mirrored; `intrinsics` are already.
        labels: uint8 (h,w), never mirrored.
        step: metres per unit of a `depth` of integers.
        right: planes of the right picture of a pair, as `planes`; `mirrored` mirrors them, too, where they are.
        baseline: metres from the left camera to the right one.
    """

    planes: Sequence[NDArray[np.uint8]]
    depth: NDArray[Any]
    valid: NDArray[np.bool_] | None
    intrinsics: Tensor
    id: str
    mirrored: bool = False
    labels: NDArray[np.uint8] | None = None
    step: np.float32 | None = None
    right: Sequence[NDArray[np.uint8]] | None = None
    baseline: float = 0.0

    def item(self) -> Batch:
        """One item of a `Batch`, without the batch dimension."""
        batch = assemble([self], 1)
        item = Batch(
            image=batch["image"][0],
            depth=batch["depth"][0],
            valid=batch["valid"][0],
            intrinsics=batch["intrinsics"][0],
            id=self.id,  # type: ignore[typeddict-item]  # one id until `collate` makes the list
        )
        if "labels" in batch:
            item["labels"] = batch["labels"][0]
        if "right" in batch:
            item["right"], item["baseline"] = batch["right"][0], batch["baseline"][0]
        return item


class StoredSample(RawSample):
    """A frame of a store, whose depth becomes metres when someone asks for it.

    Args:
        image: uint8 (H,W,3), may be a view of three planes.
        numbers: float32 (H,W) in metres, or uint16 (H,W) in multiples of `step`; 0 where unknown.
        step: metres per unit of integers.
        intrinsics, id, labels: as of `RawSample`.
    """

    def __init__(
        self,
        image: NDArray[np.uint8],
        numbers: NDArray[Any],
        step: np.float32 | None,
        intrinsics: NDArray[np.float32],
        id: str,
        labels: NDArray[np.uint8] | None = None,
    ) -> None:
        self.image, self.numbers, self.step = image, numbers, step
        self.intrinsics, self.id, self.labels = intrinsics, id, labels

    @cached_property
    def depth(self) -> NDArray[np.float32]:  # type: ignore[override]
        out = np.empty(self.numbers.shape, np.float32)
        _to_metres(self.numbers, self.step, out)
        return out

    @cached_property
    def valid(self) -> NDArray[np.bool_]:  # type: ignore[override]
        return np.asarray(self.numbers > 0)

    def checked(self) -> RawSample:
        """Itself: it was checked before it was stored."""
        return self


class Arrays(NamedTuple):
    """What the frames of a batch are written into."""

    image: NDArray[Any]  # (B,3,H,W), float32 or uint8
    depth: NDArray[np.float32]  # (B,h,w)
    labels: NDArray[np.uint8] | None  # (B,h,w)
    valid: NDArray[np.bool_] | None  # (B,h,w); None where the mask is made later
    right: NDArray[Any] | None = None  # as `image`
    baseline: NDArray[np.float32] | None = None  # (B,), beside `right`


def planes_of(image: NDArray[np.uint8]) -> Sequence[NDArray[np.uint8]]:
    """The three channels of an (H,W,3) image, each contiguous; views where they lie apart already."""
    if image.flags.c_contiguous:
        planes: Sequence[NDArray[np.uint8]] = cv2.split(image)
        return planes
    return [image[..., channel] for channel in range(3)]


def interleaved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The (H,W,3) image, contiguous: what OpenCV and albumentations expect."""
    if image.flags.c_contiguous:
        return image
    merged: NDArray[np.uint8] = cv2.merge([image[..., channel] for channel in range(3)])
    return merged


def assemble(frames: Iterable[Pixels], count: int) -> Batch:
    """The batch of `count` frames, which are taken one by one.

    Raises:
        DataFormatError: the frames have different sizes.
    """
    arrays, cameras, names = fill(frames, lambda first: _new_arrays(first, count))
    return batch_of(arrays, cameras, names)


def batch_of(arrays: Arrays, cameras: Sequence[Tensor], names: list[str]) -> Batch:
    """The batch made of filled arrays, images of floats and a mask among them; it keeps their memory."""
    batch = Batch(
        image=torch.from_numpy(arrays.image),
        depth=torch.from_numpy(arrays.depth)[:, None],
        valid=torch.from_numpy(arrays.valid)[:, None],
        intrinsics=torch.stack(list(cameras)),
        id=names,
    )
    if arrays.labels is not None:
        batch["labels"] = torch.from_numpy(arrays.labels)[:, None]
    if arrays.right is not None and arrays.baseline is not None:
        batch["right"], batch["baseline"] = torch.from_numpy(arrays.right), torch.from_numpy(arrays.baseline)
    return batch


def fill(frames: Iterable[Pixels], arrays_for: Callable[[Pixels], Arrays]) -> tuple[Arrays, list[Tensor], list[str]]:
    """Write frames into arrays, which are asked for with the first of them.

    Raises:
        DataFormatError: the frames have different sizes.
    """
    cameras: list[Tensor] = []
    names: list[str] = []
    for row, frame in enumerate(frames):
        if row == 0:
            arrays, first = arrays_for(frame), frame
        if (frame.planes[0].shape, frame.depth.shape) != (first.planes[0].shape, first.depth.shape):
            pictures, truths = zip(*((each.planes[0].shape, each.depth.shape) for each in (first, frame)), strict=True)
            raise unequal_sizes(pictures, truths, (first.id, frame.id))
        if (frame.labels is None) != (arrays.labels is None):
            raise DataFormatError("of one batch, some frames have labels and some have none", where=frame.id)
        if (frame.right is None) != (arrays.right is None):
            hint = "set stereo of all data sets alike"
            what = "of one batch, some frames are stereo pairs and some are not"
            raise DataFormatError(what, where=frame.id, next_action=hint)
        _write_image(frame.planes, arrays.image[row], mirrored=frame.mirrored)
        _write_depth(frame, arrays.depth[row])
        if arrays.valid is not None:
            np.greater(arrays.depth[row], 0, out=arrays.valid[row])  # now, while the depth is in the cache
        if arrays.labels is not None and frame.labels is not None:
            np.copyto(arrays.labels[row], frame.labels)
        if arrays.right is not None and arrays.baseline is not None and frame.right is not None:
            _write_image(frame.right, arrays.right[row], mirrored=frame.mirrored)
            arrays.baseline[row] = frame.baseline
        cameras.append(frame.intrinsics)
        names.append(frame.id)
    return arrays, cameras, names


def to_floats(planes: Iterable[NDArray[np.uint8]], out: NDArray[np.float32]) -> None:
    """0..255 to [0,1], plane by plane. A conversion and a product take half the time of NumPy's mixed product."""
    for plane, target in zip(planes, out, strict=True):
        np.copyto(target, plane)
        np.multiply(target, _LEVEL, out=target)


def unequal_sizes(
    pictures: Iterable[tuple[int, ...]], truths: Iterable[tuple[int, ...]], names: Sequence[str]
) -> DataFormatError:
    """The error of a batch that cannot be stacked, from the (height, width) of its pictures and of their truths.

    Pictures of evaluation all have `image_size`, and only the truth keeps its own; in training a crop is the size.
    """
    where, sizes = ", ".join(names[:4]), sorted(set(pictures))
    what, hint = "depth maps of different sizes in one batch", "set data.eval_batch_size to 1"
    if len(sizes) > 1:
        what = "pictures of different sizes in one batch"
        hint = "a batch has one size: give the augmentations of all parts of the data the same crop, or none a crop"
    else:
        sizes = sorted(set(truths))
    listed = ", ".join(f"{high}x{wide}" for high, wide in sizes)
    return DataFormatError(f"{what}: {listed}", where=where, next_action=hint)


def _new_arrays(first: Pixels, count: int) -> Arrays:
    image = np.empty((count, 3, *first.planes[0].shape), np.float32)
    depth = np.empty((count, *first.depth.shape), np.float32)
    labels = None if first.labels is None else np.empty(depth.shape, np.uint8)
    made = Arrays(image, depth, labels, np.empty(depth.shape, np.bool_))
    if first.right is None:
        return made
    return made._replace(right=np.empty(image.shape, np.float32), baseline=np.empty(count, np.float32))


def _write_image(planes: Sequence[NDArray[np.uint8]], out: NDArray[Any], *, mirrored: bool) -> None:
    planes = [cv2.flip(plane, 1) for plane in planes] if mirrored else planes
    if out.dtype == np.uint8:
        for plane, target in zip(planes, out, strict=True):
            np.copyto(target, plane)
    else:
        to_floats(planes, out)


def _write_depth(frame: Pixels, out: NDArray[np.float32]) -> None:
    if frame.valid is None:
        _to_metres(cv2.flip(frame.depth, 1) if frame.mirrored else frame.depth, frame.step, out)
        return
    np.copyto(out, frame.depth)
    if not np.array_equal(out != 0, frame.valid):  # NaN and negative numbers are not 0 either
        # as `masked_depth`, whose mixed product takes longer than a conversion in place and a product
        bits = out.view(np.int32)
        np.copyto(bits, frame.valid)
        np.multiply(bits, frame.depth.view(np.int32), out=bits)
    if frame.mirrored:
        cv2.flip(out, 1, dst=out)


def _to_metres(numbers: NDArray[Any], step: np.float32 | None, out: NDArray[np.float32]) -> None:
    np.copyto(out, numbers)
    if step is not None:
        np.multiply(out, step, out=out)
