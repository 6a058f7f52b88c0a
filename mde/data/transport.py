"""Batches on their way from a loader process to the one that trains.

A process writes the bytes of a batch into one of a few buffers of shared memory, which it uses in turn, and the
receiver makes the floats. Fresh shared memory for every batch, as `torch.utils.data` takes it, costs a page fault for
every 4 kB on both sides: on the machine of ``benchmarks/bench_loader.py`` half as much time as decoding does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.data.pixels import Arrays, Pixels, batch_of, fill, to_floats
from mde.types import Batch

__all__ = ["PackedBatch", "Receiver", "Ring"]

_STAMP = 64  # bytes before the arrays: the number of the batch, and room so that the arrays are aligned


class PackedBatch(NamedTuple):
    """What is sent: a buffer of shared memory, and how to read it."""

    buffer: Tensor  # uint8 (bytes,)
    stamp: int
    size: tuple[int, ...]  # of the images, (H,W)
    native: tuple[int, ...]  # of depth and labels, (h,w)
    labelled: bool
    paired: bool
    intrinsics: list[NDArray[np.float32]]
    id: list[str]
    baseline: NDArray[np.float32] | None


class Ring:
    """The buffers of one sending process.

    Args:
        length: the receiver must be done with a batch before this many more are begun.
    """

    def __init__(self, length: int) -> None:
        self._buffers: list[Tensor | None] = [None] * length
        self._sent = 0

    def pack(self, frames: Iterable[Pixels], count: int) -> PackedBatch:
        """Write `count` frames into the next buffer.

        Raises:
            DataFormatError: the frames have different sizes.
        """
        self._sent += 1
        buffer, about = torch.empty(0, dtype=torch.uint8), ((0,), (0,), False, False)

        def arrays_for(first: Pixels) -> Arrays:
            nonlocal buffer, about
            about = (first.planes[0].shape, first.depth.shape, first.labels is not None, first.right is not None)
            buffer = self._buffer(_bytes(count, *about))
            buffer.numpy()[:8].view(np.int64)[0] = self._sent
            return _arrays(buffer, count, *about)

        arrays, cameras, names = fill(frames, arrays_for)
        matrices = [camera.numpy() for camera in cameras]
        return PackedBatch(buffer, self._sent, *about, matrices, names, arrays.baseline)

    def _buffer(self, size: int) -> Tensor:
        slot = self._sent % len(self._buffers)
        buffer = self._buffers[slot]
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[slot] = torch.empty(size, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        return buffer


class Receiver:
    """Makes batches of what was sent.

    Args:
        buffers: as many as all senders have; they stay mapped into memory.
        pinned: take page-locked memory for images and depth.
    """

    def __init__(self, buffers: int, *, pinned: bool = False) -> None:
        self._mapped: deque[Tensor] = deque(maxlen=buffers)
        self._pinned = pinned

    def unpack(self, packed: PackedBatch) -> Batch:
        """The batch, in memory of its own."""
        self._mapped.append(packed.buffer)
        count = len(packed.id)
        sent = _arrays(packed.buffer, count, packed.size, packed.native, packed.labelled, packed.paired)
        image, depth = self._empty(sent.image.shape), self._empty(sent.depth.shape)
        right = None if sent.right is None else self._empty(sent.right.shape)
        valid = np.empty(depth.shape, np.bool_)
        for row in range(count):  # frame by frame, while it is in the cache
            to_floats(sent.image[row], image[row])
            if right is not None and sent.right is not None:
                to_floats(sent.right[row], right[row])
            np.copyto(depth[row], sent.depth[row])
            np.greater(depth[row], 0, out=valid[row])
        labels = None if sent.labels is None else sent.labels.copy()
        if packed.buffer.numpy()[:8].view(np.int64)[0] != packed.stamp:
            raise RuntimeError("a loader process wrote over a batch that was not yet taken")
        cameras = [torch.from_numpy(matrix) for matrix in packed.intrinsics]
        return batch_of(Arrays(image, depth, labels, valid, right, packed.baseline), cameras, packed.id)

    def _empty(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return torch.empty(shape, dtype=torch.float32, pin_memory=self._pinned).numpy()


def _parts(count: int, size: tuple[int, ...], native: tuple[int, ...]) -> tuple[int, int]:
    """Bytes of the images, up to a multiple of the alignment, and of one channel of labels."""
    image = 3 * count * int(np.prod(size))
    return -(-image // _STAMP) * _STAMP, count * int(np.prod(native))


def _bytes(count: int, size: tuple[int, ...], native: tuple[int, ...], labelled: bool, paired: bool) -> int:
    image, pixels = _parts(count, size, native)
    return _STAMP + (2 if paired else 1) * image + (5 if labelled else 4) * pixels


def _arrays(
    buffer: Tensor, count: int, size: tuple[int, ...], native: tuple[int, ...], labelled: bool, paired: bool
) -> Arrays:
    """The arrays that lie in a buffer: images, right images, depth, labels; and beside it the baselines to come."""
    image, pixels = _parts(count, size, native)
    pictures, rest = np.split(buffer.numpy()[_STAMP:], [(2 if paired else 1) * image])
    views = [part[: 3 * count * int(np.prod(size))].reshape(count, 3, *size) for part in pictures.reshape(-1, image)]
    depth = rest[: 4 * pixels].view(np.float32).reshape(count, *native)
    labels = rest[4 * pixels : 5 * pixels].reshape(count, *native) if labelled else None
    made = Arrays(views[0], depth, labels, None)
    return made._replace(right=views[1], baseline=np.empty(count, np.float32)) if paired else made
