"""From a frame as it was read to the tensors of a batch: resize, augmentation, intrinsics that follow.

The only file that touches albumentations (2.0.8 is its last MIT release), and only inside functions: its import costs
seconds. The image is interpolated, the depth never: it is resized by nearest neighbour (at pixel centres), and
``valid`` is re-read from it as ``depth > 0``, so the two cannot disagree.
"""

from __future__ import annotations

import copy
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.data.augment import Augmentation, View
from mde.data.dataset import RawSample
from mde.data.io import masked_depth
from mde.data.pixels import Pixels, StoredSample, interleaved, planes_of
from mde.errors import ConfigError
from mde.geometry import crop_intrinsics, flip_intrinsics, resize_intrinsics
from mde.types import Batch

# albumentations asks the network for a newer version while it is imported; set here, before anyone can import it
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

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

Size = tuple[int, int]
"""(height, width) in pixels."""
Params = Mapping[str, Any]


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
        intrinsics = _resized(torch.from_numpy(sample.intrinsics.copy()), sample.image.shape[:2], self.image_size)
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

    def __init__(self, image_size: Size, augmentations: Sequence[A.BasicTransform | Augmentation] | None = ()) -> None:
        self.image_size = _checked_size(image_size)
        self._default = augmentations is None
        self._stages = _stages(augmentations or ())
        crops = [stage.crop for stage in self._stages if isinstance(stage, Augmentation) and stage.crop is not None]
        self._final_size = crops[-1] if crops else self.image_size

    def pixels(self, sample: RawSample, rng_seed: int) -> Pixels:
        sample = _resized_frame(sample, self.image_size)
        intrinsics = torch.from_numpy(sample.intrinsics.copy())
        if self._stages:
            return self._augmented(sample, intrinsics, rng_seed)
        planes = planes_of(sample.image)
        if not self._default:
            return _pixels(sample, planes, intrinsics)
        mirrored, order = _draw(rng_seed)
        intrinsics = flip_intrinsics(intrinsics, self.image_size[1]) if mirrored else intrinsics
        return _pixels(sample, [planes[channel] for channel in order], intrinsics, mirrored=mirrored)

    def _augmented(self, sample: RawSample, intrinsics: Tensor, rng_seed: int) -> Pixels:
        image, depth = interleaved(sample.image), masked_depth(sample.depth, sample.valid)
        for stage, seed in zip(self._stages, _seeds(rng_seed, len(self._stages)), strict=True):
            if isinstance(stage, Augmentation):
                image, depth, intrinsics = _seen(stage, image, depth, intrinsics, seed)
            else:
                image, depth, intrinsics = _augment(stage, image, depth, intrinsics, seed, sample.id)
        intrinsics = _resized(intrinsics, image.shape[:2], self._final_size)
        image, depth = _resize_image(image, self._final_size), _resize_depth(depth, self._final_size)
        return Pixels(planes_of(image), depth, depth > 0, intrinsics, sample.id)


def make_transform(
    split: str, image_size: Size, augmentations: Sequence[A.BasicTransform | Augmentation] | None = None
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


# ---------------------------------------------------------------------------------------------------------- intrinsics


def _flip_columns(intrinsics: Tensor, params: Params, before: Size, after: Size) -> Tensor:
    return flip_intrinsics(intrinsics, before[1])


def _flip_rows(intrinsics: Tensor, params: Params, before: Size, after: Size) -> Tensor:
    out = intrinsics.clone()
    out[..., 1, 2] = (before[0] - 1) - out[..., 1, 2]
    return out


def _crop(intrinsics: Tensor, params: Params, before: Size, after: Size) -> Tensor:
    """Pad (where asked for), cut, and resize what was cut to the size after."""
    if params.get("pad_params"):
        intrinsics = _pad(intrinsics, params["pad_params"], before, after)
    left, top, right, bottom = params["crop_coords"]
    return _resized(crop_intrinsics(intrinsics, left, top), (bottom - top, right - left), after)


def _pad(intrinsics: Tensor, params: Params, before: Size, after: Size) -> Tensor:
    return crop_intrinsics(intrinsics, -params["pad_left"], -params["pad_top"])


def _resized(intrinsics: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    if tuple(before) == tuple(after):
        return intrinsics
    return resize_intrinsics(intrinsics, after[1] / before[1], after[0] / before[0])


def _scale(intrinsics: Tensor, params: Params, before: Size, after: Size) -> Tensor:
    return _resized(intrinsics, before, after)


def _nothing(intrinsics: Tensor, params: Params, before: Size, after: Size) -> Tensor:
    return intrinsics


_Rule = Callable[[Tensor, Params, Size, Size], Tensor]
_RULES: tuple[tuple[_Rule, tuple[str, ...]], ...] = (
    (_flip_columns, ("HorizontalFlip",)),
    (_flip_rows, ("VerticalFlip",)),
    (_crop, ("CenterCrop", "Crop", "RandomCrop", "RandomCropFromBorders", "RandomResizedCrop", "RandomSizedCrop")),
    (_pad, ("Pad", "PadIfNeeded")),
    (_scale, ("LongestMaxSize", "RandomScale", "Resize", "SmallestMaxSize")),
    (_nothing, ("CoarseDropout", "GridDropout", "NoOp")),
)
FOLLOWED: dict[str, _Rule] = {name: rule for rule, names in _RULES for name in names}
"""Albumentations transforms of image and mask whose effect on the camera is known exactly, with the rule for each."""


def _follow(intrinsics: Tensor, applied: Sequence[tuple[str, Params]], size: Size) -> Tensor:
    """Intrinsics after the applied transforms; `size` is the (height, width) after the last of them."""
    sizes = [tuple(params["shape"][:2]) for _, params in applied] + [size]
    for (name, params), before, after in zip(applied, sizes, sizes[1:], strict=False):
        intrinsics = FOLLOWED.get(name, _nothing)(intrinsics, params, before, after)
    return intrinsics


# -------------------------------------------------------------------------------------------------------- augmentation


def _draw(rng_seed: int) -> tuple[bool, list[int]]:
    """Whether to mirror, and the order of the colours: what a pipeline of `default_augmentations` draws."""
    generator = random.Random(rng_seed)
    generator.random()  # by which a pipeline decides whether to run at all: always
    mirrored = generator.random() < 0.5
    order = [0, 1, 2]
    if generator.random() < 0.5:
        generator.shuffle(order)
    return mirrored, order


def _stages(augmentations: Sequence[A.BasicTransform | Augmentation]) -> list[A.Compose | Augmentation]:
    """Own augmentations one by one, and between them pipelines of albumentations; private copies, all of them."""
    stages: list[A.Compose | Augmentation] = []
    for own, group in groupby(augmentations, lambda each: isinstance(each, Augmentation)):
        listed = copy.deepcopy(list(group))
        stages += listed if own else [_compose(listed)]
    return stages


def _seeds(rng_seed: int, stages: int) -> list[int]:
    """One for each stage; the first is the item's own."""
    return [rng_seed] + [int(n) for n in np.random.SeedSequence(rng_seed).generate_state(stages - 1)]


def _seen(
    stage: Augmentation, image: NDArray[np.uint8], depth: NDArray[np.float32], intrinsics: Tensor, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], Tensor]:
    view = stage(View(image, depth, intrinsics.double().numpy()), np.random.default_rng(seed))
    return view.image, view.depth, torch.from_numpy(view.intrinsics).to(intrinsics.dtype)


def _compose(augmentations: Sequence[A.BasicTransform]) -> A.Compose:
    """One pipeline, after each of its transforms was checked; holes of what they fill become holes of the depth."""
    import albumentations as A

    for transform in _leaves(augmentations):
        _check(transform)
        if getattr(transform, "fill_mask", None) is not None:
            transform.fill_mask = 0.0  # what was padded or erased has no depth
    # shapes are checked by RawSample.checked, argument names by the transforms themselves
    return A.Compose(
        augmentations, mask_interpolation=cv2.INTER_NEAREST_EXACT, save_applied_params=True, is_check_shapes=False
    )


def _leaves(transforms: Iterable[Any]) -> list[A.BasicTransform]:
    """The transforms themselves, those inside of containers included."""
    import albumentations as A

    found: list[A.BasicTransform] = []
    for transform in transforms:
        if type(transform) in (A.Compose, A.OneOf, A.RandomOrder, A.Sequential, A.SomeOf):
            found += _leaves(transform.transforms)
        elif isinstance(transform, A.BasicTransform):
            found.append(transform)
        elif isinstance(transform, A.BaseCompose):  # OneOrOther, for one, does not record what it applied
            raise _refused(f"{type(transform).__name__} hides what it did", "use Compose, OneOf, SomeOf or Sequential")
        else:
            raise _refused(
                f"an augmentation is an albumentations transform or an own one, not {type(transform).__name__}",
                "in YAML write class_path: albumentations.HorizontalFlip with init_args, or one of mde.data.augment",
            )
    return found


def _check(transform: A.BasicTransform) -> None:
    """Raise a `ConfigError` for a transform after which image, depth and camera would no longer agree."""
    import albumentations as A

    name = type(transform).__name__
    if isinstance(transform, A.ImageOnlyTransform):
        if isinstance(transform, A.Normalize | A.ToFloat | A.FromFloat):
            raise _refused(
                f"{name} changes the range of the image, which is [0,1] in a batch",
                "leave it out: the encoder normalises by the mean and std of its own weights",
            )
        return
    # an own subclass may move pixels in another way than the class whose rule is known
    if name not in FOLLOWED or type(transform) is not getattr(A, name, None):
        raise _refused(
            f"the camera cannot be followed through {name}",
            f"use transforms of pixel values, or {', '.join(sorted(FOLLOWED))}",
        )
    if getattr(transform, "border_mode", cv2.BORDER_CONSTANT) != cv2.BORDER_CONSTANT:
        raise _refused(f"{name} would fill the border with mirrored depth", "set border_mode to 0")
    if getattr(transform, "area_for_downscale", None) == "image_mask":
        raise _refused(f"{name} would average depth", "set area_for_downscale to image")


def _refused(what: str, next_action: str) -> ConfigError:
    return ConfigError(what, where="augmentations", next_action=next_action)


def _augment(
    pipeline: A.Compose,
    image: NDArray[np.uint8],
    depth: NDArray[np.float32],
    intrinsics: Tensor,
    rng_seed: int,
    name: str,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], Tensor]:
    # one generator that all transforms draw from in turn: set_random_seed would give each of them the same numbers, so
    # that every mirrored picture also had its colours permuted
    pipeline.set_random_state(np.random.default_rng(rng_seed), random.Random(rng_seed))
    try:
        out = pipeline(image=image, mask=depth)
    except Exception as error:  # of another's code, of many types: a crop that is larger than the image, for one
        raise _refused(f"an augmentation failed on {name}: {error}", "change its settings") from error
    new_image: NDArray[np.uint8] = out["image"]
    if new_image.dtype != np.uint8 or new_image.ndim != 3:
        raise ConfigError(f"an augmentation made the image {new_image.dtype} {new_image.shape}", where=name)
    return new_image, out["mask"], _follow(intrinsics, out["applied_transforms"], new_image.shape[:2])


# -------------------------------------------------------------------------------------------------------------- arrays


def _checked_size(image_size: Sequence[int]) -> Size:
    if len(image_size) != 2 or any(int(side) != side or side < 1 for side in image_size):
        raise ConfigError(f"image_size must be (height, width) in pixels, got {image_size}", where="data.image_size")
    return int(image_size[0]), int(image_size[1])


def _pixels(sample: RawSample, planes: Sequence[NDArray[np.uint8]], intrinsics: Tensor, **rest: Any) -> Pixels:
    """These planes with the depth of the sample, in the form in which it is at hand."""
    if isinstance(sample, StoredSample):
        return Pixels(planes, sample.numbers, None, intrinsics, sample.id, step=sample.step, **rest)
    return Pixels(planes, sample.depth, sample.valid, intrinsics, sample.id, **rest)


def _resized_frame(sample: RawSample, size: Size) -> RawSample:
    """The whole frame at another size, without labels; the frame itself where it has that size."""
    before = sample.image.shape[:2]
    if before == size:
        return sample
    depth = _resize_depth(masked_depth(sample.depth, sample.valid), size)
    intrinsics = np.asarray(_resized(torch.from_numpy(sample.intrinsics.copy()), before, size).numpy())
    return RawSample(_resize_image(sample.image, size), depth, depth > 0, intrinsics, sample.id)


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
