from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.data.base import RawSample
from mde.data.transforms import FOLLOWED, EvalTransform, TrainTransform, default_augmentations, make_transform
from mde.errors import ConfigError
from mde.types import Batch

HEIGHT, WIDTH = 48, 64
CAMERA = (70.0, 66.0, 30.5, 25.25)  # fx, fy, cx, cy: nothing central, nothing square
STEP = 3  # grey levels per pixel of the coordinate code


def coded_sample(height: int = HEIGHT, width: int = WIDTH) -> RawSample:
    """Red says the column, green the row, and the depth says both, so that any wrong pixel tells where it came from."""
    v, u = np.mgrid[:height, :width]
    image = np.stack((u * STEP, v * STEP, np.full_like(u, 200)), -1).astype(np.uint8)
    depth = (1 + (u + width * v) / 1000).astype(np.float32)
    valid = (u + v) % 7 > 0
    fx, fy, cx, cy = CAMERA
    intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float32)
    return RawSample(image, np.where(valid, depth, 0).astype(np.float32), valid, intrinsics, "coded")


def check_agreement(item: Batch, mirrored_x: bool = False, mirrored_y: bool = False, tolerance: float = 0.5) -> None:
    """Depth and camera name the same source pixel to half a pixel, and so do image and camera."""
    depth, valid = item["depth"][0].double().numpy(), item["valid"][0].numpy()
    assert valid.any()
    assert (depth[~valid] == 0).all()
    y, x = np.nonzero(valid)
    code = np.round((depth[y, x] - 1) * 1000).astype(int)
    v, u = np.divmod(code, WIDTH)
    k = item["intrinsics"].double().numpy()
    fx, fy, cx, cy = CAMERA
    # a mirrored scene has the same rays with the other sign
    u_seen = (-1 if mirrored_x else 1) * (x - k[0, 2]) / k[0, 0] * fx + cx
    v_seen = (-1 if mirrored_y else 1) * (y - k[1, 2]) / k[1, 1] * fy + cy
    assert np.abs(u_seen - u).max() <= tolerance + 1e-3
    assert np.abs(v_seen - v).max() <= tolerance + 1e-3
    image = item["image"].double().numpy()[:, y, x] * 255
    inner = (u > 1) & (u < WIDTH - 2) & (v > 1) & (v < HEIGHT - 2) & (np.abs(image[2] - 200) < 1)
    assert inner.any()
    assert np.abs(image[0] / STEP - u_seen)[inner].max() <= 0.75  # half a pixel, and the rounding of grey levels
    assert np.abs(image[1] / STEP - v_seen)[inner].max() <= 0.75


@settings(max_examples=40, deadline=None)
@given(height=st.integers(8, 120), width=st.integers(8, 120))
def test_resize_keeps_image_depth_and_camera_together(height: int, width: int) -> None:
    item = TrainTransform((height, width))(coded_sample(), 0)
    assert item["image"].shape == (3, height, width)
    assert item["depth"].shape == item["valid"].shape == (1, height, width)
    check_agreement(item)


GEOMETRIC: dict[str, tuple[list[Any], bool, bool]] = {
    "horizontal flip": ([A.HorizontalFlip(p=1)], True, False),
    "vertical flip": ([A.VerticalFlip(p=1)], False, True),
    "crop": ([A.Crop(3, 5, 50, 33)], False, False),
    "random crop": ([A.RandomCrop(30, 40)], False, False),
    "random crop, padded": ([A.RandomCrop(60, 70, pad_if_needed=True)], False, False),
    "centre crop": ([A.CenterCrop(31, 45)], False, False),
    "centre crop, padded": ([A.CenterCrop(61, 45, pad_if_needed=True, pad_position="top_left")], False, False),
    "crop from borders": ([A.RandomCropFromBorders(0.2, 0.2, 0.2, 0.2)], False, False),
    "random resized crop": ([A.RandomResizedCrop((40, 56), scale=(0.3, 1.0))], False, False),
    "random sized crop": ([A.RandomSizedCrop((20, 36), (48, 64))], False, False),
    "resize": ([A.Resize(60, 70)], False, False),
    "random scale": ([A.RandomScale((-0.3, 0.5))], False, False),
    "longest side": ([A.LongestMaxSize(40)], False, False),
    "smallest side": ([A.SmallestMaxSize(60)], False, False),
    "pad": ([A.Pad((4, 7, 1, 2), fill=0)], False, False),
    "pad if needed": ([A.PadIfNeeded(60, 90, fill=9, fill_mask=9)], False, False),
    "dropout": ([A.CoarseDropout(fill=0, fill_mask=0, p=1)], False, False),
    "grid dropout": ([A.GridDropout(fill_mask=0, p=1)], False, False),
    "nothing": ([A.NoOp()], False, False),
    "a chain": ([A.RandomCrop(30, 44), A.HorizontalFlip(p=1), A.Resize(70, 66), A.PadIfNeeded(80, 80)], True, False),
    "containers": (
        [A.OneOf([A.RandomCrop(30, 44), A.CenterCrop(30, 44)], p=1), A.Sequential([A.HorizontalFlip(p=1)], p=1)],
        True,
        False,
    ),
    "some of": ([A.SomeOf([A.HorizontalFlip(p=1), A.RandomCrop(30, 44)], n=2, p=1)], True, False),
    "nested": ([A.Compose([A.RandomOrder([A.RandomCrop(30, 44), A.HorizontalFlip(p=1)], n=2, p=1)])], True, False),
}


RESAMPLED_TWICE = {"random resized crop", "random sized crop", "random scale", "resize", "longest side"}
RESAMPLED_TWICE |= {"smallest side", "a chain"}


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (36, 52)])
def test_camera_follows_augmentation(name: str, size: tuple[int, int]) -> None:
    augmentations, mirrored_x, mirrored_y = GEOMETRIC[name]
    transform = TrainTransform(size, augmentations)
    # every nearest resize is off by half a pixel of its own source: at most 48/48 + 48/36 + 48/28 halves in three
    once = size == (HEIGHT, WIDTH) and name not in RESAMPLED_TWICE
    for seed in range(6):
        item = transform(coded_sample(), seed)
        assert item["image"].shape[-2:] == item["depth"].shape[-2:] == size
        check_agreement(item, mirrored_x, mirrored_y, tolerance=0.5 if once else 2.05)


def test_every_followed_transform_is_tried() -> None:
    tried = {type(a).__name__ for augmentations, _, _ in GEOMETRIC.values() for a in augmentations}
    assert set(FOLLOWED) <= tried


def test_evaluation_resizes_the_image_and_not_the_truth() -> None:
    sample = coded_sample()
    item = EvalTransform((24, 32))(sample, 0)
    assert item["image"].shape == (3, 24, 32)
    assert np.array_equal(item["depth"][0].numpy(), sample.depth)
    assert np.array_equal(item["valid"][0].numpy(), sample.valid)
    expected = sample.image.reshape(24, 2, 32, 2, 3).mean((1, 3)).transpose(2, 0, 1) / 255  # INTER_AREA by half
    assert np.abs(item["image"].numpy() - expected).max() <= 0.51 / 255
    fx, fy, cx, cy = CAMERA
    truth = [[fx / 2, 0, (cx + 0.5) / 2 - 0.5], [0, fy / 2, (cy + 0.5) / 2 - 0.5], [0, 0, 1]]
    assert np.allclose(item["intrinsics"], truth, atol=1e-5)


def test_unknown_camera_stays_unknown() -> None:
    sample = coded_sample()
    sample.intrinsics[:2] = np.nan
    item = TrainTransform((30, 40), [A.HorizontalFlip(p=1), A.RandomCrop(20, 20)])(sample, 0)
    assert torch.isnan(item["intrinsics"][0, 0])
    assert torch.isnan(item["intrinsics"][1, 2])


def test_garbage_under_the_mask_and_read_only_arrays() -> None:
    clean, dirty = coded_sample(), coded_sample()
    dirty.depth[~dirty.valid] = np.nan
    for array in (dirty.image, dirty.depth, dirty.valid, dirty.intrinsics):
        array.flags.writeable = False
    for transform in (EvalTransform((20, 20)), TrainTransform((20, 20), default_augmentations())):
        a, b = transform(clean, 5), transform(dirty, 5)
        assert all(torch.equal(a[k], b[k]) for k in ("image", "depth", "valid"))  # type: ignore[literal-required]
        a["depth"].add_(1)  # belongs to the caller
    assert np.array_equal(clean.depth, coded_sample().depth)


def test_depth_is_never_mixed() -> None:
    """Also where a transform was asked to interpolate masks."""
    asked = A.Resize(33, 41, mask_interpolation=cv2.INTER_LINEAR)
    item = TrainTransform((33, 41), [asked])(coded_sample(), 0)
    values = set(coded_sample().depth.ravel().tolist())
    assert set(item["depth"].ravel().tolist()) <= values
    assert asked.mask_interpolation == cv2.INTER_LINEAR  # the caller's object is not touched


def test_same_seed_same_item_and_the_choices_are_independent() -> None:
    transform = make_transform("train", (HEIGHT, WIDTH))
    copied = pickle.loads(pickle.dumps(transform))
    seen: Counter[tuple[bool, bool]] = Counter()
    plain = TrainTransform((HEIGHT, WIDTH))(coded_sample(), 0)["image"]
    for seed in range(400):
        item = transform(coded_sample(), seed)
        if seed < 5:
            assert torch.equal(item["image"], copied(coded_sample(), seed)["image"])
        mirrored = bool(item["intrinsics"][0, 2] != CAMERA[2])
        straight = item["image"].flip(-1) if mirrored else item["image"]
        seen[mirrored, not torch.equal(straight, plain)] += 1
    # the identity is one of the six orders: colours change with probability 1/2 * 5/6; 5 sigma = 50 of 400
    expected = {(m, c): 400 * 0.5 * (5 / 12 if c else 7 / 12) for m in (False, True) for c in (False, True)}
    assert all(abs(seen[key] - count) < 50 for key, count in expected.items()), seen


def test_channel_orders_are_uniform() -> None:
    transform = TrainTransform((4, 4), [A.ChannelShuffle(p=1)])
    image = np.zeros((4, 4, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    ones = np.ones((4, 4), np.float32)
    sample = RawSample(image, ones, ones > 0, np.eye(3, dtype=np.float32), "grey")
    pixels = [transform(sample, seed)["image"][:, 0, 0] for seed in range(600)]
    orders = Counter(tuple((pixel * 25.5).round().int().tolist()) for pixel in pixels)
    assert len(orders) == 6
    assert all(60 < count < 140 for count in orders.values()), orders  # 100 each; 4 sigma = 37


def test_image_is_scaled_exactly() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None].repeat(3, 2)
    ones = np.ones((16, 16), np.float32)
    item = EvalTransform((16, 16))(RawSample(image, ones, ones > 0, np.eye(3, dtype=np.float32), "all levels"), 0)
    assert np.abs(item["image"].double().numpy() - image.transpose(2, 0, 1) / 255).max() < 1e-7
    assert float(item["image"].max()) == 1.0


class OwnFlip(A.HorizontalFlip):  # type: ignore[misc]
    """May do anything."""


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (A.Rotate(), "cannot be followed through Rotate.*RandomCrop"),
        (A.Perspective(), "Perspective"),
        (A.Affine(), "Affine"),
        (OwnFlip(), "OwnFlip"),
        (A.OneOf([A.HorizontalFlip(), A.Transpose()]), "Transpose"),
        (A.OneOrOther(A.HorizontalFlip(), A.NoOp()), "OneOrOther hides"),
        (A.Normalize(), "Normalize changes the range"),
        (A.ToFloat(), "ToFloat changes the range"),
        (A.Pad(4, border_mode=cv2.BORDER_REFLECT), "mirrored depth"),
        (A.Resize(4, 4, area_for_downscale="image_mask"), "average depth"),
        ("HorizontalFlip", "not str"),
    ],
)
def test_what_cannot_be_followed_is_refused_at_construction(augmentation: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainTransform((8, 8), [augmentation])


def test_failing_augmentation_and_wrong_size_are_one_line() -> None:
    transform = TrainTransform((20, 20), [A.RandomCrop(30, 30)])
    with pytest.raises(ConfigError, match=r"failed on coded.*[Cc]rop"):
        transform(coded_sample(), 0)
    for size in ((0, 4), (4,), (4.5, 4)):
        with pytest.raises(ConfigError, match="image_size"):
            EvalTransform(size)  # type: ignore[arg-type]


def test_augmentations_resolve_in_yaml() -> None:
    """The annotations of albumentations stand under TYPE_CHECKING, where the command line must still find them."""
    from jsonargparse import ArgumentParser

    from mde.data.folder import RGBDFolderDataModule

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RGBDFolderDataModule, "data")
    flip = {"class_path": "albumentations.HorizontalFlip", "init_args": {"p": 1.0}}
    config = parser.parse_object({"data": {"root": "somewhere", "image_size": [24, 32], "augmentations": [flip]}})
    data = parser.instantiate_classes(config).data
    assert data.image_size == (24, 32)
    assert isinstance(data.augmentations[0], A.HorizontalFlip)
    assert data.augmentations[0].p == 1.0
    item = make_transform("train", data.image_size, data.augmentations)(coded_sample(), 0)
    check_agreement(item, mirrored_x=True)
    nested = {"class_path": "albumentations.Compose", "init_args": {"transforms": [flip]}}
    config = parser.parse_object({"data": {"root": "somewhere", "image_size": [24, 32], "augmentations": [nested]}})
    (compose,) = parser.instantiate_classes(config).data.augmentations
    assert isinstance(compose, A.Compose)
    check_agreement(make_transform("train", data.image_size, [compose])(coded_sample(), 0), mirrored_x=True)
