"""Pictures of every kind, cameras, and where pictures come from."""

from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.geometry import intrinsics_from_fov, intrinsics_matrix, resize_intrinsics
from mde.inference.camera import Camera, exif_focal
from mde.inference.inputs import sources
from mde.inference.pictures import Picture, picture_of, read_picture
from mde.inference.result import DepthResult
from mde.types import Ambiguity


def colours(height: int = 24, width: int = 36) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.dstack([x * 7, y * 10, 255 - 3 * x - 2 * y]).astype(np.uint8)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "webp" else {}
    path = saved(tmp_path / f"a.{kind}", Image.fromarray(colours()), exif=exif, **options)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    np.testing.assert_array_equal(read_picture(path).image, wanted)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(picture_of(opened).image, wanted)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_other_colours_become_those_that_pillow_shows(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(colours())
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    path = saved(tmp_path / ("a.tiff" if mode == "CMYK" else "a.png"), image)
    np.testing.assert_array_equal(read_picture(path).image, np.asarray(image.convert("RGB")))


def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path) -> None:
    grey = (np.arange(24 * 36).reshape(24, 36) * 70).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    np.testing.assert_array_equal(read_picture(tmp_path / "grey.png").image, np.dstack([grey >> 8] * 3))
    np.testing.assert_array_equal(picture_of(Image.fromarray(grey)).image, np.dstack([grey >> 8] * 3))
    rgb = np.dstack([grey, grey[::-1], grey[:, ::-1]])
    cv2.imwrite(str(tmp_path / "rgb.png"), rgb[..., ::-1])
    np.testing.assert_array_equal(read_picture(tmp_path / "rgb.png").image, rgb >> 8)


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, kind: str) -> None:
    first, second = Image.new("RGB", (12, 8), (200, 30, 10)), Image.new("RGB", (12, 8), (0, 0, 255))
    options = {"lossless": True} if kind == "webp" else {}
    path = saved(tmp_path / f"a.{kind}", first, save_all=True, append_images=[second], **options)
    assert read_picture(path).image[3, 4].tolist() == [200, 30, 10]


def test_the_content_counts_not_the_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.fromarray(colours()), format="PNG")
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.image, colours())
    assert picture.name == "a.jpg"
    assert picture.size == (24, 36)


def test_small_and_wide_pictures_are_pictures(tmp_path: Path) -> None:
    assert read_picture(saved(tmp_path / "a.png", Image.new("RGB", (1, 1)))).size == (1, 1)
    assert read_picture(saved(tmp_path / "b.png", Image.new("L", (20000, 3)))).size == (3, 20000)


def damaged(kind: str) -> bytes:
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(colours()).save(jpeg, "JPEG")
    Image.fromarray(colours()).save(png, "PNG")
    floats = io.BytesIO()
    Image.fromarray(np.ones((4, 5), np.float32)).save(floats, "TIFF")
    # a header that promises 30,000 x 30,000 pixels behind a few bytes
    header = b"IHDR" + struct.pack(">II", 30000, 30000) + png.getvalue()[24:29]
    bomb = png.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header)) + png.getvalue()[33:]
    half = {"jpeg": jpeg.getvalue()[:-60], "png": png.getvalue()[:90]}
    return {**half, "empty": b"", "text": b"hello", "bomb": bomb, "floats": floats.getvalue()}[kind]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("jpeg", "truncated"), ("png", "truncated"), ("empty", "empty"), ("text", "no picture"),
        ("bomb", "178 megapixels"), ("floats", "no photograph"),
    ],
)  # fmt: skip
def test_what_is_no_picture_says_why_and_what_to_do(tmp_path: Path, kind: str, says: str) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(damaged(kind))
    with pytest.raises(DataFormatError, match=says) as caught:
        read_picture(path)
    assert "bad.jpg]. Next: " in str(caught.value)


def test_limits_are_kept_before_a_picture_is_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("L", (2000, 1000)))
    assert read_picture(path, max_megapixels=2).size == (1000, 2000)
    with pytest.raises(DataFormatError, match="raise the limit to 2"):
        read_picture(path, max_megapixels=1.9)
    for limit in (0.0, 200.0, math.nan):
        with pytest.raises(ConfigError, match="between 0 and 178"):
            read_picture(path, max_megapixels=limit)


def test_outputs_are_no_photographs(tmp_path: Path) -> None:
    result = DepthResult(np.ones((4, 5), np.float32), Ambiguity.METRIC)
    for path in (result.save(tmp_path / "a.png"), result.save(tmp_path / "b.jpg")):
        with pytest.raises(DataFormatError, match="output of mde"):
            read_picture(path)


def test_arrays_and_tensors_of_both_orders_are_one_picture() -> None:
    rgb = colours()
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    for given_, order in (
        (rgb, "rgb"),
        (bgr, "bgr"),
        (tensor, "rgb"),
        (tensor.flip(0), "bgr"),
        (Image.fromarray(rgb), "bgr"),
    ):
        np.testing.assert_array_equal(picture_of(given_, order).image, rgb)
    floats = picture_of(tensor.double() / 255)
    assert floats.image.dtype == np.float32
    np.testing.assert_array_equal(floats.shown, rgb)
    assert picture_of(floats) is floats


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (np.zeros((4, 5), np.uint8), "RGB"), (np.zeros((4, 5, 4), np.uint8), "RGB"), (torch.zeros(1, 4, 5), "RGB"),
        (np.full((4, 5, 3), 255.0), "divide by 255"), (np.zeros((4, 5, 3), np.uint16), "uint8"), (7, "int is no"),
    ],
)  # fmt: skip
def test_what_no_picture_can_be_is_refused(wrong: Any, says: str) -> None:
    with pytest.raises(DataFormatError, match=says):
        picture_of(wrong)
    with pytest.raises(ConfigError, match="use rgb or bgr"):
        picture_of(colours(), "gbr")


# ---- cameras ---------------------------------------------------------------------------------------------------------


@given(st.floats(20, 140), st.integers(2, 3000), st.integers(2, 3000))
def test_a_field_of_view_is_that_of_the_outer_edges(fov: float, height: int, width: int) -> None:
    made = Camera(fov=fov).intrinsics((height, width))
    assert made is not None
    np.testing.assert_allclose(made, intrinsics_from_fov(height, width, fov).numpy(), rtol=1e-5)
    left, right = ((edge - made[0, 2]) / made[0, 0] for edge in (-0.5, width - 0.5))
    assert math.degrees(math.atan(right) - math.atan(left)) == pytest.approx(fov)


@given(st.tuples(*[st.floats(10, 900)] * 4), st.integers(1, 5), st.integers(8, 64), st.integers(8, 64))
def test_pixels_are_rescaled_with_the_picture(
    pixels: tuple[float, float, float, float], factor: int, height: int, width: int
) -> None:
    made = Camera(pixels=pixels, size=(height, width)).intrinsics((height * factor, width * factor))
    wanted = resize_intrinsics(intrinsics_matrix(*pixels).double(), factor, factor)
    np.testing.assert_allclose(made, wanted.numpy(), rtol=1e-6)


def test_a_sensor_lies_along_the_longer_side() -> None:
    lying, upright = (Camera(focal=(26.0, 36.0)).intrinsics(size) for size in ((2400, 3600), (3600, 2400)))
    assert lying is not None
    assert upright is not None
    assert lying[0, 0] == upright[0, 0] == pytest.approx(2600)
    assert (lying[0, 2], lying[1, 2]) == (upright[1, 2], upright[0, 2]) == (1799.5, 1199.5)


def test_what_no_camera_can_be_is_refused() -> None:
    wrong: list[dict[str, Any]] = [
        {"fov": 0}, {"fov": 180}, {"fov": math.nan}, {"fov": 60, "focal": (4, 6)}, {"focal": (4, 0)}, {"size": (3, 4)},
        {"pixels": (-1, 2, 3, 4)}, {"pixels": (1, 2, math.inf, 4)},
    ]  # fmt: skip
    for settings in wrong:
        with pytest.raises(ConfigError, match="Next: give one of pixels"):
            Camera(**settings)
    with pytest.raises(DataFormatError, match="another shape"):
        Camera(pixels=(50, 50, 20, 20), size=(40, 60)).intrinsics((60, 40))


def test_a_camera_comes_from_exif_and_is_turned_with_the_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    # a sensor with twice as many pixels a millimetre across as down; the picture is half of what was taken
    details = {0x920A: 5.0, 0xA20E: 2000.0, 0xA20F: 1000.0, 0xA210: 3, 0xA002: 72, 0xA003: 48}
    exif.get_ifd(0x8769).update(details)
    picture = read_picture(saved(tmp_path / "a.jpg", Image.fromarray(colours()), exif=exif))
    assert picture.size == (36, 24)
    assert picture.focal_px == pytest.approx((250.0, 500.0))  # fy, fx of the stored picture
    made = Camera().intrinsics(picture.size, picture.focal_px)
    assert made is not None
    np.testing.assert_allclose(made, [[250, 0, 11.5], [0, 500, 17.5], [0, 0, 1]])
    film = Camera().intrinsics((36, 24), exif_focal({0xA405: 50, 0x0112: 6, **details}, (24, 36)))
    assert film is not None
    assert film[0, 0] == film[1, 1] == pytest.approx(50)  # 36x24 pixels: one a millimetre of film


@pytest.mark.parametrize(
    "tags", [{}, {0xA405: 0}, {0x920A: 5.0}, {0x920A: 5.0, 0xA20E: 10.0, 0xA210: 1}, {0xA405: "wide"}, {0x920A: None}]
)
def test_exif_that_does_not_say_it_leaves_the_camera_unknown(tags: dict[int, Any]) -> None:
    assert exif_focal(tags, (24, 36)) is None
    assert Camera().intrinsics((24, 36), None) is None


# ---- sources ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in (
        "b.JPG",
        "a.png",
        "a.jpg",
        "notes.md",
        ".hidden.jpg",
        "sub/a.jpg",
        "sub/deep/c.webp",
        "out/a_depth.png",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"unread")
    return root


def names(*words: str | Path, **options: Any) -> list[tuple[str, str]]:
    return [(source.name, source.stem) for source in sources(words, **options)]


def test_folders_are_sorted_and_their_outputs_left_out(folder: Path) -> None:
    here = [("a.jpg", "a"), ("a.png", "a.png"), ("b.JPG", "b")]
    assert names(folder) == here
    below = [("sub/a.jpg", "sub/a"), ("sub/deep/c.webp", "sub/deep/c")]
    assert names(folder, recursive=True, without=folder / "out") == here + below
    assert len(names(folder, recursive=True)) == 6
    with pytest.raises(ConfigError, match="give another folder"):
        names(folder, without=folder)


def test_globs_lists_and_files_give_names_that_never_meet(folder: Path, tmp_path: Path) -> None:
    pattern = str(folder / "**" / "a.*")
    assert names(pattern) == [("a.jpg", "a"), ("a.png", "a.png"), ("a.jpg", "a.jpg")]
    (folder / "list.txt").write_text("\ufeff# mine\nsub/a.jpg\n\n../photos/b.JPG\n")
    assert names(folder / "list.txt", folder / "b.JPG") == [("sub/a.jpg", "sub/a"), ("b.JPG", "b"), ("b.JPG", "b.JPG")]
    stems = [stem.casefold() for _, stem in names(*[folder] * 4)]
    assert len(set(stems)) == len(stems) == 12
    assert next(sources([folder / "list.txt"])).path == folder / "sub" / "a.jpg"


def test_words_that_name_nothing_are_said(folder: Path, tmp_path: Path) -> None:
    for word, says in (("photoz", "no such file"), (folder / "*.bmp", "check the path"), (tmp_path, "--recursive")):
        with pytest.raises(DatasetNotFoundError, match=says):
            names(word)
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="no list of files"):
        names(tmp_path / "list.txt")


def test_nothing_is_read_before_it_is_asked_for(folder: Path) -> None:
    found = sources([folder, "missing"])
    first = next(found)
    with pytest.raises(DataFormatError, match=r"photos/a\.jpg"):
        first.read()
    Image.fromarray(colours()).save(folder / "a.jpg")
    assert isinstance(first.read(), Picture)
    assert first.read().name == "a.jpg"
