"""The page without a browser: pictures in, views, clouds and files out, and what is remembered."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mde
from mde.demo.page import Fields, Page, problem
from mde.demo.seen import Network, Seen, look, open_upload, titles
from mde.demo.sessions import Sessions
from mde.errors import ConfigError, DataFormatError, MdeError
from mde.inference.pictures import Picture
from mde.types import Ambiguity
from tests.demo.made import Known, picture


def page_of(folder: Path, *networks: Known, **limits: float) -> Page:
    names = titles([network.name for network in networks])
    made = [Network(name, mde.Predictor(network)) for name, network in zip(names, networks, strict=True)]
    return Page(made, Sessions(folder / "pages"), **limits)


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    path = tmp_path / "my photo <b>.png"
    Image.fromarray(picture()).save(path)
    return path


def test_an_upload_is_read_shown_and_deleted(tmp_path: Path, upload: Path) -> None:
    page = page_of(tmp_path, Known())
    shown = page.uploaded("one", upload, Fields())
    assert not upload.exists()
    assert shown.viewer["size"] == [48, 64]
    assert "my photo &lt;b&gt;.png, 64 x 48 pixels · Known: metres, 1 to 10 m, " in shown.about
    assert page.again("one", Fields(colours="magma")).viewer["layers"] != shown.viewer["layers"]
    with pytest.raises(ConfigError, match="no picture"):
        page.again("another", Fields())


def test_pictures_of_all_kinds_are_what_the_library_reads(tmp_path: Path) -> None:
    plain = Image.fromarray(picture())
    kinds = {
        "cmyk.tiff": plain.convert("CMYK"), "grey.png": plain.convert("L"), "alpha.png": plain.convert("RGBA"),
        "palette.gif": plain.convert("P"),
        "deep.png": Image.fromarray(np.arange(0, 64512, 21, np.uint16).reshape(48, 64)),
    }  # fmt: skip
    page = page_of(tmp_path, Known())
    for name, image in kinds.items():
        path = tmp_path / name
        image.save(path)
        wanted = Known().depth(mde.inference.pictures.read_picture(path).shown)
        page.uploaded("one", path, Fields())
        np.testing.assert_array_equal(page.sessions.need("one").results[0].values, wanted)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels: who decodes it first, loses."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"hello", "no picture, or damaged"),
        (png_header(1001, 1000), "1001x1000 pixels are more than 1 megapixels"),
        (png_header(60_000, 60_000), "too large"),
        (png_header(900, 900), "truncated"),
    ],
    ids=["empty", "text", "too many pixels", "bomb", "no pixels"],
)
def test_bad_uploads_are_refused_named_and_deleted(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(DataFormatError) as caught:
        open_upload(path, max_megapixels=1)
    assert says in str(caught.value)
    assert "bad.png" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert "Next: " in str(caught.value)
    assert not path.exists()


def test_a_bad_upload_leaves_nothing_of_the_one_before(tmp_path: Path, upload: Path) -> None:
    page = page_of(tmp_path, Known())
    page.uploaded("one", upload, Fields())
    upload.write_bytes(b"?")
    with pytest.raises(MdeError):
        page.uploaded("one", upload, Fields())
    assert page.sessions.get("one") is None


def test_a_picture_stays_when_a_field_is_wrong(tmp_path: Path, upload: Path) -> None:
    page = page_of(tmp_path, Known())
    with pytest.raises(ConfigError, match="no far end"):
        page.uploaded("one", upload, Fields(near="1"))
    assert page.again("one", Fields()).viewer["size"] == [48, 64]


def test_files_hold_the_same_metres_in_every_format(tmp_path: Path, upload: Path) -> None:
    page = page_of(tmp_path, Known(), Known(1.5, name="Other net"))
    page.uploaded("one", upload, Fields())
    fields = Fields(fov="60")
    made = page.files("one", fields, ["npy", "npz", "png16", "tiff", "ply", "mesh"])
    stems = ("my-photo-b_A_Known", "my-photo-b_B_Other-net")
    endings = ("_depth.npy", "_depth.npy.json", "_depth.npz", "_depth.png", "_depth.tiff", "_cloud.ply", "_mesh.glb")
    assert [path.name for path in made] == [stem + ending for stem in stems for ending in endings]
    for path in (path for path in made if "_depth" in path.name and path.suffix != ".json"):
        found, least = mde.read_depth(path), 1.5 if "_B_" in path.name else 1.0
        step = 1e-3 if path.suffix == ".png" else 0
        np.testing.assert_allclose(found.values, Known(least).depth(picture()), atol=step)
        assert found.intrinsics is not None
        assert found.intrinsics[0, 0] == pytest.approx(32 / np.tan(np.radians(30)))
    page.files("one", fields, ["npz"])
    assert not made[0].exists()  # of the files before nothing is left
    with pytest.raises(ConfigError, match="no format"):
        page.files("one", fields, [])


def test_a_cloud_needs_metres_and_a_camera(tmp_path: Path, upload: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="needs trimesh: pip install 'mde[dev]'")
    page = page_of(tmp_path, Known(), Known(ambiguity=Ambiguity.SCALE, name="Relative"))
    page.uploaded("one", upload, Fields())
    with pytest.raises(ConfigError, match="intrinsics, which are unknown"):
        page.cloud("one", Fields(), "A: Known", "points")
    with pytest.raises(ConfigError, match="this output is in metres, and the map is relative depth"):
        page.cloud("one", Fields(fov="60"), "B: Relative", "points")
    metres = float(Known().depth(picture())[30, 40]) * 3
    fields = Fields(fov="60", anchors=f"40,30,{metres}")
    points = {}
    for title in ("A: Known", "B: Relative"):
        points[title] = next(iter(trimesh.load(page.cloud("one", fields, title, "points")).geometry.values())).vertices
    np.testing.assert_allclose(points["B: Relative"], points["A: Known"], rtol=1e-5)
    known = np.isfinite(Known().depth(picture()))
    np.testing.assert_allclose(-points["A: Known"][:, 2], 3 * Known().depth(picture())[known], rtol=1e-5)
    surface = next(iter(trimesh.load(page.cloud("one", fields, "A: Known", "surface")).geometry.values()))
    assert len(surface.faces) > 1000


def test_a_relative_network_never_says_metres(tmp_path: Path, upload: Path) -> None:
    page = page_of(tmp_path, Known(ambiguity=Ambiguity.AFFINE_DISPARITY))
    shown = page.uploaded("one", upload, Fields())
    assert "Known: relative disparity, no metres" in shown.about
    assert shown.viewer["maps"][0]["metric"] is False
    with pytest.raises(ConfigError, match="takes 2 anchors"):
        page.again("one", Fields(anchors="40,30,2"))
    with pytest.raises(DataFormatError, match="beside the picture"):
        page.again("one", Fields(anchors="40,30,2\n99,30,3"))


def test_pages_are_forgotten_by_time_by_number_and_by_closing(tmp_path: Path) -> None:
    now = [0.0]
    sessions = Sessions(tmp_path, most=2, seconds=100, clock=lambda: now[0])
    seen = Seen(Picture(picture()), (), (), ())
    for name in ("a", "b"):
        sessions.put(name, seen)
        (sessions.folder(name, "files") / "x").touch()
    now[0] = 60
    assert sessions.get("a") is seen
    sessions.put("c", seen)
    assert [sessions.get(name) for name in ("a", "b", "c")] == [seen, None, seen]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    now[0] = 161
    sessions.sweep()
    assert len(sessions) == 0
    assert list(tmp_path.iterdir()) == []
    sessions.put("../../d", seen)
    assert sessions.folder("../../d", "files").is_relative_to(tmp_path)
    sessions.drop("../../d")
    assert list(tmp_path.iterdir()) == []


def test_networks_are_asked_once_and_timed() -> None:
    seen = look([Network("A", mde.Predictor(Known())), Network("B", mde.Predictor(Known(2.0)))], Picture(picture()))
    assert seen.titles == ("A", "B")
    assert all(second > 0 for second in seen.seconds)
    known = np.isfinite(seen.results[0].values)
    np.testing.assert_allclose((seen.results[1].values - seen.results[0].values)[known], 1, atol=1e-5)


def test_messages_are_escaped() -> None:
    assert problem(ConfigError("a <b> & c", next_action="go")) == (
        '<p class="problem" role="alert">A &lt;b&gt; &amp; c. Next: go</p>'
    )
