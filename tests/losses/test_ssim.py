"""SSIM against kornia, torchmetrics and the plain formula; its analytic gradient, memory and settings."""

from __future__ import annotations

from typing import Any

import kornia
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d, minimum_filter
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from mde.errors import ConfigError
from mde.losses import SSIMLoss, ssim_loss, ssim_map


def pair(batch: int = 2, height: int = 17, width: int = 19, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """A prediction near the truth, so that SSIM is neither 0 nor 1; float64 and fully valid."""
    target = scale * torch.rand(batch, 1, height, width, dtype=torch.float64)
    pred = (target + 0.3 * scale * torch.randn_like(target)).requires_grad_()
    return pred, target, torch.ones_like(target, dtype=torch.bool)


def by_convolution(pred: Tensor, target: Tensor, data_range: float, window: int, padding: str, box: bool) -> Tensor:
    """The formula as published: five moments by a two-dimensional convolution."""
    offsets = torch.arange(window, dtype=torch.float64) - window // 2
    line = torch.ones_like(offsets) if box else torch.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = torch.outer(line, line)[None, None] / line.sum() ** 2
    if padding == "same":
        pred, target = (F.pad(v, (window // 2,) * 4, mode="reflect") for v in (pred, target))

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(values, kernel, padding=window // 2 if padding == "zero" else 0)

    m, n = mean(pred), mean(target)
    p, q, c = mean(pred**2) - m**2, mean(target**2) - n**2, mean(pred * target) - m * n
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    return (2 * m * n + c1) * (2 * c + c2) / ((m**2 + n**2 + c1) * (p + q + c2))


def gradient(value: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(value, of)[0]


@pytest.mark.parametrize("padding", ["valid", "same", "zero"])
@pytest.mark.parametrize(("window", "box"), [(11, False), (5, False), (3, True), (7, True)])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_equals_the_formula(padding: str, window: int, box: bool, scale: float) -> None:
    pred, target, valid = pair(scale=scale)
    kwargs: dict[str, Any] = {"window": window, "padding": padding, "window_type": "box" if box else "gaussian"}
    expected_map = by_convolution(pred, target, scale, window, padding, box)
    expected = ((1 - expected_map) / 2).clamp(0, 1).mean()
    value = ssim_loss(pred, target, valid, data_range=scale, **kwargs)
    assert torch.allclose(ssim_map(pred, target, data_range=scale, **kwargs), expected_map, atol=1e-10)
    assert torch.allclose(value, expected, rtol=1e-10)
    assert torch.allclose(gradient(value, pred), gradient(expected, pred), atol=1e-12, rtol=1e-8)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("window", [11, 5])
def test_equals_kornia(padding: str, window: int) -> None:
    pred, target, valid = pair()
    value = ssim_loss(pred, target, valid, data_range=1.0, window=window, padding=padding)
    expected = kornia.losses.ssim_loss(pred, target, window, max_val=1.0, padding=padding)
    assert torch.allclose(value, expected, rtol=1e-7)  # kornia adds 1e-12 to the denominator
    assert torch.allclose(gradient(value, pred), gradient(expected, pred), atol=1e-9)


def test_equals_torchmetrics() -> None:
    pred, target, valid = pair()
    expected = structural_similarity_index_measure(pred.detach(), target, data_range=1.0)
    assert isinstance(expected, Tensor)
    value = ssim_loss(pred.detach(), target, valid, data_range=1.0, padding="same")
    assert float(1 - 2 * value) == pytest.approx(float(expected), rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    padding=st.sampled_from(["valid", "same", "zero"]),
    window=st.sampled_from([3, 5]),
    share=st.sampled_from([0.85, 0.97]),
)
def test_masked_loss_equals_numpy(seed: int, padding: str, window: int, share: float) -> None:
    """Mean over the windows whose pixels inside the image are all valid, by SciPy's filters in float64."""
    rng = np.random.default_rng(seed)
    pred, target = rng.random((2, 2, 1, 12, 14))
    valid = rng.random((2, 1, 12, 14)) < share
    half = window // 2
    line = np.exp(-((np.arange(window) - half) ** 2) / (2 * 1.5**2))
    mode = "constant" if padding == "zero" else "mirror"

    def mean(values: Any) -> Any:
        for axis in (-1, -2):
            values = correlate1d(values, line / line.sum(), axis=axis, mode=mode)
        return values

    m, n = mean(pred), mean(target)
    ssim = (2 * m * n + 1e-4) * (2 * (mean(pred * target) - m * n) + 9e-4)
    ssim /= (m**2 + n**2 + 1e-4) * (mean(pred**2) - m**2 + mean(target**2) - n**2 + 9e-4)
    size = (1, 1, window, window)
    counted = minimum_filter(valid.astype(np.uint8), size, mode="constant", cval=0 if padding == "valid" else 1) == 1
    expected = ((1 - ssim[counted]) / 2).mean() if counted.any() else 0.0
    value = ssim_loss(
        *(torch.from_numpy(v) for v in (pred, target, valid)), data_range=1.0, window=window, padding=padding
    )
    assert float(value) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("padding", ["valid", "same", "zero"])
def test_both_gradients_where_the_target_learns_too(padding: str) -> None:
    pred, target, valid = pair()
    valid[0, 0, 0, :3] = False
    alone = ssim_loss(pred, target, valid, data_range=1.0, padding=padding)
    target = target.clone().requires_grad_()
    both = ssim_loss(pred, target, valid, data_range=1.0, padding=padding)
    swapped = ssim_loss(target, pred.detach(), valid, data_range=1.0, padding=padding)
    assert torch.allclose(both, alone, rtol=1e-12)
    assert torch.allclose(gradient(alone, pred), torch.autograd.grad(both, pred, retain_graph=True)[0], atol=1e-14)
    assert torch.allclose(gradient(swapped, target), gradient(both, target), atol=1e-14)


def test_float32_is_accurate_for_metres_at_range_one() -> None:
    """Paper 1's setting: depths of some 20 m against C2 = 0.0009, where unshifted second moments lose their digits."""
    target = 18 + 0.05 * torch.rand(1, 1, 24, 24, dtype=torch.float64)
    pred = target + 0.02 * torch.randn_like(target)
    exact = by_convolution(pred.float().double(), target.float().double(), 1.0, 11, "valid", False)
    ours = ssim_map(pred.float(), target.float(), data_range=1.0)
    theirs = kornia.metrics.ssim(pred.float(), target.float(), 11, 1.0, padding="valid")
    error, their_error = (float((v.double() - exact).abs().max()) for v in (ours, theirs))
    assert error < 1e-4
    assert error < 0.1 * their_error


def saved_maps(value_of: Any, size: int) -> float:
    """How many maps of `size` elements autograd keeps."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value_of()
    return sum(storages.values()) / (size * 4)


def test_backward_keeps_one_map() -> None:
    pred, target = torch.rand(2, 2, 1, 40, 50)
    pred.requires_grad_()
    valid = torch.ones_like(target, dtype=torch.bool)
    assert saved_maps(lambda: ssim_loss(pred, target, valid, data_range=1.0), pred.numel()) < 1.1
    assert saved_maps(lambda: kornia.losses.ssim_loss(pred, target, 11, padding="valid"), pred.numel()) > 10


def test_a_second_derivative_is_refused_and_not_wrong() -> None:
    pred, target, valid = pair()
    value = ssim_loss(pred, target, valid, data_range=1.0)
    with pytest.raises(ConfigError, match=r"no second derivative.*ssim_map"):
        torch.autograd.grad(value, pred, create_graph=True)
    small, truth = pred[:1, :, :12, :11].detach().requires_grad_(), target[:1, :, :12, :11]
    assert torch.autograd.gradgradcheck(lambda p: ssim_map(p, truth, data_range=1.0).mean(), small, fast_mode=True)


def test_evaluation_needs_no_graph() -> None:
    pred, target, valid = pair()
    with torch.no_grad():
        value = ssim_loss(pred, target, valid, data_range=1.0)
    assert not value.requires_grad
    assert torch.equal(value, ssim_loss(pred, target, valid, data_range=1.0).detach())


def test_empty_batch_and_constant_maps() -> None:
    nothing = torch.zeros(0, 1, 12, 12, requires_grad=True)
    value = ssim_loss(nothing, nothing.detach(), torch.zeros_like(nothing, dtype=torch.bool), data_range=1.0)
    assert value == 0
    flat = torch.full((1, 1, 12, 12), 3.0, requires_grad=True)
    value = ssim_loss(flat, torch.zeros(1, 1, 12, 12), torch.ones_like(flat, dtype=torch.bool), data_range=1.0)
    assert float(value.detach()) == pytest.approx((1 - 1e-4 / (9 + 1e-4)) / 2, rel=1e-6)
    assert gradient(value, flat).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_range": 0.0}, "data_range must be above 0"),
        ({"data_range": float("nan")}, "data_range must be above 0"),
        ({"sigma": -1.0}, "sigma must be above 0"),
        ({"window": 4}, "window must be odd"),
        ({"window": 1}, "window must be odd"),
        ({"padding": "reflect"}, "unknown padding 'reflect'.*valid, same, zero"),
        ({"window_type": "hann"}, "unknown window_type 'hann'.*gaussian, box"),
    ],
)
def test_bad_settings_are_refused_when_the_loss_is_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SSIMLoss(**{"data_range": 1.0, **changes})


@pytest.mark.parametrize(("padding", "smallest"), [("valid", 11), ("same", 6), ("zero", 1)])
def test_small_images(padding: str, smallest: int) -> None:
    def value(side: int) -> Tensor:
        pred, target, valid = pair(1, side, 20)
        return ssim_loss(pred, target, valid, data_range=1.0, padding=padding)

    assert 0 < value(smallest) < 1
    if smallest > 1:
        with pytest.raises(ConfigError, match=f"{smallest - 1}x20 is too small.*at least {smallest}x{smallest}"):
            value(smallest - 1)
