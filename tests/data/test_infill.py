"""In-painting against the formula written out pixel by pixel."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mde.data import infill as module
from mde.data.colorization import _dissection, colorization_weights
from mde.data.dataset import DepthDataset, RawSample
from mde.data.infill import INFILL_METHODS, InfilledDataset, infill
from mde.data.transforms import EvalTransform
from mde.errors import ConfigError

METHODS = sorted(INFILL_METHODS)


def literal_levin(
    depth: NDArray[np.float32], valid: NDArray[np.bool_], image: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], float]:
    """The formula of Levin et al. as one loop over pixels, a dense matrix, and a dense solver; the condition."""
    height, width = depth.shape
    gray = (0.2989 * image[..., 0] + 0.5870 * image[..., 1] + 0.1140 * image[..., 2]) / 255
    scale = depth[valid].max()
    matrix, right = np.eye(height * width), np.zeros(height * width)
    for row in range(height):
        for column in range(width):
            r = row * width + column
            window = [
                (y, x)
                for y in range(max(0, row - 1), min(height, row + 2))
                for x in range(max(0, column - 1), min(width, column + 2))
            ]
            values = np.array([gray[y, x] for y, x in window])
            others = [at for at in window if at != (row, column)]
            steps = np.array([(gray[at] - gray[row, column]) ** 2 for at in others])
            sigma = max(0.6 * values.var(), -steps.min() / np.log(0.01), 2e-6)
            weights = np.exp(-steps / sigma)
            for (y, x), weight in zip(others, weights / weights.sum(), strict=True):
                matrix[r, y * width + x] -= weight
            if valid[row, column]:
                matrix[r, r] += 1
                right[r] = depth[row, column] / scale
    solved = np.linalg.solve(matrix, right).reshape(height, width) * scale
    return np.where(valid, depth, solved), float(np.linalg.cond(matrix))


def frame(
    seed: int, height: int = 12, width: int = 17, share: float = 0.3
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    image = np.repeat(np.repeat(rng.integers(0, 256, (height, width, 3)), 3, 0), 3, 1)[:height, :width]
    noisy = np.clip(image + rng.integers(-3, 4, image.shape), 0, 255).astype(np.uint8)
    valid = rng.random((height, width)) < share
    valid.flat[rng.integers(valid.size)] = True
    depth = rng.uniform(0.5, 80, (height, width)).astype(np.float32)
    return np.where(valid, depth, np.float32(np.nan)), valid, noisy


@given(
    seed=st.integers(0, 10**6),
    height=st.integers(1, 14),
    width=st.integers(2, 19),
    share=st.sampled_from([0.0, 0.05, 0.3, 0.9]),
)
@settings(max_examples=40, deadline=None)
def test_levin_equals_the_literal_formula(seed: int, height: int, width: int, share: float) -> None:
    depth, valid, image = frame(seed, height, width, share)
    found = infill(depth, valid, image, "levin")
    expected, condition = literal_levin(np.nan_to_num(depth), valid, image)
    assume(condition < 1e9)  # beyond, rounding decides in the reference
    assert np.allclose(found, expected, rtol=1e-6, atol=0)


def test_a_region_behind_strong_edges_takes_the_nearest_measurement() -> None:
    # one measurement at the end of a line: the answer is its depth everywhere, but rounding decides in plain equations
    line = [133, 136, 135, 134, 133, 132, 211, 215, 213, 151, 155, 154, 137, 131, 136, 223, 222, 226]
    image = np.repeat(np.array([line], np.uint8)[..., None], 3, axis=2)
    depth = np.zeros(image.shape[:2], np.float32)
    depth[0, 0] = 75.25
    assert literal_levin(depth, depth > 0, image)[1] > 1e12
    assert (infill(depth, depth > 0, image, "levin") == np.float32(75.25)).all()


def test_leaving_out_distant_known_pixels_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    depth, valid, image = frame(3, 30, 110, share=2.0)
    valid[10:14, 5:12] = False
    near = infill(depth, valid, image, "levin")
    monkeypatch.setattr("mde.data.colorization._REACH", 500)
    assert np.array_equal(near, infill(depth, valid, image, "levin"))


def test_weights_of_each_pixel_sum_to_one() -> None:
    weights = colorization_weights(np.random.default_rng(0).random((9, 11)))
    assert np.allclose(weights.sum(axis=1), 1)
    assert weights.diagonal().max() == 0
    assert weights.min() >= 0


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (23, 9), (64, 64)])
def test_dissection_is_a_permutation(size: tuple[int, int]) -> None:
    assert np.array_equal(np.sort(_dissection(*size)), np.arange(size[0] * size[1]))


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.02, 0.5, 1.0]))
@settings(max_examples=20, deadline=None)
def test_known_pixels_stay_and_the_range_is_kept(method: str, seed: int, share: float) -> None:
    depth, valid, image = frame(seed, share=share)
    filled = infill(depth, valid, image, method)
    assert filled.dtype == np.float32
    assert np.array_equal(filled[valid], depth[valid])
    assert filled.min() >= depth[valid].min()
    assert filled.max() <= depth[valid].max()


@pytest.mark.parametrize("method", METHODS)
def test_affine_in_depth(method: str) -> None:
    depth, valid, image = frame(5)
    filled = infill(depth, valid, image, method)
    assert np.allclose(infill(depth * 4 + 3, valid, image, method), filled * 4 + 3, rtol=1e-5)


def test_a_uniform_picture_gives_harmonic_interpolation() -> None:
    _, width = size = (9, 33)
    image = np.full((*size, 3), 90, np.uint8)
    depth, valid = np.zeros(size, np.float32), np.zeros(size, bool)
    depth[:, 0], depth[:, -1] = 2, 6
    valid[:, [0, -1]] = True
    filled = infill(depth, valid, image, "levin")
    # along the lines nothing changes, and across them depth rises evenly between the known ends
    assert np.allclose(filled, filled[:1], atol=0.01)
    steps = np.diff(filled[4, 2:-2])
    assert np.allclose(steps, steps[0], rtol=1e-2)
    assert 0.8 * 4 / width < steps[0] < 1.2 * 4 / width


def test_a_depth_edge_stays_at_a_colour_edge() -> None:
    size, edge = (20, 30), 13
    image = np.full((*size, 3), 30, np.uint8)
    image[:, edge:] = 220
    depth, valid = np.zeros(size, np.float32), np.zeros(size, bool)
    for row, column, metres in ((4, 2, 2.0), (15, 3, 2.0), (5, 27, 7.0), (14, 28, 7.0)):
        depth[row, column], valid[row, column] = metres, True
    filled = infill(depth, valid, image, "levin")
    assert np.abs(filled[:, :edge] - 2).max() < 0.02 * 5
    assert np.abs(filled[:, edge:] - 7).max() < 0.02 * 5


@given(seed=st.integers(0, 10**6), share=st.sampled_from([0.01, 0.2, 0.7]))
@settings(max_examples=25, deadline=None)
def test_nearest_against_all_pairs(seed: int, share: float) -> None:
    depth, valid, image = frame(seed, 9, 13, share)
    filled = infill(depth, valid, image, "nearest")
    rows, columns = np.nonzero(valid)
    for y, x in np.ndindex(valid.shape):
        distance = (rows - y) ** 2 + (columns - x) ** 2
        assert filled[y, x] in depth[rows, columns][distance == distance.min()]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_known_and_all_known(method: str) -> None:
    depth, _, image = frame(1, share=2.0)
    assert np.array_equal(infill(depth, np.zeros(depth.shape, bool), image, method), np.zeros_like(depth))
    assert np.array_equal(infill(depth, np.ones(depth.shape, bool), image, method), depth)


def test_a_lidar_frame_of_kitti_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    size = (375, 1242)
    image = np.kron(rng.integers(0, 256, (15, 54, 3)), np.ones((25, 23, 1))).astype(np.uint8)
    valid = rng.random(size) < 0.06
    valid[:125] = False
    depth = np.where(valid, rng.uniform(4, 80, size), 0).astype(np.float32)
    start = time.process_time()
    filled = infill(depth, valid, image, "levin")
    assert time.process_time() - start < 20  # some 3 s; the published code takes more than a minute
    assert np.isfinite(filled).all()
    assert (filled > 0).all()


def test_an_unknown_method_is_named() -> None:
    depth, valid, image = frame(0)
    with pytest.raises(ConfigError, match=r"'levine'.*data\.infill.*Next: nearest: levin"):
        infill(depth, valid, image, "levine")
    with pytest.raises(ConfigError, match="Next"):
        InfilledDataset(Frames(), "linear")


# ------------------------------------------------------------------------------------------------------------ data set


class Frames(DepthDataset):
    """Sparse frames; the last one is empty."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__(EvalTransform((6, 8)), seed=7)
        self.scale = scale

    def __len__(self) -> int:
        return 3

    def files(self, index: int) -> tuple[Path, ...]:
        return (Path(f"{index}.png"),)

    def read(self, index: int) -> RawSample:
        depth, valid, image = frame(index, share=0.0 if index == 2 else 0.2)
        valid &= index != 2
        metres = np.where(valid, depth * self.scale, 0).astype(np.float32)
        labels = np.full(depth.shape, index, np.uint8)
        return RawSample(image, metres, valid, np.eye(3, dtype=np.float32), f"f{index}", labels)


def test_only_depth_and_mask_change() -> None:
    plain, filled = Frames(), InfilledDataset(Frames(), "levin")
    assert len(filled) == len(plain)
    assert (filled.seed, filled.transform.image_size) == (7, (6, 8))  # type: ignore[attr-defined]
    for index in range(2):
        before, after = plain.read(index), filled.read(index).checked()
        assert after.labels is not None
        assert np.array_equal(after.image, before.image)
        assert np.array_equal(after.labels, np.full(after.labels.shape, index))
        assert np.array_equal(after.intrinsics, before.intrinsics)
        assert (after.id, filled.frame_id(index)) == (before.id, before.id)
        assert filled.files(index) == plain.files(index)
        assert after.valid.all()
        assert np.array_equal(after.depth[before.valid], before.depth[before.valid])
        assert bool(filled[index]["valid"].all())


def test_a_frame_without_depth_stays_empty(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        raw = InfilledDataset(Frames(), "levin", folder).read(2)
        assert not raw.valid.any()
        assert not raw.depth.any()


def test_the_cache_gives_the_same_and_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = InfilledDataset(Frames(), "levin").read(0)
    cached = pickle.loads(pickle.dumps(InfilledDataset(Frames(), "levin", tmp_path / "new")))
    first = cached.read(0)
    written = sorted((tmp_path / "new").rglob("*.*"))
    assert [path.suffix for path in written] == [".npy"]
    monkeypatch.setattr(module, "infill", lambda *_: pytest.fail("filled again"))
    again = cached.read(0)
    for raw in (first, again):
        assert np.array_equal(raw.depth, expected.depth)
        assert raw.valid.all()


def test_the_cache_never_serves_another_frame_method_or_unit(tmp_path: Path) -> None:
    kept = {
        (method, scale, index): InfilledDataset(Frames(scale), method, tmp_path).read(index).depth
        for method in METHODS
        for scale in (1.0, 0.5)
        for index in (0, 1)
    }
    for (method, scale, index), depth in kept.items():
        assert np.array_equal(depth, InfilledDataset(Frames(scale), method).read(index).depth)
        assert np.array_equal(depth, InfilledDataset(Frames(scale), method, tmp_path).read(index).depth)
    assert len(list(tmp_path.rglob("*.npy"))) == len(kept) / 2  # "nearest" is not kept


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00garbage", None])
def test_a_broken_entry_is_made_again(tmp_path: Path, damage: bytes | None) -> None:
    dataset = InfilledDataset(Frames(), "levin", tmp_path)
    expected = dataset.read(0).depth
    (entry,) = tmp_path.rglob("*.npy")
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert np.array_equal(dataset.read(0).depth, expected)
    assert entry.read_bytes() == whole
