from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import SamVisionConfig, SamVisionModel

from mde.models.encoders import sam_attention
from mde.models.encoders.sam_attention import BlockedAttention, relative_attention


def written_out(query: Tensor, key: Tensor, value: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """The formula, position by position."""
    count, height, width, channels = query.shape
    out = torch.zeros_like(value)
    for n in range(count):
        for i in range(height):
            for j in range(width):
                q = query[n, i, j]
                by_row = torch.stack([rel_h[i - k + height - 1] @ q for k in range(height)])
                by_column = torch.stack([rel_w[j - m + width - 1] @ q for m in range(width)])
                bias = (by_row[:, None] + by_column).flatten()
                scores = key[n].reshape(-1, channels) @ q / channels**0.5 + bias
                out[n, i, j] = scores.softmax(0) @ value[n].reshape(-1, channels)
    return out


def attentions(window: int) -> tuple[nn.Module, nn.Module]:
    """transformers' layer with tables that are not 0, and ours over a copy of it."""
    torch.manual_seed(0)
    config = SamVisionConfig(hidden_size=28, num_attention_heads=2, image_size=96, window_size=window)
    theirs = SamVisionModel(config).vision_encoder.layers[0 if window else 2].attn
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    return theirs, BlockedAttention(copy.deepcopy(theirs))


@pytest.mark.parametrize("scores", [1, 100, 2**18])
def test_it_is_the_formula(scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam_attention, "_CPU_SCORES", scores)
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 3, 5, generator=generator, dtype=torch.float64)
    rel_h, rel_w = (torch.randn(2 * side - 1, 5, generator=generator, dtype=torch.float64) for side in (4, 3))
    found = relative_attention(query, key, value, rel_h, rel_w)
    torch.testing.assert_close(found, written_out(query, key, value, rel_h, rel_w), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("window", [0, 5])
@pytest.mark.parametrize("scores", [1, 500, 2**18])
def test_values_and_gradients_of_transformers(window: int, scores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam_attention, "_CPU_SCORES", scores)
    theirs, ours = attentions(window)
    side = window or 6
    tokens = torch.randn(3, side, side, 28, requires_grad=True)
    twin = tokens.detach().clone().requires_grad_()
    expected, found = theirs(tokens)[0], ours(twin)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    torch.testing.assert_close(twin.grad, tokens.grad, rtol=1e-4, atol=1e-5)
    for (name, a), (other, b) in zip(theirs.named_parameters(), ours.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5 * float(a.grad.abs().max() + 1))
    with torch.no_grad():
        torch.testing.assert_close(ours(twin)[0], found, rtol=1e-5, atol=1e-5)


def test_parameters_keep_their_names_and_may_be_shared() -> None:
    theirs, ours = attentions(0)
    assert list(ours.state_dict()) == sorted(theirs.state_dict(), key=list(ours.state_dict()).index)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    assert BlockedAttention(theirs).rel_pos_h is theirs.rel_pos_h


def test_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 2, 3)] * 3 + [(5, 3), (3, 3)]
    inputs = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    assert torch.autograd.gradcheck(relative_attention, inputs)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((12, 64, 64, "cpu"), (1, 3)),  # global layer at 1024
        ((12, 64, 64, "cuda"), (4, 64)),
        ((300, 14, 14, "cpu"), (20, 14)),  # 25 windows of 12 heads
        ((2, 4, 4, "cpu"), (2, 4)),
    ],
)
def test_blocks_fit_their_budget(arguments: tuple[int, int, int, str], expected: tuple[int, int]) -> None:
    assert sam_attention._block_shape(*arguments) == expected
