from __future__ import annotations

import torch

from mde.masking import fill, masked_mean, masked_mean_per_image, masked_sum


def test_nan_under_the_mask_reaches_neither_value_nor_gradient():
    values = torch.tensor([[1.0, float("nan")], [float("inf"), 3.0]], requires_grad=True)
    valid = torch.tensor([[True, False], [False, True]])
    mean = masked_mean(values.abs().sqrt(), valid)  # sqrt: the derivative of NaN would be NaN
    assert torch.isclose(mean, torch.tensor((1 + 3**0.5) / 2))
    filled = masked_mean(fill(values, valid, 1.0).sqrt(), valid)
    filled.backward()
    assert torch.isfinite(values.grad).all()
    assert (values.grad[~valid] == 0).all()


def test_an_empty_mask_gives_a_connected_zero():
    values = torch.ones(2, 1, 3, 3, requires_grad=True)
    mean = masked_mean(values, torch.zeros(2, 1, 3, 3, dtype=torch.bool))
    mean.backward()
    assert mean.item() == 0
    assert (values.grad == 0).all()


def test_half_precision_is_summed_in_float32():
    values = torch.full((1, 1, 100, 100), 1.001, dtype=torch.bfloat16)
    total = masked_sum(values, torch.ones_like(values, dtype=torch.bool))
    assert total.dtype == torch.float32
    assert torch.isclose(total, values.double().sum().float())


def test_a_broadcast_mask_counts_each_element():
    values = torch.stack((torch.ones(2, 4, 4), 3 * torch.ones(2, 4, 4)), dim=1)
    valid = torch.rand(2, 1, 4, 4) > 0.5
    valid[..., 0] = True
    assert torch.isclose(masked_mean(values, valid), torch.tensor(2.0))


def test_per_image_means_do_not_weigh_by_pixels():
    values = torch.tensor([[1.0, 1.0, 1.0], [4.0, 9.0, 9.0]]).reshape(2, 1, 1, 3)
    valid = torch.tensor([[True, True, True], [True, False, False]]).reshape(2, 1, 1, 3)
    assert masked_mean_per_image(values, valid).tolist() == [1.0, 4.0]
    assert masked_mean(values, valid).item() == 7 / 4
