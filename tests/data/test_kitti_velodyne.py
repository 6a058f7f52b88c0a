"""The projection of scans against a literal loop over the points, a real sweep, and the calibration's formats."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mde.data.kitti.calibration import NOMINAL, nominal_calibration, read_calibration
from mde.data.kitti.frames import LEFT, RIGHT
from mde.data.kitti.velodyne import CONVENTIONS, DEPTHS, ScanReader, project_velodyne, read_scan
from mde.errors import ConfigError, DataFormatError

SAMPLES = Path(__file__).parents[2] / "../shared/data/samples/kitti"
SIZE = (24, 40)
TO_CAMERA = np.array([[0.01, -1, 0.02, 0.01], [-0.01, 0.01, -1, -0.08], [1, 0.01, -0.01, -0.27]])
CAMERA = np.array([[30.0, 0, 20, 1.8], [0, 30, 12, 0.2], [0, 0, 1, 0.003]])
PROJECTION = CAMERA @ np.vstack([TO_CAMERA, [0, 0, 0, 1]])


def scan(count: int, seed: int) -> NDArray[np.float32]:
    """Points on all sides; in 24x40 pixels most pixels are hit several times."""
    rng = np.random.default_rng(seed)
    points = rng.uniform((-20, -12, -8, 0), (40, 12, 6, 1), (count, 4))
    return points.astype(np.float32)


def literally(points: NDArray[np.float32], size: tuple[int, int], depth: str, convention: str) -> NDArray[np.float32]:
    """PROTOCOLS 2.3, one point after the other."""
    hits: list[tuple[int, int, float]] = []
    for x, y, z, _ in points.astype(np.float64):
        if x < 0:
            continue
        across, down, ahead = (row[0] * x + row[1] * y + row[2] * z + row[3] for row in PROJECTION)
        offset = 0 if convention == "centred" else 1
        u, v = round(across / ahead) - offset, round(down / ahead) - offset
        if not (0 <= u < size[1] and 0 <= v < size[0]) or (convention != "monodepth" and ahead <= 0):
            continue
        hits.append((v, u, x if depth == "x" else ahead))
    out = np.zeros(size)
    if convention == "monodepth":
        for v, u, metres in hits:
            out[v, u] = metres
        index = [v * (size[1] - 1) + u - 1 for v, u, _ in hits]
        for value, count in Counter(index).items():
            if count > 1:
                same = [hit for hit, i in zip(hits, index, strict=True) if i == value]
                out[same[0][0], same[0][1]] = min(metres for _, _, metres in same)
        return np.maximum(out, 0).astype(np.float32)
    for v, u, metres in hits:
        if out[v, u] == 0 or metres < out[v, u]:
            out[v, u] = metres
    return out.astype(np.float32)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("count", [0, 1, 200, 6000])
def test_equals_a_loop_over_the_points(convention: str, depth: str, count: int) -> None:
    points = scan(count, seed=count)
    made = project_velodyne(points, PROJECTION, SIZE, depth=depth, convention=convention)
    expected = literally(points, SIZE, depth, convention)
    assert made.dtype == np.float32
    assert made.shape == SIZE
    assert np.array_equal(made > 0, expected > 0)
    np.testing.assert_allclose(made, expected, rtol=1e-6)
    if count == 6000:  # collisions and all borders are in it
        assert (expected > 0).sum() < 0.8 * len([p for p in points if p[0] >= 0])
        assert expected[0].any()
        assert expected[:, 0].any()
        assert expected[-2].any()
        assert expected[:, -2].any()


def at(u: float, v: float, z: float) -> NDArray[np.float32]:
    """The point that lands at (u, v) with depth z."""
    point = np.linalg.solve(PROJECTION[:, :3], np.array([u * z, v * z, z]) - PROJECTION[:, 3])
    return np.append(point, 0.5).astype(np.float32)


def test_the_conventions_differ_as_they_are_said_to() -> None:
    points = np.stack([at(10.2, 7.9, 9.0), at(9.9, 8.1, 5.0), at(10.0, 8.0, 12.0)])
    behind = points * np.array([-1, 1, 1, 1], np.float32)
    everything = np.concatenate([points, behind])
    centred = project_velodyne(everything, PROJECTION, SIZE, convention="centred")
    assert np.argwhere(centred).tolist() == [[8, 10]]
    assert centred[8, 10] == pytest.approx(5.0, rel=1e-6)  # the nearest, neither the first nor the last
    devkit = project_velodyne(everything, PROJECTION, SIZE)
    assert np.array_equal(devkit[:-1, :-1], centred[1:, 1:])
    ahead = project_velodyne(everything, PROJECTION, SIZE, depth="x")
    assert ahead[7, 9] == pytest.approx(points[1, 0], rel=1e-6)
    assert ahead[7, 9] - devkit[7, 9] > 0.2  # the lever arm


def test_short_rows_disturb_the_border_only() -> None:
    width = SIZE[1]
    points = np.stack([at(width, 5, 9.0), at(1, 6, 4.0), at(12, 9, 7.0)])  # 1-based: last of a row, first of the next
    devkit, monodepth = (project_velodyne(points, PROJECTION, SIZE, convention=c) for c in ("devkit", "monodepth"))
    assert (devkit[4, width - 1], devkit[5, 0]) == (pytest.approx(9.0), pytest.approx(4.0))
    assert (monodepth[4, width - 1], monodepth[5, 0]) == (pytest.approx(4.0), pytest.approx(4.0))
    dense = scan(6000, seed=3)
    dense = dense[dense @ np.append(PROJECTION[2, :3], 0) + PROJECTION[2, 3] > 0]
    devkit, monodepth = (project_velodyne(dense, PROJECTION, SIZE, convention=c) for c in ("devkit", "monodepth"))
    assert np.array_equal(devkit[:, 1:-1], monodepth[:, 1:-1])


def test_a_real_sweep_gives_the_sparse_depth_made_from_it() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("no shared folder with a real sweep of KITTI beside the repository")
    calibration = read_calibration(SAMPLES / "calib/000003.txt")
    stored = cv2.imread(str(SAMPLES / "sparse_depth/000003.png"), cv2.IMREAD_UNCHANGED)
    points = read_scan(SAMPLES / "velodyne/000003.bin")
    made = project_velodyne(points, calibration.projection(LEFT), stored.shape, convention="centred")
    made[made > 80] = 0  # as the sample's manifest says
    numbers = np.round(made * 256)
    assert np.array_equal(numbers > 0, stored > 0)
    assert np.abs(numbers - stored).max() <= 1
    assert (numbers == stored).mean() > 0.9999


# ------------------------------------------------------------------------------------------------------- files, cache


def test_scans_that_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "scan.bin"
    with pytest.raises(DataFormatError, match="cannot be read"):
        read_scan(path)
    for data in (b"", b"\0" * 17):
        path.write_bytes(data)
        with pytest.raises(DataFormatError, match=f"this file has {len(data)} bytes"):
            read_scan(path)
    with pytest.raises(ConfigError, match=r"velodyne_convention 'devkti'.*nearest: devkit"):
        ScanReader(convention="devkti")
    with pytest.raises(ConfigError, match="velodyne_depth"):
        project_velodyne(scan(1, 0), PROJECTION, SIZE, depth="y")


def test_the_cache_changes_no_number_and_survives_damage(tmp_path: Path) -> None:
    path, cache = tmp_path / "scan.bin", tmp_path / "cache"
    scan(500, seed=1).tofile(path)
    plain = ScanReader().read(path, PROJECTION, SIZE, "a/0")
    cached = ScanReader(cache=str(cache))
    assert np.array_equal(cached.read(path, PROJECTION, SIZE, "a/0"), plain)
    (stored,) = cache.rglob("*.npz")
    before = stored.stat().st_mtime_ns
    assert np.array_equal(cached.read(path, PROJECTION, SIZE, "a/0"), plain)
    assert stored.stat().st_mtime_ns == before
    stored.write_bytes(stored.read_bytes()[:50])  # killed in the middle, or a bad disk
    assert np.array_equal(cached.read(path, PROJECTION, SIZE, "a/0"), plain)
    assert not list(cache.rglob(".*"))


def test_the_cache_knows_what_a_map_was_made_from(tmp_path: Path) -> None:
    path, cache = tmp_path / "scan.bin", str(tmp_path / "cache")
    scan(500, seed=1).tofile(path)
    settings: list[dict[str, Any]] = [{"depth": d, "convention": c} for d in DEPTHS for c in CONVENTIONS]
    for matrix in (PROJECTION, PROJECTION * np.array([[2.0], [2.0], [1.0]])):
        for setting in settings:
            made = ScanReader(**setting, cache=cache).read(path, matrix, SIZE, "a/0")
            assert np.array_equal(made, ScanReader(**setting).read(path, matrix, SIZE, "a/0"))
    scan(700, seed=2).tofile(path)  # fetched again
    assert np.array_equal(
        ScanReader(cache=cache).read(path, PROJECTION, SIZE, "a/0"), ScanReader().read(path, PROJECTION, SIZE, "a/0")
    )
    blocked = tmp_path / "file"
    blocked.write_text("a file where the cache should be")
    assert ScanReader(cache=str(blocked)).read(path, PROJECTION, SIZE, "a/0").any()


def _lines(**keys: NDArray[np.float64]) -> str:
    numbers = {key: " ".join(f"{v:.6e}" for v in np.ravel(value)) for key, value in keys.items()}
    return "calib_time: 09-Jan-2012 13:57:47\n" + "".join(f"{key}: {text}\n" for key, text in numbers.items())


def test_calibration_of_a_day_and_of_the_object_benchmark(tmp_path: Path) -> None:
    other = CAMERA + np.array([[0, 0, 0, -15.0], [0, 0, 0, 0], [0, 0, 0, 0]])
    turn = cv2.Rodrigues(np.array([0.01, -0.02, 0.03]))[0]
    (tmp_path / "calib_cam_to_cam.txt").write_text(
        _lines(S_rect_02=np.array([40.0, 24.0]), P_rect_02=CAMERA, P_rect_03=other, R_rect_00=turn)
    )
    cameras_only = read_calibration(tmp_path)
    assert cameras_only.size == SIZE
    np.testing.assert_allclose(cameras_only.intrinsics(LEFT), CAMERA[:, :3], rtol=1e-6)
    with pytest.raises(DataFormatError, match=r"calibration of the lidar.*calib_velo_to_cam\.txt"):
        cameras_only.projection(LEFT)
    (tmp_path / "calib_velo_to_cam.txt").write_text(_lines(R=TO_CAMERA[:, :3], T=TO_CAMERA[:, 3]))
    one_file = tmp_path / "000003.txt"
    one_file.write_text(_lines(P2=CAMERA, P3=other, R0_rect=turn, Tr_velo_to_cam=TO_CAMERA))
    point = np.array([7.0, 1.0, -0.5])
    for path in (tmp_path, one_file):
        for camera, matrix in ((LEFT, CAMERA), (RIGHT, other)):
            inside = turn @ (TO_CAMERA[:, :3] @ point + TO_CAMERA[:, 3])
            expected = matrix @ np.append(inside, 1)
            made = read_calibration(path).projection(camera) @ np.append(point, 1)
            np.testing.assert_allclose(made, expected, rtol=1e-4)
    assert read_calibration(one_file).size is None


def test_broken_calibration(tmp_path: Path) -> None:
    path = tmp_path / "calib_cam_to_cam.txt"
    with pytest.raises(DataFormatError, match="cannot be read"):
        read_calibration(tmp_path)
    whole = _lines(S_rect_02=np.array([40.0, 24.0]), P_rect_02=CAMERA, P_rect_03=CAMERA, R_rect_00=np.eye(3))
    path.write_text(whole[:150])
    with pytest.raises(DataFormatError, match="P_rect_02 should have 12 finite numbers, has"):
        read_calibration(tmp_path)
    path.write_text(whole.replace("P_rect_03", "P_rect_3"))
    with pytest.raises(DataFormatError, match="no numbers for P_rect_03"):
        read_calibration(tmp_path)


def test_nominal_cameras() -> None:
    for date, (height, width, focal, cx, cy) in NOMINAL.items():
        made = nominal_calibration(date)
        assert made.size == (height, width)
        assert abs(cx - width / 2) < 0.03 * width
        assert abs(cy - height / 2) < 0.05 * height
        assert made.intrinsics(RIGHT)[0, 0] == np.float32(focal)
    with pytest.raises(DataFormatError, match="KITTI was recorded on 2011_09_26"):
        nominal_calibration("2012_01_01")
