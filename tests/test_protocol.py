from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional as F

from mde.alignment import Alignment, Fit
from mde.errors import ConfigError, DataFormatError, ProtocolMismatchError
from mde.protocol import CROPS, PROTOCOLS, EvalProtocol, get_protocol, require_same
from mde.types import Ambiguity

GEOMETRY = Path(__file__).parents[1] / "../shared/facts/kitti_geometry.json"


PINNED = {
    "none": "e24660c7a220",
    "rooms": "9a4ff0a70da1",
    "street": "26947cb1d8ae",
    "nyu_eigen": "d01ba267eede",
    "nyu_eigen_filled": "cb895e73775b",
    "nyu_densedepth": "2cfd867b0655",
    "kitti_eigen_garg_80": "93de60a89fdd",
    "kitti_eigen_garg_80_kb": "c419812d4584",
    "kitti_eigen_garg_50": "7db6fc3d63c1",
    "kitti_eigen_garg_80_velodyne": "365b85b50b4e",
    "kitti_eigen_80": "cc90c08fdc8a",
    "kitti_official": "06b9930db71e",
    "kinect": "da3c7ddf519f",
    "synthia_80": "26947cb1d8ae",
    "unreal_80": "26947cb1d8ae",
    "unreal_20": "3fa23d23b9f9",
}


def test_fingerprints_are_pinned() -> None:
    # a result file of an earlier version must stay comparable: change these only when the protocol itself changes
    assert {name: get_protocol(name).fingerprint for name in PINNED} == PINNED


LATER = {
    "resize": "bilinear_corners", "space": "disparity", "factor": 5.4, "bounds": "inclusive", "clamp": False,
    "min_pixels": 10, "swapped": True, "silog": "half", "rmse_log": "si", "scales": (1.0, 0.75),
}  # fmt: skip


@pytest.mark.parametrize("key", list(LATER))
def test_later_settings_count_only_off_their_default(key: str) -> None:
    changed = EvalProtocol(**{key: LATER[key]})
    assert changed.fingerprint != EvalProtocol().fingerprint
    assert EvalProtocol(**{key: getattr(EvalProtocol(), key)}).fingerprint == EvalProtocol().fingerprint
    with pytest.raises(ProtocolMismatchError, match=key):
        require_same(changed, EvalProtocol())
    assert EvalProtocol.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed


def test_source_and_name_are_for_people() -> None:
    require_same(EvalProtocol(source="a", name="a"), EvalProtocol())
    assert EvalProtocol(source="a").fingerprint == EvalProtocol().fingerprint


def test_an_enum_is_its_string() -> None:
    protocol = EvalProtocol(alignment=Alignment.MEDIAN)
    assert protocol == EvalProtocol(alignment="median")
    assert type(protocol.alignment) is str
    assert yaml.safe_load(yaml.safe_dump(protocol.to_dict()))["alignment"] == "median"


def test_contradictions_are_refused() -> None:
    for settings, message in (
        ({"alignment_scope": "set"}, "no fit over all pixels"),
        ({"alignment_scope": "set", "alignment": "median"}, "alignment_pooling 'image'"),
        ({"alignment_pooling": "image"}, "alignment_scope to set or train"),
        ({"flip_blend": "ramp"}, "set flip to true"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, 0.0)}, "scales"),
        ({"scales": 1.0}, "scales .* not a number"),
        ({"max_depth": "far"}, "max_depth .* not a number"),
        ({"factor": 0.0}, "factor"),
        ({"min_pixels": 0}, "min_pixels"),
        ({"resize": "bilnear"}, "nearest: bilinear"),
        ({"silog": "dorn"}, "unknown silog"),
    ):
        with pytest.raises(ConfigError, match=message):
            EvalProtocol(**settings)


def test_constants_of_a_set_have_to_be_given() -> None:
    target = torch.rand(2, 1, 4, 4) + 1
    protocol = EvalProtocol(alignment="scale", alignment_scope="set")
    with pytest.raises(ConfigError, match=r"constants of the whole set.*GlobalFit"):
        protocol.prepare(target, target, target > 0, Ambiguity.SCALE)
    one = torch.ones(1, dtype=torch.float64)
    made = protocol.prepare_reported(target, target, target > 0, Ambiguity.SCALE, Fit(2 * one, 0 * one, one < 0))
    torch.testing.assert_close(made.pred, 2 * target)
    assert made.degenerate.tolist() == [False, False]


def test_images_with_too_few_pixels_have_none() -> None:
    target = torch.full((2, 1, 3, 4), 5.0)
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[1, 0, 0] = False
    mask = EvalProtocol(min_pixels=9).mask(target, valid)
    assert mask.flatten(1).sum(1).tolist() == [12, 0]


def test_rendered_data_is_scored_to_the_end_of_its_range() -> None:
    ends = {"synthia_80": 80.0, "unreal_80": 80.0, "unreal_20": 20.0}
    found = {name: get_protocol(name) for name in ends}
    assert {name: p.max_depth for name, p in found.items()} == ends
    assert {(p.crop, p.ground_truth, p.min_depth) for p in found.values()} == {("none", "rendered", 1e-3)}
    # one scale for all rendered streets: their results may stand in one table
    require_same(found["synthia_80"], get_protocol("street"))


def test_fingerprint_depends_on_every_setting_but_the_name() -> None:
    base = EvalProtocol()
    changed = [
        EvalProtocol(min_depth=0.01),
        EvalProtocol(max_depth=80.0),
        EvalProtocol(crop="kitti_garg"),
        EvalProtocol(alignment="median"),
        EvalProtocol(flip=True),
        EvalProtocol(pooling="pixel"),
        EvalProtocol(ground_truth="raw"),
    ]
    assert len({p.fingerprint for p in [base, *changed]}) == len(changed) + 1
    assert EvalProtocol(name="other").fingerprint == base.fingerprint


def test_an_integer_from_yaml_is_the_same_protocol() -> None:
    assert EvalProtocol(max_depth=80) == EvalProtocol(max_depth=80.0)
    assert EvalProtocol(max_depth=80).fingerprint == EvalProtocol(max_depth=80.0).fingerprint


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_named_protocols_survive_a_result_file(name: str) -> None:
    protocol = get_protocol(name)
    assert protocol.name == name
    assert EvalProtocol.from_dict(json.loads(json.dumps(protocol.to_dict()))) == protocol


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="nearest: kitti_garg"):
        EvalProtocol(crop="kitti_grag")
    with pytest.raises(ConfigError, match="alignment"):
        EvalProtocol(alignment="medium")
    with pytest.raises(ConfigError, match="pooling"):
        EvalProtocol(pooling="batch")
    for low, high in ((0.0, 1.0), (2.0, 1.0), (1.0, float("inf")), (1.0, float("nan"))):
        with pytest.raises(ConfigError, match="min_depth < max_depth"):
            EvalProtocol(min_depth=low, max_depth=high)
    with pytest.raises(ConfigError, match="unknown protocol settings"):
        EvalProtocol.from_dict({"cap": 80})
    with pytest.raises(ConfigError, match="nyu_eigen"):
        get_protocol("nyu_eigne")


# image sizes by recording date, and the bounds that the fractions give there (int truncation)
@pytest.mark.parametrize(
    ("size", "garg", "eigen"),
    [
        ((375, 1242), (153, 371, 44, 1197), (124, 342, 44, 1197)),
        ((370, 1226), (151, 366, 44, 1181), (122, 337, 44, 1181)),
        ((352, 1216), (143, 349, 43, 1172), (117, 321, 43, 1172)),
    ],
)
def test_kitti_crops(size: tuple[int, int], garg: tuple[int, ...], eigen: tuple[int, ...]) -> None:
    assert CROPS["kitti_garg"](*size) == garg
    assert CROPS["kitti_eigen"](*size) == eigen


def test_kitti_crops_of_every_recording_date() -> None:
    if not GEOMETRY.exists():
        pytest.skip("no shared folder with the geometry of KITTI beside the repository")
    for date in json.loads(GEOMETRY.read_text())["by_date"].values():
        for crop in ("garg", "eigen"):
            expected = (*date[f"{crop}_rows"], *date[f"{crop}_cols"])
            assert CROPS[f"kitti_{crop}"](date["height"], date["width"]) == expected
        top, left = date["kb_top"], date["kb_left"]
        expected = (top + 143, top + 349, left + 43, left + 1172)
        assert CROPS["kitti_garg_kb"](date["height"], date["width"]) == expected
        assert CROPS["kitti_kb"](date["height"], date["width"]) == (top, top + 352, left, left + 1216)


def test_nyu_crops_are_bound_to_their_size() -> None:
    assert CROPS["nyu_eigen"](480, 640) == (45, 471, 41, 601)
    assert CROPS["nyu_densedepth"](480, 640) == (20, 460, 24, 616)
    with pytest.raises(DataFormatError, match="240x320"):
        CROPS["nyu_eigen"](240, 320)
    with pytest.raises(DataFormatError, match="352x1216"):
        CROPS["kitti_garg_kb"](300, 1242)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_range_is_strict_at_both_ends(dtype: torch.dtype) -> None:
    target = torch.tensor([0.5, 0.5625, 1.0, 7.9375, 8.0, float("nan"), float("inf")], dtype=dtype).view(1, 1, 1, 7)
    mask = EvalProtocol(min_depth=0.5, max_depth=8.0).mask(target, torch.ones_like(target, dtype=torch.bool))
    assert mask.flatten().tolist() == [False, True, True, True, False, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mask_is_valid_and_inside_the_crop(dtype: torch.dtype) -> None:
    target = torch.full((2, 1, 375, 1242), 5.0, dtype=dtype)
    valid = torch.rand(target.shape) < 0.5
    before = valid.clone()
    mask = get_protocol("kitti_eigen_garg_80").mask(target, valid)
    expected = torch.zeros_like(valid)
    expected[..., 153:371, 44:1197] = valid[..., 153:371, 44:1197]
    assert torch.equal(mask, expected)
    assert torch.equal(valid, before)


def test_prediction_is_resized_then_clamped_and_never_changed() -> None:
    pred = torch.tensor([[[[0.0, 4.0], [8.0, 100.0]]]])
    target = torch.full((1, 1, 4, 6), 3.0)
    before = pred.clone()
    made, mask = EvalProtocol(max_depth=10.0).prepare(pred, target, target > 0)
    expected = F.interpolate(pred, size=(4, 6), mode="bilinear", align_corners=False).clamp(1e-3, 10.0)
    torch.testing.assert_close(made, expected, rtol=0, atol=0)
    assert mask.all()
    assert torch.equal(pred, before)


def test_half_precision_is_scored_in_float32() -> None:
    target = torch.full((1, 1, 2, 2), 3.0)
    made, _ = EvalProtocol(max_depth=10.0).prepare(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16), target, target > 0)
    assert made.dtype == torch.float32
    assert made.min() == torch.tensor(1e-3)


def test_alignment_comes_before_the_clamp_and_sees_only_pixels_that_count() -> None:
    target = torch.tensor([2.0, 4.0, 6.0, 90.0]).view(1, 1, 1, 4)  # the last is beyond the cap
    pred = target / 100
    pred[..., 3] = 50.0
    made, mask = EvalProtocol(max_depth=80.0, alignment="median").prepare(pred, target, target > 0, Ambiguity.SCALE)
    assert mask.flatten().tolist() == [True, True, True, False]
    torch.testing.assert_close(made.flatten(), torch.tensor([2.0, 4.0, 6.0, 80.0]))


def test_disparity_is_resized_before_it_is_inverted() -> None:
    protocol = EvalProtocol(max_depth=80.0, alignment="disparity_scale_shift")
    disparity = torch.rand(1, 1, 3, 4) + 0.1
    target = 1 / F.interpolate(disparity * 2 + 0.05, size=(6, 8), mode="bilinear", align_corners=False)
    made, _ = protocol.prepare(disparity, target, target > 0, Ambiguity.AFFINE_DISPARITY)
    torch.testing.assert_close(made, target)


def test_a_degenerate_alignment_is_reported() -> None:
    target = torch.rand(2, 1, 4, 4) + 1
    pred = torch.stack((target[0], torch.ones(1, 4, 4)))
    made = EvalProtocol(alignment="scale_shift").prepare_reported(pred, target, target > 0)
    assert made.degenerate.tolist() == [False, True]
    assert EvalProtocol().prepare_reported(pred, target, target > 0).degenerate.tolist() == [False, False]


def test_meaning_and_alignment_must_fit() -> None:
    target = torch.ones(1, 1, 2, 2)
    with pytest.raises(ConfigError, match="median or scale"):
        EvalProtocol().prepare(target, target, target > 0, Ambiguity.SCALE)
    with pytest.raises(ConfigError, match="METRIC"):
        EvalProtocol(alignment="disparity_scale_shift").prepare(target, target, target > 0)


def test_shapes_that_would_broadcast_are_refused() -> None:
    target = torch.ones(2, 1, 4, 4)
    protocol = EvalProtocol()
    for pred, valid in (
        (torch.ones(1, 1, 4, 4), target > 0),
        (torch.ones(2, 4, 4), target > 0),
        (target, (target > 0)[:1]),
        (target, target),
    ):
        with pytest.raises(ConfigError, match="evaluation needs"):
            protocol.prepare(pred, target, valid)


def test_comparison_across_protocols_is_refused_with_what_differs() -> None:
    require_same(EvalProtocol(name="a"), EvalProtocol(name="b"))
    with pytest.raises(ProtocolMismatchError) as error:
        require_same(get_protocol("kitti_eigen_garg_80"), get_protocol("kitti_eigen_garg_50"))
    message = str(error.value)
    assert "max_depth: 80.0 against 50.0" in message
    assert "crop" not in message
    assert "evaluate both under one protocol" in message
