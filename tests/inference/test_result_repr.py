"""What a result says of itself in a terminal is one line."""

from __future__ import annotations

import numpy as np
import pytest

from mde.inference import DepthResult
from mde.types import Ambiguity


@pytest.mark.parametrize("ambiguity", list(Ambiguity))
def test_one_line_with_shape_unit_range_and_model(ambiguity: Ambiguity) -> None:
    values = np.linspace(1.25, 7.5, 480 * 640, dtype=np.float32).reshape(480, 640)
    values[0, :5] = [np.nan, np.inf, -np.inf, np.nan, np.nan]
    said = repr(DepthResult(values, ambiguity, model="DepthNet", source="a.jpg"))
    assert said == (
        f"DepthResult(480x640, {ambiguity.value}, 1.25 to 7.5 {ambiguity.unit}, model='DepthNet', source='a.jpg')"
    )


def test_without_names_and_without_depth() -> None:
    nothing = DepthResult(np.full((2, 3), np.nan, np.float32), Ambiguity.METRIC)
    assert repr(nothing) == "DepthResult(2x3, metric, nothing known)"
    assert f"{nothing}" == repr(nothing)
