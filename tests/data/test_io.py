from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mde.data.io import DepthEncoding, propose_scale, read_array, read_depth, read_image
from mde.errors import ConfigError, DataFormatError
from tests.fakes import fake_frame, write_depth, write_image

SAMPLES = Path(__file__).parents[2] / "../shared/data/samples"
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tiff"])
def test_lossless_images_come_back_as_rgb(tmp_path: Path, suffix: str) -> None:
    image, _ = fake_frame(0)
    write_image(tmp_path / f"a{suffix}", image)
    assert np.array_equal(read_image(tmp_path / f"a{suffix}"), image)


def test_jpeg_is_close_and_grey_alpha_and_16_bit_become_rgb(tmp_path: Path) -> None:
    image, _ = fake_frame(1)
    write_image(tmp_path / "a.jpg", image)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - image).mean() < 8
    cv2.imwrite(str(tmp_path / "grey.png"), image[..., 0])
    assert np.array_equal(read_image(tmp_path / "grey.png"), image[..., :1].repeat(3, 2))
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack((image[..., ::-1], image[..., 0])))
    assert np.array_equal(read_image(tmp_path / "alpha.png"), image)
    deep = image.astype(np.uint16) * 256 + 77
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    assert np.array_equal(read_image(tmp_path / "deep.png"), image)


def exif(orientation: int, thumbnail: bytes = b"") -> bytes:
    """An APP1 segment with an orientation tag, and whatever follows it."""
    tiff = b"MM\0*\0\0\0\x08\0\x01" + b"\x01\x12\0\x03\0\0\0\x01" + orientation.to_bytes(2, "big") + bytes(6)
    body = b"Exif\0\0" + tiff + thumbnail
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


def test_orientation_is_only_applied_on_request(tmp_path: Path) -> None:
    image, _ = fake_frame(2, (24, 32))
    write_image(tmp_path / "a.jpg", image)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "turned.jpg").write_bytes(data[:2] + exif(6) + data[2:])
    assert read_image(tmp_path / "turned.jpg").shape == (24, 32, 3)  # as its depth map lies
    assert read_image(tmp_path / "turned.jpg", upright=True).shape == (32, 24, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.95])
def test_truncated_images_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    """Also a JPEG with a thumbnail, which has an end marker of its own; the plain decoder fills the rest with grey."""
    path = tmp_path / f"cut{suffix}"
    write_image(path, RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    data = path.read_bytes()
    if suffix == ".jpg":
        data = data[:2] + exif(1, thumbnail=b"\xff\xd8\xff\xd9") + data[2:]
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(DataFormatError, match=f"truncated.*cut{suffix}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_bytes_after_the_end_do_not_matter(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(path, fake_frame(3)[0])
    before = read_image(path)
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    assert np.array_equal(read_image(path), before)


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"No such file.*none\.png"):
        read_image(tmp_path / "none.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataFormatError, match=r"empty.*empty\.png"):
        read_image(tmp_path / "empty.png")
    (tmp_path / "text.jpg").write_text("I am no picture")
    with pytest.raises(DataFormatError, match=r"no image.*text\.jpg"):
        read_image(tmp_path / "text.jpg")
    (tmp_path / "text.npy").write_text("I am no array")
    with pytest.raises(DataFormatError, match=r"no NumPy file.*text\.npy"):
        read_depth(tmp_path / "text.npy", 1.0)


@pytest.mark.parametrize("suffix", [".png", ".npy", ".npz", ".tiff", ".pfm"])
def test_depth_round_trip(tmp_path: Path, suffix: str) -> None:
    _, depth = fake_frame(4)
    write_depth(tmp_path / f"d{suffix}", depth)
    read, valid = read_depth(tmp_path / f"d{suffix}", 0.001 if suffix == ".png" else 1.0)
    assert (read.dtype, valid.dtype) == (np.float32, np.bool_)
    assert np.abs(read - depth).max() <= (0.000501 if suffix == ".png" else 0)
    assert np.array_equal(valid, depth > 0)


FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=32)


@settings(max_examples=60, deadline=None)
@given(raw=arrays(np.float32, (3, 5), elements=FLOATS), scale=st.sampled_from([1e-3, 1.0, 1 / 256, 100.0]))
def test_any_float_map_gives_finite_metres_and_an_honest_mask(raw: Any, scale: float) -> None:
    depth, valid = DepthEncoding(scale).to_metres(raw)
    with np.errstate(all="ignore"):
        truth = raw * np.float32(scale)
    known = np.isfinite(truth) & (truth > 0) & (raw != 65535)
    assert np.array_equal(valid, known)
    assert np.array_equal(depth, np.where(known, truth, 0))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), scale=st.sampled_from([1e-3, 1 / 256, 1 / 5000, 10 / 255]))
def test_any_integer_map_against_float64(data: st.DataObject, scale: float) -> None:
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.int32]))
    raw = data.draw(arrays(dtype, (4, 4)))
    depth, valid = DepthEncoding(scale).to_metres(raw)
    known = (raw > 0) & (raw.astype(np.int64) != 65535)
    assert np.array_equal(valid, known)
    assert np.allclose(depth, np.where(known, raw.astype(np.float64) * scale, 0), rtol=2e-7, atol=0)


def test_kinds_of_depth(tmp_path: Path) -> None:
    disparity = np.array([[0, 2, 8, np.nan]], np.float32)
    depth, valid = DepthEncoding(80.0, "disparity").to_metres(disparity)  # TartanAir: 80 / disparity
    assert depth.tolist() == [[0, 40, 10, 0]]
    assert valid.tolist() == [[False, True, True, False]]
    intrinsics = np.array([[3, 0, 1], [0, 3, 0], [0, 0, 1]], np.float32)
    v, u = np.mgrid[:2, :3]
    ray = 6 * np.sqrt(((u - 1) / 3) ** 2 + (v / 3) ** 2 + 1)  # a wall at 6 m
    np.save(tmp_path / "ray.npy", ray)
    depth, _ = read_depth(tmp_path / "ray.npy", DepthEncoding(1.0, "ray"), intrinsics)
    assert np.allclose(depth, 6, atol=1e-5)
    with pytest.raises(ConfigError, match="needs the camera"):
        read_depth(tmp_path / "ray.npy", DepthEncoding(1.0, "ray"))
    for wrong in ({"scale": 0.0}, {"scale": float("nan")}, {"scale": -1.0}, {"kind": "log"}):
        with pytest.raises(ConfigError):
            DepthEncoding(**wrong)  # type: ignore[arg-type]


def test_channels(tmp_path: Path) -> None:
    plane = RNG.integers(1, 60000, (6, 7)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "three.png"), np.dstack([plane] * 3))
    assert np.array_equal(read_array(tmp_path / "three.png"), plane)
    for shape in ((1, 6, 7), (6, 7, 1)):
        np.save(tmp_path / "a.npy", plane.reshape(shape))
        assert np.array_equal(read_array(tmp_path / "a.npy"), plane)
    cv2.imwrite(str(tmp_path / "colour.png"), RNG.integers(0, 255, (6, 7, 3), dtype=np.uint8))
    with pytest.raises(DataFormatError, match=r"one number per pixel.*\(6, 7, 3\).*colour\.png"):
        read_depth(tmp_path / "colour.png", 1.0)
    np.save(tmp_path / "bool.npy", plane > 5)
    with pytest.raises(DataFormatError, match="not bool"):
        read_depth(tmp_path / "bool.npy", 1.0)
    np.savez(tmp_path / "two.npz", a=plane, b=plane)
    with pytest.raises(DataFormatError, match=r"which array is the depth\? a, b"):
        read_depth(tmp_path / "two.npz", 1.0)
    with pytest.raises(DataFormatError, match=r"type \.jpg are not known.*use \.exr, \.h5"):
        read_depth(tmp_path / "x.jpg", 1.0)
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataFormatError, match="no NumPy file"):  # never unpickled
        read_depth(tmp_path / "objects.npy", 1.0)


def indoor(metres_per_unit: float, dtype: Any = np.uint16) -> Any:
    """A room of 0.8 to 4 m in some unit."""
    return (RNG.uniform(0.8, 4.0, (40, 40)) / metres_per_unit).astype(dtype)


def test_proposed_scales() -> None:
    assert propose_scale([indoor(0.001)])[0] == 0.001
    assert propose_scale([indoor(0.0002)])[0] == 0.0002
    assert propose_scale([indoor(0.01)])[0] == 0.01
    assert propose_scale([indoor(10 / 255, np.uint8)])[0] == 10 / 255
    assert propose_scale([indoor(1.0, np.float32)])[0] == 1.0
    lidar = np.where(RNG.random((40, 40)) < 0.05, RNG.uniform(4, 60, (40, 40)) * 256, 0).astype(np.uint16)
    scale, reason = propose_scale([lidar])
    assert scale == 1 / 256
    assert "KITTI" in reason
    saturated = indoor(0.001)
    saturated[:10] = 65535
    assert propose_scale([saturated])[0] == 0.001
    for nothing in ([], [np.zeros((3, 3), np.uint16)], [np.full((3, 3), np.nan)]):
        with pytest.raises(DataFormatError, match="no valid depth"):
            propose_scale(nothing)


@pytest.mark.parametrize(
    ("files", "scale"),
    [
        ("nyu_v2_png/depth.png", 0.001),
        ("redwood_synthetic/depth/*.png", 0.001),
        ("seven_scenes_original/*.depth.png", 0.001),
        ("tum_rgbd/TUM_depth.png", 0.0002),
        ("icl_synthetic/depth/*.png", 0.0002),
        ("kitti/sparse_depth/*.png", 1 / 256),
    ],
)
def test_proposed_scales_of_real_files(files: str, scale: float) -> None:
    paths = sorted(SAMPLES.glob(files)) if SAMPLES.is_dir() else []
    if not paths:
        pytest.skip("the sample frames are not on this machine")
    assert propose_scale([read_array(path) for path in paths])[0] == scale
    depth, valid = read_depth(paths[0], scale)
    assert 1 < np.median(depth[valid]) < 25
