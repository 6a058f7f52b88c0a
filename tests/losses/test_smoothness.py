from __future__ import annotations

import numpy as np
import pytest
import torch

from mde.errors import ConfigError
from mde.losses import SmoothnessLoss, smoothness_loss
from mde.rebuild import build, spec_of


def by_formula(disparity: np.ndarray, image: np.ndarray, edges: float) -> float:
    total = 0.0
    for axis in (-1, -2):
        step, colour = np.diff(disparity, axis=axis), np.abs(np.diff(image, axis=axis)).mean(1, keepdims=True)
        total += float((np.abs(step) * np.exp(-edges * colour)).mean())
    return total


@pytest.mark.parametrize("edges", [0.0, 1.0, 10.0])
def test_equals_the_formula(edges: float) -> None:
    rng = np.random.default_rng(0)
    disparity, image = rng.random((2, 1, 7, 9)), rng.random((2, 3, 7, 9))
    found = SmoothnessLoss(edges)(torch.from_numpy(disparity).float(), torch.from_numpy(image).float())
    assert float(found) == pytest.approx(by_formula(disparity, image, edges), rel=1e-5)


def test_a_plain_disparity_costs_nothing_and_the_loss_is_linear_in_it() -> None:
    image, disparity = torch.rand(1, 3, 6, 8), torch.rand(1, 1, 6, 8)
    assert float(smoothness_loss(torch.full_like(disparity, 0.3), image)) == 0
    torch.testing.assert_close(smoothness_loss(5 * disparity + 2, image), 5 * smoothness_loss(disparity, image))


def test_an_edge_of_the_picture_excuses_one_of_the_disparity() -> None:
    step = (torch.arange(8) >= 4).float().expand(1, 1, 6, 8)
    flat, edge = torch.full((1, 3, 6, 8), 0.5), step.expand(1, 3, 6, 8)
    elsewhere = edge.roll(2, -1)
    excused = smoothness_loss(step, edge)
    torch.testing.assert_close(excused, smoothness_loss(step, flat) * np.exp(-1.0), check_dtype=False)
    assert smoothness_loss(step, elsewhere) == smoothness_loss(step, flat)
    assert smoothness_loss(step, edge, edges=5) < excused


def test_gradient_equals_finite_differences() -> None:
    disparity = torch.rand(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    image = torch.rand(1, 3, 4, 5)
    assert torch.autograd.gradcheck(lambda d: smoothness_loss(d, image), (disparity,))


def test_float32_under_autocast_and_rebuilt_from_plain_data() -> None:
    loss = SmoothnessLoss(3.0)
    disparity, image = torch.rand(1, 1, 4, 5), torch.rand(1, 3, 4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(disparity, image) == smoothness_loss(disparity, image, edges=3)
    assert loss(disparity.bfloat16(), image).dtype == torch.float32
    assert build(spec_of(loss)).edges == 3


def test_swapped_or_unequal_arguments_are_refused() -> None:
    disparity, image = torch.rand(2, 1, 4, 5), torch.rand(2, 3, 4, 5)
    for wrong in ((image, disparity), (disparity[..., 1:], image), (disparity[:1], image), (disparity[:, 0], image)):
        with pytest.raises(ConfigError, match="disparity first"):
            smoothness_loss(*wrong)
    with pytest.raises(ConfigError, match="at least 0"):
        SmoothnessLoss(-1)
