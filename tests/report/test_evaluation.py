"""Folders of predictions: formats, pairing, what is refused, and the same numbers as a test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mde.data.encodings import DepthEncoding
from mde.data.io import write_depth
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.protocol import EvalProtocol
from mde.report.evaluation import evaluate_folder
from mde.report.pairs import TruthFolder
from mde.report.predictions import PredictionFolder, flat_name, pair
from mde.report.results import read_results
from mde.report.scores import ImageScores
from mde.types import Ambiguity

SIZE = (20, 30)
PROTOCOL = EvalProtocol(name="ten metres", max_depth=10.0)
NAMES = ("drive_1/000", "drive_1/001", "drive_2/000")


def depth_of(number: int) -> np.ndarray:
    """0.5 to 9 m in steps of 1/256 m, with holes."""
    rng = np.random.default_rng(number)
    depth = np.round(rng.uniform(0.5, 9, SIZE) * 256) / 256
    return np.where(rng.random(SIZE) < 0.1, 0, depth).astype(np.float32)


@pytest.fixture
def truth(tmp_path: Path) -> TruthFolder:
    for number, name in enumerate(NAMES):
        write_depth(tmp_path / "truth" / f"{name}.png", depth_of(number), "kitti", np.uint16)
    return TruthFolder(tmp_path / "truth", "kitti")


def full(number: int) -> np.ndarray:
    """The truth, and 3 m in its holes: a prediction has none."""
    depth = depth_of(number)
    return np.where(depth > 0, depth, 3).astype(np.float32)


def write_all(folder: Path, suffix: str, encoding: DepthEncoding | str | float = "metres", **kwargs) -> Path:
    for number, name in enumerate(NAMES):
        write_depth(folder / f"{name}{suffix}", full(number), encoding, **kwargs)
    return folder


def save_all(folder: Path, change=lambda depth: depth, rename=lambda name: name) -> Path:
    for number, name in enumerate(NAMES):
        path = folder / f"{rename(name)}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, change(full(number)))
    return folder


# ---- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "encoding", "dtype"),
    [
        (".png", "kitti", np.uint16),
        (".png", 1 / 5000, np.uint16),
        (".npy", None, None),
        (".npz", None, None),
        (".tiff", None, None),
        (".pfm", None, None),
        (".exr", None, None),
        (".npy", DepthEncoding(389.6, "disparity", invalid=()), np.float32),
    ],
)
def test_the_oracle_is_perfect_in_every_format(tmp_path, truth, suffix, encoding, dtype):
    folder = write_all(tmp_path / "pred", suffix, encoding or "metres", dtype=dtype)
    found = evaluate_folder(PredictionFolder(folder, encoding=encoding), truth, PROTOCOL).results
    exact = not isinstance(encoding, DepthEncoding) and encoding != 1 / 5000
    assert found.metrics["abs_rel"] == pytest.approx(0, abs=0 if exact else 1e-4)
    assert found.metrics["delta1"] == 1
    assert (found.images, found.skipped) == (3, 0)
    assert found.protocol["fingerprint"] == PROTOCOL.fingerprint


def test_twice_the_oracle_is_perfect_only_when_aligned(tmp_path, truth):
    folder = save_all(tmp_path / "pred", lambda depth: 2 * depth)
    assert evaluate_folder(folder, truth, EvalProtocol(max_depth=20.0)).results.metrics["abs_rel"] == pytest.approx(1)
    for alignment in ("median", "scale", "scale_shift"):
        found = evaluate_folder(folder, truth, PROTOCOL, alignment=alignment).results
        assert found.metrics["abs_rel"] == pytest.approx(0, abs=1e-6)
        assert found.protocol["alignment"] == alignment


def test_an_affine_disparity_is_perfect_only_under_disparity_alignment(tmp_path, truth):
    folder = PredictionFolder(save_all(tmp_path / "pred", lambda d: 3 / d + 0.7), Ambiguity.AFFINE_DISPARITY)
    found = evaluate_folder(folder, truth, PROTOCOL, alignment="disparity_scale_shift").results
    assert found.metrics["abs_rel"] == pytest.approx(0, abs=1e-5)
    for alignment in (None, "median", "scale_shift"):
        with pytest.raises(ConfigError, match="disparity_scale_shift"):
            evaluate_folder(folder, truth, PROTOCOL, alignment=alignment)


def test_swapped_rows_of_truth_and_prediction_would_show(tmp_path, truth):
    """AbsRel divides by the truth: 2 against 1 is 1, 1 against 2 is 0.5."""
    folder = save_all(tmp_path / "pred", lambda depth: depth / 2)
    assert evaluate_folder(folder, truth, PROTOCOL).results.metrics["abs_rel"] == pytest.approx(0.5)
    swapped = EvalProtocol(max_depth=10.0, swapped=True)
    assert evaluate_folder(folder, truth, swapped).results.metrics["abs_rel"] == pytest.approx(1)


def test_arrays_in_npz_are_found_by_name(tmp_path, truth):
    folder = tmp_path / "pred"
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{name}.npz", good=full(number)[None, :, :, None], bad=np.ones(SIZE))
    assert evaluate_folder(PredictionFolder(folder, key="good"), truth, PROTOCOL).results.metrics["rmse"] == 0
    for key, part in ((None, "said which array"), ("other", "no array 'other'")):
        with pytest.raises(DataFormatError, match=part):
            evaluate_folder(PredictionFolder(folder, key=key), truth, PROTOCOL)


# ---- pairing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rename", "rule"),
    [
        (str, "path"),
        (flat_name, "flattened path"),
        (lambda name: f"{name}_pred", "path without words such as depth and pred"),
        (lambda name: f"depth/{name}", "path without words such as depth and pred"),
        (lambda name: f"pred_{flat_name(name)}", "flattened path without such words"),
    ],
)
def test_files_are_paired_by_name(tmp_path, truth, rename, rule):
    made = evaluate_folder(save_all(tmp_path / "pred", rename=rename), truth, PROTOCOL).results
    assert made.metrics["abs_rel"] == 0
    assert made.data_facts["predictions"]["paired_by"] == rule


def test_nothing_is_paired_by_chance(tmp_path):
    """Two frames of one name in two folders: the file name alone does not say which."""
    files = {name: Path(name) for name in ("x/000", "y/000", "x/001")}
    assert pair(NAMES, files).files == {}
    unique = pair(["a/1", "b/2"], {"z/1": Path("z/1"), "z/2": Path("z/2"), "z/3": Path("z/3")})
    assert unique.files == {"a/1": Path("z/1"), "b/2": Path("z/2")}
    assert (unique.surplus, unique.rule) == (["z/3"], "file name")


def test_by_order_takes_files_in_natural_order(tmp_path, truth):
    names = dict(zip(NAMES, ("2", "9", "10"), strict=True))
    folder = save_all(tmp_path / "pred", rename=names.get)
    with pytest.raises(DataFormatError, match=r"the frames are 'drive_1/000'.*files are '2'.*--by-order"):
        evaluate_folder(folder, truth, PROTOCOL)
    assert evaluate_folder(folder, truth, PROTOCOL, by_order=True).results.metrics["abs_rel"] == 0
    (folder / "11.npy").write_bytes((folder / "10.npy").read_bytes())
    with pytest.raises(ConfigError, match="4 files for 3 frames"):
        evaluate_folder(folder, truth, PROTOCOL, by_order=True)


def test_all_missing_predictions_are_counted_and_surplus_ones_noted(tmp_path):
    for number in range(14):
        write_depth(tmp_path / "truth" / f"{number}.npy", depth_of(number))
    truth = TruthFolder(tmp_path / "truth", "metres")
    folder = tmp_path / "pred"
    folder.mkdir()
    for name in ("0", "1", "other"):
        np.save(folder / f"{name}.npy", full(int(name) if name.isdigit() else 0))
    with pytest.raises(DataFormatError, match=r"12 of 14 predictions are missing: 2, 3, .*, 11 and 2 more"):
        evaluate_folder(folder, truth, PROTOCOL)
    made = evaluate_folder(folder, truth, PROTOCOL, unusable="skip")
    assert (made.results.images, len(made.results.data_facts["predictions"]["unusable"])) == (2, 12)
    notes = "\n".join(made.notes())
    assert "12 prediction(s) could not be used" in notes
    assert "1 file(s) belong to no frame" in notes


# ---- bad input -------------------------------------------------------------------------------------------------------


def spoil(folder: Path, content) -> None:
    path = folder / f"{NAMES[1]}.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (full(1).T, "transposed"),
        (full(1)[..., None].repeat(3, -1), "one number per pixel"),
        (np.full(SIZE, np.nan, np.float32), "no finite number"),
        (np.where(full(1) > 8, np.nan, full(1)), "NaN at a pixel that counts"),
        (np.zeros(SIZE, np.float32), "no positive number"),
        (-full(1), "no positive number"),
        ((full(1) * 1000).astype(np.uint16), "how many metres a unit is"),
        (b"", "no NumPy file"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'", "no NumPy file"),
        (np.array([], np.float32), "one number per pixel"),
        (np.array([["a"]]), "one number per pixel"),
    ],
)
def test_a_bad_prediction_is_an_error_or_a_counted_skip(tmp_path, truth, content, part):
    folder = save_all(tmp_path / "pred")
    spoil(folder, content)
    with pytest.raises(DataFormatError, match=part) as caught:
        evaluate_folder(folder, truth, PROTOCOL)
    assert "1 predictions cannot be scored: drive_1/001" in str(caught.value)
    assert "--unusable skip" in str(caught.value)
    made = evaluate_folder(folder, truth, PROTOCOL, unusable="skip")
    assert made.results.images == 2
    assert list(made.results.data_facts["predictions"]["unusable"]) == [NAMES[1]]
    assert made.scores.ids == (NAMES[0], NAMES[2])


def test_some_zeros_count_as_the_nearest_depth_and_are_noted(tmp_path, truth):
    folder = save_all(tmp_path / "pred")
    content = full(1)
    content[:3] = -1
    spoil(folder, content)
    made = evaluate_folder(folder, truth, PROTOCOL)
    assert made.results.metrics["abs_rel"] > 0.03
    assert any("1 prediction(s) have depths of zero or less, which count as 0.001 m" in note for note in made.notes())


def test_other_sizes_are_resized_and_noted(tmp_path, truth):
    folder = save_all(tmp_path / "pred", lambda depth: np.full((10, 15), 3.0, np.float32))
    made = evaluate_folder(folder, truth, PROTOCOL)
    errors = [np.abs(3 - d[d > 0]) / d[d > 0] for d in map(depth_of, range(3))]
    assert made.results.metrics["abs_rel"] == pytest.approx(np.mean([e.mean() for e in errors]), rel=1e-6)
    assert "3 prediction(s) were resized to their truth." in made.notes()


def test_frames_without_truth_are_a_counted_skip_and_all_of_them_an_error(tmp_path, truth):
    write_depth(tmp_path / "truth" / f"{NAMES[2]}.png", np.zeros(SIZE, np.float32), "kitti", np.uint16)
    folder = save_all(tmp_path / "pred")
    made = evaluate_folder(folder, truth, PROTOCOL)
    assert (made.results.images, made.results.skipped) == (2, 1)
    assert made.scores.pixels.tolist()[2] == 0
    with pytest.raises(DataFormatError, match="no image has a pixel that counts"):
        evaluate_folder(folder, truth, EvalProtocol(max_depth=0.01))
    with pytest.raises(DataFormatError, match="480x640"):
        evaluate_folder(folder, truth, EvalProtocol(crop="nyu_eigen"), unusable="skip")


def test_wrong_folders_and_settings(tmp_path, truth):
    folder = save_all(tmp_path / "pred")
    with pytest.raises(DatasetNotFoundError, match="no such folder"):
        PredictionFolder(tmp_path / "nowhere")
    with pytest.raises(DatasetNotFoundError, match="no file that can hold a map"):
        PredictionFolder(folder, pattern="*.png")
    with pytest.raises(ConfigError, match="no protocol"):
        evaluate_folder(folder, truth)
    with pytest.raises(ConfigError, match="viewing rays"):
        PredictionFolder(folder, encoding="airsim_perspective")
    with pytest.raises(ConfigError, match="no scale to invert"):
        PredictionFolder(folder, Ambiguity.AFFINE_DISPARITY, DepthEncoding(kind="disparity"))
    write_depth(folder / f"{NAMES[0]}.png", full(0), "kitti", np.uint16)
    with pytest.raises(DataFormatError, match=r"1 files differ .*'\*\.npy'"):
        PredictionFolder(folder)
    assert len(PredictionFolder(folder, pattern="*.npy").files) == 3


def test_integers_of_a_relative_map_need_no_encoding(tmp_path, truth):
    folder = PredictionFolder(
        save_all(tmp_path / "pred", lambda d: np.round(d * 1000).astype(np.uint16)), Ambiguity.SCALE
    )
    assert evaluate_folder(folder, truth, PROTOCOL, alignment="median").results.metrics["abs_rel"] < 1e-3


def test_the_benchmark_crop_is_put_to_its_place(tmp_path):
    depth = np.random.default_rng(0).uniform(2, 70, (375, 1242)).astype(np.float32)
    write_depth(tmp_path / "truth" / "0.npy", depth)
    (tmp_path / "pred").mkdir()
    np.save(tmp_path / "pred" / "0.npy", depth[375 - 352 :, 13 : 13 + 1216])
    truth = TruthFolder(tmp_path / "truth", "metres")
    with pytest.raises(DataFormatError, match="--placement kitti_kb"):
        evaluate_folder(tmp_path / "pred", truth, "kitti_eigen_garg_80")
    placed = evaluate_folder(tmp_path / "pred", truth, "kitti_eigen_garg_80", placement="kitti_kb")
    assert placed.results.metrics["abs_rel"] == 0
    with pytest.raises(DataFormatError, match="NaN at a pixel that counts"):
        evaluate_folder(tmp_path / "pred", truth, "kitti_official", placement="kitti_kb")


# ---- results ---------------------------------------------------------------------------------------------------------


def test_results_and_scores_go_to_files_and_the_constant_stands_beside(tmp_path, truth):
    made = evaluate_folder(
        save_all(tmp_path / "pred", lambda d: 1.1 * d), truth, PROTOCOL, median_depth=4.0, name="ours"
    )
    made.write(tmp_path / "out")
    found = read_results(tmp_path / "out" / "results.json")
    assert (found.model, found.baseline_depth, found.images) == ("ours", 4.0, 3)
    errors = [(np.abs(4 - d[d > 0]) / d[d > 0]).mean() for d in map(depth_of, range(3))]
    assert found.baseline["abs_rel"] == pytest.approx(np.mean(errors), rel=1e-6)
    scores = ImageScores.read(tmp_path / "out" / "per_image.csv")
    assert scores.ids == NAMES
    assert scores.values["abs_rel"].mean() == pytest.approx(found.metrics["abs_rel"], abs=1e-9)
    assert scores.pixels.tolist() == [int((depth_of(number) > 0).sum()) for number in range(3)]
    assert json.loads((tmp_path / "out" / "results.json").read_text())["data_facts"]["predictions"]["surplus"] == 0
    ratios = [np.log(np.float32(1.1 * d)[d > 0] / d[d > 0]).astype(np.float64) for d in map(depth_of, range(3))]
    assert found.alignment_constants is None
    assert found.definitions["rmse_log_si"] == pytest.approx(np.mean([np.std(r) for r in ratios]), abs=1e-6)


def test_one_fit_for_the_whole_set(tmp_path, truth):
    """Each image has a factor of its own: one for all leaves an error, one for each leaves none."""
    factors = iter((0.5, 1.0, 2.0))
    folder = PredictionFolder(save_all(tmp_path / "pred", lambda d: next(factors) * d), Ambiguity.SCALE)
    each = evaluate_folder(folder, truth, PROTOCOL, alignment="scale").results.metrics["abs_rel"]
    whole = EvalProtocol(max_depth=10.0, alignment="scale", alignment_scope="set")
    maps = [(f * full(n), depth_of(n)) for n, f in enumerate((0.5, 1.0, 2.0))]
    p, g = (np.concatenate([pair[i][pair[1] > 0] for pair in maps]).astype(np.float64) for i in (0, 1))
    scale = (p * g).sum() / (p * p).sum()
    expected = np.mean([(np.abs(np.clip(scale * a, 1e-3, 10) - b)[b > 0] / b[b > 0]).mean() for a, b in maps])
    assert each == pytest.approx(0, abs=1e-6)
    found = evaluate_folder(folder, truth, whole).results
    assert found.metrics["abs_rel"] == pytest.approx(expected, rel=1e-5)
    assert found.alignment_constants == {"scale": pytest.approx(scale, rel=1e-6), "shift": 0.0}
    with pytest.raises(ConfigError, match="training set"):
        evaluate_folder(folder, truth, EvalProtocol(alignment="scale", alignment_scope="train"))
