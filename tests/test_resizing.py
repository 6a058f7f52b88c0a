"""Resizes against weights written out as float64 matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mde.resizing import axis_by_axis, bytes_resized, resized, smoothed

SIZES = [(1, 1), (1, 9), (9, 1), (7, 9), (7, 2), (14, 1), (1, 14), (3, 4)]


def weights(length: int, wanted: int, mode: str) -> NDArray[np.float64]:
    """(wanted, length): each row the kernel around its centre, widened by the factor of shrinking, with the sum 1."""
    factor = length / wanted
    wide = max(factor, 1)
    far = np.abs(np.arange(length) + 0.5 - (np.arange(wanted)[:, None] + 0.5) * factor) / wide
    if mode == "bilinear":
        kernel = np.maximum(1 - far, 0)
    else:  # Keys 1981, a = -1/2
        near = 1.5 * far**3 - 2.5 * far**2 + 1
        kernel = np.where(far < 1, near, np.where(far < 2, -0.5 * far**3 + 2.5 * far**2 - 4 * far + 2, 0))
    return kernel / kernel.sum(1, keepdims=True)


def reference(images: torch.Tensor, size: tuple[int, int], mode: str = "bilinear") -> torch.Tensor:
    down, across = (weights(n, m, mode) for n, m in zip(images.shape[-2:], size, strict=True))
    return torch.from_numpy(np.einsum("Hh,bchw,Ww->bcHW", down, images.double().numpy(), across))


def as_bytes(values: torch.Tensor) -> torch.Tensor:
    """Halves go up."""
    return (values + 0.5).floor().clamp(0, 255)


def random(size: tuple[int, int], channels: int = 3) -> torch.Tensor:
    return torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("given", SIZES)
def test_every_way_is_that_of_the_matrices(given: tuple[int, int], size: tuple[int, int], mode: str) -> None:
    for channels in (1, 3):
        images = random(given, channels)
        expected = reference(images, size, mode).float()
        torch.testing.assert_close(smoothed(images, size, mode), expected, rtol=0, atol=2e-5)
        torch.testing.assert_close(axis_by_axis(images, size, mode), expected, rtol=0, atol=2e-5)
        last = images.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(smoothed(last, size, mode), expected, rtol=0, atol=2e-5)


@settings(max_examples=60, deadline=None)
@given(high=st.integers(1, 40), wide=st.integers(1, 40), height=st.integers(1, 40), width=st.integers(1, 40))
def test_resized_is_bilinear_of_any_size(high: int, wide: int, height: int, width: int) -> None:
    images = random((high, wide), 1)
    found = resized(images, (height, width))
    torch.testing.assert_close(found, reference(images, (height, width)).float(), rtol=0, atol=1e-5)
    assert resized(images, (high, wide)) is images


@pytest.mark.parametrize("size", [(5, 1), (1, 1), (4, 3)])
def test_the_gradient_is_that_of_the_matrices(size: tuple[int, int]) -> None:
    images = random((7, 9), 1).double().requires_grad_()
    toward = torch.rand(2, 1, *size, dtype=torch.float64)
    resized(images, size).backward(toward)
    down, across = (torch.from_numpy(weights(n, m, "bilinear")) for n, m in zip((7, 9), size, strict=True))
    torch.testing.assert_close(images.grad, down.mT @ toward @ across)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [*SIZES, (20, 30)])
@pytest.mark.parametrize("given", SIZES)
def test_bytes_are_rounded_after_each_axis(given: tuple[int, int], size: tuple[int, int], mode: str) -> None:
    images = (random(given) * 255).round().to(torch.uint8)
    across = as_bytes(reference(images, (given[0], size[1]), mode))
    expected = as_bytes(reference(across, size, mode))
    for layout in (torch.contiguous_format, torch.channels_last):
        found = bytes_resized(images.contiguous(memory_format=layout), size, mode)
        assert found.dtype == torch.uint8
        off = (found.double() - expected).abs()
        assert float(off.max()) <= 2  # weights of 16 bits
        assert float(off.mean()) < max(0.1, 1.5 / off.numel())


def test_the_way_of_a_graph_is_that_of_the_matrices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    images = (random((23, 31)) * 255).round().to(torch.uint8)
    by_kernel = bytes_resized(images, (40, 17), "bicubic")
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    exact = bytes_resized(images, (40, 17), "bicubic")
    across = as_bytes(reference(images, (23, 17), "bicubic"))
    expected = as_bytes(reference(across, (40, 17), "bicubic"))
    assert float((exact.double() - expected).abs().mean()) < 1e-3  # float32 takes some halves down
    assert float((by_kernel.double() - exact.double()).abs().max()) <= 1
    assert float((by_kernel != exact).double().mean()) < 0.05
