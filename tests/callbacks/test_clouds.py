"""Point clouds against the pinhole formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mde.callbacks.clouds import depth_cloud
from mde.callbacks.sinks import FolderSink
from mde.errors import ConfigError
from mde.geometry import unknown_intrinsics
from mde.inference.outputs.clouds import Cloud
from tests.callbacks.test_panels import read_ply

CAMERA = torch.tensor([[20.0, 0.0, 5.5], [0.0, 30.0, 3.5], [0.0, 0.0, 1.0]])


@given(st.integers(1, 200), st.integers(0, 5))
def test_points_are_those_of_the_pinhole_camera(points, seed):
    rng = np.random.default_rng(seed)
    depth, image = rng.uniform(1, 9, (8, 12)), rng.uniform(0, 1, (3, 8, 12))
    known = rng.uniform(size=(8, 12)) > 0.3
    cloud = depth_cloud(torch.tensor(image), torch.tensor(depth)[None], torch.tensor(known)[None], CAMERA, points)
    v, u = np.nonzero(known)
    z = depth[v, u]
    expected = np.stack(((u - 5.5) / 20 * z, (v - 3.5) / 30 * z, z), 1)
    chosen = range(len(z)) if len(z) <= points else np.linspace(0, len(z) - 1, points).round().astype(int)
    np.testing.assert_allclose(cloud.points, expected[chosen], rtol=1e-5)
    np.testing.assert_array_equal(cloud.colours, np.round(image[:, v, u].T.astype(np.float32) * 255)[chosen])
    assert (cloud.points.dtype, cloud.colours.dtype) == (np.float32, np.uint8)


def test_the_picture_may_have_another_size_and_the_camera_must_be_known():
    depth, known = torch.full((1, 4, 6), 2.0), torch.ones(1, 4, 6, dtype=torch.bool)
    image = torch.ones(3, 8, 12) * torch.tensor([1.0, 0.0, 0.5])[:, None, None]
    cloud = depth_cloud(image, depth, known, CAMERA, 100)
    assert np.unique(cloud.colours, axis=0).tolist() == [[255, 0, 128]]
    with pytest.raises(ConfigError, match="intrinsics are unknown"):
        depth_cloud(image, depth, known, unknown_intrinsics(), 100)


def test_ply_files_hold_the_points_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    cloud = Cloud(rng.normal(size=(7, 3)).astype(np.float32), rng.integers(0, 256, (7, 3), dtype=np.uint8))
    FolderSink(tmp_path).cloud("test/cloud/a", cloud, 0)
    (file,) = tmp_path.rglob("*.ply")
    points, colours = read_ply(file)
    np.testing.assert_array_equal(points, cloud.points * np.float32([1, -1, -1]), "y up, z towards the viewer")
    np.testing.assert_array_equal(colours, cloud.colours)
    FolderSink(tmp_path).cloud("test/cloud/a", Cloud(cloud.points[:0], cloud.colours[:0]), 1)
    assert len(read_ply(file)[0]) == 0
