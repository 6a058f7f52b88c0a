"""The parts of the doctor against independent references."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.doctor.edges import RADIUS, correlate, edge_maps, mirrored_scores
from mde.doctor.hashes import NEAR_BITS, difference_hash, near_pairs, repeated, similar
from mde.doctor.planes import measure_planes
from mde.doctor.pool import in_order
from mde.doctor.scan import sampled

CAMERA = np.array([[100, 0, 79.5], [0, 100, 59.5], [0, 0, 1]], np.float32)


def plane(a: float, b: float, c: float) -> tuple[np.ndarray, np.ndarray]:
    """z of the plane a x + b y + c z = 1 and n of each ray, by hand: z (a x + b y + c) = 1."""
    v, u = np.mgrid[:120, :160].astype(float)
    x, y = (u - 79.5) / 100, (v - 59.5) / 100
    return 1 / (a * x + b * y + c), np.sqrt(1 + x * x + y * y)


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.15, 0.15), st.floats(-0.15, 0.15), st.floats(0.3, 2), st.sampled_from([-1, 0, 1]))
def test_planes_tell_the_exponent(a: float, b: float, c: float, k: int) -> None:
    z, n = plane(a, b, c)
    found = measure_planes((z * n**k).astype(np.float32), np.ones(z.shape, bool), CAMERA)
    assert found.patches == 29
    assert found.exponent == pytest.approx(k, abs=0.2)  # of first order in ln n


def test_planes_with_noise_and_holes() -> None:
    rng = np.random.default_rng(1)
    z, n = plane(0.05, 0.1, 0.5)
    noisy = (z * n * rng.normal(1, 0.003, z.shape)).astype(np.float32)
    found = measure_planes(noisy, rng.random(z.shape) > 0.3, CAMERA)
    assert found.exponent == pytest.approx(1, abs=0.25)
    assert measure_planes(noisy, rng.random(z.shape) > 0.9, CAMERA).patches == 0
    rough = rng.uniform(1, 5, z.shape).astype(np.float32)
    assert measure_planes(rough, np.ones(z.shape, bool), CAMERA).patches == 0


@given(st.floats(0.1, 0.2), st.booleans())
@settings(max_examples=20, deadline=None)
def test_slanted_planes_tell_depth_from_disparity(slope: float, inverted: bool) -> None:
    z, _ = plane(0, slope, 0.3)
    shown = (1 / z if inverted else z).astype(np.float32)
    found = measure_planes(shown, np.ones(z.shape, bool), CAMERA)
    assert (found.inverse < -1) if inverted else (found.inverse > 1)


@settings(max_examples=25, deadline=None)
@given(st.integers(-RADIUS, RADIUS), st.integers(-RADIUS, RADIUS), st.integers(0, 99))
def test_correlation_peaks_where_the_map_was_moved_from(dx: int, dy: int, seed: int) -> None:
    edges = (np.random.default_rng(seed).random((60, 80)) > 0.9).astype(np.float32)
    scores = correlate(edges, np.roll(edges, (-dy, -dx), (0, 1)))
    assert np.unravel_index(scores.argmax(), scores.shape) == (RADIUS + dy, RADIUS + dx)
    assert scores.max() == pytest.approx(1, abs=1e-3)


def test_edges_of_small_and_sparse_maps() -> None:
    image = np.zeros((20, 12, 3), np.uint8)
    depth = np.ones((20, 12), np.float32)
    depth[:, 6:], image[:, 6:] = 2, 255
    known = np.ones(depth.shape, bool)
    edges = edge_maps(image, depth, known)
    assert edges is not None
    assert (correlate(edges.image, edges.depth) == 0).all()  # too small to be shifted
    assert np.abs(mirrored_scores(edges)).max() < 0.05  # it is its own mirror image, but for a pixel
    assert edge_maps(image, depth, np.arange(240).reshape(20, 12) % 4 == 0) is None
    assert edge_maps(image, np.ones_like(depth), known) is None


def bits(value: int) -> int:
    return bin(value).count("1")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_near_hashes_equal_comparing_all_with_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(1, 2**64, 60, dtype=np.uint64)
    second = rng.choice(first, 40)
    for row in range(40):
        for bit in rng.choice(64, rng.integers(0, 7), replace=False):
            second[row] ^= np.uint64(1) << np.uint64(bit)
    near = {j for i, j in product(range(60), range(40)) if bits(int(first[i]) ^ int(second[j])) <= NEAR_BITS}
    found = near_pairs(first, second)
    assert {j for _, j in found} == near
    for i, j in found:
        distance = bits(int(first[i]) ^ int(second[j]))
        assert distance == min(bits(int(other) ^ int(second[j])) for other in first)


def test_hashes_of_pictures() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8).repeat(9, 0).repeat(9, 1)
    brighter = (image * 0.8 + 20).astype(np.uint8)
    assert bits(difference_hash(image) ^ difference_hash(brighter)) <= NEAR_BITS
    assert similar(image, brighter)
    assert not similar(image, image[:, ::-1])
    assert not similar(image, np.zeros_like(image))
    blank = np.array([difference_hash(np.zeros_like(image))], np.uint64)
    assert near_pairs(blank, blank) == []  # all black pictures are alike


def test_many_hashes_take_little_time() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 2**64, 20_000, dtype=np.uint64) for _ in range(2))
    second[77] = first[5]
    assert near_pairs(first, second) == [(5, 77)]


@given(st.lists(st.integers(0, 6), max_size=30))
def test_repeated_values(values: list[int]) -> None:
    found = repeated(np.array(values, np.uint64))
    wanted = [[i for i, v in enumerate(values) if v == value] for value in dict.fromkeys(values) if value]
    assert [group.tolist() for group in found] == [group for group in wanted if len(group) > 1]


@given(st.integers(1, 500), st.integers(1, 600))
def test_sampling_is_even_and_has_both_ends(count: int, sample: int) -> None:
    picked = sampled(count, sample)
    assert len(picked) == min(count, sample)
    assert picked == sorted(set(picked))
    assert sample == 1 or (picked[0], picked[-1]) == (0, count - 1)
    assert max(np.diff(picked), default=1) <= -(-count // max(1, min(sample, count) - 1))


def test_results_of_processes_come_in_order() -> None:
    assert list(in_order(lambda job: job * job, range(50), 2)) == [n * n for n in range(50)]
    assert list(in_order(lambda job: job + 1, [], 2)) == []
