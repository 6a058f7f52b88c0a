"""`DepthResult`: its contract, saving by suffix, confidence, notebooks; and scoring what it wrote."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from mde.errors import ConfigError, DataFormatError
from mde.inference import DepthResult, masked, read_depth
from mde.inference.outputs import FORMATS, write
from mde.report.predictions import FARTHEST, MetricMaps, PredictionFolder
from mde.types import Ambiguity
from tests.inference.results import room


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": np.ones((2, 3, 1), np.float32)},
        {"values": np.ones((0, 3), np.float32)},
        {"image": np.zeros((3, 24, 32), np.uint8)},
        {"image": np.zeros((32, 24, 3), np.uint8)},
        {"std": np.ones((24, 31), np.float32)},
        {"intrinsics": np.ones(4)},
        {"intrinsics": np.ones((3, 3), int)},
        {"values": np.ones((24, 32), np.uint16)},
        {"values": [[1.0]]},
        {"image": np.zeros((24, 32, 3), np.float32)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"do not fit.*Next: give NumPy arrays: float values \(H,W\)"):
        room(**wrong)


def test_a_disparity_is_no_depth():
    assert room().depth is not None
    assert room(Ambiguity.SCALE).unit == "relative depth"
    with pytest.raises(ConfigError, match=r"relative disparity, not a depth \[UNet\].*anchors"):
        room(Ambiguity.AFFINE_DISPARITY).depth  # noqa: B018


def test_the_suffix_says_the_format_and_png_is_the_depth_itself(tmp_path):
    result = room()
    for suffix in (".png", ".npz", ".npy", ".tif", ".tiff", ".exr", ".pfm"):
        path = result.save(tmp_path / f"a{suffix}")
        np.testing.assert_allclose(read_depth(path).values, result.values, atol=1e-4)
    for suffix in (".jpg", ".jpeg"):
        picture = cv2.imread(str(result.save(tmp_path / f"a{suffix}")))[..., ::-1]
        assert np.abs(picture[12, 25].astype(int) - result.colorize()[12, 25]).max() < 20
    picture = cv2.imread(str(result.save(tmp_path / "b.PNG", format="color")), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(picture[..., ::-1], result.colorize())
    for suffix in (".ply", ".glb"):
        assert result.save(tmp_path / f"new/folder/a{suffix}").stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("a.bmp", None, r"no format for files of type .bmp.*Next: use .png"),
        ("a", None, "no format for files of type none"),
        ("a.npy", "png16", r"format png16 is stored in .png, not in .npy"),
        ("a.png", "colour", r"unknown output format 'colour'.*nearest: color"),
    ],
)
def test_a_wrong_suffix_or_format_is_said(tmp_path, name, format, message):
    with pytest.raises(ConfigError, match=message):
        room().save(tmp_path / name, format)
    assert list(tmp_path.iterdir()) == []


def test_confidence_is_one_minus_the_relative_standard_deviation():
    values = np.array([[2.0, 2.0, 2.0, 2.0, np.nan, 0.0]], np.float32)
    std = np.array([[0.1, 0.25, 3.0, np.nan, 0.1, 0.0]], np.float32)
    result = DepthResult(values, Ambiguity.METRIC, std=std, model="DeepLabSID")
    np.testing.assert_array_equal(masked(result, 0.9).values, [[2, np.nan, np.nan, np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(masked(result, 0.8).values, [[2, 2, np.nan, np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(masked(result, 0.0).values, [[2, 2, 2, np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(np.isnan(masked(result, 0.9).std), np.isnan(masked(result, 0.9).values))
    np.testing.assert_array_equal(result.values, values)  # the result itself stays
    assert masked(result, 0.9).model == "DeepLabSID"


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_a_confidence_out_of_range_is_refused(wrong):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        masked(room(), wrong)


def test_a_confidence_needs_a_standard_deviation_and_a_depth():
    with pytest.raises(ConfigError, match=r"does not say how sure it is \[UNet\]"):
        masked(room(std=None), 0.5)
    with pytest.raises(ConfigError, match="unknown shift"):
        masked(room(Ambiguity.AFFINE_DISPARITY), 0.5)


def test_a_notebook_shows_photograph_and_map():
    shown = cv2.imdecode(np.frombuffer(room()._repr_png_(), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert shown.shape[1] > 2 * shown.shape[0]  # two pictures of 4:3 and a bar
    np.testing.assert_array_equal(shown[0, 0], room().image[0, 0])


def test_a_plot_has_its_panels_with_titles_in_metres(tmp_path):
    figure = room().plot()
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert {"depth (m)", "standard deviation (m)"} <= set(labels)
    figure.savefig(tmp_path / "a.png")
    assert len(room(std=None, image=None).plot().axes) == 2  # the map and its bar


@pytest.mark.parametrize("name", ["png16", "npz", "npy", "tiff", "exr", "pfm"])
@pytest.mark.parametrize("ambiguity", [Ambiguity.METRIC, Ambiguity.AFFINE_DISPARITY])
def test_what_was_written_is_scored_without_a_word_on_its_meaning(tmp_path, name, ambiguity):
    result = room(ambiguity)
    for frame in ("a", "b"):
        write(result, tmp_path / "kitchen" / frame, [name, "color", "side", "std"])
    folder = PredictionFolder(tmp_path)
    assert folder.ambiguity is ambiguity
    pairing = folder.pair(["kitchen/a", "kitchen/b"])
    assert (pairing.missing, pairing.surplus) == ([], [])
    np.testing.assert_allclose(folder.read(pairing.files["kitchen/a"]), result.values, atol=1e-4)


def test_numbers_that_say_their_step_are_not_read_with_another(tmp_path):
    write(room(), tmp_path / "a", ["png16"])
    folder = PredictionFolder(tmp_path, encoding="kitti")
    with pytest.raises(DataFormatError, match=r"says itself what its numbers mean.*leave the encoding out"):
        folder.read(folder.files["a_depth"])
    with pytest.raises(DataFormatError, match=r"says that it is metric, and it was to be read as scale"):
        PredictionFolder(tmp_path, Ambiguity.SCALE).read(tmp_path / "a_depth.png")


def test_farther_than_the_file_can_say_is_far_in_a_score(tmp_path):
    values = np.array([[5.0, 400.0]], np.float32)
    write(DepthResult(values, Ambiguity.METRIC), tmp_path / "a", ["png16-256"])
    np.testing.assert_array_equal(MetricMaps(PredictionFolder(tmp_path))["a"], [[5.0, FARTHEST]])


@pytest.mark.slow
def test_reading_a_map_back_does_not_import_lightning():
    heavy = "[name for name in ('lightning', 'matplotlib') if name in sys.modules]"
    code = f"import sys, mde; mde.read_depth; mde.DepthResult; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_formats_are_described():
    assert set(FORMATS) >= {"png16", "npy", "npz", "tiff", "exr", "pfm", "color", "color-jpg", "side", "ply", "glb"}
    assert all(about[0].isalnum() for about in FORMATS.values())
