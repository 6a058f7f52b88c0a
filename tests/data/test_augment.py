"""What `mde.data.augment` does to a scene, against the scene itself: its points are projected again."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.data.augment import Augmentation, CentreCrop, EigenAugmentation, SparseDepth, View
from mde.data.dataset import RawSample
from mde.data.procedural import ProceduralDataModule
from mde.data.transforms import TrainTransform
from mde.errors import ConfigError
from tests.data.test_transforms import CAMERA, HEIGHT, WIDTH, check_agreement, coded_sample

STILL: dict[str, Any] = {"scale": (1.0, 1.0), "degrees": 0.0, "colour": (1.0, 1.0), "flip": 0.0}


def view_of(sample: RawSample) -> View:
    return View(sample.image, sample.depth, sample.intrinsics.astype(np.float64))


def points(depth: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """(N,3) metres of the known pixels, by the formula."""
    v, u = np.nonzero(depth)
    z = depth[v, u].astype(np.float64)
    rays = np.stack((u, v, np.ones_like(u))) * z
    return (np.linalg.inv(intrinsics) @ rays).T


@settings(max_examples=60, deadline=None)
@given(
    zoom=st.floats(1, 1.8),
    degrees=st.floats(0, 25),
    crop=st.sampled_from([None, (30, 40), (48, 64), (70, 60), (20, 100)]),
    flip=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_points_are_those_of_the_rolled_pressed_scene(
    zoom: float, degrees: float, crop: tuple[int, int] | None, flip: float, seed: int
) -> None:
    """Every pixel of the result, taken back through roll, mirror and zoom, is a pixel of the frame with that depth."""
    source = view_of(coded_sample())
    source = source._replace(depth=np.where(source.depth > 0, source.depth, 0.5).astype(np.float32))
    augmentation = EigenAugmentation((zoom, zoom), degrees, crop, (1.0, 1.0), flip)
    out = augmentation(source, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)  # the same draws
    rng.uniform(zoom, zoom)
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    assert out.depth.shape == out.image.shape[:2] == (crop or (HEIGHT, WIDTH))
    assert out.image.dtype == np.uint8
    assert out.depth.dtype == np.float32
    seen = points(out.depth, out.intrinsics)
    seen[:, 0] *= -1 if flip else 1
    roll = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1 / zoom]])
    original = seen @ np.linalg.inv(roll).T
    pixel = (source.intrinsics @ original.T).T
    pixel = pixel[:, :2] / pixel[:, 2:]
    assert len(pixel) > 0
    found = np.round((original[:, 2] - 1) * 1000).astype(int)
    expected_v, expected_u = np.divmod(found, WIDTH)
    known = np.abs(original[:, 2] - 0.5) > 1e-3
    assert np.abs(pixel[known, 0] - expected_u[known]).max() <= 0.51
    assert np.abs(pixel[known, 1] - expected_v[known]).max() <= 0.51


@settings(max_examples=30, deadline=None)
@given(zoom=st.floats(1, 1.5), degrees=st.floats(0, 20), seed=st.integers(0, 10**6))
def test_image_agrees_with_the_camera(zoom: float, degrees: float, seed: int) -> None:
    source = view_of(coded_sample())
    out = EigenAugmentation((zoom, zoom), degrees, None, (1.0, 1.0), 0.0)(source, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    rng.uniform(zoom, zoom)
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    v, u = np.nonzero(out.depth)
    x = (u - out.intrinsics[0, 2]) / out.intrinsics[0, 0] / zoom
    y = (v - out.intrinsics[1, 2]) / out.intrinsics[1, 1] / zoom
    fx, fy, cx, cy = CAMERA
    u_source = fx * (np.cos(angle) * x + np.sin(angle) * y) + cx
    v_source = fy * (-np.sin(angle) * x + np.cos(angle) * y) + cy
    inner = (u_source > 1) & (u_source < WIDTH - 2) & (v_source > 1) & (v_source < HEIGHT - 2)
    assert np.abs(out.image[v, u, 0] / 3 - u_source)[inner].max() < 0.3  # 3 grey levels a pixel, rounded
    assert np.abs(out.image[v, u, 1] / 3 - v_source)[inner].max() < 0.3


def test_zoom_divides_the_depth_and_keeps_the_focal_length() -> None:
    sample = coded_sample()
    out = EigenAugmentation((1.5, 1.5), 0.0, None, (1.0, 1.0), 0.0)(view_of(sample), np.random.default_rng(3))
    assert np.array_equal(out.intrinsics[:2, :2], sample.intrinsics[:2, :2])
    values = {float(np.float32(d) / np.float32(1.5)) for d in sample.depth.ravel()}
    assert set(out.depth.ravel().tolist()) <= values


def test_a_small_frame_is_resized_to_the_crop_which_leaves_the_depth() -> None:
    sample = coded_sample()
    out = EigenAugmentation(**{**STILL, "crop": (72, 60)})(view_of(sample), np.random.default_rng(0))
    assert out.intrinsics[0, 0] == pytest.approx(CAMERA[0] * 1.5)
    assert set(out.depth.ravel().tolist()) <= set(sample.depth.ravel().tolist())


def test_what_is_turned_in_is_unknown() -> None:
    ones = np.ones((40, 40), np.float32)
    view = View(np.full((40, 40, 3), 200, np.uint8), ones, np.array([[50, 0, 19.5], [0, 50, 19.5], [0, 0, 1.0]]))
    out = next(
        made
        for seed in range(20)
        if (made := EigenAugmentation((1, 1), 45.0, None, (1, 1), 0)(view, np.random.default_rng(seed))).depth[0, 0]
        == 0
    )
    assert out.depth[20, 20] == 1
    assert set(np.unique(out.depth)) == {0.0, 1.0}
    assert (out.image == 200).all()  # no black edge


def test_colour_factors_are_global_and_rounded() -> None:
    sample = coded_sample()
    augmentation = EigenAugmentation(**{**STILL, "colour": (0.8, 1.2)})
    out = augmentation(view_of(sample), np.random.default_rng(5))
    rng = np.random.default_rng(5)
    rng.uniform(1, 1)
    rng.uniform(0, 0)
    factors = rng.uniform(0.8, 1.2, 3)
    assert np.array_equal(out.image, np.clip((sample.image * factors).round(), 0, 255).astype(np.uint8))
    assert np.array_equal(out.depth, sample.depth)


def test_centre_crop_is_the_resize_and_crop_of_paper_1() -> None:
    """Resize(224), CenterCrop(224): short side to 224, the middle of it."""
    sample = coded_sample(72, 128)
    item = TrainTransform((112, 200), [CentreCrop((112, 112))])(sample, 0)
    assert item["image"].shape == (3, 112, 112)
    expected = cv2.resize(sample.image, (200, 112), interpolation=cv2.INTER_LINEAR)[:, 44:156]
    assert np.array_equal((item["image"] * 255).round().numpy().transpose(1, 2, 0), expected)
    assert float(item["intrinsics"][0, 2]) == pytest.approx((CAMERA[2] + 0.5) * 200 / 128 - 0.5 - 44, abs=1e-4)
    small = CentreCrop((60, 60))(view_of(coded_sample(30, 40)), np.random.default_rng(0))
    assert small.depth.shape == (60, 60)
    assert small.intrinsics[0, 0] == CAMERA[0] * 2


@pytest.mark.parametrize("mixed", [False, True])
def test_in_a_pipeline_beside_albumentations(mixed: bool) -> None:
    own = EigenAugmentation(**{**STILL, "crop": (30, 40)})
    listed = [A.HorizontalFlip(p=1), own, A.CenterCrop(28, 36), A.HorizontalFlip(p=1)] if mixed else [own]
    transform = TrainTransform((HEIGHT, WIDTH), listed)
    corners = set()
    for seed in range(8):
        item = transform(coded_sample(), seed)
        assert item["image"].shape[-2:] == item["depth"].shape[-2:] == (30, 40)  # the crop, not image_size
        check_agreement(item, tolerance=1.5 if mixed else 0.5)
        assert torch.equal(item["image"], pickle.loads(pickle.dumps(transform))(coded_sample(), seed)["image"])
        corners.add(tuple(item["intrinsics"][:2, 2].tolist()))
    assert len(corners) > 4


def test_read_only_frames_with_garbage_and_an_unknown_camera() -> None:
    sample = coded_sample()
    sample.depth[~sample.valid] = np.nan
    sample.intrinsics[:2] = np.nan
    for array in (sample.image, sample.depth, sample.valid, sample.intrinsics):
        array.flags.writeable = False
    item = TrainTransform((HEIGHT, WIDTH), [EigenAugmentation(crop=(32, 40))])(sample, 7)
    assert torch.isfinite(item["depth"]).all()
    assert torch.equal(item["valid"], item["depth"] > 0)
    assert torch.isnan(item["intrinsics"][0, 0])
    assert torch.isnan(item["intrinsics"][:2, 2]).all()


@pytest.mark.parametrize("seed", range(4))
def test_sparse_depth_is_scan_lines_of_the_true_depth(seed: int) -> None:
    rng = np.random.default_rng(0)
    view = View(np.zeros((64, 200, 3), np.uint8), rng.uniform(1, 80, (64, 200)).astype(np.float32), np.eye(3))
    out = SparseDepth(rows=4, share=0.3)(view, np.random.default_rng(seed))
    kept = out.depth > 0
    rows = np.nonzero(kept.any(1))[0]
    assert len(rows) == 16
    assert set(np.diff(rows)) == {4}
    assert kept[rows].mean() == pytest.approx(0.3, abs=0.03)
    assert np.array_equal(out.depth[kept], view.depth[kept])
    assert out.image is view.image
    assert (view.depth > 0).all()


def test_sparse_depth_of_a_stereo_pair_leaves_the_pictures() -> None:
    data = ProceduralDataModule("street", 2, 1, 1, image_size=(24, 32), stereo=True, preload=False, batch_size=2)
    plain = data.dataset("train")
    sparse = copy.copy(plain)
    sparse.transform = TrainTransform((24, 32), [SparseDepth(4, 0.5), A.HorizontalFlip(p=1.0)])
    plain.transform = TrainTransform((24, 32), [A.HorizontalFlip(p=1.0)])
    few, all_of_it = sparse[0], plain[0]
    assert torch.equal(few["image"], all_of_it["image"])
    assert torch.equal(few["right"], all_of_it["right"])
    assert 0 < int(few["valid"].sum()) < int(all_of_it["valid"].sum()) / 4
    assert torch.equal(few["depth"][few["valid"]], all_of_it["depth"][few["valid"]])


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"rows": 1.5}, {"share": 0}, {"share": 1.1}])
def test_sparse_depth_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="one pixel of 16"):
        SparseDepth(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"scale": (0.5, 1)}, {"scale": (2, 1)}, {"degrees": 90}, {"colour": (-1, 1)}, {"flip": 2}, {"crop": (0, 4)}],
)
def test_settings_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        EigenAugmentation(**wrong)


def test_it_resolves_in_yaml_beside_albumentations() -> None:
    from jsonargparse import ArgumentParser

    from mde.data.folder import RGBDFolderDataModule

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RGBDFolderDataModule, "data")
    listed = [
        {"class_path": "mde.data.augment.EigenAugmentation", "init_args": {"crop": [24, 32]}},
        {"class_path": "albumentations.ColorJitter"},
    ]
    config = parser.parse_object({"data": {"root": "x", "image_size": [24, 32], "augmentations": listed}})
    data = parser.instantiate_classes(config).data
    first, second = data.augmentations
    assert isinstance(first, Augmentation)
    assert first.crop == (24, 32)
    assert isinstance(second, A.ColorJitter)
    assert data.transform("train")(coded_sample(), 0)["image"].shape == (3, 24, 32)
