"""From a frame as it was read to the tensors of a batch: resize, augmentation, intrinsics that follow.

The image is interpolated, the depth never: it is resized by nearest neighbour (at pixel centres), and ``valid`` is
re-read from it as ``depth > 0``, so the two cannot disagree. Augmentations are run by `mde.data.stages`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.data.augment import Augmentation
from mde.data.dataset import RawSample, RightView
from mde.data.io import masked_depth
from mde.data.pixels import Pixels, StoredSample, interleaved, planes_of
from mde.data.stages import FOLLOWED, Size, Views, resized_intrinsics, run_stages, stages_of
from mde.errors import ConfigError
from mde.geometry import flip_intrinsics
from mde.types import Batch

if TYPE_CHECKING:
    import albumentations as A

__all__ = [
    "FOLLOWED",
    "EvalTransform",
    "PixelTransform",
    "SampleTransform",
    "TrainTransform",
    "default_augmentations",
    "make_transform",
    "resized_frame",
]


class SampleTransform(Protocol):
    """Turns a frame into one item of a `Batch`.

    Returned are image float32 (3,H,W) in [0,1], depth float32 (1,h,w) in metres, valid bool (1,h,w), intrinsics float32
    (3,3) in pixels of the image, and the id (a str). `rng_seed` is the only source of randomness.
    """

    def __call__(self, sample: RawSample, rng_seed: int) -> Batch: ...


class PixelTransform(ABC):
    """A `SampleTransform` in two steps: what is done to the pixels as bytes, and the item of floats made of them.

    A loader takes the first step alone and writes the floats straight into its batch.
    """

    @abstractmethod
    def pixels(self, sample: RawSample, rng_seed: int) -> Pixels:
        """The frame after resizing and augmentation; its arrays may be views of those of the sample."""

    def __call__(self, sample: RawSample, rng_seed: int) -> Batch:
        return self.pixels(sample, rng_seed).item()


class EvalTransform(PixelTransform):
    """Resize the image to the network's input; depth and mask keep their native size. Nothing is random.

    Args:
        image_size: (height, width) of the network's input.

    Raises:
        ConfigError: the size is not two positive integers.
    """

    def __init__(self, image_size: Size) -> None:
        self.image_size = _checked_size(image_size)

    def pixels(self, sample: RawSample, rng_seed: int) -> Pixels:
        image = _resize_image(sample.image, self.image_size)
        intrinsics = resized_intrinsics(
            torch.from_numpy(sample.intrinsics.copy()), sample.image.shape[:2], self.image_size
        )
        return _pixels(sample, planes_of(image), intrinsics, labels=sample.labels)


class TrainTransform(PixelTransform):
    """Resize the whole frame to `image_size`, augment it, and keep the intrinsics exact through both.

    Args:
        image_size: (height, width) of the network's input. An augmentation that ends at another size, such as a crop,
            is followed by one more resize.
        augmentations: those of `mde.data.augment` and albumentations transforms, in order. Of the latter, every
            transform of pixel values is allowed, and of those that move pixels the ones listed in `FOLLOWED`;
            ``Compose``, ``OneOf``, ``RandomOrder``, ``Sequential`` and ``SomeOf`` may hold them. The objects are
            copied. None means those of `default_augmentations`, drawn and applied without albumentations: the same
            pixels in less time. The `crop` of an own one, the last if there are several, is the size of the result
            instead of `image_size`.

    Raises:
        ConfigError: the size is not two positive integers, or an augmentation would break the contract of a batch.
    """

    def __init__(
        self, image_size: Size, augmentations: Sequence[A.BasicTransform | A.BaseCompose | Augmentation] | None = ()
    ) -> None:
        self.image_size = _checked_size(image_size)
        self._default = augmentations is None
        self._stages = stages_of(augmentations or ())
        crops = [stage.crop for stage in self._stages if isinstance(stage, Augmentation) and stage.crop is not None]
        self._final_size = crops[-1] if crops else self.image_size

    def pixels(self, sample: RawSample, rng_seed: int) -> Pixels:
        sample = _resized_frame(sample, self.image_size)
        intrinsics = torch.from_numpy(sample.intrinsics.copy())
        if self._stages:
            return self._augmented(sample, intrinsics, rng_seed)
        planes = planes_of(sample.image)
        mirrored, order = _draw(rng_seed) if self._default else (False, [0, 1, 2])
        intrinsics = flip_intrinsics(intrinsics, self.image_size[1]) if mirrored else intrinsics
        made = _pixels(sample, [planes[channel] for channel in order], intrinsics, mirrored=mirrored)
        return made if sample.right is None else _paired(made, sample.right, order)

    def _augmented(self, sample: RawSample, intrinsics: Tensor, rng_seed: int) -> Pixels:
        views = run_stages(self._stages, Views.of(sample, intrinsics), rng_seed)
        intrinsics = resized_intrinsics(views.intrinsics, views.images[0].shape[:2], self._final_size)
        planes = [planes_of(_resize_image(image, self._final_size)) for image in views.images]
        depth = _resize_depth(views.depths[0], self._final_size)
        made = Pixels(planes[0], depth, depth > 0, intrinsics, sample.id)
        return made if sample.right is None else made._replace(right=planes[1], baseline=sample.right.baseline)


def make_transform(
    split: str, image_size: Size, augmentations: Sequence[A.BasicTransform | A.BaseCompose | Augmentation] | None = None
) -> SampleTransform:
    """The transform of a split: of "train" with augmentation (None: the default ones), of all others without."""
    if split != "train":
        return EvalTransform(image_size)
    return TrainTransform(image_size, augmentations)


def resized_frame(sample: RawSample, at_most: Size) -> RawSample:
    """The frame as `TrainTransform` of this size begins with it; the frame itself, where that is not smaller."""
    height, width = sample.depth.shape
    return _resized_frame(sample, at_most) if at_most[0] * at_most[1] < height * width else sample


def default_augmentations() -> list[A.BasicTransform]:
    """Mirroring and a permutation of the colour channels, each with probability 0.5.

    The permutation is drawn uniformly from all six orders, the identity included, as in DenseDepth (Alhashim & Wonka,
    "High Quality Monocular Depth Estimation via Transfer Learning", 2018, section 3.3).
    """
    import albumentations as A

    return [A.HorizontalFlip(p=0.5), A.ChannelShuffle(p=0.5)]


# ------------------------------------------------------------------------------------------------------------ helpers


def _draw(rng_seed: int) -> tuple[bool, list[int]]:
    """Whether to mirror, and the order of the colours: what a pipeline of `default_augmentations` draws."""
    generator = random.Random(rng_seed)
    generator.random()  # by which a pipeline decides whether to run at all: always
    mirrored = generator.random() < 0.5
    order = [0, 1, 2]
    if generator.random() < 0.5:
        generator.shuffle(order)
    return mirrored, order


def _checked_size(image_size: Sequence[int]) -> Size:
    if len(image_size) != 2 or any(int(side) != side or side < 1 for side in image_size):
        raise ConfigError(f"image_size must be (height, width) in pixels, got {image_size}", where="data.image_size")
    return int(image_size[0]), int(image_size[1])


def _pixels(sample: RawSample, planes: Sequence[NDArray[np.uint8]], intrinsics: Tensor, **rest: Any) -> Pixels:
    """These planes with the depth of the sample, in the form in which it is at hand."""
    if isinstance(sample, StoredSample):
        return Pixels(planes, sample.numbers, None, intrinsics, sample.id, step=sample.step, **rest)
    return Pixels(planes, sample.depth, sample.valid, intrinsics, sample.id, **rest)


def _paired(left: Pixels, right: RightView, order: Sequence[int]) -> Pixels:
    """A frame with its right picture, whose colours get the same order.

    Mirrored, the right camera stands to the left of the other one: the pictures change places, and the depth is that of
    the right camera, which is unknown if the source does not have it.
    """
    planes = planes_of(right.image)
    planes = [planes[channel] for channel in order]
    if not left.mirrored:
        return left._replace(right=planes, baseline=right.baseline)
    depth = np.zeros(planes[0].shape, np.float32) if right.depth is None else right.depth
    return left._replace(planes=planes, right=left.planes, baseline=right.baseline, depth=depth, valid=None, step=None)


def _resized_frame(sample: RawSample, size: Size) -> RawSample:
    """The whole frame at another size, without labels; the frame itself where it has that size."""
    before = sample.image.shape[:2]
    if before == size:
        return sample
    depth = _resize_depth(masked_depth(sample.depth, sample.valid), size)
    intrinsics = np.asarray(resized_intrinsics(torch.from_numpy(sample.intrinsics.copy()), before, size).numpy())
    right = sample.right
    if right is not None:
        seen = None if right.depth is None else _resize_depth(right.depth, size)
        right = RightView(_resize_image(right.image, size), right.baseline, seen)
    return RawSample(_resize_image(sample.image, size), depth, depth > 0, intrinsics, sample.id, right=right)


def _resize_image(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    if image.shape[:2] == size:
        return image
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    # INTER_AREA averages all source pixels (no aliasing), but only when shrinking
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    out: NDArray[np.uint8] = cv2.resize(interleaved(image), size[::-1], interpolation=interpolation)
    return out


def _resize_depth(depth: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    if depth.shape == size:
        return depth
    # plain INTER_NEAREST samples at pixel corners, half a source pixel off
    out: NDArray[np.float32] = cv2.resize(depth, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return out
