"""Each fault is planted in a clean set of rendered rooms; the doctor must find it, and nothing else that is wrong."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.doctor.conftest import ALL, COUNTS, Spoiled
from tests.doctor.planted import ids, only


def test_eight_bits(data: Spoiled) -> None:
    data.change(lambda raw: np.clip(raw / 10_000 * 255, 1, 255).astype(np.uint8))
    found = only(data.examine(depth_scale=10 / 255), "depth-8-bit", "warning")
    assert f"{ALL} of {ALL}" in found.message


def test_eight_bits_in_sixteen(data: Spoiled) -> None:
    data.change(lambda raw: (np.clip(raw.astype(int) * 255 // 10_000, 1, 255) * 10_000 // 255).astype(np.uint16))
    found = only(data.examine(), "few-values", "warning")
    assert found.count > ALL / 2


@pytest.mark.parametrize(("scale", "suggested"), [(1.0, "0.001"), (1 / 65535, "0.001")])
def test_the_scale_is_far_off(data: Spoiled, scale: float, suggested: str) -> None:
    made = data.examine(depth_scale=scale)
    found = only(made, "wrong-unit")
    assert found.count == ALL
    assert f"depth_scale={suggested}" in found.next_action
    assert {f.severity for f in made.findings if f.code == "cannot-open"} <= {"info"}  # it is known why


def test_centimetres_read_as_millimetres(data: Spoiled) -> None:
    data.change(lambda raw: raw // 10)
    found = only(data.examine(), "suspect-unit", "warning")
    assert "depth_scale=0.01" in found.next_action


def test_frames_without_depth(data: Spoiled) -> None:
    data.change(np.zeros_like, only=(0, 8))
    assert set(only(data.examine(), "no-depth").items) == ids((0, 8))


def test_frames_with_hardly_any_depth(data: Spoiled) -> None:
    data.change(lambda raw: raw * (np.arange(raw.size).reshape(raw.shape) == 5000), only=(6,))
    found = {f.code: f for f in data.examine().findings}
    assert found["little-depth"].items == ("train/000006",)


def test_constant_maps(data: Spoiled) -> None:
    data.change(lambda raw: np.full_like(raw, 1234), only=(1, 2, 3))
    assert set(only(data.examine(), "constant-depth").items) == ids((1, 2, 3))


def test_saturation(data: Spoiled) -> None:
    data.change(lambda raw: np.minimum(raw, 4000))
    found = only(data.examine(), "clipped-depth", "warning")
    assert "at 4 m" in found.message
    assert found.count > ALL / 4


def test_nan_and_negative_numbers(data: Spoiled) -> None:
    for n in range(COUNTS["train"]):
        raw = cv2.imread(str(data.depth(n)), cv2.IMREAD_UNCHANGED).astype(np.float32) / 1000
        raw[:2] = (np.nan, np.inf, -np.inf)[n % 3]
        if n == 5:
            raw[4, :7] = -1
        np.save(data.depth(n).with_suffix(".npy"), raw)
        data.depth(n).unlink()
    for split in ("val", "test"):
        for n in range(COUNTS[split]):
            raw = cv2.imread(str(data.depth(n, split)), cv2.IMREAD_UNCHANGED).astype(np.float32) / 1000
            np.save(data.depth(n, split).with_suffix(".npy"), raw)
            data.depth(n, split).unlink()
    made = data.examine(depth_scale=1.0)
    negative = only(made, "negative-depth", "warning")
    assert negative.items == ("train/000005",)
    assert negative.message.startswith("7 pixels of 1 frame ")
    (odd,) = [f for f in made.findings if f.code == "non-finite"]
    assert set(odd.items) == ids(range(COUNTS["train"]))
