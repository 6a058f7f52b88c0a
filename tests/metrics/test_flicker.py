"""The flicker of a video: equal to NumPy, 0 for a still one, along the true motion of a rendered camera."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mde.errors import ConfigError, DataFormatError
from mde.metrics.flicker import Flicker, flicker


def maps(batch: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    before = 1 + 4 * torch.rand(batch, 1, 9, 12, generator=generator)
    now = before * (1 + 0.1 * torch.randn(before.shape, generator=generator)).clamp(0.5, 1.5)
    return now, before, torch.rand(before.shape, generator=generator) > 0.3


@pytest.mark.parametrize("ratio", [1.01, 1.05, 1.25])
def test_equal_to_numpy(ratio: float) -> None:
    now, before, seen = maps()
    found = flicker(now, before, seen, ratio=ratio)
    for i in range(3):
        mask = seen[i, 0].numpy()
        d, w = (each[i, 0].numpy().astype(np.float64)[mask] for each in (now, before))
        larger = np.where(d > w, d / w, w / d)
        wanted = {"opw": np.mean(np.abs(d - w)), "relative": np.mean(larger - 1), "within": np.mean(larger < ratio)}
        assert {name: found[name][i].item() for name in wanted} == pytest.approx(wanted, rel=1e-12)


def test_a_still_video_does_not_flicker_and_a_brighter_one_does() -> None:
    _, before, seen = maps()
    still = flicker(before, before, seen)
    assert (still["opw"] == 0).all()
    assert (still["relative"] == 0).all()
    assert (still["within"] == 1).all()
    for factor in (1.2, 1 / 1.2):  # as much whichever way it goes
        np.testing.assert_allclose(flicker(factor * before, before, seen)["relative"], 0.2, rtol=1e-6)


def test_the_unit_is_that_of_the_map_and_relative_has_none() -> None:
    now, before, seen = maps()
    metres, millimetres = flicker(now, before, seen), flicker(1000 * now, 1000 * before, seen)
    np.testing.assert_allclose(millimetres["opw"], 1000 * metres["opw"], rtol=1e-5)
    np.testing.assert_allclose(millimetres["relative"], metres["relative"], rtol=1e-5)


def test_a_map_around_zero_has_no_ratio() -> None:
    now, before, seen = maps(1)
    found = flicker(now - 3, before - 3, seen)
    np.testing.assert_allclose(found["opw"], flicker(now, before, seen)["opw"], rtol=1e-5)
    assert found["relative"].isnan().all()
    assert found["within"].isnan().all()


def test_what_was_hidden_does_not_count() -> None:
    now, before, seen = maps()
    expected = flicker(now, before, seen)
    for value in (float("nan"), 0.0, 1e9):
        dirty = flicker(torch.where(seen, now, value), torch.where(seen, before, value), seen)
        assert all(torch.equal(dirty[name], expected[name]) for name in expected)
    assert flicker(now, before, torch.zeros_like(seen))["opw"].isnan().all()
    now[1, 0][seen[1, 0]] = float("nan")
    with pytest.raises(DataFormatError, match="image 1 of the batch"):
        flicker(now, before, seen)


def test_the_metric_is_the_mean_over_pairs_of_frames() -> None:
    now, before, seen = maps(5)
    metric = Flicker(ratio=1.1)
    metric.update(now[:2], before[:2], seen[:2])
    metric.update(now[2:], before[2:], seen[2:])
    wanted = {name: each.mean().item() for name, each in flicker(now, before, seen, ratio=1.1).items()}
    assert {name: each.item() for name, each in metric.compute().items()} == pytest.approx(wanted, abs=1e-8)
    for wrong in (1.0, 0.5, float("nan")):
        with pytest.raises(ConfigError, match="above 1"):
            Flicker(ratio=wrong)
