"""Mixtures: who is in a batch, that every frame has its turn, processes, resumption, settings that cannot be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.data import MixedDataModule, MixedDataset, ProceduralDataModule
from mde.data.augment import CentreCrop
from mde.data.loading import collate
from mde.data.mixed import MixedSampler, turns
from mde.errors import ConfigError, DataFormatError
from mde.protocol import EvalProtocol
from mde.types import Ambiguity, Batch
from tests.data.contract import DataModuleContract, check_batch, epoch

ALIGNED = EvalProtocol(name="aligned", max_depth=80.0, alignment="disparity_scale_shift")


def world(name: str, scenes: int = 4, **kwargs: Any) -> ProceduralDataModule:
    counts = {"train_scenes": scenes, "val_scenes": 2, "test_scenes": 2}
    return ProceduralDataModule(name, **counts, preload=False, eval_batch_size=2, **kwargs)


def mixture(**kwargs: Any) -> MixedDataModule:
    parts = {"indoors": world("rooms"), "outdoors": world("street", 7)}
    return MixedDataModule(**{"parts": parts, "image_size": (24, 32), **kwargs})


class TestMixture(DataModuleContract):
    def make(self, folder: Path, **settings: Any) -> MixedDataModule:
        return mixture(**settings)

    def test_batches_keep_the_contract(self, data: Any) -> None:
        data.setup("fit")
        data.setup("test")
        for loader in (data.train_dataloader(), *data.val_dataloader(), data.test_dataloader()):
            check_batch(next(iter(loader)), (24, 32))


# ---- composition ---------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 4), st.integers(1, 40))
def test_batches_have_the_shares_exactly_where_they_are_whole(weights, per, batches):
    size = sum(weights) * per
    placed = turns([float(w) / 7 for w in weights], size * batches).reshape(batches, size)
    for row in placed:
        assert [int((row == part).sum()) for part in range(len(weights))] == [w * per for w in weights]


@settings(deadline=None, max_examples=100)
@given(st.floats(0.01, 0.99), st.integers(1, 500))
def test_two_parts_are_never_a_frame_off(share, count):
    placed = turns([share, 1 - share], count)
    assert len(placed) == count
    assert np.abs((placed == 0).cumsum() - share * np.arange(1, count + 1)).max() < 1


def test_a_batch_holds_equal_parts_by_default_and_weighted_ones_on_request():
    for weights, expected in (
        (None, {"indoors": 2, "outdoors": 2}),
        ({"outdoors": 3.0}, {"indoors": 1, "outdoors": 3}),
    ):
        batches = epoch(mixture(batch_size=4, weights=weights))
        assert len(batches) == 11 // 4
        for batch in batches:
            assert Counter(name.partition("/")[0] for name in batch["id"]) == expected
    assert len(epoch(mixture(batch_size=4, epoch_length=40))) == 10


def test_every_frame_has_its_turn_equally_often_over_epochs():
    data = mixture(batch_size=2, epoch_length=10)
    sampler, size = data.sampler(data.dataset("train")), len(data.dataset("train"))
    seen: Counter[int] = Counter()
    items = []
    for number in range(28):  # 140 draws of each part: whole passes through 4 and through 7
        sampler.set_epoch(number)
        items += list(sampler)
    seen.update(item % size for item in items)
    assert {seen[frame] for frame in range(4)} == {35}
    assert {seen[frame] for frame in range(4, 11)} == {20}
    assert len(set(items)) == len(items)  # never a frame with the same augmentation


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_processes_share_the_epoch_and_have_equal_batches(ranks):
    dataset = mixture().dataset("train")
    assert isinstance(dataset, MixedDataset)

    def of_rank(rank: int, number: int) -> list[int]:
        sampler = _with_ranks(dataset, ranks, rank)
        sampler.set_epoch(number)
        assert len(sampler) == len(list(sampler)) == 24 // ranks
        return list(sampler)

    for number in (0, 5):
        drawn = [of_rank(rank, number) for rank in range(ranks)]
        together = [item for each in drawn for item in each]
        assert len(set(together)) == 24  # no frame twice with one augmentation
        parts = [[dataset._place(item % len(dataset))[0] for item in each] for each in drawn]
        assert all(each == parts[0] for each in parts)
        assert parts[0][:4] == [0, 1, 0, 1]


def _with_ranks(dataset: MixedDataset, ranks: int, rank: int) -> MixedSampler:
    """As it is made in a process of so many, without starting them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.distributed.is_initialized", lambda: True)
        patch.setattr("torch.distributed.get_world_size", lambda: ranks)
        patch.setattr("torch.distributed.get_rank", lambda: rank)
        return MixedSampler(dataset, [1.0, 1.0], 24, seed=3)


# ---- parts ---------------------------------------------------------------------------------------------------------


def test_items_are_those_of_the_parts():
    data = mixture()
    dataset = data.dataset("train")
    names = [dataset.frame_id(i) for i in range(len(dataset))]
    assert len(set(names)) == 11
    assert names[3:5] == ["indoors/rooms-train-000003", "outdoors/street-train-000000"]
    own = data.parts["outdoors"].dataset("train").read(2)
    mixed = dataset.read(6)
    assert mixed.id == f"outdoors/{own.id}"
    assert np.array_equal(mixed.depth, own.depth)
    assert data.depth_range == (0.3, 80.0)
    with pytest.raises(IndexError):
        dataset.read(11)


def test_each_part_is_evaluated_as_it_is_alone():
    data = mixture(evaluate="outdoors")
    alone = world("street", 7, image_size=(24, 32))
    assert list(data.protocols) == ["outdoors", "indoors"]
    assert data.protocol == alone.protocol
    for ours, theirs in zip(data.test_dataloader(), alone.test_dataloader(), strict=True):
        assert ours["id"] == theirs["id"]
        assert torch.equal(ours["image"], theirs["image"])
    assert [next(iter(loader))["id"][0].split("-")[0] for loader in data.val_dataloader()] == ["street", "rooms"]
    assert data.train_median_depth() == alone.train_median_depth()
    assert set(data.record()["train"]) == {"indoors", "outdoors"}
    data.evaluate_on("indoors")
    assert next(iter(data.test_dataloader()))["id"][0].startswith("rooms")
    assert data.protocol == data.parts["indoors"].protocol


def test_relative_truth_is_said_and_needs_an_alignment():
    data = mixture(parts={"a": world("rooms"), "b": world("street", truth="affine_disparity", protocol=ALIGNED)})
    assert data.truths == {"data.parts.a": Ambiguity.METRIC, "data.parts.b": Ambiguity.AFFINE_DISPARITY}
    batch = epoch(data)[0]
    relative = next(i for i, name in enumerate(batch["id"]) if name.startswith("b/"))
    depth = batch["depth"][relative][batch["valid"][relative]]
    assert (float(depth.min()), float(depth.max())) == pytest.approx((1.0, 80.0))
    with pytest.raises(ConfigError, match="compares metres"):
        world("street", truth="scale")
    with pytest.raises(ConfigError, match=r"unknown truth 'metres'.*nearest: metric"):
        world("street", truth="metres")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"parts": {}}, "at least one part"),
        ({"parts": {"a/b": world("rooms")}}, "cannot name a part"),
        ({"parts": {"a": mixture()}}, "cannot be part of a mixture"),
        ({"weights": {"outdors": 1.0}}, "which are no parts"),
        ({"weights": {"outdoors": 0.0}}, "above 0"),
        ({"epoch_length": 0}, "at least 1"),
        ({"evaluate": "outdors"}, "outdoors"),
    ],
)
def test_what_cannot_be_mixed_is_said_at_once(wrong, message):
    with pytest.raises(ConfigError, match=message):
        mixture(**wrong)


@pytest.mark.parametrize("workers", [0, 1])
def test_crops_of_different_sizes_are_named(workers: int) -> None:
    """The truth of training has the size of the picture: eval_batch_size is not what is wrong."""
    parts = {"indoors": world("rooms", augmentations=[CentreCrop((20, 28))]), "outdoors": world("street", 7)}
    data = mixture(parts=parts, batch_size=2, num_workers=workers)
    data.setup("fit")
    with pytest.raises(DataFormatError, match=r"pictures of different sizes in one batch: 20x28, 24x32.*the same crop"):
        list(data.train_dataloader())


def test_items_of_different_sizes_are_named() -> None:
    def item(picture: tuple[int, int], truth: tuple[int, int]) -> Batch:
        maps = {"depth": torch.ones(1, *truth), "valid": torch.ones(1, *truth, dtype=torch.bool)}
        return Batch(image=torch.zeros(3, *picture), intrinsics=torch.eye(3), id="a", **maps)  # type: ignore[typeddict-item]

    with pytest.raises(DataFormatError, match=r"depth maps of different sizes in one batch: 5x6, 5x7.*eval_batch_size"):
        collate([item((4, 4), (5, 7)), item((4, 4), (5, 6))])
    with pytest.raises(DataFormatError, match=r"pictures of different sizes in one batch: 4x4, 4x8.*the same crop"):
        collate([item((4, 4), (4, 4)), item((4, 8), (4, 8))])
