"""Real frames of each data set, in the format in which it is distributed, against the figures that came with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mde.data.io import propose_encoding, read_depth, read_image, read_pixels, recognise_packing
from mde.errors import DataFormatError

SAMPLES = Path(__file__).parents[2] / "../shared/data/samples"
if not SAMPLES.is_dir():
    pytest.skip("the sample frames are not on this machine", allow_module_level=True)

ENTRIES = {entry["name"]: entry for entry in json.loads((SAMPLES / "manifest.json").read_text())["entries"]}
FRAMES = [
    # depth file, image, encoding, (least, median, greatest depth in metres; None where the manifest has no figure)
    ("nyu_v2_raw/NYU_depth.pgm", "nyu_v2_raw/NYU_color.ppm", "nyu_raw_kinect", (None, 3.2, None)),
    ("nyu_v2_png/depth.png", "nyu_v2_png/rgb.png", "millimetres", (1.653, 3.495, 10.0)),
    ("sun_rgbd/SUN_depth.png", "sun_rgbd/SUN_color.jpg", "sun_rgbd", (1.06, 2.7, 9.87)),
    ("tum_rgbd/TUM_depth.png", "tum_rgbd/TUM_color.png", "tum", (1.46, 2.4, 9.33)),
    ("icl_synthetic/depth/1.png", "icl_synthetic/color/1.png", "tum", (None, None, None)),
    ("icl_synthetic/depth/3.png", "icl_synthetic/color/3.png", "tum", (None, None, None)),
    ("redwood_synthetic/depth/00000.png", "redwood_synthetic/color/00000.jpg", "millimetres", (None, None, None)),
    ("redwood_synthetic/depth/00004.png", "redwood_synthetic/color/00004.jpg", "millimetres", (None, None, None)),
    *(
        (f"seven_scenes_original/frame-{n}.depth.png", f"seven_scenes_original/frame-{n}.color.jpg", "seven_scenes", ())
        for n in ("000000", "000300", "000800")
    ),
]


@pytest.mark.parametrize(("depth_file", "image_file", "encoding", "figures"), FRAMES)
def test_frames_are_in_metres(depth_file: str, image_file: str, encoding: str, figures: Any) -> None:
    depth, valid = read_depth(SAMPLES / depth_file, encoding)
    image = read_image(SAMPLES / image_file)
    assert depth.shape == image.shape[:2] == (480, 640)
    known = depth[valid]
    assert (depth[~valid] == 0).all()
    assert known.min() > 0.3  # no Kinect measures nearer, and no room is larger than 10 m
    assert known.max() <= 10
    assert valid.mean() > 0.65
    for found, figure in zip((known.min(), np.median(known), known.max()), figures, strict=False):
        assert figure is None or found == pytest.approx(figure, abs=0.07 if figure < 4 and figure > 2 else 0.006)
    found, _ = propose_encoding([read_pixels(SAMPLES / depth_file)])
    assert found.packing == ("plain" if encoding not in ("sun_rgbd", "nyu_raw_kinect") else found.packing)
    truth = read_depth(SAMPLES / depth_file, found)[0]
    assert np.allclose(truth, depth, rtol=1e-6)  # left to itself the library finds the same metres


@pytest.mark.parametrize("frame", ENTRIES["kitti"]["per_frame"], ids=lambda frame: frame["id"])
def test_kitti_sparse_depth(frame: dict[str, Any]) -> None:
    depth, valid = read_depth(SAMPLES / f"kitti/sparse_depth/{frame['id']}.png", "kitti")
    assert depth.shape == read_image(SAMPLES / f"kitti/image/{frame['id']}.png").shape[:2] == tuple(frame["size"][::-1])
    assert valid.mean() == pytest.approx(frame["valid"], abs=1e-4)
    assert np.percentile(depth[valid], [0, 5, 50, 95, 100]) == pytest.approx(frame["depth_m"], abs=0.005)


def test_nyu_png_has_the_figures_of_its_manifest() -> None:
    entry = ENTRIES["nyu_v2_png"]
    depth, valid = read_depth(SAMPLES / "nyu_v2_png/depth.png", "millimetres")
    assert valid.mean() == pytest.approx(entry["valid"], abs=1e-3)
    assert np.percentile(depth[valid], [0, 5, 50, 95, 100]) == pytest.approx(entry["depth_m"], abs=1e-3)


def test_icl_is_known_everywhere_and_seven_scenes_has_holes() -> None:
    assert read_depth(SAMPLES / "icl_synthetic/depth/1.png", "tum")[1].all()
    pixels = read_pixels(SAMPLES / "seven_scenes_original/frame-000000.depth.png")
    _, valid = read_depth(SAMPLES / "seven_scenes_original/frame-000000.depth.png", "seven_scenes")
    assert not valid.all()
    assert np.array_equal(valid, (pixels > 0) & (pixels < 65535))


@pytest.mark.parametrize("image_file", [frame[1] for frame in FRAMES if frame[1].endswith(".png")])
def test_photographs_are_no_depth(image_file: str) -> None:
    assert recognise_packing(read_pixels(SAMPLES / image_file)) is None
    for encoding in ("carla", "millimetres", "synthia", "tartanair_v2", "densedepth_8bit", "metres"):
        with pytest.raises(DataFormatError, match="colour picture"):
            read_depth(SAMPLES / image_file, encoding)


def test_traps_of_the_raw_kinect_frame() -> None:
    """Read as the PGM that it seems to be, its values are byte-swapped and reach 65287; in order, they end at 2047."""
    path = SAMPLES / "nyu_v2_raw/NYU_depth.pgm"
    plain = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert plain.max() == 65287
    header, pixels = path.read_bytes()[:15].split(b"\n")[0], path.read_bytes()[-2 * 640 * 480 :]
    assert header.split()[1:3] == [b"640", b"480"]
    raw = np.frombuffer(pixels, "<u2").reshape(480, 640)
    assert raw.max() == 2047
    depth, valid = read_depth(path, "nyu_raw_kinect")
    assert np.array_equal(valid, raw < 1093)
    assert np.allclose(depth[valid], 351.3 / (1092.5 - raw[valid].astype(np.float64)), rtol=1e-6)
    as_millimetres = read_depth(path, "millimetres")[0]
    assert np.median(as_millimetres[as_millimetres > 0]) > 20  # a wrong unit is not silent about itself


def test_traps_of_sun_rgbd() -> None:
    path = SAMPLES / "sun_rgbd/SUN_depth.png"
    wrong = read_depth(path, "millimetres")[0]
    right = read_depth(path, "sun_rgbd")[0]
    near = (right > 0) & (right < 8.192)
    assert np.allclose(wrong[near], 8 * right[near], rtol=1e-6)  # three bits to the left, until the top ones come round
    beyond = right >= 8.192
    assert beyond.any()
    assert not np.allclose(wrong[beyond], 8 * right[beyond], rtol=0.1)
    for other in ("tum_rgbd/TUM_depth.png", "nyu_v2_png/depth.png", "redwood_synthetic/depth/00000.png"):
        with pytest.raises(DataFormatError, match="not rotated"):
            read_depth(SAMPLES / other, "sun_rgbd")
