from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from mde.errors import ConfigError, DataFormatError
from mde.metrics import SSIMMetric, ssim_per_image


def maps(seed: int = 0, shape: tuple[int, ...] = (2, 1, 24, 31)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(shape, generator=generator) * 10
    return truth + torch.randn(shape, generator=generator), truth


def reference_map(p: torch.Tensor, g: torch.Tensor, data_range: float, window: int) -> torch.Tensor:
    """SSIM of the windows inside the map, by two-dimensional convolution in float64 (Wang et al. 2004, eq. 13)."""
    x = torch.arange(window, dtype=torch.float64) - window // 2
    line = (-(x**2) / (2 * 1.5**2)).exp()
    kernel = (torch.outer(line, line) / line.sum() ** 2)[None, None]
    p, g = p.double(), g.double()
    mp, mg, pp, gg, pg = (F.conv2d(t, kernel) for t in (p, g, p * p, g * g, p * g))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    top = (2 * mp * mg + c1) * (2 * (pg - mp * mg) + c2)
    return top / ((mp**2 + mg**2 + c1) * (pp - mp**2 + gg - mg**2 + c2))


@pytest.mark.parametrize("window", [3, 11])
def test_equals_the_definition(window: int) -> None:
    pred, truth = maps()
    mean, count = ssim_per_image(pred, truth, truth > -1, data_range=10.0, window=window)
    torch.testing.assert_close(mean, reference_map(pred, truth, 10.0, window).mean((1, 2, 3)))
    assert count.tolist() == [(25 - window) * (32 - window)] * 2


def test_zero_padding_is_the_definition_on_a_padded_map() -> None:
    pred, truth = maps(1)
    mean, count = ssim_per_image(pred, truth, truth > -1, data_range=1.0, padding="zero")
    around = [F.pad(t, (5, 5, 5, 5)) for t in (pred, truth)]
    torch.testing.assert_close(mean, reference_map(around[0], around[1], 1.0, 11).mean((1, 2, 3)))
    assert count.tolist() == [24 * 31] * 2


def test_reflected_border_stays_near_torchmetrics() -> None:
    pred, truth = maps(2)
    around = [F.pad(t, (5, 5, 5, 5), mode="reflect") for t in (pred, truth)]
    mean, _ = ssim_per_image(pred, truth, truth > -1, data_range=10.0, padding="same")
    torch.testing.assert_close(mean, reference_map(around[0], around[1], 10.0, 11).mean((1, 2, 3)))
    inner = structural_similarity_index_measure(pred, truth, data_range=10.0, reduction="none")
    valid_only, _ = ssim_per_image(pred, truth, truth > -1, data_range=10.0)
    assert (valid_only - inner.double()).abs().max() < 0.05  # it averages the border as well


def test_a_window_that_touches_an_invalid_pixel_does_not_count() -> None:
    pred, truth = maps(3)
    valid = torch.ones_like(truth, dtype=torch.bool)
    valid[0, 0, 2, 3] = valid[1, 0, 12, 30] = False
    pred[~valid], truth[~valid] = float("nan"), 0.0
    mean, count = ssim_per_image(pred, truth, valid, data_range=10.0, window=5)
    clean = reference_map(pred.nan_to_num(7.0), truth, 10.0, 5)
    kept = torch.ones_like(clean, dtype=torch.bool)
    kept[0, 0, :3, :4] = False  # windows of centres 2..4 x 2..5
    kept[1, 0, 8:13, 26:] = False
    assert count.tolist() == kept.flatten(1).sum(1).tolist()
    for i in range(2):
        torch.testing.assert_close(mean[i], clean[i][kept[i]].mean())


def test_mean_over_images_and_skipped_ones() -> None:
    pred, truth = maps(4, (4, 1, 15, 15))
    valid = torch.ones_like(truth, dtype=torch.bool)
    valid[1, 0, 7, 7] = False  # no window of 11 avoids the middle of 15
    metric = SSIMMetric(data_range=10.0)
    metric.update(pred, truth, valid, counts=torch.tensor([True, True, True, False]))
    each, count = ssim_per_image(pred, truth, valid, data_range=10.0)
    assert count[1] == 0
    assert metric.compute().item() == pytest.approx((each[0] + each[2]).item() / 2)
    assert (metric.images.item(), metric.skipped.item()) == (2, 1)


def test_perfect_and_empty() -> None:
    _, truth = maps(5)
    metric = SSIMMetric(data_range=10.0)
    metric.update(truth, truth, truth > -1)
    assert metric.compute().item() == pytest.approx(1.0)
    metric.reset()
    metric.update(truth, truth, truth < -1)
    assert metric.compute().isnan()


def test_a_nan_in_a_valid_window_does_not_vanish() -> None:
    pred, truth = maps(6)
    pred[0, 0, 12, 12] = float("nan")
    metric = SSIMMetric(data_range=10.0)
    metric.update(pred, truth, truth > -1)
    with pytest.raises(DataFormatError, match="not finite"):
        metric.compute()


def test_settings_are_checked() -> None:
    _, truth = maps()
    for wrong in ({"data_range": 0.0}, {"window": 4}, {"window": 1}, {"sigma": 2.0}, {"padding": "reflect"}):
        with pytest.raises(ConfigError, match="SSIM needs"):
            SSIMMetric(**{"data_range": 10.0, **wrong})
    with pytest.raises(ConfigError, match="no larger than the map"):
        SSIMMetric(data_range=10.0, window=25).update(truth, truth, truth > 0)
    with pytest.raises(ConfigError, match="bool"):
        SSIMMetric(data_range=10.0).update(truth, truth, truth)
    with pytest.raises(ConfigError, match="counts"):
        SSIMMetric(data_range=10.0).update(truth, truth, truth > 0, counts=torch.ones(2))
