from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mde.data.base import DepthDataset, RawSample
from mde.data.loading import depth_loader
from mde.data.pixels import Pixels, assemble
from mde.data.transforms import EvalTransform, TrainTransform
from mde.data.transport import Receiver, Ring
from mde.errors import DataFormatError
from mde.types import Batch
from tests.data.contract import same_items


class Numbered(DepthDataset):
    """Frame i says i everywhere; frames after `classes` have no labels."""

    def __init__(self, transform: Any, count: int, classes: int = 0) -> None:
        super().__init__(transform)
        self.count, self.classes = count, classes

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> RawSample:
        rng = np.random.default_rng(index)
        image = np.full((5, 7, 3), index, np.uint8)
        depth = np.where(rng.random((5, 7)) < 0.3, 0, 1 + index).astype(np.float32)
        labels = np.full((5, 7), index, np.uint8) if index < self.classes else None
        return RawSample(image, depth, depth > 0, np.eye(3, dtype=np.float32) * (1 + index), str(index), labels)


def formula(batch: Batch) -> None:
    """Every number of the batch, from the ids alone."""
    for row, name in enumerate(batch["id"]):
        number, hole = int(name), np.random.default_rng(int(name)).random((5, 7)) < 0.3
        assert (batch["image"][row] == np.float32(number) * np.float32(1 / 255)).all()
        assert np.array_equal(batch["depth"][row, 0].numpy(), np.where(hole, 0, 1 + number))
        assert np.array_equal(batch["valid"][row, 0].numpy(), ~hole)
        assert (batch["intrinsics"][row].numpy() == np.eye(3) * (1 + number)).all()
        assert "labels" not in batch or (batch["labels"][row] == number).all()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_own_their_memory(workers: int) -> None:
    """More batches than there are buffers, all kept; sizes of batches that change; passes that were left early."""
    dataset = Numbered(EvalTransform((5, 7)), 50, classes=50)
    loader = depth_loader(dataset, batch_size=3, num_workers=workers, persistent_workers=workers > 0)
    for taken in (4, 1, 17, 17):
        batches = list(islice(iter(loader), taken))
        assert [len(batch["id"]) for batch in batches] == ([3] * 16 + [2])[:taken]
        for batch in batches:
            formula(batch)
            assert "labels" in batch
            batch["image"].add_(1)  # belongs to whoever took it


def test_a_batch_that_was_written_over_is_noticed() -> None:
    frames = [pixels(i) for i in range(2)]
    ring, receiver = Ring(1), Receiver(1)
    first = ring.pack(frames, 2)
    assert same_items(receiver.unpack(first), assemble(frames, 2))
    ring.pack(frames[::-1], 2)
    with pytest.raises(RuntimeError, match="wrote over"):
        receiver.unpack(first)


def pixels(index: int) -> Pixels:
    transform = TrainTransform((5, 7), None)
    return transform.pixels(Numbered(transform, 9).read(index), index)


def test_buffers_grow_and_are_used_again() -> None:
    ring, receiver = Ring(2), Receiver(2)
    small, large = [pixels(0)], [pixels(i) for i in range(6)]
    places = []
    for frames in (small, small, large, small, small, large):
        packed = ring.pack(frames, len(frames))
        places.append(packed.buffer.data_ptr())
        assert same_items(receiver.unpack(packed), assemble(frames, len(frames)))
    assert places[2] == places[4]
    assert places[0] != places[2]


def test_any_transform_will_do() -> None:
    """A function that makes items itself goes the ordinary way."""
    own = EvalTransform((5, 7))
    batches = depth_loader(Numbered(lambda sample, seed: own(sample, seed), 4), batch_size=2)
    for batch, expected in zip(batches, depth_loader(Numbered(own, 4), batch_size=2), strict=True):
        assert same_items(batch, expected)
        formula(batch)


def test_labels_of_some_frames_only_are_refused() -> None:
    loader = depth_loader(Numbered(EvalTransform((5, 7)), 4, classes=3), batch_size=4)
    with pytest.raises(DataFormatError, match=r"some frames have labels.*\[3\]"):
        list(loader)


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted on Linux")
def test_freed_memory_is_kept() -> None:
    """A block of 40 MB that was freed is used again without a page fault for each of its 10 000 pages."""
    script = (
        "import resource, sys, numpy\n"
        "from mde.cli.environment import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "numpy.ones(10_000_000, numpy.float32)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(5): numpy.ones(10_000_000, numpy.float32)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, 'torch' in sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    faults = {}
    for setting in ({}, {"MALLOC_TOP_PAD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}):
        done = subprocess.run(
            [sys.executable, "-c", script], env=setting, cwd=root, capture_output=True, text=True, check=True
        )
        count, torch_loaded = done.stdout.split()
        assert torch_loaded == "False"
        faults[len(setting)] = int(count)
    assert faults[2] > 10 * (faults[0] + 1)  # and the user's own setting stays
