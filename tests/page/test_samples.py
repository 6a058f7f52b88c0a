"""The images that a run keeps: what is written is what is read, and thinning invents no number."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.errors import DataFormatError
from mde.geometry import unproject
from mde.report.samples import KeptImage, Samples, read_sample, read_samples, write_sample, write_samples
from tests.page.runs import sample_of, write_run


def test_what_was_written_is_read_to_half_a_step_of_float16(tmp_path: Path) -> None:
    sample = sample_of(0, "a/b c")
    write_sample(tmp_path, 7, sample)
    again = read_sample(tmp_path, 7)
    assert again.id == "a/b c"
    np.testing.assert_allclose(again.depth, sample.depth, rtol=2.0**-11)
    np.testing.assert_allclose(again.pred, sample.pred, rtol=2.0**-11)
    np.testing.assert_array_equal(again.counted, sample.counted)
    np.testing.assert_array_equal(again.known, sample.known)
    np.testing.assert_array_equal(again.intrinsics, sample.intrinsics)
    assert np.abs(again.image.astype(int) - sample.image).mean() < 8  # JPEG


def test_depth_beyond_float16_stays_finite(tmp_path: Path) -> None:
    sample = sample_of(0, "a")
    write_sample(tmp_path, 0, replace(sample, depth=np.full_like(sample.depth, 1e6)))
    assert np.isfinite(read_sample(tmp_path, 0).depth).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 50), st.integers(16, 40), st.floats(0, 1), st.integers(0, 99))
def test_thinning_keeps_pairs_that_were_there(width: int, height: int, bound: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sample = sample_of(0, "a", size=(height, width))
    depth = np.where(rng.random((height, width)) < share, rng.uniform(1, 9, (height, width)), 0).astype(np.float32)
    counted = (depth > 0) & (rng.random((height, width)) < 0.5)
    sample = replace(sample, depth=depth, counted=counted, pred=rng.uniform(1, 9, depth.shape).astype(np.float32))
    thin = sample.thinned(bound)
    assert thin.depth.shape == thin.pred.shape == thin.counted.shape
    assert thin.depth.shape[1] <= bound
    pairs = set(zip(sample.depth.ravel(), sample.pred.ravel(), sample.counted.ravel(), strict=True))
    assert set(zip(thin.depth.ravel(), thin.pred.ravel(), thin.counted.ravel(), strict=True)) <= pairs
    step = math.ceil(width / bound)
    if width % step == 0 and height % step == 0:  # a square with a scored pixel shows one
        cells = counted.reshape(height // step, step, width // step, step).any((1, 3))
        np.testing.assert_array_equal(thin.counted, cells)


def test_a_full_map_keeps_centres_and_the_camera_follows() -> None:
    """A plane at z = 2: points of the thinned map lie where those of the kept pixels do."""
    sample = sample_of(0, "a", size=(30, 60))
    flat = np.full((30, 60), 2.0, np.float32)
    flat += np.arange(60, dtype=np.float32) / 1000  # which column was kept
    thin = replace(sample, depth=flat, pred=flat, counted=flat > 0).thinned(20)
    assert thin.depth.shape == (10, 20)
    np.testing.assert_allclose(thin.depth[0], flat[0, 1::3])
    points = {}
    for name, each in (("all", replace(sample, depth=flat)), ("thin", thin)):
        depth, camera = torch.from_numpy(each.depth)[None, None], torch.from_numpy(each.intrinsics).float()[None]
        points[name] = unproject(depth, camera)[0].numpy()
    np.testing.assert_allclose(points["thin"], points["all"][:, 1::3, 1::3], atol=1e-5)


def test_the_picture_is_cut_as_the_maps_are() -> None:
    sample = sample_of(0, "a", size=(31, 62))
    image = np.zeros((31, 62, 3), np.uint8)
    image[:, 60:] = 255
    image[30:] = 255
    assert replace(sample, image=image).thinned(21).image.max() == 0  # squares of 3: 30 x 60 remain


def test_the_index_comes_back_and_removes_what_it_does_not_name(tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    for position in (1, 2, 3):
        write_sample(folder, position, sample_of(position, f"id-{position}"))
    images = [KeptImage("id-1", 1, math.nan, True, False), KeptImage("id-3", 3, 0.5, False, True)]
    write_samples(Samples(folder, images, "affine_disparity", "abc"))
    again = read_samples(tmp_path)
    assert again is not None
    assert (again.ambiguity, again.fingerprint) == ("affine_disparity", "abc")
    assert math.isnan(again.images[0].abs_rel)
    assert again.images[1] == images[1]
    assert sorted(path.name for path in folder.glob("*.npz")) == ["000001.npz", "000003.npz"]
    assert len(list(folder.glob("*.jpg"))) == 2
    found = again.read("id-3")
    assert found is not None
    assert found.id == "id-3"
    assert again.read("id-2") is None
    assert read_samples(folder) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1}', '{"format": 1, "images": [{}]}'])
def test_a_damaged_index_is_refused(tmp_path: Path, content: str) -> None:
    run = write_run(tmp_path / "run")
    (run / "samples" / "samples.json").write_text(content)
    with pytest.raises(DataFormatError, match=r"samples\.json.*Next: "):
        read_samples(run)


@pytest.mark.parametrize("suffix", ["npz", "jpg"])
@pytest.mark.parametrize("keep", [0, 50])
def test_a_damaged_sample_is_refused(tmp_path: Path, suffix: str, keep: int) -> None:
    write_sample(tmp_path, 0, sample_of(0, "a"))
    path = tmp_path / f"000000.{suffix}"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataFormatError, match=rf"000000\.{suffix}.*Next: "):
        read_sample(tmp_path, 0)
