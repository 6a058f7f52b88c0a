"""Every named protocol against the same convention written anew: NumPy, float64, from formulas, with own constants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mde.alignment import GlobalFit
from mde.errors import DataFormatError
from mde.metrics import NAMES, DepthMetrics
from mde.models.tta import averaged
from mde.protocol import PROTOCOLS, EvalProtocol, get_protocol, resize
from mde.types import Ambiguity

Array = NDArray[np.float64]

# Of each convention what differs from: per-image means, errors of (prediction, truth), truth strictly within the range,
# predictions clamped to it, half-pixel bilinear resize, no crop, no alignment, no mirror image.
NYU_ROWS = {"crop": "45:471,41:601", "cap": 10}
GARG = {"crop": "0.40810811,0.99189189,0.03594771,0.96405229", "cap": 80}
EIGEN = {"crop": "0.3324324,0.91351351,0.0359477,0.96405229", "cap": 80}
MONODEPTH = {**GARG, "invert": True}
DA2 = {"corners": True, "ends": True, "clamp": False, "fewest": 10, "silog": "half"}
PAPER_0 = {"cap": 10, "corners": True, "all": True, "clamp": False, "rmse": "root of mean mse"}
PAPER_0_DA = {**PAPER_0, "corners": False, "cubic": True, "fit": "1/g", "mean constants": True}

CONVENTIONS: dict[str, dict[str, Any]] = {
    "none": {"cap": 1000},
    "rooms": {"cap": 10},
    "kinect": {"cap": 10},
    "street": {"cap": 80},
    "synthia_80": {"cap": 80},
    "unreal_80": {"cap": 80},
    "unreal_20": {"cap": 20},
    "kitti_official": {"cap": 256},
    "nyu_eigen": NYU_ROWS,
    "bts_nyu": NYU_ROWS,
    "nyu_eigen_filled": NYU_ROWS,
    "nyu_densedepth": {"crop": "20:460,24:616", "cap": 10, "mirror": "mean"},
    "kitti_eigen_garg_80": GARG,
    "bts_kitti": GARG,
    "kitti_eigen_garg_80_kb": {**GARG, "kb": True},
    "kitti_eigen_garg_50": {**GARG, "cap": 50},
    "kitti_eigen_garg_80_velodyne": GARG,
    "kitti_eigen_80": EIGEN,
    "monodepth": MONODEPTH,
    "monodepth_post_process": {**MONODEPTH, "mirror": "ramp"},
    "monodepth2": {**MONODEPTH, "fit": "median"},
    "monodepth2_post_process": {**MONODEPTH, "fit": "median", "mirror": "ramp"},
    "monodepth2_stereo": {**MONODEPTH, "times": 5.4},
    "monodepth2_benchmark": {"cap": 80, "invert": True, "fit": "median", "all": True},
    "monodepth2_nyu": {"crop": "20:459,24:615", "cap": 10, "invert": True, "fit": "median"},
    "zoedepth_nyu": {**NYU_ROWS, "corners": True, "mirror": "mean"},
    "zoedepth_kitti": {**GARG, "kb": True, "corners": True, "mirror": "mean"},
    "depth_anything_v2_indoor": {**DA2, "cap": 20},
    "depth_anything_v2_outdoor": {**DA2, "cap": 80},
    "densedepth_official": {
        "crop": "20:460,24:616", "low": 0.1, "cap": 10, "mirror": "mean", "all": True, "swap": True, "one image": True,
    },
    "marigold_nyu": {**NYU_ROWS, "fit": "g"},
    "marigold_nyu_disparity": {**NYU_ROWS, "fit": "1/g"},
    "marigold_kitti": {**EIGEN, "kb": True, "low": 1e-5, "fit": "g"},
    "midas_nyu": {"cap": 10, "fit": "1/g"},
    "midas_kitti": {"cap": 80, "fit": "1/g"},
    "paper0": PAPER_0,
    "paper0_depth_anything": PAPER_0_DA,
    "paper0_depth_anything_train": PAPER_0_DA,
    "paper1": {"cap": 20, "all": True, "rmse": "batches of 16"},
    "paper2": {"cap": 80, "rmse_log": "root of eq. 5"},
    "paper2_literal": {"cap": 80, "rmse_log": "eq. 5"},
    "paper2_synthia": {"cap": 80, "rmse_log": "root of eq. 5"},
    "paper3": {"low": 0.1, "cap": 10},
}  # fmt: skip


def weights(source: int, target: int, how: str) -> Array:
    """Rows of a resize along one axis: target x source."""
    made = np.zeros((target, source))
    for i in range(target):
        at = i * (source - 1) / (target - 1) if how == "corners" else (i + 0.5) * source / target - 0.5
        if how == "nearest":
            made[i, min(int((i + 0.5) * source / target), source - 1)] = 1
        elif how == "cubic":
            for k in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
                made[i, min(max(k, 0), source - 1)] += cubic(abs(at - k))
        else:
            at = min(max(at, 0), source - 1)
            low = min(int(at), source - 2)
            made[i, low], made[i, low + 1] = 1 - (at - low), at - low
    return made


def cubic(t: float, a: float = -0.75) -> float:
    """Keys 1981."""
    return (a + 2) * t**3 - (a + 3) * t**2 + 1 if t <= 1 else a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a


def enlarged(maps: Array, size: tuple[int, int], how: str) -> Array:
    rows, columns = (weights(s, t, how) for s, t in zip(maps.shape[-2:], size, strict=True))
    return rows @ maps @ columns.T


def window(rules: dict[str, Any], height: int, width: int) -> tuple[slice, slice]:
    crop = rules.get("crop", f"0:{height},0:{width}")
    if ":" in crop:
        rows, columns = (slice(*map(int, part.split(":"))) for part in crop.split(","))
        return rows, columns
    top, left = (height - 352, int((width - 1216) / 2)) if rules.get("kb") else (0, 0)
    h, w = (352, 1216) if rules.get("kb") else (height, width)
    a, b, c, d = (int(float(share) * side) for share, side in zip(crop.split(","), (h, h, w, w), strict=True))
    return slice(top + a, top + b), slice(left + c, left + d)


def mixed(rules: dict[str, Any], network: Any, image: Array, size: tuple[int, int]) -> Array:
    """Predictions (B,H,W) at the size of the truth."""
    space = (lambda x: 1 / x) if rules.get("invert") else (lambda x: x)
    pred = space(network(image))
    if "mirror" in rules:
        other = space(network(image[..., ::-1]))[..., ::-1]
        both = (pred + other) / 2
        if rules["mirror"] == "ramp":
            left = 1 - np.clip(20 * (np.linspace(0, 1, pred.shape[-1]) - 0.05), 0, 1)
            both = left[::-1] * pred + left * other + (1 - left - left[::-1]) * both
        pred = both
    how = "corners" if rules.get("corners") else "cubic" if rules.get("cubic") else "half"
    return space(enlarged(pred, size, how)) * rules.get("times", 1)


def constants(rules: dict[str, Any], p: Array, g: Array) -> Array:
    y = 1 / g if rules["fit"] == "1/g" else g
    return np.linalg.lstsq(np.stack((p, np.ones_like(p)), 1), y, rcond=None)[0]


def errors(rules: dict[str, Any], p: Array, g: Array) -> dict[str, float]:
    if rules.get("swap"):
        p, g = g, p
    d, ratio = np.log(p) - np.log(g), np.maximum(p / g, g / p)
    alpha = np.mean(-d)
    equation_5 = np.mean((d + alpha) ** 2)
    return {
        "abs_rel": np.mean(abs(p - g) / g),
        "sq_rel": np.mean((p - g) ** 2 / g),
        "rmse": np.sqrt(np.mean((p - g) ** 2)),
        "rmse_log": {"eq. 5": equation_5, "root of eq. 5": np.sqrt(equation_5)}.get(
            rules.get("rmse_log", ""), np.sqrt(np.mean(d**2))
        ),
        "log10": np.mean(abs(np.log10(p) - np.log10(g))),
        "silog": np.sqrt(np.mean(d**2) - 0.5 * np.mean(d) ** 2) if rules.get("silog") == "half" else 100 * np.std(d),
        "irmse": np.sqrt(np.mean((1 / p - 1 / g) ** 2)),
        **{f"delta{k}": np.mean(ratio < 1.25**k) for k in (1, 2, 3)},
    }


def reference(rules: dict[str, Any], network: Any, image: Array, truth: Array, valid: Array) -> dict[str, float]:
    low, cap = rules.get("low", 1e-3), rules["cap"]
    inside = (truth >= low) & (truth <= cap) if rules.get("ends") else (truth > low) & (truth < cap)
    mask = np.zeros_like(valid)
    crop = (slice(None), *window(rules, *truth.shape[-2:]))
    mask[crop] = (valid & (truth > 0 if rules.get("all") else inside))[crop]
    pairs = []
    for p, g, m in zip(mixed(rules, network, image, truth.shape[-2:]), truth, mask, strict=True):
        if m.sum() >= rules.get("fewest", 1):
            pairs.append((p[m], g[m]))
    fit = rules.get("fit")
    if fit in ("g", "1/g"):
        lines = [constants(rules, p, g) for p, g in pairs]
        if rules.get("mean constants"):
            lines = [np.mean(lines, axis=0)] * len(pairs)
        pairs = [(s * p + t, g) for (p, g), (s, t) in zip(pairs, lines, strict=True)]
        if fit == "1/g":
            pairs = [(1 / np.maximum(p, 1e-6), g) for p, g in pairs]
    elif fit == "median":
        pairs = [(p * (np.median(g) / np.median(p)), g) for p, g in pairs]
    if rules.get("clamp", True):
        pairs = [(np.clip(p, low, cap), g) for p, g in pairs]
    return pooled(rules, pairs)


def pooled(rules: dict[str, Any], pairs: list[tuple[Array, Array]]) -> dict[str, float]:
    if rules.get("one image"):
        return errors(rules, *(np.concatenate(each) for each in zip(*pairs, strict=True)))
    each = [errors(rules, p, g) for p, g in pairs]
    made = {name: float(np.mean([e[name] for e in each])) for name in each[0]}
    squares = [(p - g) ** 2 for p, g in pairs]
    if rules.get("rmse") == "root of mean mse":
        made["rmse"] = np.sqrt(np.mean([s.mean() for s in squares]))
    if rules.get("rmse") == "batches of 16":
        batches = [np.concatenate(squares[i : i + 16]) for i in range(0, len(squares), 16)]
        made["rmse"] = np.mean([np.sqrt(b.mean()) for b in batches])
    return made


def network(x: Any) -> Any:
    """Not symmetric, so that a mirrored image counts."""
    across = np.linspace(0.8, 1.3, x.shape[-1])
    return x * (torch.from_numpy(across) if isinstance(x, torch.Tensor) else across)


def scene(name: str) -> tuple[Array, Array, NDArray[np.bool_], Ambiguity]:
    """Images (B,h,w) that `network` turns into predictions, truth (B,H,W) with values beyond the cap, and a mask."""
    rules = CONVENTIONS[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    size = (480, 640) if ":" in rules.get("crop", "") else (375, 1242) if "crop" in rules else (24, 35)
    count = 2 if size[0] > 24 else 18
    small = (size[0] // 4, size[1] // 4) if size[0] > 24 else (9, 13)
    cap = min(rules["cap"], 80)
    coarse = cap * 10 ** rng.uniform(-1.3, 0.1, (count, *small))
    truth = np.clip(enlarged(coarse, size, "nearest") * np.exp(0.1 * rng.standard_normal((count, *size))), 2e-3, None)
    truth[:, ::7, ::5] = cap  # exactly at the end of the range
    valid = rng.random(truth.shape) < 0.7
    image = coarse * np.exp(0.4 * rng.standard_normal(coarse.shape)) / rules.get("times", 1)
    protocol = get_protocol(name)
    ambiguity = {"scale_shift": Ambiguity.AFFINE_DEPTH, "median": Ambiguity.SCALE}.get(
        protocol.alignment, Ambiguity.METRIC if protocol.factor == 1 else Ambiguity.SCALE
    )
    if rules.get("fit") == "1/g":
        image, ambiguity = (1 / image + 0.3) / 7, Ambiguity.AFFINE_DISPARITY
    if rules.get("fewest"):
        valid[1] = False
        valid[1, 0, 1:8] = True  # too few pixels
    return image, truth, valid, ambiguity


def evaluated(protocol: EvalProtocol, image: Array, truth: Array, valid: Array, ambiguity: Ambiguity) -> DepthMetrics:
    pred, depth, known = (torch.from_numpy(t)[:, None] for t in (image, truth, valid))
    pred = averaged(network, pred, protocol, ambiguity)
    metric = DepthMetrics(protocol)
    if protocol.alignment_scope != "image":
        whole = GlobalFit(protocol.alignment, protocol.alignment_pooling)
        whole.update(protocol.resized(pred, depth, known, ambiguity), depth, protocol.mask(depth, known))
        metric.constants = whole.compute()
    before = [t.clone() for t in (pred, depth, known)]
    for part in (slice(0, 5), slice(5, None)):
        if len(pred[part]):
            metric.update(pred[part], depth[part], known[part], ambiguity)
    assert all(torch.equal(now, then) for now, then in zip((pred, depth, known), before, strict=True))
    return metric


def test_every_named_protocol_is_written_here() -> None:
    assert set(CONVENTIONS) == set(PROTOCOLS)
    assert all(p.source for p in PROTOCOLS.values())


@pytest.mark.parametrize("name", list(CONVENTIONS))
def test_equals_the_convention(name: str) -> None:
    image, truth, valid, ambiguity = scene(name)
    metric = evaluated(get_protocol(name), image, truth, valid, ambiguity)
    expected = reference(CONVENTIONS[name], network, image, truth, valid)
    for key, value in metric.compute().items():
        assert value.item() == pytest.approx(expected[key], rel=1e-6, abs=1e-9), key
    assert metric.counts().skipped == (1 if CONVENTIONS[name].get("fewest") else 0)
    assert set(expected) == set(NAMES)


@pytest.mark.parametrize(("how", "key"), [("bilinear", "half"), ("bilinear_corners", "corners"), ("bicubic", "cubic")])
@pytest.mark.parametrize("size", [(24, 35), (7, 29), (5, 6)])
def test_resize_is_the_formula(how: str, key: str, size: tuple[int, int]) -> None:
    maps = np.random.default_rng(1).uniform(1, 9, (2, 9, 13))
    made = resize(torch.from_numpy(maps)[:, None], size, how)[:, 0].numpy()
    np.testing.assert_allclose(made, enlarged(maps, size, key), rtol=1e-12)
    nearest = resize(torch.from_numpy(maps)[:, None], size, "nearest")[:, 0].numpy()
    np.testing.assert_array_equal(nearest, enlarged(maps, size, "nearest"))


def test_conventions_do_differ() -> None:
    """The same prediction and truth, and five different numbers."""
    image, truth, valid, _ = scene("nyu_eigen")
    names = ["nyu_eigen", "nyu_densedepth", "zoedepth_nyu", "densedepth_official", "depth_anything_v2_indoor"]
    values = [evaluated(get_protocol(n), image, truth, valid, Ambiguity.METRIC).compute() for n in names]
    assert len({round(v["abs_rel"].item(), 6) for v in values}) == len(names)
    plain, swapped = (EvalProtocol(max_depth=10.0, swapped=s) for s in (False, True))
    a, b = (evaluated(p, image, truth, valid, Ambiguity.METRIC).compute() for p in (plain, swapped))
    assert a["delta1"].item() == b["delta1"].item()
    assert a["abs_rel"].item() != pytest.approx(b["abs_rel"].item(), rel=1e-3)


@pytest.mark.parametrize("name", sorted(set(CONVENTIONS) - {n for n in CONVENTIONS if "crop" in CONVENTIONS[n]}))
def test_the_truth_is_perfect_and_twice_the_truth_only_where_a_factor_is_fitted(name: str) -> None:
    _, truth, valid, ambiguity = scene(name)
    truth = np.clip(truth, 0.2, CONVENTIONS[name]["cap"] * 0.45)
    protocol = replace(get_protocol(name), flip=False, flip_blend="mean", factor=1.0)
    known, depth = torch.from_numpy(valid)[:, None], torch.from_numpy(truth)[:, None]
    relative = ambiguity is Ambiguity.AFFINE_DISPARITY
    for pred, perfect in ((depth, True), (2 * depth, protocol.alignment != "none")):
        metric = DepthMetrics(protocol)
        given = 1 / pred if relative else pred
        if protocol.alignment_scope != "image":
            whole = GlobalFit(protocol.alignment, protocol.alignment_pooling)
            whole.update(given, depth, protocol.mask(depth, known))
            metric.constants = whole.compute()
        metric.update(given, depth, known, ambiguity)
        assert (metric.compute()["abs_rel"].item() < 1e-9) == perfect


def test_an_affine_disparity_is_perfect_only_under_a_disparity_alignment() -> None:
    _, truth, valid, _ = scene("midas_nyu")
    depth, known = torch.from_numpy(truth)[:, None], torch.from_numpy(valid)[:, None]
    pred = (1 / depth + 0.2) / 3
    found = {}
    for mode, ambiguity in (
        ("disparity_scale_shift", Ambiguity.AFFINE_DISPARITY),
        ("robust_disparity_scale_shift", Ambiguity.AFFINE_DISPARITY),
        ("scale_shift", Ambiguity.AFFINE_DEPTH),
        ("median", Ambiguity.SCALE),
        ("log_affine", Ambiguity.SCALE),
    ):
        metric = DepthMetrics(EvalProtocol(max_depth=10.0, alignment=mode))
        metric.update(pred, depth, known, ambiguity)
        found[mode] = metric.compute()["abs_rel"].item()
    assert max(found["disparity_scale_shift"], found["robust_disparity_scale_shift"]) < 1e-9
    assert min(found[mode] for mode in ("scale_shift", "median", "log_affine")) > 0.05


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_a_prediction_without_a_logarithm_is_clamped_or_refused_by_name(bad: float) -> None:
    truth = torch.full((2, 1, 4, 5), 3.0)
    pred = truth.clone()
    pred[1, 0, 2, 2] = bad
    unclamped = DepthMetrics(get_protocol("depth_anything_v2_indoor"))
    with pytest.raises(DataFormatError, match=r"image 1 of the batch.*protocol that clamps"):
        unclamped.update(pred, truth, truth > 0)
    clamped = DepthMetrics(EvalProtocol(max_depth=10.0))
    if np.isnan(bad):
        with pytest.raises(DataFormatError, match="image 1 of the batch"):
            clamped.update(pred, truth, truth > 0)
    else:
        clamped.update(pred, truth, truth > 0)
        assert clamped.counts().images == 2
