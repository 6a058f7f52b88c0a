"""Relative truth: what nobody knows is gone, what is known stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.data import ProceduralDataModule
from mde.data.relative import RelativeDataset, relative_depth
from mde.protocol import EvalProtocol
from mde.types import Ambiguity
from tests.data.contract import check_batch

RANGE = (1.0, 80.0)
RELATIVE = [Ambiguity.SCALE, Ambiguity.AFFINE_DEPTH, Ambiguity.AFFINE_DISPARITY]
FACTORS = st.floats(0.01, 100.0)


def frame(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(2, 30, (6, 8)).astype(np.float32)
    valid = rng.random((6, 8)) > 0.2
    depth[~valid] = np.nan
    return depth, valid


def changed(depth: np.ndarray, truth: Ambiguity, scale: float, shift: float) -> np.ndarray:
    """Another frame that is the same up to what `truth` leaves open; shifts are above 0, so depth stays so."""
    if truth is Ambiguity.SCALE:
        return (scale * depth).astype(np.float32)
    if truth is Ambiguity.AFFINE_DEPTH:
        return (scale * depth + shift).astype(np.float32)
    return (1 / (scale / depth + shift)).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(RELATIVE), FACTORS, st.floats(0.0, 0.5), st.integers(0, 99))
def test_frames_that_are_equal_up_to_the_unknown_become_equal(truth, scale, shift, seed):
    depth, valid = frame(seed)
    shift = shift * scale * (30 if truth is Ambiguity.AFFINE_DEPTH else 1 / 30)  # float32 keeps what varies
    made = relative_depth(depth, valid, truth, RANGE)
    again = relative_depth(changed(depth, truth, scale, shift), valid, truth, RANGE)
    np.testing.assert_allclose(again, made, rtol=2e-3)
    assert (made[~valid] == 0).all()


@pytest.mark.parametrize("truth", RELATIVE)
def test_the_known_part_stays(truth):
    depth, valid = frame()
    made = relative_depth(depth, valid, truth, RANGE)[valid].astype(np.float64)
    before = depth[valid].astype(np.float64)
    if truth is Ambiguity.AFFINE_DISPARITY:
        made, before = 1 / made, 1 / before
    assert np.corrcoef(made, before)[0, 1] == pytest.approx(1)  # linear, and the sign is kept
    if truth is Ambiguity.SCALE:
        np.testing.assert_allclose(made / before, made[0] / before[0], rtol=1e-5)
        assert np.median(made) == pytest.approx(np.sqrt(80))
    else:
        ends = sorted((1 / 1.0, 1 / 80.0) if truth is Ambiguity.AFFINE_DISPARITY else RANGE)
        assert [made.min(), made.max()] == pytest.approx(ends)


def test_metric_empty_and_constant_frames():
    depth, valid = frame()
    np.testing.assert_array_equal(relative_depth(depth, valid, Ambiguity.METRIC, RANGE)[valid], depth[valid])
    for truth in RELATIVE:
        assert not relative_depth(depth, np.zeros_like(valid), truth, RANGE).any()
        flat = relative_depth(np.full((2, 2), 5, np.float32), np.ones((2, 2), bool), truth, RANGE)
        assert np.isfinite(flat).all()
        assert (flat > 0).all()


def test_only_training_is_relative_and_from_a_cache_too(tmp_path):
    aligned = EvalProtocol(name="aligned", max_depth=80.0, alignment="disparity_scale_shift")
    counts = {"train_scenes": 3, "val_scenes": 1, "test_scenes": 1, "preload": False}
    common = {"world": "street", "image_size": (24, 32), "protocol": aligned, "batch_size": 3}
    for cache in (None, str(tmp_path)):
        data = ProceduralDataModule(**counts, **common, truth="affine_disparity", cache=cache, num_workers=0)
        dataset = data.dataset("train")
        assert isinstance(dataset, RelativeDataset)
        batch = next(iter(data.train_dataloader()))
        check_batch(batch, (24, 32))
        for depth, valid in zip(batch["depth"], batch["valid"], strict=True):
            assert (float(depth[valid].min()), float(depth[valid].max())) == pytest.approx(RANGE)
        plain = ProceduralDataModule(**counts, **common)
        for split in ("val", "test"):
            assert np.array_equal(data.dataset(split).read(0).depth, plain.dataset(split).read(0).depth)
        assert data.train_median_depth() == plain.train_median_depth()
        assert (dataset.frame_id(1), dataset.files(1)) == (plain.dataset("train").frame_id(1), ())
        assert data.record()["train"] == {"truth": "affine_disparity"}
