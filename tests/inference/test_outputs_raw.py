"""What was written comes back, to the precision that is promised, in our reader and in those of others."""

from __future__ import annotations

import json
import os

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import mde
from mde.data.io import read_depth as read_plain
from mde.data.noted import read_noted
from mde.errors import ConfigError, DataFormatError, MdeError
from mde.inference import DepthResult, read_depth
from mde.inference.outputs import FORMATS, paths, write
from mde.types import Ambiguity
from tests.inference.results import CAMERA, room

RAW = ("png16", "npz", "npy", "tiff", "exr", "pfm")
EXACT = RAW[1:]
SHIFTED = (Ambiguity.AFFINE_DEPTH, Ambiguity.AFFINE_DISPARITY)
SIZES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7)
DEPTHS = hnp.arrays(
    np.float32,
    SIZES,
    elements=st.one_of(
        st.floats(np.float32(1e-3), 1e4, width=32), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -3.0])
    ),
)
SHIFTED_MAPS = hnp.arrays(np.float32, SIZES, elements=st.one_of(st.floats(-50, 50, width=32), st.just(np.nan)))


def written(result, folder, name):
    return write(result, folder / "a", [name])[0]


def as_known(values):
    """What may be expected back of a depth: nothing of zero or less."""
    return np.where(values > 0, values, np.float32(np.nan))


def png_note(path):
    with Image.open(path) as opened:
        return json.loads(opened.text["mde"]), np.asarray(opened).astype(np.float64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("written")


@pytest.mark.parametrize("name", EXACT)
@settings(deadline=None, max_examples=25)
@given(values=DEPTHS)
def test_floats_come_back_bit_for_bit(folder, name, values):
    found = read_depth(written(DepthResult(values, Ambiguity.METRIC), folder, name))
    np.testing.assert_array_equal(found.values, as_known(values))
    assert found.values.dtype == np.float32


@settings(deadline=None, max_examples=60)
@given(values=DEPTHS, ends=st.sampled_from([None, (0.1, 80.0), (1e-3, 2e4), (0.1, np.inf)]))
def test_a_png_comes_back_to_half_a_step_and_nothing_known_is_lost(folder, values, ends):
    path = written(DepthResult(values, Ambiguity.METRIC, depth_range=ends), folder, "png16")
    found, known = read_depth(path).values, as_known(values)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(known))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(known))
    note, numbers = png_note(path)  # as another program would read it
    finite = np.isfinite(known)
    error = np.abs(numbers * note["scale"] - known)[finite]
    allowed = np.where(known[finite] < note["scale"] / 2, note["scale"], note["scale"] / 2)
    assert (error <= allowed * (1 + 1e-6)).all()
    np.testing.assert_allclose(found[finite], (numbers * note["scale"])[finite], rtol=1e-7)
    assert note["offset"] == 0


@settings(deadline=None, max_examples=40)
@given(values=SHIFTED_MAPS, ambiguity=st.sampled_from(SHIFTED))
def test_a_relative_png_says_so_and_keeps_values_below_zero(folder, values, ambiguity):
    path = written(DepthResult(values, ambiguity), folder, "png16")
    found, (note, _) = read_depth(path), png_note(path)
    assert (found.ambiguity, found.unit) == (ambiguity, ambiguity.unit)
    assert note["ambiguity"] == ambiguity.value
    spread = np.nanmax(values) - np.nanmin(values) if np.isfinite(values).any() else 0
    np.testing.assert_allclose(found.values, values, atol=spread / 65533 / 2 * 1.001 + 1e-5)


def test_the_step_of_a_png_is_that_of_the_networks_range_so_that_a_folder_has_one(tmp_path):
    steps = [png_note(written(room(values=np.full((24, 32), d, np.float32)), tmp_path, "png16"))[0] for d in (1, 9)]
    assert steps[0]["scale"] == steps[1]["scale"] == pytest.approx(10 / 65534, rel=1e-12)
    beyond = png_note(written(room(values=np.full((24, 32), 25, np.float32)), tmp_path, "png16"))[0]
    assert beyond["scale"] == pytest.approx(25 / 65534)


@pytest.mark.parametrize(
    ("name", "encoding", "step"), [("png16-256", "kitti", 1 / 256), ("png16-mm", "millimetres", 1e-3)]
)
def test_fixed_steps_are_those_of_the_data_sets(tmp_path, name, encoding, step):
    values = np.array([[0.0101, 1.23456, 60.0, np.nan, 300.0]], np.float32)
    path = written(DepthResult(values, Ambiguity.METRIC), tmp_path, name)
    depth, valid = read_plain(path, encoding)
    assert valid.tolist() == [[True, True, True, False, False]]
    assert np.abs(depth - values)[valid].max() <= step / 2 * 1.001
    found = read_depth(path).values
    assert np.isinf(found[0, 4])  # farther than the file can say: not a number that looks like a depth
    np.testing.assert_allclose(found[valid], depth[valid], rtol=1e-6)


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("ambiguity", Ambiguity)
def test_what_is_known_of_a_map_comes_back(tmp_path, name, ambiguity):
    source = 'Küche "é"\n\\1.jpg'
    found = read_depth(written(room(ambiguity, source=source, model="Größe/L"), tmp_path, name))
    assert (found.ambiguity, found.model, found.source) == (ambiguity, "Größe/L", source)
    assert found.depth_range == (0.1, 10.0)
    np.testing.assert_array_equal(found.intrinsics, CAMERA)
    assert found.image is None


@pytest.mark.parametrize("name", RAW)
def test_an_unknown_camera_stays_unknown(tmp_path, name):
    for camera in (None, np.full((3, 3), np.nan)):
        found = read_depth(written(room(intrinsics=camera, depth_range=None), tmp_path, name))
        assert found.depth_range is None
        assert found.intrinsics is None or np.isnan(found.intrinsics).all()


@pytest.mark.parametrize("name", ["npz", "exr"])
def test_the_standard_deviation_comes_back(tmp_path, name):
    result = room()
    np.testing.assert_array_equal(read_depth(written(result, tmp_path, name)).std, result.std)


def test_other_libraries_read_the_same(tmp_path):
    result = room()
    tifffile = pytest.importorskip("tifffile", reason="a second reader of TIFF")
    with tifffile.TiffFile(written(result, tmp_path, "tiff")) as file:
        np.testing.assert_array_equal(file.asarray(), result.values)
        assert json.loads(file.pages[0].description)["intrinsics"] == CAMERA.tolist()
    np.testing.assert_array_equal(cv2.imread(str(written(result, tmp_path, "pfm")), -1), result.values)
    with np.load(written(result, tmp_path, "npz")) as stored:
        assert {"values", "ambiguity", "unit", "id"} <= set(stored.files)
        assert (str(stored["unit"]), str(stored["id"])) == ("m", "room/1.jpg")
    note = json.loads((tmp_path / "a_depth.npy.json").read_text()) if written(result, tmp_path, "npy") else {}
    assert (note["unit"], note["model"], note["size"]) == ("m", "UNet", [24, 32])
    with Image.open(written(result, tmp_path, "color-jpg")) as opened:
        assert json.loads(opened.info["comment"].decode().removeprefix("mde "))["kind"] == "picture of a map"
    with Image.open(written(result, tmp_path, "png16")) as opened:
        assert opened.text["Comment"].startswith("m = 0.00015259254")


def test_files_say_that_they_are_no_map_or_say_nothing(tmp_path):
    with pytest.raises(DataFormatError, match=r"picture of a map.*Next: give the raw file"):
        read_depth(written(room(), tmp_path, "color"))
    cv2.imwrite(str(tmp_path / "b.png"), np.ones((3, 4), np.uint16))
    with pytest.raises(DataFormatError, match=r"does not say what its numbers mean.*mde.data.io.read_depth"):
        read_depth(tmp_path / "b.png")
    path = written(room(), tmp_path, "npy")
    (tmp_path / "a_depth.npy.json").unlink()
    with pytest.raises(DataFormatError, match=r"bring a_depth.npy.json along"):
        read_depth(path)
    (tmp_path / "a_depth.npy.json").write_text("[1, 2]")  # of another tool
    with pytest.raises(DataFormatError, match="does not say"):
        read_depth(path)
    with pytest.raises(DataFormatError, match=r"files of type .ply hold no map.*raw file"):
        read_depth(written(room(), tmp_path, "ply"))
    with pytest.raises(DataFormatError, match="check the path"):
        read_depth(tmp_path / "none.npz")


def test_a_sidecar_of_another_map_is_noticed(tmp_path):
    path = written(room(), tmp_path, "pfm")
    written(DepthResult(np.ones((2, 2), np.float32), Ambiguity.METRIC), tmp_path, "npy")
    os.replace(tmp_path / "a_depth.npy.json", tmp_path / "a_depth.pfm.json")
    with pytest.raises(DataFormatError, match=r"\[24, 32\] and was written as \[2, 2\]"):
        read_depth(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", RAW)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_a_damaged_file_ends_in_an_error_of_ours_or_is_read(folder, name, data):
    path = written(room(), folder, name)
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = read_noted(path)
    except MdeError as error:
        found = None
        said = str(error)
    else:
        said = "Next: "
    assert "Next: " in said
    assert found is None or found.values.ndim == 2


def test_unknown_formats_and_impossible_ones_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown output format 'png61'.*png16"):
        write(room(), tmp_path / "a", ["npy", "png61"])
    with pytest.raises(ConfigError, match="written to the same file"):
        write(room(), tmp_path / "a", ["png16", "png16-mm"])
    for name in ("ply", "glb", "mesh", "png16-mm", "png16-256"):
        for ambiguity in set(Ambiguity) - {Ambiguity.METRIC}:
            with pytest.raises(ConfigError, match=r"relative .*Next: .*scale"):
                write(room(ambiguity), tmp_path / "a", ["npy", name])
    assert list(tmp_path.iterdir()) == []


def test_every_format_is_written_where_paths_says(tmp_path):
    made = write(room(), tmp_path / "deep" / "a.b", list(set(FORMATS) - {"png16-256", "png16-mm"}))
    assert all(path.is_file() and path.stat().st_size for path in made)
    assert made == paths(tmp_path / "deep" / "a.b", list(set(FORMATS) - {"png16-256", "png16-mm"}))
    assert len({path.name for path in made}) == len(made)
    assert all(path.name.startswith("a.b_") for path in made)  # never the name of the photograph


def test_a_kill_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path, monkeypatch):
    path = written(room(), tmp_path, "npz")
    before = path.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        written(room(model="other"), tmp_path, "npz")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a_depth.npz"]


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"cannot be written \(.*\) \[.*a_depth.npy.*Next: give a folder"):
        write(room(), tmp_path / "file" / "a", ["npy"])


def test_the_public_name():
    assert mde.read_depth is read_depth


@pytest.mark.parametrize(
    "header", [b"{'descr': '<f4', \x00", b"{'descr': ('<f4'", b"{'shape': (99999999, 99999999)", b" " * 9]
)
def test_a_damaged_header_of_an_array_is_an_error_of_ours(tmp_path, header):
    path = written(room(), tmp_path, "npy")
    content = path.read_bytes()
    path.write_bytes(content[:10] + header + content[10 + len(header) :])
    with pytest.raises(MdeError, match="no NumPy file"):
        read_noted(path)
