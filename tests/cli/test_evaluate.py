"""``mde evaluate`` and ``mde sensitivity`` as a user runs them, in process, on a tiny run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mde.cli import evaluate, sensitivity
from mde.cli.datasets import make_data_module, take_data_settings
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError, MdeError
from tests.fakes import write_rgbd_folder


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_a_test_its_predictions_and_the_matrix_agree(tiny, run, tmp_path, capsys):
    """fit, test, predict; then the files score what the test scored, and so does the network predicting once more."""
    fitted = run("fit", "--config", tiny, "--trainer.max_epochs", "1")
    best = str(fitted / "checkpoints" / "best.ckpt")
    tested, predicted = (run(command, "--ckpt_path", best) for command in ("test", "predict"))
    words = ["--data", tiny, "--out", "out"]
    assert evaluate.run(["--predictions", str(predicted / "predictions"), *words]) == 0
    own, other = results(tested), results(Path("out"))
    assert own["metrics"].keys() == other["metrics"].keys()
    for name, value in own["metrics"].items():
        assert other["metrics"][name] == pytest.approx(value, rel=1e-6), name
    for name in ("baseline", "baseline_depth", "images", "skipped"):
        assert other[name] == own[name]
    assert other["protocol"]["fingerprint"] == own["protocol"]["fingerprint"]
    assert {k: v for k, v in other["data_facts"].items() if k != "predictions"} == own["data_facts"]
    assert "on 3 images" in capsys.readouterr().out

    few = ["--resize", "bilinear", "--bounds", "exclusive", "--clamp", "true", "--alignment", "median,scale"]
    files = ["--csv", "m/matrix.csv", "--json", "m/matrix.json"]
    value = own["metrics"]["abs_rel"]
    assert sensitivity.run([str(tested), *few, *files, "--find", f"abs_rel={value:.5f}"]) == 0
    out = capsys.readouterr().out
    assert "alignment none decides" in out
    assert "Written: m/matrix.csv" in out
    rows = list(csv.DictReader(Path("m/matrix.csv").read_text().splitlines()))
    mine = [row for row in rows if row["fingerprint"] == own["protocol"]["fingerprint"]]
    assert len(mine) == 1
    assert float(mine[0]["abs_rel"]) == pytest.approx(value, rel=1e-9)
    assert len(json.loads(Path("m/matrix.json").read_text())["conventions"]) == len(rows) == 3 * 2 * 4

    assert sensitivity.run([best, *few, "--swapped", "false", "--find", "abs_rel=0.0001"]) == 1
    assert "No combination gives all printed digits" in capsys.readouterr().out


@pytest.fixture
def png16(tmp_path: Path) -> Path:
    """A folder of truth and one of predictions 10 % too far, both 16-bit PNG in millimetres."""
    rng = np.random.default_rng(0)
    for number in range(3):
        depth = rng.integers(800, 6000, (24, 32)).astype(np.uint16)
        for name, values in (("gt", depth), ("pred", np.round(depth * 1.1).astype(np.uint16))):
            (tmp_path / name).mkdir(exist_ok=True)
            assert cv2.imwrite(str(tmp_path / name / f"{number}.png"), values)
    return tmp_path


WORDS = ["--predictions", "pred", "--encoding", "millimetres", "--truth", "gt", "--truth-encoding", "0.001"]


def test_two_folders_are_enough(png16, capsys):
    assert evaluate.run([*WORDS, "--protocol", "kinect", "--name", "theirs", "--median-depth", "3"]) == 0
    folder = next(Path("runs/evaluate/theirs").glob("*"))
    assert results(folder)["metrics"]["abs_rel"] == pytest.approx(0.1, abs=1e-3)
    assert results(folder)["baseline_depth"] == 3
    assert (folder / "per_image.csv").read_text().startswith("id,pixels,degenerate,abs_rel")
    out = capsys.readouterr().out
    assert "theirs on 3 images, protocol kinect" in out
    assert str(folder) in out.replace("\n", "")


def test_the_matrix_of_two_folders(png16, capsys):
    words = [*WORDS, "--protocol", "kinect", "--alignment", "none,median", "--cap", "3,6.5", "--resize", "bilinear"]
    assert sensitivity.run(words) == 0
    out = capsys.readouterr().out
    assert "Reference kinect: abs_rel 0.10" in out
    assert "Each convention alone" in out


@pytest.mark.parametrize(
    ("command", "words", "part"),
    [
        (evaluate, ["--predictions", "pred", "--truth", "gt", "--truth-encoding", "0.001"], "no protocol"),
        (evaluate, ["--predictions", "pred", "--protocol", "kinect"], "against one data set"),
        (evaluate, [*WORDS[:4], "--truth", "gt", "--protocol", "kinect"], "--truth-encoding"),
        (evaluate, [*WORDS, "--data", "quickstart"], "against one data set"),
        (evaluate, [*WORDS, "--protocol", "kinekt"], "nearest: kinect"),
        (evaluate, [*WORDS, "--protocol", "kinect", "--alignment", "disparity_scale_shift"], "use none or median"),
        (evaluate, ["--predictions", "pred", *WORDS[4:], "--protocol", "kinect"], "how many metres a unit is"),
        (evaluate, [*WORDS[:2], "--encoding", "milimetres", *WORDS[4:]], "nearest: millimetres"),
        (evaluate, ["--predictions", "pred", "--data", "nyu/densdepth"], "nearest experiments: nyu/densedepth"),
        (evaluate, ["--predictions", "pred", "--data", "nyu/bts"], "--data.root"),
        (evaluate, ["--predictions", "pred", "--data", "quickstart", "--data.worlds", "a"], "nearest: world"),
        (sensitivity, [], "either a run"),
        (sensitivity, [*WORDS], "no protocol to start from"),
        (sensitivity, [*WORDS, "--protocol", "kinect", "--find", "abs_rel"], "write abs_rel=0.098"),
        (sensitivity, [*WORDS, "--protocol", "kinect", "--find", "absrel=0.1"], "nearest: abs_rel"),
        (sensitivity, [*WORDS, "--protocol", "kinect", "--clamp", "perhaps"], "true, false"),
        (sensitivity, [*WORDS, "--protocol", "kinect", "--pooling", "images"], "nearest: image"),
        (sensitivity, ["nowhere"], "no checkpoint"),
    ],
)
def test_wrong_words_say_what_to_do(png16, command, words, part):
    with pytest.raises(MdeError, match=part) as caught:
        command.run(words)
    assert "Next: " in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_kitti_submissions_are_written_from_any_folder(tmp_path):
    for number in range(3):
        (tmp_path / "pred").mkdir(exist_ok=True)
        np.save(tmp_path / "pred" / f"{number:010d}.npy", np.full((352, 1216), 5.0 + number, np.float32))
    with pytest.warns(UserWarning, match="the benchmark takes 500"):
        assert evaluate.run(["--predictions", "pred", "--export-kitti", "out"]) == 0
    written = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((tmp_path / "out").iterdir())]
    assert [image.dtype for image in written] == [np.uint16] * 3
    assert [int(image[0, 0]) for image in written] == [5 * 256, 6 * 256, 7 * 256]
    with pytest.raises(ConfigError, match="no metres"):
        evaluate.run(["--predictions", "pred", "--export-kitti", "more", "--ambiguity", "scale"])


def test_data_modules_are_found_by_experiment_layout_and_folder(tmp_path):
    root = write_rgbd_folder(tmp_path / "rgbd", {"train": 2, "val": 1, "test": 1})
    from mde.data import ProceduralDataModule, RGBDFolderDataModule

    found = make_data_module("quickstart", {"test_scenes": 2, "preload": False})
    assert isinstance(found, ProceduralDataModule)
    assert found.lengths["test"] == 2
    assert isinstance(make_data_module(str(root), {"depth_scale": 0.001}), RGBDFolderDataModule)
    assert isinstance(make_data_module("folder/rgbd", {"root": str(root), "depth_scale": 0.001}), RGBDFolderDataModule)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataFormatError, match="none of the known layouts"):
        make_data_module(str(tmp_path / "empty"), {})
    with pytest.raises(DatasetNotFoundError):  # the experiment, whose name is a layout's, too
        make_data_module("nyu/densedepth", {"root": str(tmp_path / "nowhere")}).dataset("test")


def test_settings_of_the_data_are_split_off():
    words, settings = take_data_settings(["--data.root", "/x", "--a", "1", "--data.image_size=[2, 3]", "--data", "n"])
    assert (words, settings) == (["--a", "1", "--data", "n"], {"root": "/x", "image_size": [2, 3]})
    for wrong in (["--data.root"], ["--data.root", "[1"]):
        with pytest.raises(ConfigError, match=r"--data\.root"):
            take_data_settings(wrong)


@pytest.mark.parametrize("command", [evaluate, sensitivity])
def test_help_explains_every_option(command, capsys):
    with pytest.raises(SystemExit) as stop:
        command.run(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("--predictions", "--truth-encoding", "--data", "--ambiguity", "--by-order", "example"):
        assert option in text
