"""Augmentations in order, on one picture or on a stereo pair, and the camera that follows them.

The only file that runs albumentations (2.0.8 is its last MIT release), and only inside functions: its import costs
seconds. A pair is augmented with one draw for both pictures, so that it stays one.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.data.augment import Augmentation, View
from mde.data.dataset import RawSample
from mde.data.io import masked_depth
from mde.data.pixels import interleaved
from mde.errors import ConfigError
from mde.geometry import crop_intrinsics, flip_intrinsics, resize_intrinsics

# albumentations asks the network for a newer version while it is imported; set here, before anyone can import it
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

if TYPE_CHECKING:
    import albumentations as A

__all__ = ["FOLLOWED", "Size", "Views", "require_rectified", "resized_intrinsics", "run_stages", "stages_of"]

Size = tuple[int, int]
"""(height, width) in pixels."""
Params = Mapping[str, Any]


class Views(NamedTuple):
    """What augmentations change of a frame: one picture with its depth, or first the left and then the right one."""

    images: Sequence[NDArray[np.uint8]]
    depths: Sequence[NDArray[np.float32]]
    intrinsics: Tensor
    id: str

    @classmethod
    def of(cls, sample: RawSample, intrinsics: Tensor) -> Views:
        image, depth, right = interleaved(sample.image), masked_depth(sample.depth, sample.valid), sample.right
        if right is None:
            return cls([image], [depth], intrinsics, sample.id)
        other = np.zeros_like(depth) if right.depth is None else right.depth
        return cls([image, interleaved(right.image)], [depth, other], intrinsics, sample.id)

    def mirrored(self) -> Views:
        """Mirrored, the right camera stands to the left of the other one: the pictures change places."""
        return self._replace(images=self.images[::-1], depths=self.depths[::-1])


def stages_of(
    augmentations: Sequence[A.BasicTransform | A.BaseCompose | Augmentation],
) -> list[A.Compose | Augmentation]:
    """Own augmentations one by one, and between them pipelines of albumentations; private copies, all of them."""
    stages: list[A.Compose | Augmentation] = []
    for own, group in groupby(augmentations, lambda each: isinstance(each, Augmentation)):
        listed = copy.deepcopy(list(group))
        stages += listed if own else [_compose(listed)]
    return stages


def run_stages(stages: Sequence[A.Compose | Augmentation], views: Views, rng_seed: int) -> Views:
    """The views after all stages; every draw comes from the seed.

    Raises:
        ConfigError: an augmentation failed, or treated the two pictures of a pair differently.
    """
    for stage, seed in zip(stages, _seeds(rng_seed, len(stages)), strict=True):
        views = _seen(stage, views, seed) if isinstance(stage, Augmentation) else _augment(stage, views, seed)
    return views


def require_rectified(augmentations: Iterable[A.BasicTransform | A.BaseCompose | Augmentation]) -> None:
    """Raise a `ConfigError` for an augmentation after which the rows of a stereo pair would no longer agree.

    Those of albumentations that `TrainTransform` takes are all harmless: none turns a picture.
    """
    for each in augmentations:
        if isinstance(each, Augmentation) and not each.rectified:
            what = f"{type(each).__name__} turns pictures, which takes the rows of a stereo pair apart"
            raise _refused(what, "leave the rotation out (degrees: 0), or set data.stereo to false")


def _seeds(rng_seed: int, stages: int) -> list[int]:
    """One for each stage; the first is the item's own."""
    return [rng_seed] + [int(n) for n in np.random.SeedSequence(rng_seed).generate_state(stages - 1)]


def _seen(stage: Augmentation, views: Views, seed: int) -> Views:
    matrix = views.intrinsics.double().numpy()
    pairs = zip(views.images, views.depths, strict=True)
    seen = [stage(View(image, depth, matrix), np.random.default_rng(seed)) for image, depth in pairs]
    first, last = seen[0], seen[-1]
    same_camera = np.array_equal(first.intrinsics, last.intrinsics, equal_nan=True)
    if not same_camera or first.depth.shape != last.depth.shape or first.mirrored != last.mirrored:
        what = f"{type(stage).__name__} treated the two pictures of {views.id} differently"
        raise _refused(what, "its draws must not depend on the picture; or set data.stereo to false")
    intrinsics = torch.from_numpy(first.intrinsics).to(views.intrinsics.dtype)
    out = Views([view.image for view in seen], [view.depth for view in seen], intrinsics, views.id)
    return out.mirrored() if first.mirrored else out


def _compose(augmentations: Sequence[A.BasicTransform]) -> A.Compose:
    """One pipeline, after each of its transforms was checked; holes of what they fill become holes of the depth."""
    import albumentations as A

    for transform in _leaves(augmentations):
        _check(transform)
        if getattr(transform, "fill_mask", None) is not None:
            transform.fill_mask = 0.0  # what was padded or erased has no depth
    # shapes are checked by RawSample.checked, argument names by the transforms themselves
    return A.Compose(
        augmentations,
        mask_interpolation=cv2.INTER_NEAREST_EXACT,
        save_applied_params=True,
        is_check_shapes=False,
        additional_targets={"right": "image", "right_depth": "mask"},  # same draws for both pictures of a pair
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


def _augment(pipeline: A.Compose, views: Views, rng_seed: int) -> Views:
    # one generator that all transforms draw from in turn: set_random_seed would give each of them the same numbers, so
    # that every mirrored picture also had its colours permuted
    pipeline.set_random_state(np.random.default_rng(rng_seed), random.Random(rng_seed))
    names = list(zip(("image", "right"), ("mask", "right_depth"), strict=True))[: len(views.images)]
    pictures = {name: image for (name, _), image in zip(names, views.images, strict=True)}
    depths = {name: depth for (_, name), depth in zip(names, views.depths, strict=True)}
    try:
        out = pipeline(**pictures, **depths)
    except Exception as error:  # of another's code, of many types: a crop that is larger than the image, for one
        raise _refused(f"an augmentation failed on {views.id}: {error}", "change its settings") from error
    image: NDArray[np.uint8] = out["image"]
    if image.dtype != np.uint8 or image.ndim != 3:
        raise ConfigError(f"an augmentation made the image {image.dtype} {image.shape}", where=views.id)
    applied = out["applied_transforms"]
    intrinsics = _follow(views.intrinsics, applied, image.shape[:2])
    made = Views([out[name] for name in pictures], [out[name] for name in depths], intrinsics, views.id)
    return made.mirrored() if sum(name == "HorizontalFlip" for name, _ in applied) % 2 else made


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
    return resized_intrinsics(crop_intrinsics(intrinsics, left, top), (bottom - top, right - left), after)


def _pad(intrinsics: Tensor, params: Params, before: Size, after: Size) -> Tensor:
    return crop_intrinsics(intrinsics, -params["pad_left"], -params["pad_top"])


def resized_intrinsics(intrinsics: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """Intrinsics (3,3) after a picture of size `before` (height, width) was resized to `after`."""
    if tuple(before) == tuple(after):
        return intrinsics
    return resize_intrinsics(intrinsics, after[1] / before[1], after[0] / before[0])


def _scale(intrinsics: Tensor, params: Params, before: Size, after: Size) -> Tensor:
    return resized_intrinsics(intrinsics, before, after)


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
