"""What every data module promises. A data set's test inherits `DataModuleContract` and writes one method.

class TestMine(DataModuleContract):
    def make(self, folder, **settings):
        return MyDataModule(write_my_fake(folder), image_size=(24, 32), **settings)
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mde.data.base import DepthDataModule, DepthDataset, SeededSampler
from mde.protocol import EvalProtocol
from mde.rebuild import Rebuildable, build, spec_of
from mde.types import Batch

KEYS = {"image", "depth", "valid", "intrinsics", "id"}
STEREO_KEYS = {"right", "baseline"}
SPLITS = ("train", "val", "test")


def check_batch(
    batch: Batch, image_size: tuple[int, int], *, native: tuple[int, int] | None = None, stereo: bool = False
) -> None:
    """Keys, shapes, dtypes, ranges and invariants; `native` is the size of the ground truth, if not the image's."""
    assert set(batch) == (KEYS | STEREO_KEYS if stereo else KEYS)
    image, depth, valid, intrinsics = batch["image"], batch["depth"], batch["valid"], batch["intrinsics"]
    count = len(batch["id"])
    assert image.shape == (count, 3, *image_size)
    assert image.dtype == torch.float32
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1
    assert depth.shape == valid.shape == (count, 1, *(native or image_size))
    assert (depth.dtype, valid.dtype) == (torch.float32, torch.bool)
    assert torch.isfinite(depth).all()
    assert (depth[valid] > 0).all()
    assert (depth[~valid] == 0).all()
    assert intrinsics.shape == (count, 3, 3)
    assert intrinsics.dtype == torch.float32
    assert all(isinstance(name, str) for name in batch["id"])
    check_intrinsics(intrinsics, image_size)
    if stereo:
        check_pair(batch)


def check_pair(batch: Batch) -> None:
    """Two pictures of one size and kind, with known cameras that stand apart."""
    right, baseline = batch["right"], batch["baseline"]
    assert right.shape == batch["image"].shape
    assert right.dtype == baseline.dtype == torch.float32
    assert float(right.min()) >= 0
    assert float(right.max()) <= 1
    assert baseline.shape == (len(batch["id"]),)
    assert torch.isfinite(baseline).all()
    assert (baseline > 0).all()
    assert torch.isfinite(batch["intrinsics"]).all()
    assert not torch.equal(right, batch["image"])


def check_intrinsics(intrinsics: torch.Tensor, image_size: tuple[int, int]) -> None:
    """A camera with positive focal lengths and its principal point near the picture, or four NaN."""
    assert (intrinsics[:, 2] == torch.tensor([0.0, 0.0, 1.0])).all()
    numbers = intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    if torch.isnan(numbers).all():
        return
    assert torch.isfinite(numbers).all()
    assert (numbers[:, :2] > 0).all()
    height, width = image_size
    assert ((numbers[:, 2] > -width) & (numbers[:, 2] < 2 * width)).all()
    assert ((numbers[:, 3] > -height) & (numbers[:, 3] < 2 * height)).all()


def same_items(first: Batch, second: Batch) -> bool:
    """True if two items or batches are equal bit for bit (NaN equals NaN)."""
    stereo = STEREO_KEYS & set(first)
    keys = ("image", "depth", "valid", "intrinsics", *sorted(stereo))
    if first["id"] != second["id"] or stereo != STEREO_KEYS & set(second):
        return False
    pairs = [(first[k], second[k]) for k in keys]  # type: ignore[literal-required]
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


def epoch(data: DepthDataModule, number: int = 0) -> list[Batch]:
    """All training batches of one epoch, the way Lightning draws them."""
    loader = data.train_dataloader()
    assert isinstance(loader.sampler, SeededSampler)
    loader.sampler.set_epoch(number)
    return list(loader)


class DataModuleContract:
    """Tests that every data module passes; subclass it and write `make`.

    Attributes:
        stereo: training batches hold pairs; those of evaluation never do.
    """

    stereo = False

    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        """The data module on a tiny fake; `settings` are batch_size, num_workers and seed."""
        raise NotImplementedError

    @pytest.fixture
    def data(self, tmp_path: Path) -> DepthDataModule:
        return self.make(tmp_path, batch_size=2, num_workers=0)

    def test_batches_keep_the_contract(self, data: DepthDataModule) -> None:
        data.setup("fit")
        data.setup("test")
        check_batch(next(iter(data.train_dataloader())), data.image_size, stereo=self.stereo)
        for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
            batch: Batch = next(iter(loader))
            native = data.dataset("val").read(0).depth.shape
            check_batch(batch, data.image_size, native=(native[0], native[1]))

    def test_frames_as_read(self, data: DepthDataModule) -> None:
        for split in SPLITS:
            raw = data.dataset(split).read(0).checked()
            assert raw.intrinsics.shape == (3, 3)
            assert raw.intrinsics.dtype == np.float32
            assert np.isfinite(raw.depth).all()
            assert np.array_equal(raw.valid, raw.depth > 0)
            low, high = data.depth_range
            assert raw.valid.any()
            assert low * 0.1 <= np.median(raw.depth[raw.valid]) <= high  # metres, and not another unit

    def test_evaluation_keeps_the_native_depth(self, data: DepthDataModule) -> None:
        dataset = data.dataset("val")
        raw, item = dataset.read(0), dataset[0]
        assert np.array_equal(item["depth"][0].numpy(), raw.depth)
        assert np.array_equal(item["valid"][0].numpy(), raw.valid)
        assert same_items(item, dataset[len(dataset)])  # nothing random, in no epoch

    def test_no_id_in_two_splits(self, data: DepthDataModule) -> None:
        names = {split: _ids(data.dataset(split)) for split in SPLITS}
        assert all(len(set(ids)) == len(ids) for ids in names.values())
        assert not set(names["train"]) & set(names["val"])
        assert not set(names["train"]) & set(names["test"])

    def test_order_and_augmentation_come_from_the_seed(self, data: DepthDataModule, tmp_path: Path) -> None:
        again = self.make(tmp_path, batch_size=2, num_workers=0)
        assert all(map(same_items, epoch(data), epoch(again)))
        assert all(map(same_items, epoch(data, 3), epoch(again, 3)))
        other = self.make(tmp_path, batch_size=2, num_workers=0, seed=1)
        assert not all(map(same_items, epoch(data), epoch(other)))
        assert not all(map(same_items, epoch(data), epoch(data, 1)))

    def test_workers_change_nothing(self, data: DepthDataModule, tmp_path: Path) -> None:
        with_workers = self.make(tmp_path, batch_size=2, num_workers=2)
        assert all(map(same_items, epoch(data, 1), epoch(with_workers, 1)))

    def test_pickles_also_after_reading(self, data: DepthDataModule) -> None:
        dataset = data.dataset("train")
        item = dataset[0]
        copied: DepthDataset = pickle.loads(pickle.dumps(dataset))
        assert same_items(copied[0], item)

    def test_written_down_and_made_again(self, data: DepthDataModule) -> None:
        again = build(spec_of(data))
        assert isinstance(again, Rebuildable)
        assert isinstance(again, DepthDataModule)
        assert again.protocol == data.protocol
        assert isinstance(again.protocol, EvalProtocol)
        assert _ids(again.dataset("val")) == _ids(data.dataset("val"))


def _ids(dataset: DepthDataset) -> list[str]:
    return [dataset.read(i).id for i in range(len(dataset))]
