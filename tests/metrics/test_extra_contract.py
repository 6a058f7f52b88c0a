"""What every metric beyond the ten errors has to do, whatever it measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mde.errors import ConfigError, DataFormatError
from mde.geometry import intrinsics_from_fov, unknown_intrinsics
from mde.metrics.boundary import BoundaryF1, EdgeErrors
from mde.metrics.flicker import Flicker
from mde.metrics.groups import GroupedErrors
from mde.metrics.images import ImageMetric
from mde.metrics.normals import NormalErrors, PlaneErrors
from mde.metrics.points import PointErrors
from mde.metrics.ranges import RangeErrors
from mde.metrics.semantic import ClassErrors
from mde.metrics.uncertainty import UncertaintyScores

IMAGES: tuple[Callable[[], ImageMetric], ...] = (
    BoundaryF1,
    lambda: BoundaryF1(convention="authors"),
    EdgeErrors,
    Flicker,
    NormalErrors,
    PlaneErrors,
    lambda: PointErrors(points=300),
    UncertaintyScores,
)
GROUPS: tuple[Callable[[], GroupedErrors], ...] = (
    RangeErrors,
    lambda: RangeErrors(pooling="pixel"),
    ClassErrors,
    lambda: ClassErrors({2: "two"}, pooling="pixel"),
)
SIZE = (36, 48)


def scene(batch: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Slanted planes with a near box before them, and a prediction that is off by some 5 %."""
    generator = torch.Generator().manual_seed(seed)
    v, u = torch.meshgrid(torch.linspace(0, 1, SIZE[0]), torch.linspace(0, 1, SIZE[1]), indexing="ij")
    slopes = torch.rand(batch, 2, 1, 1, generator=generator)
    target = (1 / (0.1 + 0.2 * slopes[:, 0] * u + 0.2 * slopes[:, 1] * v))[:, None]
    target[..., 10:25, 15:33] *= 0.4
    pred = target * (1 + 0.05 * torch.randn(target.shape, generator=generator))
    valid = torch.rand(target.shape, generator=generator) > 0.02
    return {
        "pred": pred,
        "target": target,
        "valid": valid,
        "intrinsics": intrinsics_from_fov(*SIZE, 60.0).expand(batch, 3, 3).clone(),
        "labels": torch.randint(0, 4, target.shape, generator=generator).to(torch.uint8),
        "std": 0.05 * target,
    }


def update(metric: Any, maps: dict[str, Tensor], rows: Any = slice(None), counts: Tensor | None = None) -> None:
    needs = {name: maps[name][rows] for name in metric.needs}
    metric.update(*(maps[name][rows] for name in ("pred", "target", "valid")), counts, **needs)


def flat(values: dict[str, Any]) -> dict[str, float]:
    """Values by name; those of a table by row and name."""
    found = {}
    for name, value in values.items():
        found.update(
            {f"{name}/{k}": v for k, v in flat(value).items()} if isinstance(value, dict) else {name: value.item()}
        )
    return found


def found(metric: Any, maps: dict[str, Tensor], **kwargs: Any) -> dict[str, float]:
    update(metric, maps, **kwargs)
    return flat(metric.compute())


@pytest.fixture(params=range(len(IMAGES) + len(GROUPS)))
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return (*IMAGES, *GROUPS)[request.param]


def test_parts_of_a_set_make_the_whole_bit_by_bit_in_any_order(make: Callable[[], Any]) -> None:
    maps = scene()
    whole, parts = make(), [make(), make()]
    expected = found(whole, maps)
    update(parts[0], maps, slice(3, 4))
    update(parts[1], maps, slice(1, 3))
    update(parts[1], maps, slice(0, 1))
    parts[0].state = parts[0].state + parts[1].state  # what the reduction over processes does
    merged = flat(parts[0].compute())
    if getattr(whole, "pooling", None) == "pixel":
        assert merged == pytest.approx(expected, rel=1e-12)
    else:
        assert merged == expected
    assert len(expected) >= 2


def test_inputs_stay_as_they_are(make: Callable[[], Any]) -> None:
    maps = scene(2)
    copies = {name: each.clone() for name, each in maps.items()}
    update(make(), maps)
    assert all(torch.equal(maps[name], copies[name]) for name in maps)


def test_garbage_outside_the_mask_changes_nothing(make: Callable[[], Any]) -> None:
    maps = scene(2)
    expected = found(make(), maps)
    for value in (float("nan"), -1e30, float("inf"), 0.0):
        dirty = dict(maps)
        for name in ("pred", "target", "std"):
            dirty[name] = torch.where(maps["valid"], maps[name], value)
        dirty["labels"] = torch.where(maps["valid"], maps["labels"], 77)
        assert found(make(), dirty) == expected


def test_an_image_without_a_pixel_is_skipped_and_counted(make: Callable[[], Any]) -> None:
    maps = scene(3)
    expected = found(make(), maps, rows=slice(0, 2))
    maps["valid"][2] = False
    metric = make()
    assert found(metric, maps) == expected
    if isinstance(metric, ImageMetric):
        assert set(metric.skipped().values()) == {1}
        assert metric.last is not None
        assert metric.last[2].isnan().all()
        assert metric.last[:2].isfinite().all()


def test_a_set_without_a_pixel_has_no_value(make: Callable[[], Any]) -> None:
    maps = scene(1)
    maps["valid"][:] = False
    values = found(make(), maps)
    assert all(value != value for value in values.values())


def test_padded_duplicates_do_not_count(make: Callable[[], Any]) -> None:
    maps = scene(3)
    counted = torch.tensor([True, False, True])
    metric, expected = make(), make()
    update(expected, maps, [0, 2])
    assert found(metric, maps, counts=counted) == flat(expected.compute())
    if isinstance(metric, ImageMetric):
        assert set(metric.skipped().values()) == {0}
        assert metric.last is not None
        assert metric.last[1].isnan().all()


def test_a_prediction_that_is_no_number_is_an_error_that_names_the_image(make: Callable[[], Any]) -> None:
    for value in (float("nan"), float("inf")):
        maps = scene(2)
        maps["pred"][1, 0, 20, 20] = value
        maps["valid"][1, 0, 20, 20] = True
        with pytest.raises(DataFormatError, match="image 1 of the batch"):
            update(make(), maps)


def test_the_truth_itself_is_perfect(make: Callable[[], Any]) -> None:
    maps = scene()
    maps["pred"] = maps["target"].clone()
    metric = make()
    for name, value in found(metric, maps).items():
        column = name.split("/")[-1]
        if column in ("images", "pixels", "calibration_error"):
            continue
        best = column.startswith(("delta", "within"))
        best |= isinstance(metric, ImageMetric) and column in metric.higher
        if column == "flatness":  # of the plane itself: the truth has the residuals that its own plane has
            assert value < 0.02
        else:
            assert value == pytest.approx(float(best), abs=2e-6), name


def test_inputs_that_do_not_fit_are_refused(make: Callable[[], Any]) -> None:
    maps = scene(2)
    metric = make()
    with pytest.raises(ConfigError, match=r"(?s)shape.*resize"):
        update(metric, {**maps, "pred": maps["pred"][..., :-1]})
    with pytest.raises(ConfigError, match="bool"):
        update(metric, {**maps, "valid": maps["valid"].float()})
    with pytest.raises(ConfigError, match="counts"):
        update(metric, maps, counts=torch.ones(2))
    if metric.needs:
        with pytest.raises(ConfigError, match=f"needs {metric.needs[0]}.*pass {metric.needs[0]}="):
            metric.update(maps["pred"], maps["target"], maps["valid"])


def test_a_second_test_starts_anew(make: Callable[[], Any]) -> None:
    metric = make()
    first = found(metric, scene(2))
    metric.reset()
    assert found(metric, scene(2)) == first
    with torch.inference_mode():
        update(metric, scene(1, seed=3))
    update(metric, scene(1, seed=4))  # outside of it: the state must not be one of inference mode
    assert flat(metric.compute()) != first


@pytest.mark.parametrize("make_one", [NormalErrors, PlaneErrors, PointErrors])
def test_an_unknown_camera_leaves_the_image_out(make_one: Callable[[], ImageMetric]) -> None:
    maps = scene(3)
    expected = found(make_one(), maps, rows=[0, 2])
    maps["intrinsics"][1] = unknown_intrinsics()
    metric = make_one()
    assert found(metric, maps) == expected
    assert set(metric.skipped().values()) == {1}
    with pytest.raises(ConfigError, match=r"\(3,3,3\)"):
        update(metric, {**maps, "intrinsics": maps["intrinsics"][:2]})
