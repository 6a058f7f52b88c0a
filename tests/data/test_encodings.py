"""Every named encoding against its formula, written and read back in its true format on disk."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mde.data.encodings import ENCODINGS, DepthEncoding, get_encoding
from mde.data.formats.packings import PACKINGS
from mde.data.io import propose_encoding, propose_scale, read_array, read_depth, read_pixels, write_depth
from mde.errors import ConfigError, DataFormatError

CAMERA = np.array([[30, 0, 15.5], [0, 30, 11.5], [0, 0, 1]], np.float32)
FOCAL_TIMES_BASELINE = 480.0
REACH = {  # metres that the files can hold
    "nyu_raw_kinect": (0.4, 10.0),
    "densedepth_8bit": (0.1, 10.0),
    "sun_rgbd": (0.01, 65.0),
    "tum": (0.05, 13.0),
    "matterport": (0.05, 16.0),
}


def usual(name: str) -> DepthEncoding:
    encoding = ENCODINGS[name]
    return encoding.with_scale(FOCAL_TIMES_BASELINE) if encoding.per_frame else encoding


def suffix_of(encoding: DepthEncoding) -> str:
    default = ".png" if np.issubdtype(encoding.dtype, np.integer) else ".npy"
    return encoding.files[0] if encoding.files else default


def depth_map(seed: int, low: float, high: float, size: tuple[int, int] = (24, 32)) -> NDArray[np.float32]:
    """Any distances in a range, on a log scale, with a third of the pixels missing."""
    rng = np.random.default_rng(seed)
    depth = np.exp(rng.uniform(np.log(low), np.log(high), size)).astype(np.float32)
    return np.where(rng.random(size) < 0.3, 0, depth).astype(np.float32)


def half_a_unit(encoding: DepthEncoding, depth: NDArray[np.float32]) -> NDArray[np.float64]:
    """What rounding to the file's numbers may change, in metres, from the definition of the encoding."""
    metres = depth.astype(np.float64)
    if encoding.packing == "kinect":  # whole steps of 351.3 / depth
        return 351.3 / np.maximum(351.3 / np.maximum(metres, 1e-3) - 0.5, 1e-3) - metres
    if np.issubdtype(encoding.dtype, np.integer):
        return np.full(depth.shape, encoding.scale / 2)
    return metres * np.finfo(encoding.dtype).eps


@pytest.mark.parametrize("name", ENCODINGS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_round_trip_through_the_true_format(tmp_path: Path, name: str, seed: int) -> None:
    encoding = usual(name)
    depth = depth_map(seed, *REACH.get(name, (0.05, 60.0)))
    path = tmp_path / f"depth{suffix_of(encoding)}"
    camera = CAMERA if encoding.kind == "ray" else None
    write_depth(path, depth, encoding, intrinsics=camera)
    read, valid = read_depth(path, encoding, camera)
    assert (read.dtype, valid.dtype) == (np.float32, np.bool_)
    assert np.array_equal(valid, depth > 0)  # holes stay holes, and nothing else becomes one
    assert (read[~valid] == 0).all()
    error = np.abs(read.astype(np.float64) - depth)
    assert (error <= 1.01 * half_a_unit(encoding, depth) + 2e-6 * depth).all()


def test_kitti_and_tum_saturate_into_their_markers(tmp_path: Path) -> None:
    for name in ("kitti", "virtual_kitti", "synthia", "seven_scenes", "tum", "matterport"):
        write_depth(tmp_path / "far.png", np.array([[1.0, 700.0]], np.float32), name)
        assert read_depth(tmp_path / "far.png", name)[1].tolist() == [[True, False]]


# -------------------------------------------------------------- formulas of the owners, on pixels that are written here


def png(path: Path, pixels: Any) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def test_carla_is_red_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    red, green, blue = rng.integers(0, 256, (3, 5, 7))
    red[0, 0] = green[0, 0] = blue[0, 0] = 255  # the end of the range: sky
    red[0, 1] = green[0, 1] = blue[0, 1] = 0
    truth = 1000 * (red + 256.0 * green + 65536.0 * blue) / (256**3 - 1)
    for channels in ((blue, green, red), (blue, green, red, np.full_like(red, 255))):  # OpenCV's order
        depth, valid = read_depth(png(tmp_path / "d.png", np.dstack(channels).astype(np.uint8)), "carla")
        assert valid.sum() == truth.size - 2
        assert not valid[0, :2].any()
        assert np.allclose(depth[valid], truth[valid], rtol=3e-7)


def test_sun_rgbd_turns_the_bits(tmp_path: Path) -> None:
    millimetres = np.random.default_rng(2).integers(1, 9999, (6, 8))
    bits = [f"{value:016b}" for value in millimetres.ravel()]
    stored = np.array([int(text[3:] + text[:3], 2) for text in bits], np.uint16).reshape(6, 8)  # left by three
    path = png(tmp_path / "d.png", stored)
    assert np.allclose(read_depth(path, "sun_rgbd")[0], millimetres / 1000, rtol=1e-6)
    with pytest.raises(DataFormatError, match=r"not rotated.*beyond 16 m"):
        read_depth(png(tmp_path / "mm.png", millimetres.astype(np.uint16)), "sun_rgbd")


def test_raw_kinect_is_byte_swapped_disparity(tmp_path: Path) -> None:
    raw = np.array([[2047, 600, 840], [1000, 1093, 1092]], np.uint16)
    path = tmp_path / "d.pgm"
    path.write_bytes(b"P5 3 2 65535\n" + raw.astype("<u2").tobytes())
    depth, valid = read_depth(path, "nyu_raw_kinect")
    assert valid.tolist() == [[False, True, True], [True, False, True]]  # 1093 lies behind infinity
    assert np.allclose(depth[valid], 351.3 / (1092.5 - raw[valid].astype(float)), rtol=1e-6)
    assert read_pixels(path)[0, 1] == 600 % 256 * 256 + 600 // 256  # what a plain reader gets
    write_depth(tmp_path / "again.pgm", depth, "nyu_raw_kinect")
    assert np.array_equal(read_pixels(tmp_path / "again.pgm").byteswap()[valid], raw[valid])
    path.write_bytes(b"P5 3 2 65535\n" + raw.astype(">u2").tobytes())
    with pytest.raises(DataFormatError, match="in order already"):
        read_depth(path, "nyu_raw_kinect")


def test_tartanair_v2_is_a_float_in_four_bytes(tmp_path: Path) -> None:
    truth = np.array([[1.25, 999.0, 10_000.0], [0.0, np.nan, 33.333]], "<f4")
    path = png(tmp_path / "d.png", np.frombuffer(truth.tobytes(), np.uint8).reshape(2, 3, 4))
    depth, valid = read_depth(path, "tartanair_v2")
    assert valid.tolist() == [[True, True, False], [False, False, True]]
    assert np.array_equal(depth[valid], truth[valid])


def test_airsim_writes_pfm_from_the_top(tmp_path: Path) -> None:
    """The format wants the bottom row first; AirSim's writers put the top row first."""
    truth = np.arange(1, 7, dtype="<f4").reshape(3, 2)
    path = tmp_path / "d.pfm"
    path.write_bytes(b"Pf\n2 3\n-1.000000\n" + truth.tobytes())
    assert np.array_equal(read_depth(path, "airsim_planar")[0], truth)
    assert np.array_equal(read_depth(path, "metres")[0], truth[::-1])
    np.save(tmp_path / "d.npy", truth)
    assert np.array_equal(read_depth(tmp_path / "d.npy", "airsim_planar")[0], truth)
    for name in ("airsim_planar", "metres"):
        write_depth(path, truth, name)
        assert np.array_equal(read_depth(path, name)[0], truth)


def test_skies_are_not_measured(tmp_path: Path) -> None:
    skies = {"tartanair_v1": 1e4, "airsim_planar": 65504.0, "unreal_cm": 65504.0, "hypersim": np.nan, "metres": np.inf}
    for name, sky in skies.items():
        np.save(tmp_path / "d.npy", np.array([[2.0, sky]], np.float32))
        assert read_depth(tmp_path / "d.npy", name, CAMERA)[1].tolist() == [[True, False]], name
        np.save(tmp_path / "d.npy", np.array([[2.0, sky]], np.float16))
        assert read_depth(tmp_path / "d.npy", name, CAMERA)[1].tolist() == [[True, False]], name


def test_hypersim_is_a_distance_along_rays(tmp_path: Path) -> None:
    """A wall at 3 m seen by the camera of the data set; the formula is that of the ray through each pixel's centre."""
    height, width = 12, 16
    focal = width / 2 / np.tan(np.deg2rad(30))
    v, u = np.mgrid[:height, :width]
    distance = 3 * np.sqrt((u - (width - 1) / 2) ** 2 + (v - (height - 1) / 2) ** 2 + focal**2) / focal
    with h5py.File(tmp_path / "frame.0000.depth_meters.hdf5", "w") as file:
        file["dataset"] = distance.astype(np.float16)
    camera = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], np.float32)
    depth, valid = read_depth(tmp_path / "frame.0000.depth_meters.hdf5", "hypersim", camera)
    assert valid.all()
    assert np.allclose(depth, 3, rtol=1e-3)  # of float16
    for unknown in (None, np.full((3, 3), np.nan, np.float32)):
        with pytest.raises(ConfigError, match=r"needs the camera.*horizontal_fov"):
            read_depth(tmp_path / "frame.0000.depth_meters.hdf5", "hypersim", unknown)


def test_a_scale_of_each_frame(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.array([[0.0, 40.0, 1e-3]], np.float32))
    with pytest.raises(ConfigError, match=r"scale of its own \[unrealstereo4k\].*with_scale"):
        read_depth(tmp_path / "d.npy", "unrealstereo4k")
    depth, valid = read_depth(tmp_path / "d.npy", ENCODINGS["unrealstereo4k"].with_scale(200.0))
    assert depth.tolist() == [[0, 5, 0]]  # the sky's disparity is almost 0: beyond the far limit
    assert valid.tolist() == [[False, True, False]]


# -------------------------------------------------------------------------------------------------- what is not the map


def colour(seed: int = 0) -> Any:
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return cv2.resize(noise, (48, 36), interpolation=cv2.INTER_CUBIC)


def room(seed: int = 3) -> NDArray[np.float32]:
    """Slanted planes of 1 to 6 m: distances that change from pixel to pixel."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:36, :48]
    return np.maximum(1 + u / 12 + rng.uniform(0, 0.02) * v, 1.2).astype(np.float32)


REFUSED = [
    ("millimetres", "carla", r"looks like CARLA's 24-bit depth.*set encoding: carla"),
    ("metres", "carla", r"one number per pixel.*CARLA's.*set encoding: carla"),
    ("kitti", "tartanair_v2", r"TartanAir V2's floats.*set encoding: tartanair_v2"),
    ("carla", "millimetres", r"carla is stored as uint8, this looks like a 16-bit map"),
    ("carla", "densedepth_8bit", r"three colours or four hold one number"),
    ("densedepth_8bit", "millimetres", r"stored as uint8, this looks like a 16-bit map"),
    ("synthia", "densedepth_8bit", r"stored as uint16, this looks like a 8-bit map.*16 bits lost on the way.*PIL"),
    ("millimetres", "densedepth_8bit", r"set encoding: densedepth_8bit"),
    ("tartanair_v2", "sun_rgbd", r"SUN RGB-D's millimetres, rotated.*set encoding: sun_rgbd"),
]


@pytest.mark.parametrize(("asked", "written", "message"), REFUSED)
def test_files_of_another_encoding_are_named(tmp_path: Path, asked: str, written: str, message: str) -> None:
    write_depth(tmp_path / "d.png", room(), written)
    with pytest.raises(DataFormatError, match=rf"{message}") as caught:
        read_depth(tmp_path / "d.png", asked)
    assert "d.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pictures_and_other_files_are_refused(tmp_path: Path) -> None:
    png(tmp_path / "colour.png", colour())
    for name in ("millimetres", "synthia", "metres", "densedepth_8bit", "sun_rgbd"):
        with pytest.raises(DataFormatError, match=r"a colour picture \(8-bit, 3 channels\).*picture of the depth"):
            read_depth(tmp_path / "colour.png", name)
    photograph = cv2.resize(colour(), (160, 120)) ^ np.random.default_rng(1).integers(
        0, 4, (120, 160, 3), dtype=np.uint8
    )
    with pytest.raises(DataFormatError, match=r"colours of a picture.*picture of the depth"):
        read_depth(png(tmp_path / "photo.png", photograph), "carla")
    np.save(tmp_path / "d.npy", room())
    with pytest.raises(DataFormatError, match=r"carla is stored in \.png, not in \.npy.*from the numbers: metres"):
        read_depth(tmp_path / "d.npy", "carla")
    with pytest.raises(DataFormatError, match=r"float32 \(36, 48\) cannot be written as \.png.*floats to npy"):
        write_depth(tmp_path / "d.png", room(), "metres")
    with pytest.raises(ConfigError, match=r"unknown depth encoding 'virtualkitti'.*nearest: virtual_kitti"):
        get_encoding("virtualkitti")
    for wrong in ({"packing": "zip"}, {"far": 0.0}, {"far": float("nan")}):
        with pytest.raises(ConfigError):
            DepthEncoding(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["carla", "tartanair_v2", "synthia", "sun_rgbd", "nyu_raw_kinect"])
def test_packings_are_proposed(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"d{suffix_of(ENCODINGS[name])}"
    write_depth(path, room(), name)
    pixels = read_pixels(path)
    encoding, reason = propose_encoding([pixels, pixels])
    assert encoding.name == name
    assert "looks like" in reason
    if name != "synthia":
        with pytest.raises(DataFormatError, match=f"no scale makes metres.*set encoding: {name}"):
            propose_scale([pixels])
    with pytest.raises(DataFormatError, match="one number per pixel"):
        propose_encoding([colour()])


def test_street_in_centimetres_with_a_sky_is_not_taken_for_millimetres() -> None:
    street = np.exp(np.random.default_rng(4).uniform(5.7, 10.3, (40, 40))).astype(np.uint16)  # 3 to 300 m
    street[:9] = 65535
    assert propose_encoding([street])[0].name == "virtual_kitti"
    unreal = np.random.default_rng(4).uniform(120, 900, (40, 40)).astype(np.float32)
    assert propose_encoding([unreal])[0].name == "centimetres"


@settings(max_examples=40, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(PACKINGS)))
def test_packings_lose_nothing(data: st.DataObject, name: str) -> None:
    """Numbers that the packing can hold, packed and unpacked."""
    draw = {
        "rgb24": lambda: data.draw(st.lists(st.integers(0, 2**24 - 1), min_size=12, max_size=12)),
        "rotated": lambda: data.draw(st.lists(st.integers(0, 2**14 - 1), min_size=12, max_size=12)),
        "float_bytes": lambda: data.draw(st.lists(st.floats(0, 1e5, width=32), min_size=12, max_size=12)),
        "kinect": lambda: [1092.5 - r for r in data.draw(st.lists(st.integers(0, 1092), min_size=12, max_size=12))],
    }.get(name, lambda: data.draw(st.lists(st.integers(0, 65535), min_size=12, max_size=12)))
    numbers = np.array(draw()).reshape(3, 4).astype(PACKINGS[name].numbers or np.uint16)
    assert np.array_equal(PACKINGS[name].unpack(PACKINGS[name].pack(numbers)), numbers)


@given(limit=st.sampled_from([5.0, 80.0]), kind=st.sampled_from(["z", "disparity"]))
def test_far_limit_against_its_definition(limit: float, kind: str) -> None:
    raw = np.linspace(0.01, 200, 999).astype(np.float32)[None]
    encoding = DepthEncoding(0.7 if kind == "z" else 90.0, kind, far=limit)
    metres = 0.7 * raw if kind == "z" else 90 / raw
    assert np.array_equal(encoding.to_metres(raw)[1], metres < limit)


def test_markers_that_no_integer_equals_hide_nothing() -> None:
    raw = np.array([[3, 4]], np.uint16)
    assert DepthEncoding(1.0, "z", (3.7, 70_000.0)).to_metres(raw)[1].all()


def test_encodings_are_cheap_to_import() -> None:
    code = "import sys, mde.data.encodings; sys.exit('lightning' in sys.modules or 'h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_encoding_says_whose_it_is() -> None:
    for name, encoding in ENCODINGS.items():
        assert encoding.name == name
        assert encoding.source
        assert get_encoding(name) == replace(encoding, name="", source="")
        assert all(suffix.startswith(".") for suffix in encoding.files)


# --------------------------------------------------------------------------------------------------------- file formats


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".npz", ".exr", ".tiff", ".pfm", ".npy"])
def test_floats_come_back_exactly_and_cut_files_are_refused(tmp_path: Path, suffix: str) -> None:
    if suffix == ".exr":
        pytest.importorskip("OpenEXR")
    depth = depth_map(5, 0.1, 90.0)
    path = tmp_path / f"d{suffix}"
    write_depth(path, depth)
    assert np.array_equal(read_array(path), depth)
    data = path.read_bytes()
    for kept in (0.9, 0.5, 0.02):
        path.write_bytes(data[: int(kept * len(data))])
        with pytest.raises(DataFormatError) as caught:
            read_depth(path, "metres")
        assert f"d{suffix}" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_hdf5_with_several_arrays(tmp_path: Path) -> None:
    path = tmp_path / "d.h5"
    with h5py.File(path, "w") as file:  # FastDepth's NYU
        file["rgb"], file["depth"] = np.zeros((3, 4, 5), np.uint8), np.full((4, 5), 2.0, np.float32)
    assert (read_depth(path, "metres")[0] == 2).all()
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = np.zeros((4, 5)), np.zeros((4, 5))
    with pytest.raises(DataFormatError, match=r"which array is the depth\? a, b.*name it 'depth'"):
        read_depth(path, "metres")


def test_exr_channels_and_halves(tmp_path: Path) -> None:
    library = pytest.importorskip("OpenEXR")
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
    plane = np.array([[120.0, 65504.0], [800.0, np.inf]], np.float16)
    other = np.ones_like(plane)
    for channels in ({"Z": plane, "R": other}, {"R": plane, "G": other, "B": other}, {"Y": plane}, {"deep": plane}):
        library.File(header, channels).write(str(tmp_path / "d.exr"))
        depth, valid = read_depth(tmp_path / "d.exr", "unreal_cm")
        assert valid.tolist() == [[True, False], [True, False]]  # sky of a float16 render target, and infinity
        assert np.allclose(depth[:, 0], [1.2, 8.0])
    library.File(header, {"left": plane, "right": plane}).write(str(tmp_path / "d.exr"))
    with pytest.raises(DataFormatError, match=r"which channel is the depth\? left, right"):
        read_depth(tmp_path / "d.exr", "unreal_cm")


def test_exr_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    (tmp_path / "d.exr").write_bytes(b"\x76\x2f\x31\x01")
    with pytest.raises(ConfigError, match=r"need the package OpenEXR \[.*d\.exr\].*pip install mde\[exr\]"):
        read_depth(tmp_path / "d.exr", "unreal_cm")
