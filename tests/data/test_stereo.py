"""Stereo pairs: the true disparity explains the right picture by the left one, from the renderer to the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mde.data.augment import Augmentation, CentreCrop, EigenAugmentation, View
from mde.data.base import DepthDataModule
from mde.data.dataset import RawSample, RightView
from mde.data.infill import InfilledDataset, infill
from mde.data.loading import collate, depth_loader
from mde.data.procedural import ProceduralDataModule, ProceduralDataset
from mde.data.shards.items import encode_frame
from mde.data.store import FrameStore, StoreWriter, known_steps
from mde.data.transforms import EvalTransform, TrainTransform, default_augmentations
from mde.data.worlds import BASELINES, make_scene
from mde.data.worlds.raycast import render
from mde.errors import ConfigError, DataFormatError
from mde.types import Batch
from tests.data.contract import DataModuleContract, epoch, same_items

WORLDS = ("rooms", "street")
SIZE = (48, 64)
Map = NDArray[Any]
Transform = Callable[[RawSample, int], Batch]


def pairs(world: str = "street", length: int = 3, size: tuple[int, int] = SIZE, **settings: Any) -> ProceduralDataset:
    settings = {"transform": TrainTransform(size, ()), "baseline": BASELINES[world], **settings}
    return ProceduralDataset(world, "train", length, *size, **settings)


def between(rows: Map, columns: Map) -> Map:
    """(H,W) or (H,W,C) read at real columns (H,W), linearly between the centres of pixels; float64."""
    left = np.clip(np.floor(columns).astype(int), 0, rows.shape[1] - 2)
    share, row = columns - left, np.arange(len(rows))[:, None]
    share = share[..., None] if rows.ndim == 3 else share
    return (1 - share) * rows[row, left] + share * rows[row, left + 1]


def disagreement(left: Map, right: Map, disparity: Map, used: Map) -> float:
    """Mean difference of the left picture and the right one moved by the disparity; the worst fifth may be hidden."""
    columns = np.arange(left.shape[1]) - disparity
    used = used & (columns >= 0) & (columns <= left.shape[1] - 1)
    difference = np.abs(between(right.astype(np.float64), np.where(used, columns, 0)) - left).mean(-1)[used]
    return float(np.sort(difference)[: int(0.8 * len(difference))].mean())


def explained(frames: Sequence[tuple[Map, Map, Map, float, float]]) -> bool:
    """True if fx * baseline / depth explains the pairs better than what lies half a pixel beside it, and than others.

    Each frame: left and right (H,W,3) in [0,255], depth (H,W), fx in pixels, baseline in metres.
    """

    def total(offset: float = 0, factor: float = 1) -> float:
        sums = []
        for left, right, depth, focal_px, baseline in frames:
            used = depth > 0
            true = focal_px * baseline / np.where(used, depth, np.inf)
            sums.append(disagreement(left, right, factor * true + offset, used))
        return float(np.mean(sums))

    others = [total(offset) for offset in (-0.5, 0.5)], [total(factor=factor) for factor in (-1, 0, 0.75, 1.33)]
    return total() < 0.8 * min(others[0]) and total() < 0.8 * min(others[1])


def explained_items(items: Sequence[Batch]) -> bool:
    """`explained`, for items of a batch."""
    frames = []
    for item in items:
        left, right = (255 * item[key].permute(1, 2, 0).numpy() for key in ("image", "right"))  # type: ignore[literal-required]
        focal_px, baseline = float(item["intrinsics"][0, 0]), float(item["baseline"])
        frames.append((left, right, item["depth"][0].numpy(), focal_px, baseline))
    return explained(frames)


# ------------------------------------------------------------------------------------------------------------ rendered


@pytest.mark.parametrize("world", WORLDS)
def test_the_true_disparity_moves_one_picture_onto_the_other(world: str) -> None:
    raws = [pairs(world).read(i).checked() for i in range(3)]
    frames = [(r.image, r.right.image, r.depth, r.intrinsics[0, 0], r.right.baseline) for r in raws if r.right]
    assert explained(frames)
    assert not explained([(right, left, *rest) for left, right, *rest in frames])  # swapped pictures are noticed
    assert not explained([(left, right, depth, 1.2 * focal, base) for left, right, depth, focal, base in frames])


@pytest.mark.parametrize("world", WORLDS)
def test_both_cameras_agree_on_the_points_that_both_see(world: str) -> None:
    """Inverse depth is linear along a row of a plane, so that reading between pixels is exact on planes."""
    for index in range(3):
        raw = pairs(world).read(index).checked()
        assert raw.right is not None
        assert raw.right.depth is not None
        depth, other = (np.where(d > 0, d, 1e9).astype(np.float64) for d in (raw.depth, raw.right.depth))
        columns = np.arange(SIZE[1]) - raw.intrinsics[0, 0] * raw.right.baseline / depth
        inside = raw.valid & (columns >= 0) & (columns <= SIZE[1] - 1)
        ratio = (between(1 / other, np.where(inside, columns, 0)) * depth)[inside]
        assert (np.abs(ratio - 1) < 1e-3).mean() > 0.75
        assert np.median(np.abs(ratio - 1)) < 1e-5
        assert (ratio > 0.95).mean() > 0.95  # what hides a point is nearer; nothing lies behind it


@pytest.mark.parametrize("world", WORLDS)
def test_the_left_picture_does_not_change_with_stereo(world: str) -> None:
    with_pairs, without = pairs(world), pairs(world, baseline=None)
    for index in range(2):
        both, one = with_pairs.read(index), without.read(index)
        assert one.right is None
        assert (both.image.tobytes(), both.depth.tobytes()) == (one.image.tobytes(), one.depth.tobytes())
        assert (both.id, both.intrinsics.tobytes()) == (one.id, one.intrinsics.tobytes())


def test_the_right_camera_is_the_left_one_moved() -> None:
    raw = pairs("street", seed=4).read(1)
    scene, camera = make_scene("street", np.random.default_rng(np.random.SeedSequence((4, 0, 1))), *SIZE)
    moved = replace(camera, position=camera.position + 0.54 * camera.rotation[:, 0])
    image, depth, _ = render(scene, moved, *SIZE)
    assert raw.right is not None
    assert raw.right.depth is not None
    assert np.array_equal(raw.right.image, image)
    assert np.array_equal(raw.right.depth, depth)


def test_rendering_ahead_changes_nothing() -> None:
    fresh, ahead = pairs(), pairs()
    ahead.preload()
    for index in range(3):
        first, second = fresh.read(index).right, ahead.read(index).right
        assert first is not None
        assert second is not None
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.depth, second.depth)
        assert first.baseline == second.baseline == 0.54


class TestStereoRooms(DataModuleContract):
    stereo = True

    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        lengths = {"train_scenes": 5, "val_scenes": 2, "test_scenes": 2}
        return ProceduralDataModule("rooms", **lengths, image_size=(24, 32), stereo=True, preload=False, **settings)


def test_settings_of_the_data_module() -> None:
    own = ProceduralDataModule("rooms", 1, 1, 1, (24, 32), stereo=True, baseline=0.3)
    assert own.dataset("train").read(0).right.baseline == 0.3  # type: ignore[union-attr]
    assert own.dataset("val").read(0).right is None  # evaluation needs no second picture, and does not render it
    assert own.facts()["baseline"] == 0.3
    assert "baseline" not in ProceduralDataModule("rooms").facts()
    with pytest.raises(ConfigError, match=r"baseline of -1.*\[data.baseline\]"):
        ProceduralDataModule("rooms", 1, 1, 1, stereo=True, baseline=-1).dataset("train")
    with pytest.raises(ConfigError, match=r"that of stereo pairs.*set data.stereo to true"):
        ProceduralDataModule("rooms", baseline=0.3)


# --------------------------------------------------------------------------------------------------------------- frames


def coded(height: int = 6, width: int = 9, *, seen: bool = True) -> RawSample:
    """Every pixel of both views is another number."""
    rng = np.random.default_rng(1)
    left, right = rng.permutation(256 * 3)[: 2 * height * width * 3].astype(np.uint8).reshape(2, height, width, 3)
    depth, other = rng.uniform(1, 9, (2, height, width)).astype(np.float32)
    depth[0], other[:, 0] = 0, 0
    camera = np.array([[7, 0, 3.0], [0, 8, 2.5], [0, 0, 1]], np.float32)
    view = RightView(right, 0.25, other if seen else None)
    return RawSample(left, depth, depth > 0, camera, "coded", right=view)


def test_what_is_no_pair_is_refused() -> None:
    raw = coded()
    assert raw.checked() is raw
    right = raw.right
    assert right is not None
    assert right.depth is not None
    wrong = {
        r"right image is uint8 \(6, 8, 3\).*rectified": replace(right, image=right.image[:, 1:]),
        r"right image is float32": replace(right, image=right.image.astype(np.float32)),
        r"right depth must be float32 \(6, 9\), is float64": replace(right, depth=right.depth.astype(np.float64)),
        r"to the right of the left one, got a baseline of -0.5 m.*which picture is the left": replace(
            right, baseline=-0.5
        ),
        r"baseline of nan m": replace(right, baseline=float("nan")),
    }
    for message, view in wrong.items():
        with pytest.raises(DataFormatError, match=message):
            replace(raw, right=view).checked()


# -------------------------------------------------------------------------------------------------------- augmentations


@pytest.mark.parametrize("augmentations", [None, default_augmentations()], ids=["fast", "albumentations"])
@pytest.mark.parametrize("seen", [True, False])
def test_mirroring_swaps_the_pictures(augmentations: Any, seen: bool) -> None:
    raw, transform = coded(seen=seen), TrainTransform((6, 9), augmentations)
    assert raw.right is not None
    sides = set()
    for seed in range(12):
        item = transform(raw, seed)
        image, right = ((255 * item[key]).round().permute(1, 2, 0).numpy() for key in ("image", "right"))  # type: ignore[literal-required]
        mirrored = float(item["intrinsics"][0, 2]) == 9 - 1 - 3
        left_view, right_view = (raw.right.image, raw.image) if mirrored else (raw.image, raw.right.image)
        step = -1 if mirrored else 1
        order = [next(c for c in range(3) if np.array_equal(image[..., k], left_view[:, ::step, c])) for k in range(3)]
        assert np.array_equal(right, right_view[:, ::step][..., order])  # and the colours are exchanged alike
        own = raw.right.depth if mirrored else raw.depth
        expected = np.zeros((6, 9), np.float32) if own is None else own[:, ::step]
        assert np.array_equal(item["depth"][0].numpy(), expected)
        assert np.array_equal(item["valid"][0].numpy(), expected > 0)
        assert float(item["baseline"]) == 0.25
        sides.add(mirrored)
    assert sides == {True, False}


def test_both_ways_to_the_default_augmentation_are_equal() -> None:
    raw = coded()
    fast, slow = TrainTransform((6, 9), None), TrainTransform((6, 9), default_augmentations())
    assert all(same_items(fast(raw, seed), slow(raw, seed)) for seed in range(12))


GEOMETRIC: dict[str, list[Any]] = {
    "none": [],
    "mirrored": [A.HorizontalFlip(p=1)],
    "mirrored twice": [A.HorizontalFlip(p=1), A.RandomCrop(40, 56, p=1), A.HorizontalFlip(p=1)],
    "mirrored in a container": [A.OneOf([A.HorizontalFlip(p=1)], p=1), A.Sequential([A.NoOp()])],
    "upside down": [A.VerticalFlip(p=1)],
    "cropped": [A.RandomResizedCrop((40, 56), scale=(0.6, 0.9), p=1)],
    "padded": [A.PadIfNeeded(56, 72, p=1), A.RandomCrop(48, 64, p=1)],
    "coloured": [A.RandomBrightnessContrast(p=1), A.HueSaturationValue(p=1), A.ChannelShuffle(p=1)],
    "blurred": [A.SomeOf([A.GaussianBlur(p=1), A.RandomGamma(p=1)], n=2)],
    "centre": [CentreCrop((40, 48))],
    "zoomed": [EigenAugmentation(scale=(1.4, 1.4), degrees=0, flip=0)],
    "zoomed and mirrored": [EigenAugmentation(degrees=0, flip=1, crop=(40, 56))],
    "mixed": [A.HorizontalFlip(p=1), EigenAugmentation(degrees=0, flip=1), A.HorizontalFlip(p=1)],
}


@pytest.fixture(scope="module")
def rendered() -> list[RawSample]:
    dataset = pairs(size=(64, 84))
    return [dataset.read(i).checked() for i in range(3)]


@pytest.mark.parametrize("name", list(GEOMETRIC))
def test_pairs_stay_pairs_through_augmentations(name: str, rendered: list[RawSample]) -> None:
    transform = TrainTransform((48, 63), GEOMETRIC[name])
    items = [transform(raw, seed) for seed, raw in enumerate(rendered)]
    assert explained_items(items)
    straight = [transform(replace(raw, right=None), seed) for seed, raw in enumerate(rendered)]
    same = [torch.equal(item["image"], alone["image"]) for item, alone in zip(items, straight, strict=True)]
    swapped = ("mirrored" in name and "twice" not in name) or name == "mixed"
    assert all(same) or (swapped and not any(same))  # unless mirrored, the left picture is as it would be alone


def test_a_resize_of_one_axis_scales_the_disparity(rendered: list[RawSample]) -> None:
    transform = TrainTransform((48, 42), None)
    items = [transform(raw, seed) for seed, raw in enumerate(rendered)]
    assert explained_items(items)
    for item in items:
        assert float(item["intrinsics"][0, 0]) == pytest.approx(float(item["intrinsics"][1, 1]) * 2 / 3)


class _Careless(Augmentation):
    """Mirrors what is bright."""

    def __call__(self, view: View, rng: np.random.Generator) -> View:
        return view._replace(mirrored=bool(view.image[0, 0, 0] > 100))


def test_augmentations_that_break_a_pair_are_refused() -> None:
    turned = [EigenAugmentation(degrees=3)]
    with pytest.raises(ConfigError, match=r"takes the rows of a stereo pair apart.*degrees: 0.*data\.stereo to false"):
        ProceduralDataModule("rooms", stereo=True, augmentations=turned)
    assert ProceduralDataModule("rooms", augmentations=turned).augmentations == turned
    with pytest.raises(ConfigError, match=r"baseline in metres, and the truth is scale.*data\.truth"):
        ProceduralDataModule("rooms", stereo=True, truth="scale", protocol="midas_nyu")
    raw = coded()
    raw.image[0, 0, 0], raw.right.image[0, 0, 0] = 0, 200  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"_Careless treated the two pictures of coded differently"):
        TrainTransform((6, 9), [_Careless()])(raw, 0)


def test_evaluation_sees_the_left_picture_only() -> None:
    item = EvalTransform((6, 9))(coded(), 0)
    assert set(item) == {"image", "depth", "valid", "intrinsics", "id"}


# --------------------------------------------------------------------------------------------------------- on the way


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_carry_both_pictures(workers: int) -> None:
    dataset = pairs("street", 5, (24, 32), transform=TrainTransform((24, 32), None))
    loader = depth_loader(dataset, batch_size=2, num_workers=workers)
    for start, batch in zip((0, 2, 4), loader, strict=True):
        assert same_items(batch, collate([dataset[i] for i in range(start, min(start + 2, 5))]))
        assert batch["baseline"].tolist() == [np.float32(0.54)] * len(batch["id"])
        assert batch["right"].dtype == torch.float32
        batch["right"].add_(1)  # belongs to whoever took it


def test_pairs_and_single_pictures_in_one_batch_are_refused() -> None:
    dataset, single = pairs("rooms", 2, (24, 32)), pairs("rooms", 2, (24, 32), baseline=None)
    read = dataset.read
    dataset.read = lambda index: (read if index else single.read)(index)  # type: ignore[method-assign]
    with pytest.raises(DataFormatError, match="some frames are stereo pairs and some are not"):
        list(depth_loader(dataset, batch_size=2))


@pytest.mark.parametrize("step", [0.001, 0.0])
@pytest.mark.parametrize("seen", [True, False])
def test_stores_keep_pairs_bit_for_bit(tmp_path: Path, step: float, seen: bool) -> None:
    raw = coded(seen=seen)
    assert raw.right is not None
    if step:
        raw.depth = np.round(raw.depth * 1000).astype(np.uint16) * np.float32(step)
        raw.right.depth = None if not seen else np.round(raw.right.depth * 1000).astype(np.uint16) * np.float32(step)
    path = tmp_path / "pairs.frames"
    path.write_bytes(b"")
    writer = StoreWriter(path, 2, known_steps())
    writer.write(0, raw)
    writer.write(1, replace(raw, right=None, id="single"))
    writer.finish()
    writer.close()
    store = FrameStore(path)
    found, single = store.read(0), store.read(1)
    assert (found.id, single.id, single.right) == ("coded", "single", None)
    assert np.array_equal(found.image, raw.image)
    assert np.array_equal(found.depth, raw.depth)
    assert found.right is not None
    assert np.array_equal(found.right.image, raw.right.image)
    assert found.right.baseline == 0.25
    if raw.right.depth is None:
        assert found.right.depth is None
    else:
        assert np.array_equal(found.right.depth, raw.right.depth)
    transform = TrainTransform((6, 9), None)
    assert all(same_items(transform(found, seed), transform(raw, seed)) for seed in range(8))


def test_a_cache_gives_the_same_batches(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"stereo": True, "batch_size": 2, "num_workers": 0, "render_size": (48, 64)}
    made = [
        ProceduralDataModule("rooms", 4, 1, 1, (24, 32), **settings, cache=folder) for folder in (None, str(tmp_path))
    ]
    first, second = (epoch(data, 2) for data in made)
    assert all(map(same_items, first, second))
    assert "right" in first[0]


def test_filled_depth_is_filled_for_both_cameras() -> None:
    dataset = pairs("street", 1)
    raw, filled = dataset.read(0), InfilledDataset(dataset, "nearest").read(0).checked()
    assert raw.right is not None
    assert filled.right is not None
    assert raw.right.depth is not None
    assert filled.right.depth is not None
    assert not raw.right.depth.all()
    right = infill(raw.right.depth, raw.right.depth > 0, raw.right.image, "nearest")
    assert np.array_equal(filled.right.depth, right)
    assert np.array_equal(filled.depth, infill(raw.depth, raw.valid, raw.image, "nearest"))


def test_shards_refuse_pairs() -> None:
    with pytest.raises(ConfigError, match=r"shards hold no stereo pairs.*data\.stereo set to false"):
        encode_frame(coded())
