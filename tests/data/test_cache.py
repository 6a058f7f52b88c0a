from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mde.data.base import DepthDataModule, DepthDataset, RawSample
from mde.data.cache import CachedDataset, cached, caches, clear, fingerprint
from mde.data.folder import RGBDFolderDataModule
from mde.data.procedural import ProceduralDataModule
from mde.data.store import FrameStore, StoreWriter, encode, known_steps
from mde.data.transforms import EvalTransform, TrainTransform, default_augmentations
from mde.errors import ConfigError, DataFormatError
from mde.types import Batch
from tests.data.contract import DataModuleContract, same_items
from tests.fakes import write_rgbd_folder

FORK = multiprocessing.get_context("fork")
COUNTS = {"train": 5, "val": 2, "test": 2}


def module(root: Path, cache: Path | None = None, **settings: Any) -> RGBDFolderDataModule:
    given: dict[str, Any] = {"depth_scale": 0.001, "image_size": (24, 32), "batch_size": 2} | settings
    return RGBDFolderDataModule(str(root), cache=None if cache is None else str(cache), **given)


class TestCachedFolderContract(DataModuleContract):
    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        root = folder / "data"
        return module(root if root.exists() else write_rgbd_folder(root, COUNTS), folder / "cache", **settings)


class MadeFrames(DepthDataset):
    """Frames of any kind, from memory."""

    def __init__(self, frames: list[RawSample], size: tuple[int, int] | None = None, seed: int = 0) -> None:
        super().__init__(EvalTransform(frames[0].depth.shape) if size is None else TrainTransform(size, None), seed)
        self.frames = frames
        self.reads = 0

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, index: int) -> RawSample:
        self.reads += 1
        return self.frames[index]

    def frame_id(self, index: int) -> str:
        return self.frames[index].id


def frame(index: int, height: int = 6, width: int = 9, *, step: float = 0.001, labels: bool = False) -> RawSample:
    """Every size gives other offsets; garbage lies under the mask; the name is not ASCII."""
    rng = np.random.default_rng(index)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    depth = rng.integers(0, 65536, (height, width)).astype(np.uint16) * np.float32(step)
    valid = depth > 0.3 * 65535 * step
    depth[~valid] = np.nan
    classes = rng.integers(0, 23, (height, width), dtype=np.uint8) if labels else None
    camera = np.array([[90 + index, 0, 4], [0, 91, 3], [0, 0, 1]], np.float32)
    return RawSample(image, depth, valid, camera, f"кадр/{index}", classes)


def check_same_frame(stored: RawSample, given: RawSample) -> None:
    assert stored.id == given.id
    assert np.array_equal(stored.image, given.image)
    assert np.array_equal(stored.valid, given.valid)
    assert stored.depth.tobytes() == np.where(given.valid, given.depth, np.float32(0)).tobytes()
    assert np.array_equal(stored.intrinsics, given.intrinsics, equal_nan=True)
    assert (stored.labels is None) == (given.labels is None)
    assert stored.labels is None or np.array_equal(stored.labels, given.labels)


# --------------------------------------------------------------------------------------------- same pixels as the files


@pytest.mark.parametrize("image_size", [(24, 32), (12, 20), (30, 50)], ids=["native", "smaller", "larger"])
@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_batches_equal_those_of_the_files(tmp_path: Path, image_size: tuple[int, int], suffix: str) -> None:
    root = write_rgbd_folder(tmp_path / "data", COUNTS, depth_suffix=suffix)
    scale = 0.001 if suffix == ".png" else 1.0
    plain = module(root, depth_scale=scale, image_size=image_size)
    fast = module(root, tmp_path / "cache", depth_scale=scale, image_size=image_size)
    assert (plain.in_memory, fast.in_memory) == (False, True)
    assert fast.train_median_depth() == plain.train_median_depth()
    for epoch in range(3):
        for data in (plain, fast):
            data.train_loader = data.train_dataloader()  # type: ignore[attr-defined]
            data.train_loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        assert all(map(same_items, plain.train_loader, fast.train_loader))  # type: ignore[attr-defined]
    for one, other in (
        (plain.val_dataloader(), fast.val_dataloader()),
        (plain.test_dataloader(), fast.test_dataloader()),
    ):
        assert all(map(same_items, one, other))
    assert isinstance(fast.dataset("train"), CachedDataset)
    steps = [FrameStore(path)._records["step"] for path in caches(tmp_path / "cache")]
    assert all((step > 0).all() == (suffix == ".png") for step in steps)


@pytest.mark.parametrize("augmentations", [[A.RandomCrop(9, 11), A.HorizontalFlip(p=0.5)], []])
def test_own_augmentations_see_the_same_frames(tmp_path: Path, augmentations: list[Any]) -> None:
    root = write_rgbd_folder(tmp_path / "data", COUNTS)
    plain, fast = (module(root, cache, augmentations=augmentations) for cache in (None, tmp_path / "cache"))
    for index in range(15):
        assert same_items(plain.dataset("train")[index], fast.dataset("train")[index])


def test_default_augmentations_are_those_of_albumentations() -> None:
    """The fast path draws and does what the list of transforms does, bit for bit."""
    native, listed = TrainTransform((6, 9), None), TrainTransform((6, 9), default_augmentations())
    sample = frame(0)
    items = [(native(sample, seed), listed(sample, seed)) for seed in range(300)]
    assert all(same_items(one, other) for one, other in items)
    assert len({bytes(item["image"].numpy().tobytes()) for item, _ in items}) == 12  # 2 mirrorings of 6 orders


@pytest.mark.parametrize("workers", [0, 2])
def test_unequal_sizes_and_labels(tmp_path: Path, workers: int) -> None:
    frames = [frame(i, 5 + i, 40 - 3 * i, labels=i < 3) for i in range(4)]
    dataset = MadeFrames(frames)
    store = cached(dataset, tmp_path, name="made", settings={})
    for index, given_frame in enumerate(frames):
        check_same_frame(store.read(index), given_frame)
        assert same_items(store[index], dataset[index])
    assert torch.equal(store[1]["labels"][0], torch.from_numpy(frames[1].labels))  # type: ignore[arg-type]
    data = module(tmp_path, num_workers=workers)
    data._datasets["val"], data.eval_batch_size = store, 1
    for index, batch in enumerate(data.val_dataloader()):
        assert same_items(batch, _batched(dataset[index]))
        assert ("labels" in batch) == (index < 3)
    data.eval_batch_size, data.num_workers = 2, 0  # torch takes 5 s to end processes that met an error
    with pytest.raises(DataFormatError, match=r"different sizes.*eval_batch_size to 1"):
        list(data.val_dataloader())


def _batched(item: Batch) -> Batch:
    keys = ("image", "depth", "valid", "intrinsics")
    return Batch(**{key: item[key][None] for key in keys}, id=[str(item["id"])])  # type: ignore[literal-required, typeddict-item]


@settings(max_examples=40, deadline=None, database=None)
@given(
    depth=arrays.arrays(np.float32, (3, 5), elements=st.floats(0, 1000, width=32)),
    codes=arrays.arrays(np.uint16, (3, 5)),
    step=st.sampled_from(known_steps()),
    exact=st.booleans(),
)
def test_any_depth_comes_back_bit_for_bit(
    depth: np.ndarray[Any, Any], codes: np.ndarray[Any, Any], step: float, exact: bool, tmp_path_factory: Any
) -> None:
    given_depth = np.multiply(codes, np.float32(step), dtype=np.float32) if exact else np.abs(depth)
    raw = RawSample(
        np.zeros((3, 5, 3), np.uint8), given_depth, given_depth > 0, np.full((3, 3), np.nan, np.float32), "x"
    )
    path = tmp_path_factory.mktemp("store") / "one"
    path.touch()
    writer = StoreWriter(path, 1, known_steps())
    writer.write(0, raw)
    writer.close()
    writer.finish()
    check_same_frame(FrameStore(path).read(0), raw)
    assert not exact or encode(raw, known_steps())[1]["step"] > 0


# ------------------------------------------------------------------------------------------------------------- the key


def test_the_key_follows_files_and_settings(tmp_path: Path) -> None:
    root = write_rgbd_folder(tmp_path / "data", COUNTS)

    def key(split: str = "train", **given_settings: Any) -> str:
        data = module(root, **given_settings)
        dataset = data.make_dataset(split)
        return fingerprint(dataset, data._frame_settings(dataset, split))

    first = key()
    same: list[dict[str, Any]] = [{"batch_size": 7}, {"num_workers": 2}, {"seed": 5}, {"augmentations": []}]
    assert all(key(**given_settings) == first for given_settings in same)
    other: list[dict[str, Any]] = [
        {"image_size": (12, 16)},
        {"depth_invalid": [7.0]},
        {"infill": "nearest"},
        {"val_fraction": 0.3},
    ]
    keys = [key(**given_settings) for given_settings in other]
    assert len({first, key("val"), *keys}) == len(other) + 2
    image = next((root / "train").rglob("*.jpg"))
    state = image.stat()
    os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    changed = key()
    image.write_bytes(image.read_bytes() + b"\0")
    os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert len({first, changed, key()}) == 3


def test_a_changed_file_makes_a_new_cache_and_the_old_one_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lightning.pytorch")
    root, cache = write_rgbd_folder(tmp_path / "data", COUNTS), tmp_path / "cache"
    module(root, cache).setup("fit")
    before = caches(cache)
    assert sum("Writing 5 decoded frames, about 0.0 MB" in message for message in caplog.messages) == 1
    image = next((root / "train").rglob("*.jpg"))
    shutil.copy(next((root / "val").rglob("*.jpg")), image)
    caplog.clear()
    fresh = module(root, cache)
    fresh.setup("fit")
    (old,) = (path for path in before if "-train-" in path.name)
    assert any(old.name in message and "free to delete" in message for message in caplog.messages)
    assert same_items(fresh.dataset("train")[0], module(root).dataset("train")[0])
    keep = [path for path in caches(cache) if path != old]
    assert clear(cache, keep) == before[old]
    assert list(caches(cache)) == keep
    (cache / "left.partial").touch()
    (cache / "mine.txt").touch()
    clear(cache)
    assert [path.name for path in cache.iterdir() if not path.name.startswith(".")] == ["mine.txt"]


def test_made_frames_depend_on_their_seed(tmp_path: Path) -> None:
    given_settings: dict[str, Any] = {"train_scenes": 2, "val_scenes": 1, "image_size": (12, 16), "preload": False}
    for seed in (0, 1, 0):
        data = ProceduralDataModule(**given_settings, seed=seed, cache=str(tmp_path))
        plain = ProceduralDataModule(**given_settings, seed=seed)
        assert same_items(data.dataset("train")[3], plain.dataset("train")[3])
    assert len(caches(tmp_path)) == 2


def test_filled_depth_is_cached(tmp_path: Path) -> None:
    root = write_rgbd_folder(tmp_path / "data", COUNTS)
    data, plain = module(root, tmp_path / "cache", infill="nearest"), module(root, infill="nearest")
    assert same_items(data.dataset("train")[7], plain.dataset("train")[7])
    assert bool(data.dataset("train")[0]["valid"].all())
    assert not bool(data.dataset("val")[0]["valid"].all())  # the ground truth of this protocol is not filled
    assert data.train_median_depth() == plain.train_median_depth()


# ------------------------------------------------------------------------------------------------- damage and disasters


def damaged(change: Callable[[bytearray], None], path: Path) -> None:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.__delitem__(slice(len(content) - 1, None)),
        lambda content: content.__delitem__(slice(len(content) // 2, None)),
        lambda content: content.clear(),
        lambda content: content.__setitem__(len(content) - 60, content[-60] ^ 1),
    ],
    ids=["a byte short", "half", "empty", "index"],
)
def test_a_damaged_file_is_written_anew(tmp_path: Path, change: Callable[[bytearray], None]) -> None:
    dataset = MadeFrames([frame(i) for i in range(3)])
    path = cached(dataset, tmp_path, name="made", settings={}).store.path
    damaged(change, path)
    with pytest.warns(UserWarning, match="It is written anew"):
        again = cached(dataset, tmp_path, name="made", settings={})
    for index, given_frame in enumerate(dataset.frames):
        check_same_frame(again.read(index), given_frame)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    dataset = MadeFrames([frame(i) for i in range(3)])
    path = cached(dataset, tmp_path, name="made", settings={}).store.path
    damaged(lambda content: content.__setitem__(70, content[70] ^ 1), path)
    store = FrameStore(path)
    check_same_frame(store.read(1), dataset.frames[1])
    with pytest.raises(DataFormatError, match=rf"damaged in frame 0 \[{path}\]. Next: delete the file"):
        store.read(0)


def test_a_full_disk_is_noticed_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("mde.data.cache.shutil.disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(ConfigError, match=r"needs about 0.0 MB, and 0.0 MB are free.*larger disk"):
        cached(MadeFrames([frame(i) for i in range(9)]), tmp_path, name="made", settings={})
    assert not list(tmp_path.glob("made*"))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"set data.cache to a folder"):
        cached(MadeFrames([frame(0)]), tmp_path / "file", name="made", settings={})


def test_an_unreadable_frame_leaves_no_cache(tmp_path: Path) -> None:
    root = write_rgbd_folder(tmp_path / "data", COUNTS)
    images = sorted((root / "train").rglob("*.jpg"))
    images[1].write_bytes(images[1].read_bytes()[:100])
    data = module(root, tmp_path / "cache")
    with pytest.raises(DataFormatError, match=images[1].name):
        data.dataset("train")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]


class Fatal(MadeFrames):
    """Kills its own process in the middle, as a user or the kernel does."""

    def read(self, index: int) -> RawSample:
        if index == len(self) // 2 and self.reads > 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index)


def write_cache(dataset: DepthDataset, folder: Path) -> None:
    cached(dataset, folder, name="made", settings={})


@pytest.mark.parametrize("count", [12, 80], ids=["one process", "with helpers"])
def test_a_killed_writer_is_replaced(tmp_path: Path, count: int) -> None:
    frames = [frame(i) for i in range(count)]
    first = FORK.Process(target=write_cache, args=(Fatal(frames), tmp_path))
    first.start()
    first.join(60)
    assert first.exitcode == -signal.SIGKILL
    assert not caches(tmp_path)
    assert list(tmp_path.glob("*.partial"))
    again = cached(MadeFrames(frames), tmp_path, name="made", settings={})
    for index, given_frame in enumerate(frames):
        check_same_frame(again.read(index), given_frame)
    assert not list(tmp_path.glob("*.partial"))


def test_writers_at_the_same_time_write_once(tmp_path: Path) -> None:
    frames = [frame(i) for i in range(40)]
    inodes = FORK.Queue()

    def run() -> None:
        store = cached(MadeFrames(frames), tmp_path, name="made", settings={})
        inodes.put((store.store.path.stat().st_ino, store.read(39).id))

    processes = [FORK.Process(target=run) for _ in range(4)]
    for process in processes:
        process.start()
    seen = {inodes.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(seen) == 1  # a second writer would have replaced the file
    (path,) = caches(tmp_path)
    assert FrameStore(path).read(0).id == frames[0].id
