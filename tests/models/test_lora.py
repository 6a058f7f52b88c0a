from __future__ import annotations

import pytest
import torch
from torch import nn

from mde.errors import ConfigError
from mde.models.lora import LoRALinear, add_lora


def test_it_is_the_formula_and_takes_the_layer_over() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(7, 5)
    adapted, x = LoRALinear(layer, 3), torch.randn(4, 7)
    torch.testing.assert_close(adapted(x), layer(x), rtol=0, atol=0)
    nn.init.normal_(adapted.lora_up)
    expected = x @ (layer.weight + adapted.lora_up @ adapted.lora_down).T + layer.bias
    torch.testing.assert_close(adapted(x), expected)
    assert adapted.weight is layer.weight
    assert set(adapted.state_dict()) == {"weight", "bias", "lora_down", "lora_up"}


def test_only_the_correction_learns_under_a_frozen_layer() -> None:
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 2)).requires_grad_(False)
    add_lora(net, ["0", "2"], rank=2)
    net(torch.randn(3, 4)).sum().backward()
    trained = {name for name, p in net.named_parameters() if p.grad is not None}
    assert trained == {"0.lora_down", "0.lora_up", "2.lora_down", "2.lora_up"}


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        LoRALinear(nn.Linear(2, 2), 0)
    with pytest.raises(ConfigError, match="1 is a ReLU"):
        add_lora(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), ["1"], 2)
