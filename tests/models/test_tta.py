from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mde.models.tta import averaged
from mde.protocol import EvalProtocol
from mde.types import Ambiguity


def network(image: Tensor) -> Tensor:
    """Depth that depends on the side and on the scale."""
    across = torch.linspace(1, 3, image.shape[-1])
    return image[:, :1] * across + 100 / image.shape[-1]


IMAGE = torch.rand(2, 3, 12, 40, generator=torch.Generator().manual_seed(0)) + 0.5


def test_nothing_to_average_is_the_prediction_itself() -> None:
    pred = network(IMAGE)
    assert torch.equal(averaged(network, IMAGE, EvalProtocol(), Ambiguity.METRIC), pred)
    assert averaged(network, IMAGE, EvalProtocol(), Ambiguity.METRIC, pred) is pred


@pytest.mark.parametrize("space", ["given", "disparity"])
def test_mean_of_both_sides(space: str) -> None:
    protocol = EvalProtocol(flip=True, space=space)
    a, b = network(IMAGE), network(IMAGE.flip(-1)).flip(-1)
    expected = (a + b) / 2 if space == "given" else 2 / (1 / a + 1 / b)
    torch.testing.assert_close(averaged(network, IMAGE, protocol, Ambiguity.METRIC), expected)
    # a disparity is one already
    as_given = averaged(network, IMAGE, protocol, Ambiguity.AFFINE_DISPARITY)
    torch.testing.assert_close(as_given, (a + b) / 2)


def test_the_ramp_takes_each_end_from_the_side_that_saw_it() -> None:
    made = averaged(network, IMAGE, EvalProtocol(flip=True, flip_blend="ramp"), Ambiguity.METRIC).numpy()
    a, b = network(IMAGE).numpy(), network(IMAGE.flip(-1)).flip(-1).numpy()
    left = 1 - np.clip(20 * (np.linspace(0, 1, 40) - 0.05), 0, 1)
    np.testing.assert_allclose(made, left[::-1] * a + left * b + (1 - left - left[::-1]) * (a + b) / 2, rtol=1e-5)
    np.testing.assert_allclose(made[..., 0], b[..., 0], rtol=1e-6)
    np.testing.assert_allclose(made[..., -1], a[..., -1], rtol=1e-6)


def test_scales_are_averaged_at_the_size_of_the_largest() -> None:
    seen: list[tuple[int, ...]] = []

    def constant(image: Tensor) -> Tensor:
        seen.append(tuple(image.shape[-2:]))
        return torch.full_like(image[:, :1], float(image.shape[-1]))

    made = averaged(constant, IMAGE, EvalProtocol(scales=(1.0, 0.5, 1.5)), Ambiguity.METRIC)
    assert seen == [(12, 40), (6, 20), (18, 60)]
    assert made.shape == (2, 1, 18, 60)
    torch.testing.assert_close(made, torch.full_like(made, 40.0))


def test_what_is_known_is_not_computed_again() -> None:
    calls: list[int] = []

    def counting(image: Tensor) -> Tensor:
        calls.append(1)
        return network(image)

    protocol = EvalProtocol(flip=True, scales=(0.5, 1.0))
    first = averaged(counting, IMAGE, protocol, Ambiguity.METRIC, network(IMAGE))
    assert len(calls) == 3
    torch.testing.assert_close(first, averaged(network, IMAGE, protocol, Ambiguity.METRIC))
