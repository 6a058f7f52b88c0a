"""Attention with decomposed relative positions, a few query rows of one head at a time.

SAM adds to the scores of query (i, j) and key (k, l) a bias R_h[i - k] · q + R_w[j - l] · q (Y. Li et al., "MViTv2",
CVPR 2022, section 4.1). At 1024 pixels that bias has 4096 x 4096 numbers a head. Written out whole it takes most of the
time and nearly all of the memory of an encoder; here it exists for one block at a time and never leaves the cache.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

__all__ = ["BlockedAttention", "relative_attention"]

# numbers of a block: 3 MiB in float32, 192 queries at 1024 pixels, from which on torch takes 64 of them at a time
_CPU_SCORES = 3 * 2**18
_DEVICE_SCORES = 2**26  # on an accelerator large blocks keep it busy; 256 MiB in float32
_LANES = 16  # float32 numbers of an AVX-512 register: other widths of a head cost a third more time


class BlockedAttention(nn.Module):
    """Takes the place of transformers' ``SamVisionAttention``: same parameters, same names, same numbers.

    Args:
        attention: whose layers and tables it takes over; it must have relative positions.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        source = cast(Any, attention)
        self.heads = int(source.num_attention_heads)
        self.qkv: nn.Module = source.qkv
        self.proj: nn.Module = source.proj
        self.rel_pos_h: nn.Parameter = source.rel_pos_h
        self.rel_pos_w: nn.Parameter = source.rel_pos_w

    def forward(self, hidden_states: Tensor, output_attentions: bool = False) -> tuple[Tensor, None]:
        """Tokens (B,H,W,C) to tokens (B,H,W,C); the weights of the attention never exist as a whole, hence None."""
        batch, height, width, _ = hidden_states.shape
        qkv = self.qkv(hidden_states).reshape(batch, height, width, 3, self.heads, -1)
        query, key, value = qkv.permute(3, 0, 4, 1, 2, 5).flatten(1, 2)  # each (B*heads,H,W,c)
        mixed = relative_attention(query, key, value, self.rel_pos_h, self.rel_pos_w)
        mixed = mixed.reshape(batch, self.heads, height, width, -1).permute(0, 2, 3, 1, 4).flatten(3)
        return self.proj(mixed), None


def relative_attention(query: Tensor, key: Tensor, value: Tensor, rel_pos_h: Tensor, rel_pos_w: Tensor) -> Tensor:
    """softmax(q · k / sqrt(c) + R_h[i - k] · q + R_w[j - l] · q) v, over all positions of a map.

    Where a gradient is asked for, a block's scores are computed again on the way back instead of being kept.

    Args:
        query: (N,H,W,c), N counts pictures and heads.
        key: likewise.
        value: likewise.
        rel_pos_h: (2H-1,c), row differences from -(H-1) to H-1.
        rel_pos_w: (2W-1,c), likewise for columns.

    Returns:
        (N,H,W,c).
    """
    count, height, width, channels = query.shape
    bias_h = torch.einsum("nhwc,hkc->nhwk", query, _by_pair(rel_pos_h, height))
    bias_w = torch.einsum("nhwc,wkc->nhwk", query, _by_pair(rel_pos_w, width))
    query, key, value = (F.pad(x, (0, -channels % _LANES)) for x in (query, key, value))
    key, value = key.flatten(1, 2), value.flatten(1, 2)
    heads, rows = _block_shape(count, height, width, query.device.type)
    learns = torch.is_grad_enabled() and query.requires_grad
    # one buffer for the bias of all blocks: a fresh one each time costs more in page faults than the arithmetic
    buffer = None if learns else bias_h.new_empty(heads, rows, width, height, width)
    parts = []
    for n in range(0, count, heads):
        some, blocks = slice(n, n + heads), []
        for row in range(0, height, rows):
            at = some, slice(row, row + rows)
            inputs = query[at], bias_h[at], bias_w[at], key[some], value[some], channels**-0.5, buffer
            blocks.append(_again_on_the_way_back(*inputs) if learns else _block(*inputs))
        parts.append(torch.cat(blocks, 1))
    return torch.cat(parts)[..., :channels]


def _block(
    query: Tensor, bias_h: Tensor, bias_w: Tensor, key: Tensor, value: Tensor, scale: float, buffer: Tensor | None
) -> Tensor:
    out = None if buffer is None else buffer[: query.shape[0], : query.shape[1]]
    bias = torch.add(bias_h[..., :, None], bias_w[..., None, :], out=out).flatten(3).flatten(1, 2)  # (n,rows*W,H*W)
    # as heads of one picture: the fused kernels of the CPU go over them in turn
    q, k, v, mask = (x[None] for x in (query.flatten(1, 2), key, value, bias))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).reshape(query.shape)


_again_on_the_way_back = partial(checkpoint, _block, use_reentrant=False, preserve_rng_state=False)


def _by_pair(table: Tensor, size: int) -> Tensor:
    """(2*size-1,c) by difference to (size,size,c) by query and key."""
    steps = torch.arange(size, device=table.device)
    return table[steps[:, None] - steps + size - 1]


def _block_shape(count: int, height: int, width: int, device: str) -> tuple[int, int]:
    """Heads and query rows of one block: many heads of a small map, few rows of one head of a large map."""
    scores = _CPU_SCORES if device == "cpu" else _DEVICE_SCORES
    rows = max(1, min(height, scores // (width * height * width)))
    heads = max(1, min(count, scores // (height * width) ** 2))
    return heads, rows
