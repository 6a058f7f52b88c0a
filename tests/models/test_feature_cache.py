"""The feature cache gives the encoder's features, whatever happens to pictures, weights, files and processes."""

from __future__ import annotations

import copy
import multiprocessing
import os
import time
import warnings
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mde.errors import ConfigError, DataFormatError
from mde.models import (
    DenseDepth,
    Encoder,
)
from mde.models.feature_cache import CachedFeatures, FeatureFolder, fingerprint


class Tiny(Encoder):
    """Two levels; counts the pictures that it computes."""

    def __init__(self, width: int = 4, gain: float = 1.0, frozen_stages: int = -1) -> None:
        self.pictures = 0
        self.gain = gain
        net = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.Conv2d(width, 8, 3, 2, 1))
        super().__init__(net, frozen_stages=frozen_stages)
        self.pictures = 0

    def __setattr__(self, name: str, value: Any) -> None:
        # the count stands beside the module, so that it may be set before the constructor of the base
        object.__setattr__(self, name, value) if name in ("pictures", "gain") else super().__setattr__(name, value)

    def extract(self, x: Tensor) -> list[Tensor]:
        self.pictures += len(x)
        first = self.net[1](self.net[0](x)) * self.gain  # type: ignore[index]
        return [first, self.net[2](first)]  # type: ignore[index]


def cached(encoder: Encoder, folder: Path, **kwargs: Any) -> CachedFeatures:
    encoder.cache = CachedFeatures(FeatureFolder(folder, **kwargs))
    return encoder.cache


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


def assert_close(found: list[Tensor], truth: list[Tensor], rtol: float = 1e-3) -> None:
    assert [f.shape for f in found] == [t.shape for t in truth]
    assert [f.dtype for f in found] == [t.dtype for t in truth]
    assert all(float((f - t).norm()) <= rtol * float(t.norm()) for f, t in zip(found, truth, strict=True))


# ------------------------------------------------------------------------------------------------------------- features


@hypothesis.settings(max_examples=40, deadline=None, database=None)
@hypothesis.given(data=st.data())
def test_whatever_the_augmentation_features_are_those_of_the_pixels(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.mktemp("features")
    torch.manual_seed(0)
    encoder = Tiny()
    cached(encoder, folder)
    pictures = torch.rand(3, 3, 12, 16)
    known: set[bytes] = set()
    for _ in range(4):
        batch = torch.stack(
            [augment(pictures[i], data) for i in data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3))]
        )
        contents = [each.numpy().tobytes() for each in batch]
        encoder.pictures = 0
        found = encoder(batch)
        assert encoder.pictures == sum(content not in known for content in contents)
        known |= set(contents)
        assert_close(found, encoder.compute(batch))
    assert len(files(folder)) == len(known)


def augment(picture: Tensor, data: st.DataObject) -> Tensor:
    """Mirroring, turning, colour order, a changed pixel, a shift, a brightness by the last bit: drawn at random."""
    kind = data.draw(st.sampled_from(["none", "mirror", "turn", "colours", "pixel", "shift", "bit"]))
    if kind == "mirror":
        return picture.flip(-1)
    if kind == "turn":
        return picture.flip(-1, -2)
    if kind == "colours":
        return picture[[2, 0, 1]]
    if kind == "shift":
        return picture.roll(data.draw(st.integers(1, 15)), -1)
    changed = picture.clone()
    if kind == "pixel":
        changed[0, 3, data.draw(st.integers(0, 15))] = 0.5
    if kind == "bit":
        changed[2, 5, 5] = torch.nextafter(changed[2, 5, 5], torch.tensor(2.0))
    return changed


def test_pictures_of_one_content_and_another_shape_are_different(tmp_path: Path) -> None:
    encoder = Tiny()
    cached(encoder, tmp_path)
    image = torch.rand(1, 3, 8, 16)
    for view in (image, image.reshape(1, 3, 16, 8), image.double()):
        encoder.to(view.dtype)
        assert_close(encoder(view), encoder.compute(view))
    assert len(files(tmp_path)) == 3


def test_found_and_computed_are_equal_to_the_bit_so_an_empty_folder_changes_nothing(tmp_path: Path) -> None:
    encoder = Tiny()
    cached(encoder, tmp_path)
    image = torch.rand(2, 3, 16, 16)
    first, second = encoder(image), encoder(image)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(f.requires_grad for f in first)
    assert all(f.is_contiguous(memory_format=torch.channels_last) for f in [*first, *second])


@pytest.mark.parametrize("gain", [1e6, 1e-7, 0.0])
def test_what_half_precision_cannot_hold_is_kept_whole(tmp_path: Path, gain: float) -> None:
    encoder = Tiny(gain=gain)
    cached(encoder, tmp_path)
    image = torch.rand(2, 3, 16, 16)
    truth = encoder.compute(image)
    for _ in range(2):
        assert_close(encoder(image), truth)


def test_autocast_has_features_of_its_own(tmp_path: Path) -> None:
    encoder = Tiny()
    cached(encoder, tmp_path)
    image = torch.rand(1, 3, 16, 16)
    encoder(image)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            assert_close(encoder(image), [f.float() for f in encoder.compute(image)])
    assert len(files(tmp_path)) == 2


def test_compiled_and_averaged_copies_use_it_too(tmp_path: Path) -> None:
    model = DenseDepth(Tiny()).eval()
    image = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        truth = model(image)
        cache = cached(model.encoder, tmp_path)
        copies = (model, torch.compile(model, backend="eager"), AveragedModel(model))
        assert all(float((each(image) - truth).norm()) <= 1e-3 * float(truth.norm()) for each in copies for _ in "ab")
    assert cache.asked == 0  # counted in training only
    assert len(files(tmp_path)) == 2


# ------------------------------------------------------------------------------------------------- weights and settings


def test_other_weights_settings_or_structure_have_another_name() -> None:
    torch.manual_seed(0)
    encoder = Tiny()
    same, scaled, moved = copy.deepcopy(encoder), copy.deepcopy(encoder), copy.deepcopy(encoder)
    scaled.net[0].weight.mul_(1.0001)  # type: ignore[index, union-attr, operator]
    moved.net[1].running_mean += 1e-6  # type: ignore[index, union-attr, operator]
    strided = copy.deepcopy(encoder)
    strided.net[0].stride = (1, 1)  # type: ignore[index, union-attr, assignment]
    other = Tiny(gain=2.0)
    other.load_state_dict(encoder.state_dict())
    names = [fingerprint(each) for each in (encoder, scaled, moved, strided, other)]
    assert len(set(names)) == 5
    assert fingerprint(same) == names[0]


def test_weights_that_change_under_way_never_meet_old_features(tmp_path: Path) -> None:
    encoder = Tiny()
    cached(encoder, tmp_path)
    image = torch.rand(1, 3, 16, 16)
    encoder(image)
    encoder.load_state_dict(Tiny().state_dict())
    assert_close(encoder(image), encoder.compute(image))
    assert len(files(tmp_path)) == 2


def test_an_encoder_that_may_change_is_passed_by(tmp_path: Path) -> None:
    image = torch.rand(1, 3, 16, 16)
    for change in (
        lambda e: e.freeze(0),
        lambda e: e.net[2].requires_grad_(True),
        lambda e: e.net[1].train(),  # statistics that move
    ):
        encoder = Tiny()
        cached(encoder, tmp_path)
        change(encoder)
        encoder.pictures = 0
        encoder(image)
        encoder(image)
        assert encoder.pictures == 2
    assert files(tmp_path) == []


def test_features_of_another_encoder_under_this_ones_name_are_refused(tmp_path: Path) -> None:
    encoder = Tiny()
    cached(encoder, tmp_path)
    image = torch.rand(2, 3, 16, 16)
    encoder(image)
    encoder.gain = 3.0  # as if its code had been changed
    cached(encoder, tmp_path)
    with pytest.raises(DataFormatError, match="delete this folder"):
        encoder(image)


# ---------------------------------------------------------------------------------------------------- files, processes


def test_broken_and_missing_files_are_made_again(tmp_path: Path) -> None:
    encoder = Tiny()
    cached(encoder, tmp_path)
    image = torch.rand(3, 3, 16, 16)
    truth = encoder(image)
    first, second, _ = files(tmp_path)
    first.write_bytes(first.read_bytes()[:-7])
    second.write_bytes(b"")
    encoder.pictures = 0
    cached(encoder, tmp_path)
    again = encoder(image)
    assert encoder.pictures == 3  # two, and one that is compared
    assert_close(again, truth)


def test_leftovers_of_killed_processes_are_never_read_and_swept_out(tmp_path: Path) -> None:
    encoder = Tiny()
    folder = tmp_path / fingerprint(encoder)
    folder.mkdir()
    old, new = folder / ".a.safetensors.1.partial", folder / ".b.safetensors.2.partial"
    for leftover in (old, new):
        leftover.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    cached(encoder, tmp_path)
    encoder(torch.rand(1, 3, 16, 16))
    assert not old.exists()
    assert new.exists()  # another process may be writing it


def _fill(folder: Path, seed: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder = Tiny()
    cached(encoder, folder)
    pictures = torch.rand(12, 3, 16, 16)
    for index in torch.randperm(12, generator=torch.Generator().manual_seed(seed)):
        encoder(pictures[index][None])


@pytest.mark.slow
def test_processes_share_a_folder_and_may_be_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill, args=(tmp_path, seed)) for seed in range(3)]
    for worker in workers:
        worker.start()
    workers[0].kill()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers[1:]] == [0, 0]
    assert len(files(tmp_path)) == 12
    torch.manual_seed(0)
    encoder = Tiny()
    cached(encoder, tmp_path)
    pictures = torch.rand(12, 3, 16, 16)
    encoder.pictures = 0
    assert_close(encoder(pictures), encoder.compute(pictures))
    assert encoder.pictures == 1 + 12  # one compared, and the reference


def test_the_limit_holds_and_is_said_once(tmp_path: Path) -> None:
    encoder = Tiny()
    image = torch.rand(8, 3, 16, 16)
    truth = encoder.compute(image)
    cached(encoder, tmp_path / "probe")
    encoder(image[:1])
    one = files(tmp_path / "probe")[0].stat().st_size
    cached(encoder, tmp_path / "small", size_gb=3.5 * one / 1e9)
    with pytest.warns(UserWarning, match="reached its limit"):
        encoder(image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_close(encoder(image), truth)
    assert len(files(tmp_path / "small")) == 3


def test_a_full_disk_ends_the_writing_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    encoder = Tiny()
    cached(encoder, tmp_path)
    image = torch.rand(2, 3, 16, 16)
    monkeypatch.setattr(os, "replace", no_room)
    with pytest.warns(UserWarning, match="No space left"):
        assert_close(encoder(image), encoder.compute(image))
    assert list(tmp_path.glob("*/*")) == list(tmp_path.glob("*/.*")) == []


def test_size_and_folder_are_checked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="above 0"):
        FeatureFolder(tmp_path, size_gb=0)
    with pytest.raises(ConfigError, match="may write to"):
        FeatureFolder(tmp_path / "file" / "below")
