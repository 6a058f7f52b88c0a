"""One pass equals as many evaluations, and a planted convention is found again."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from mde.errors import ConfigError, DataFormatError
from mde.metrics import DepthMetrics
from mde.protocol import EvalProtocol
from mde.report.conventions import Published, explained
from mde.report.pairs import Case
from mde.report.sensitivity import default_axes, sensitivity
from mde.types import Ambiguity

REFERENCE = EvalProtocol(name="own", max_depth=10.0)
AXES = {
    "crop": ("none", "kitti_garg"),
    "max_depth": (10.0, 5.0),
    "bounds": ("exclusive", "inclusive", "positive"),
    "alignment": ("none", "median", "log_affine"),
    "clamp": (True, False),
    "resize": ("bilinear", "bicubic"),
    "swapped": (False, True),
    "pooling": ("image", "pixel", "mse", "batch16"),
}


def cases(
    count: int = 18, size: tuple[int, int] = (20, 66), pred_size: tuple[int, int] | None = None, seed: int = 0
) -> list[Case]:
    """Noisy predictions of depths of 0.5 to 12 m, holes, one frame without truth, ends of the range hit exactly."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        depth = rng.uniform(0.5, 12, size).astype(np.float32)
        depth[5:7] = 10.0
        depth[8:10] = 5.0
        valid = rng.random(size) < 0.7
        if number == 4:
            valid[:] = False
        depth[~valid] = 0
        rows, columns = pred_size or size
        source = np.where(depth > 0, depth, 3.0)[np.linspace(0, size[0] - 1, rows).astype(int)]
        source = source[:, np.linspace(0, size[1] - 1, columns).astype(int)]
        pred = (1.15 * source * np.exp(0.25 * rng.standard_normal((rows, columns))) + 0.1).astype(np.float32)
        made.append(Case(f"{number:03d}", pred, depth, valid))
    return made


def alone(frames: list[Case], protocol: EvalProtocol, ambiguity: Ambiguity = Ambiguity.METRIC) -> DepthMetrics:
    metric = DepthMetrics(protocol)
    for frame in frames:
        metric.update(frame.prediction, *frame.target, ambiguity=ambiguity)
    return metric


@pytest.mark.parametrize(("pred_size", "one"), [(None, "resize"), ((11, 30), "bounds")])
def test_one_pass_equals_evaluating_each_combination_alone(pred_size, one):
    frames = cases(pred_size=pred_size)
    axes = {**AXES, one: AXES[one][:1]}
    made = sensitivity(frames, REFERENCE, axes)
    assert len(made.conventions) == np.prod([len(values) for values in axes.values()])
    assert len({c.protocol.fingerprint for c in made.conventions}) == len(made.conventions)
    rng = np.random.default_rng(1)
    compared = 0
    for place in rng.permutation(len(made.conventions))[:60]:
        each = made.conventions[place]
        try:
            metric = alone(frames, each.protocol)
        except DataFormatError:  # not positive without a clamp: there is no number
            assert not each.protocol.clamp
            assert np.isnan(each.metrics["rmse_log"])
            continue
        compared += 1
        for name, value in metric.compute().items():
            assert each.metrics[name] == pytest.approx(value.item(), rel=1e-9, abs=1e-9), (name, each.protocol)
        counts = metric.counts()
        assert (each.images, each.skipped, each.degenerate) == (counts.images, counts.skipped, counts.degenerate)
    assert compared > 30


def test_definitions_and_disparities_follow_the_metrics_too():
    frames = [c._replace(pred=(0.3 / c.pred + 0.02).astype(np.float32)) for c in cases(5)]
    reference = replace(REFERENCE, alignment="disparity_scale_shift")
    axes = {
        "silog": ("silog", "eigen", "half"),
        "rmse_log": ("plain", "si", "si_mse"),
        "pooling": ("image", "pixel"),
        "min_pixels": (1, 10**6),
        "alignment": ("disparity_scale_shift", "robust_disparity_scale_shift"),
    }
    made = sensitivity(frames, reference, axes, Ambiguity.AFFINE_DISPARITY)
    for each in made.conventions:
        if each.protocol.min_pixels > 1:
            assert each.images == 0
            assert all(np.isnan(value) for value in each.metrics.values())
            continue
        for name, value in alone(frames, each.protocol, Ambiguity.AFFINE_DISPARITY).compute().items():
            assert each.metrics[name] == pytest.approx(value.item(), rel=1e-9, abs=1e-9), (name, each.protocol)


def test_a_planted_convention_is_found_and_is_the_only_one():
    frames = cases(pred_size=(11, 30))
    axes = {k: v for k, v in AXES.items() if k != "clamp"}
    planted = replace(
        REFERENCE, crop="kitti_garg", max_depth=5.0, bounds="inclusive", alignment="median", resize="nearest",
        swapped=True, pooling="pixel",
    )  # fmt: skip
    axes["resize"] = ("bilinear", "nearest")
    made = sensitivity(frames, REFERENCE, axes)
    truth = {name: value.item() for name, value in alone(frames, planted).compute().items()}
    names = ("abs_rel", "rmse", "delta1", "sq_rel")
    finding = made.find({name: Published.parse(f"{truth[name]:.5f}") for name in names})
    agreeing = [match for match in finding.matches if match.agrees]
    assert len(agreeing) == 1
    assert [each.protocol.fingerprint for each in agreeing[0].conventions] == [planted.fingerprint]
    assert set(finding.decided) == set(axes)
    assert min(finding.decided.values()) > 1.001
    assert not finding.undecided
    text = explained(finding)
    assert text.startswith("1 combination(s) give all printed digits.")
    assert "swapped True decides" in text


def test_what_the_numbers_leave_open_is_said():
    made = sensitivity(cases(6), REFERENCE, {"resize": ("bilinear", "nearest"), "pooling": ("image", "mse")})
    finding = made.find({"abs_rel": Published.parse(f"{made.reference.metrics['abs_rel']:.3f}")})
    assert finding.undecided == {"resize": ["bilinear", "nearest"], "pooling": ["image", "mse"]}
    assert not finding.decided
    assert len(finding.matches) == 1
    assert len(finding.matches[0].conventions) == 4
    grid = made.find_grid(finding, {"abs_rel": Published(0.1, 0.1)})
    assert grid.rows[0][1:3] == ["any", "any"]
    assert "resize stays open: bilinear, nearest fit alike." in explained(finding)
    lost = made.find({"abs_rel": Published.parse("0.001")})
    assert not lost.matches[0].agrees
    assert "No combination gives all printed digits" in explained(lost)


def test_printed_digits_set_the_tolerance():
    assert Published.parse("0.098").tolerance == pytest.approx(0.0005)
    assert Published.parse("4.30").tolerance == pytest.approx(0.005)
    assert Published.parse("12").tolerance == pytest.approx(0.5)
    assert Published.parse("0.098", 0.01).tolerance == 0.01
    for text, tolerance in (("ten", None), ("0.1", 0.0), ("nan", None)):
        with pytest.raises(ConfigError):
            Published.parse(text, tolerance)


def test_effects_change_one_convention_at_a_time():
    frames = cases(6)
    made = sensitivity(frames, REFERENCE, {"max_depth": (5.0,), "alignment": ("median",), "resize": ("nearest",)})
    by_axis = {effect.axis: effect for effect in made.effects()}
    assert list(by_axis["max_depth"].values) == [10.0, 5.0]
    for axis, value in (("max_depth", 5.0), ("alignment", "median")):
        expected = alone(frames, replace(REFERENCE, **{axis: value})).compute()
        for name, number in by_axis[axis].values[value].items():
            assert number == pytest.approx(expected[name].item(), rel=1e-9)
    assert by_axis["resize"].span("abs_rel") == 0
    text = made.paragraph()
    assert "Without any effect here: resize." in text
    own, other = (by_axis["alignment"].values[key]["abs_rel"] for key in ("none", "median"))
    assert f"alignment median {other:.4f} ({other / own - 1:+.1%})" in text
    assert [row[0] for row in made.effect_grid().rows] == ["max_depth"] * 2 + ["alignment"] * 2 + ["resize"] * 2


def test_files_hold_every_combination_unrounded():
    made = sensitivity(cases(3), REFERENCE, {"max_depth": (5.0,), "clamp": (True, False)})
    rows = list(csv.DictReader(io.StringIO(made.csv())))
    assert len(rows) == 4
    assert float(rows[0]["abs_rel"]) == made.conventions[0].metrics["abs_rel"]
    content = json.loads(made.json())
    assert content["conventions"][1]["settings"] == {"max_depth": 10.0, "clamp": False}
    assert content["reference"]["protocol"]["fingerprint"] == REFERENCE.fingerprint == rows[0]["fingerprint"]


@pytest.mark.parametrize(
    ("axes", "part"),
    [
        ({"crops": ("none",)}, "nearest: crop"),
        ({"flip": (True,)}, "cannot vary"),
        ({"crop": ("garg",)}, "unknown crop"),
        ({"alignment": ("disparity_scale_shift",)}, "does not fit"),
        ({"max_depth": tuple(range(1, 2000)), "min_depth": tuple(x / 1e6 for x in range(1, 100))}, "too many"),
    ],
)
def test_wrong_axes_are_refused(axes, part):
    with pytest.raises(ConfigError, match=part):
        sensitivity(cases(1), REFERENCE, axes)


def test_bad_cases_are_refused():
    broken = cases(2)
    broken[1].pred[:] = np.nan
    with pytest.raises(DataFormatError, match=r"NaN at a pixel that counts \[001\]"):
        sensitivity(broken, REFERENCE, {"max_depth": (5.0,)})
    with pytest.raises(DataFormatError, match="480x640"):
        sensitivity(cases(1), REFERENCE, {"crop": ("nyu_eigen",)})
    with pytest.raises(DataFormatError, match="no image has a pixel"):
        sensitivity(cases(2), replace(REFERENCE, max_depth=0.01), {})
    with pytest.raises(ConfigError, match="alignment_scope"):
        sensitivity([], replace(REFERENCE, alignment="scale", alignment_scope="set"), {})
    with pytest.raises(ConfigError, match="nearest: abs_rel"):
        sensitivity(cases(1), REFERENCE, {}).find({"absrel": Published(0.1, 0.1)})


def test_default_axes_suit_the_data():
    kitti = default_axes(EvalProtocol(max_depth=80.0, crop="kitti_garg"), Ambiguity.METRIC, (375, 1242))
    assert kitti["crop"][0] == "kitti_garg"
    assert {"none", "kitti_eigen", "kitti_garg_kb"} <= set(kitti["crop"])
    assert kitti["max_depth"] == (80.0, 50.0)
    assert not any(name.startswith("nyu") for name in kitti["crop"])
    nyu = default_axes(EvalProtocol(max_depth=10.0), Ambiguity.METRIC, (480, 640))
    assert {"none", "nyu_eigen", "nyu_densedepth"} <= set(nyu["crop"])
    assert not any(name.startswith("kitti") for name in nyu["crop"])
    relative = default_axes(EvalProtocol(alignment="disparity_scale_shift"), Ambiguity.AFFINE_DISPARITY, (480, 640))
    assert relative["alignment"] == ("disparity_scale_shift",)
