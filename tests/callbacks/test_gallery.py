"""The images that a test keeps: the right ones, as they were scored, however many there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mde.callbacks.gallery import Gallery
from mde.data.base import collate
from mde.errors import ConfigError
from mde.models import UNet
from mde.protocol import EvalProtocol
from mde.report.samples import Samples, read_samples
from mde.types import Ambiguity
from tests.models.tester import make_batch, make_trainer

COUNT = 11
PROTOCOL = EvalProtocol(max_depth=60.0)


class Known(UNet):
    """Predicts 1 / `factor` of the red of a picture times its blue, so that the errors are known."""

    factor = 10.0

    def raw(self, image: Tensor) -> Tensor:
        return self.codec.encode(image[:, :1] * self.factor * (1 + image[:, 2:].mean((-2, -1), keepdim=True)))


class KnownDisparity(Known):
    ambiguity = Ambiguity.AFFINE_DISPARITY

    def raw(self, image: Tensor) -> Tensor:
        return self.codec.encode(3.0 / (image[:, :1] * self.factor) + 0.5)


def loader_of(blues: list[float], **kwargs: Any) -> DataLoader[Any]:
    batch = make_batch(len(blues), **kwargs)
    batch["image"][:, 2] = torch.tensor(blues)[:, None, None]
    items = [{key: value[i] for key, value in batch.items()} for i in range(len(blues))]  # type: ignore[index]
    return DataLoader(items, batch_size=3, collate_fn=collate)  # type: ignore[arg-type]


def kept_by(tmp_path: Path, model: UNet, blues: list[float], **kwargs: Any) -> Samples:
    gallery = Gallery(tmp_path, **{"images": 3, "worst": 2, **kwargs})
    make_trainer(tmp_path, callbacks=[gallery]).test(model, loader_of(blues), verbose=False)
    found = read_samples(tmp_path)
    assert found is not None
    return found


def known(protocol: EvalProtocol = PROTOCOL, kind: type[Known] = Known) -> Known:
    return kind((4, 8), protocol=protocol, depth_range=(1e-2, 200.0)).eval()


BLUES = [0.1, 0.3, 0.9, 0.2, 0.15, 0.5, 0.25, 0.8, 0.4, 0.05, 0.6]


def test_it_keeps_the_spread_images_and_the_worst(tmp_path: Path) -> None:
    found = kept_by(tmp_path, known(), BLUES)
    assert [image.position for image in found.images] == [0, 2, 5, 7, 10]
    assert [image.position for image in found.images if image.spread] == [0, 5, 10]
    assert [image.position for image in found.images if image.worst] == [2, 7]
    assert [image.id for image in found.images] == [f"sample-0-{n}" for n in (0, 2, 5, 7, 10)]
    expected = [BLUES[image.position] for image in found.images]  # the prediction is 1 + blue times the truth
    assert [image.abs_rel for image in found.images] == pytest.approx(expected, rel=1e-4)
    assert found.fingerprint == PROTOCOL.fingerprint
    assert len(list((tmp_path / "samples").iterdir())) == 2 * 5 + 1  # those that were displaced are gone


def test_a_sample_is_what_was_scored(tmp_path: Path) -> None:
    found = kept_by(tmp_path, known(), BLUES)
    batch = make_batch(COUNT)
    for image in found.images:
        sample = found.read(image.id)
        assert sample is not None
        depth, valid = (batch[key][image.position, 0].numpy() for key in ("depth", "valid"))  # type: ignore[literal-required]
        np.testing.assert_allclose(sample.depth, depth, rtol=1e-3)
        np.testing.assert_array_equal(sample.counted, valid)
        error = np.abs(sample.pred - sample.depth)[sample.counted] / sample.depth[sample.counted]
        assert error.mean() == pytest.approx(image.abs_rel, rel=5e-3)


def test_a_relative_prediction_is_kept_after_its_alignment(tmp_path: Path) -> None:
    protocol = EvalProtocol(max_depth=60.0, alignment="disparity_scale_shift")
    found = kept_by(tmp_path, known(protocol, KnownDisparity), BLUES)
    assert found.ambiguity == "affine_disparity"
    sample = found.read("sample-0-5")
    assert sample is not None
    np.testing.assert_allclose(sample.pred[sample.counted], sample.depth[sample.counted], rtol=2e-3)


def test_a_second_test_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    kept_by(tmp_path, known(), BLUES)
    found = kept_by(tmp_path, known(), BLUES[::-1][:4], images=1, worst=1)
    assert [image.position for image in found.images] == [0, 3]
    assert len(list((tmp_path / "samples").glob("*.npz"))) == 2


@pytest.mark.parametrize(("images", "worst"), [(0, 3), (3, 0), (0, 0), (50, 50)])
def test_bounds_are_kept(tmp_path: Path, images: int, worst: int) -> None:
    found = kept_by(tmp_path, known(), BLUES, images=images, worst=worst)
    assert sum(image.spread for image in found.images) == min(images, COUNT)
    assert sum(image.worst for image in found.images) == min(worst, COUNT)


def test_an_image_without_truth_is_no_worst_image(tmp_path: Path) -> None:
    gallery, loader = Gallery(tmp_path, images=1, worst=9), loader_of(BLUES[:4])
    loader.dataset[0]["valid"][:] = False
    loader.dataset[0]["depth"][:] = 0
    make_trainer(tmp_path, callbacks=[gallery]).test(known(), loader, verbose=False)
    found = read_samples(tmp_path)
    assert found is not None
    assert [image.worst for image in found.images] == [False, True, True, True]
    assert np.isnan(found.images[0].abs_rel)


def test_wide_maps_are_thinned_and_the_camera_with_them(tmp_path: Path) -> None:
    found = kept_by(tmp_path, known(), BLUES, width=16)
    sample = found.read("sample-0-0")
    assert sample is not None
    assert sample.depth.shape == (10, 16)  # squares of 3 in 32 x 48
    np.testing.assert_allclose(sample.intrinsics[0, 0], 1 / 3)


def test_two_processes_keep_what_one_keeps(tmp_path: Path) -> None:
    """Both are played in turn: each deals with its cards, then the tables are joined as `all_gather` joins them."""
    alone = kept_by(tmp_path / "one", known(), BLUES)
    parts = []
    for rank in range(2):
        gallery = Gallery(tmp_path / "two", images=3, worst=2)
        gallery.folder.mkdir(parents=True, exist_ok=True)
        gallery._start([0, 5, 10])
        for position in range(rank, COUNT, 2):
            gallery._wants(position, BLUES[position])
        parts.append(gallery.table(torch.device("cpu")))
    spread, worst = gallery.joined(torch.stack(parts))
    assert sorted(spread) == [image.position for image in alone.images if image.spread]
    assert sorted(worst, key=lambda p: -worst[p])[:2] == [2, 7]


@pytest.mark.parametrize("settings", [{"images": -1}, {"worst": -1}, {"width": 3}])
def test_bad_settings_are_refused(tmp_path: Path, settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"Gallery.*Next: "):
        Gallery(tmp_path, **settings)
