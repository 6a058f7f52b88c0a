"""Points in metres: against formulas written here, and read back by another library."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mde.errors import ConfigError
from mde.inference import DepthResult
from mde.inference.outputs import write
from mde.inference.outputs.clouds import depth_mesh
from mde.types import Ambiguity
from tests.inference.results import CAMERA, room

trimesh = pytest.importorskip("trimesh", reason="reads PLY and GLB independently of us")


def expected(result, row, column):
    """One point by the pinhole formula."""
    z = float(result.values[row, column])
    (fx, _, cx), (_, fy, cy), _ = CAMERA
    return [(column - cx) / fx * z, (row - cy) / fy * z, z]


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.float32, (5, 7), elements=st.one_of(st.floats(0.125, 100, width=32), st.just(np.nan))))
def test_points_are_where_a_pinhole_camera_sees_them(values):
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    cloud = DepthResult(values, Ambiguity.METRIC, image, CAMERA).to_points()
    known = np.isfinite(values)
    assert cloud.points.dtype == np.float32
    places = [expected(DepthResult(values, Ambiguity.METRIC), r, c) for r, c in zip(*known.nonzero(), strict=True)]
    np.testing.assert_allclose(cloud.points, np.reshape(places, (-1, 3)), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(cloud.colours, image[known])


def test_other_intrinsics_and_a_scale():
    result = room(Ambiguity.SCALE)
    points = result.to_points(np.diag([10.0, 10.0, 1.0]), scale=2.5).points
    np.testing.assert_allclose(points[-1], [31 / 10 * 10, 23 / 10 * 10, 10], rtol=1e-6)


@pytest.mark.parametrize("ambiguity", [each for each in Ambiguity if each is not Ambiguity.METRIC])
def test_a_relative_map_has_no_metric_points(ambiguity):
    with pytest.raises(ConfigError, match=r"this output is in metres, and the map is relative .*Next: give .*anchors"):
        room(ambiguity).to_points()
    if ambiguity is not Ambiguity.SCALE:
        with pytest.raises(ConfigError, match="unknown scale and shift"):
            room(ambiguity).to_points(scale=2.0)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_a_scale_is_a_positive_number(scale):
    with pytest.raises(ConfigError, match="scale above 0"):
        room(Ambiguity.SCALE).to_points(scale=scale)


@pytest.mark.parametrize("camera", [None, np.full((3, 3), np.nan)])
def test_an_unknown_camera_has_no_points(camera):
    with pytest.raises(ConfigError, match=r"intrinsics, which are unknown \[room/1.jpg\].*field of view"):
        room(intrinsics=camera).to_points()
    with pytest.raises(ConfigError, match="metres already"):
        room().to_points(scale=2.0)


def test_edges_are_cut_on_request():
    result = room()
    whole, cut = result.to_points(), result.to_points(max_ratio=1.5)
    # the border of the box, 8x10, and the ring around it
    assert len(whole.points) - len(cut.points) == 10 * 12 - 6 * 8
    assert len(result.to_points(max_ratio=2.0).points) == len(whole.points)
    with pytest.raises(ConfigError, match="factor above 1"):
        result.to_points(max_ratio=1.0)


def test_without_a_photograph_points_have_the_colours_of_their_depth():
    cloud = room(image=None).to_points()
    assert len(np.unique(cloud.colours, axis=0)) == 2


def test_a_ply_file_holds_the_points_upright(tmp_path):
    result = room()
    (path,) = write(result, tmp_path / "a", ["ply"])
    found, cloud = trimesh.load(path), result.to_points()
    np.testing.assert_allclose(found.vertices, cloud.points * [1, -1, -1], rtol=1e-7)
    np.testing.assert_array_equal(found.colors[:, :3], cloud.colours)
    head = path.read_bytes().split(b"end_header")[0].decode()
    note = next(line for line in head.splitlines() if line.startswith("comment mde "))
    assert json.loads(note.removeprefix("comment mde "))["source"] == "room/1.jpg"
    wall = found.vertices[(cloud.colours == [10, 120, 250]).all(1)]
    assert np.allclose(wall[:, 2], -4)


def scene_of(path):
    """The JSON of a GLB, after the sizes that its header states were checked."""
    data = path.read_bytes()
    magic, version, size, length, kind = struct.unpack("<4sIII4s", data[:20])
    assert (magic, version, size, kind) == (b"glTF", 2, len(data), b"JSON")
    assert length % 4 == 0
    return json.loads(data[20 : 20 + length])


def test_a_glb_cloud_is_read_by_another_library(tmp_path):
    result = room()
    (path,) = write(result, tmp_path / "a", ["glb"])
    (found,) = trimesh.load_scene(path).geometry.values()
    np.testing.assert_allclose(found.vertices, result.to_points().points * [1, -1, -1], rtol=1e-7)
    scene = scene_of(path)
    assert scene["asset"]["extras"]["model"] == "UNet"
    np.testing.assert_allclose(scene["accessors"][0]["min"], found.vertices.min(0), rtol=1e-6)


def test_colours_of_a_glb_are_linear(tmp_path):
    grey = np.full((2, 2, 3), 188, np.uint8)  # half of the light
    result = DepthResult(np.ones((2, 2), np.float32), Ambiguity.METRIC, grey, np.eye(3))
    (path,) = write(result, tmp_path / "a", ["glb"])
    scene, data = scene_of(path), path.read_bytes()
    view = scene["bufferViews"][1]
    start = data.index(b"BIN\0") + 4 + view["byteOffset"]
    colours = np.frombuffer(data[start : start + view["byteLength"]], "<u2").reshape(-1, 4)
    np.testing.assert_allclose(colours[:, :3] / 65535, 0.5, atol=0.005)
    assert (colours[:, 3] == 65535).all()


def test_a_mesh_is_cut_at_edges_and_holes_and_faces_the_camera(tmp_path):
    result = room()
    (path,) = write(result, tmp_path / "a", ["mesh"])
    (found,) = trimesh.load_scene(path, process=False).geometry.values()
    corners = found.vertices[found.faces]
    depth = -corners[..., 2]
    assert (depth.max(1) / depth.min(1) <= 1.1).all()
    facing = np.einsum(
        "nk,nk->n", np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), corners[:, 0]
    )
    assert (facing < 0).all()  # the normal looks back to the camera
    # two a quad; 9x11 quads touch the box and 7x9 lie in it; at two of its corners one triangle lies on the wall alone;
    # the hole in the corner of the picture takes one
    assert len(found.faces) == 2 * (23 * 31 - (9 * 11 - 7 * 9)) + 2 - 1
    assert np.unique(found.faces).size == len(found.vertices)


def test_a_tilted_plane_is_one_surface():
    rows = np.linspace(2, 2.5, 6, dtype=np.float32)[:, None].repeat(5, 1)
    mesh = depth_mesh(DepthResult(rows, Ambiguity.METRIC, None, CAMERA))
    assert mesh.triangles.shape == (2 * 5 * 4, 3)
    assert len(mesh.points) == 30


def test_nothing_to_write_is_said(tmp_path):
    blank = DepthResult(np.full((2, 2), np.nan, np.float32), Ambiguity.METRIC, None, CAMERA)
    for name in ("glb", "mesh"):
        with pytest.raises(ConfigError, match=r"no pixel has a depth.*lower min_confidence"):
            write(blank, tmp_path / "a", [name])
    (path,) = write(blank, tmp_path / "a", ["ply"])
    assert b"element vertex 0\n" in path.read_bytes()
