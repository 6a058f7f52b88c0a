from __future__ import annotations

from typing import Any

import pytest
import torch

from mde.models import UNet
from mde.models.base import DepthModule
from tests.models.tester import MethodTester


class TestUNet(MethodTester):
    overfit_factor = 0.6  # four channels at full resolution learn slowly

    def make(self, **kwargs: Any) -> DepthModule:
        return UNet(widths=(4, 8, 16, 32), **kwargs)


class TestUNetVariations(MethodTester):
    """No batch norm, deep supervision."""

    overfit_factor = 0.8

    def make(self, **kwargs: Any) -> DepthModule:
        return UNet(widths=(4, 8, 16, 32), norm=False, supervision=(1, 1, 1), **kwargs)


@pytest.mark.parametrize(("norm", "count"), [(False, 31_031_745), (True, 31_037_633)])
def test_parameters_of_the_paper(norm: bool, count: int) -> None:
    with torch.device("meta"):
        model = UNet(norm=norm)
    assert sum(p.numel() for p in model.parameters()) == count


def test_supervises_at_full_resolution() -> None:
    model = UNet(widths=(4, 8, 16), supervision=(1, 1))
    raws = model.heads(model.decoder(model.encoder(torch.rand(1, 3, 30, 41))))
    assert [raw.shape[-2:] for raw in raws] == [(15, 20), (30, 41)]
