"""What is particular to each form, on files written here byte by byte and not by the library's writers."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from mde.data.dataset import RawSample
from mde.data.layouts import get_layout, recognise
from mde.data.unreal import FORMS, UnrealDataModule
from mde.data.writers import smooth
from mde.data.writers import unreal as writers
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.protocol import get_protocol

H, W = 6, 8
RNG = np.random.default_rng(0)
DISTANCE = RNG.uniform(1, 9, (H, W)).astype(np.float32)
F32 = NDArray[np.float32]


def picture(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((H, W, 3), value, np.uint8))


def save(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def read(root: Path, part: str = "train", index: int = 0, **settings: Any) -> RawSample:
    return UnrealDataModule(str(root), **settings).dataset(part).read(index).checked()


def z_of(distance: F32, focal: float) -> F32:
    """Hypersim's formula: d * f / sqrt(x^2 + y^2 + f^2), x and y from the middle of the picture."""
    height, width = distance.shape
    x = np.arange(width)[None] - (width - 1) / 2
    y = np.arange(height)[:, None] - (height - 1) / 2
    return distance * focal / np.sqrt(x**2 + y**2 + focal**2)


# ------------------------------------------------------------------------------------------------------------- paper 1


def paper1(root: Path, depth: NDArray[Any]) -> Path:
    for split in ("train", "val"):
        picture(root / "rgb" / split / "00012.jpg")
        save(root / "depth" / split / "00012.npy", depth)
    (root / "rgb" / "test").mkdir()
    (root / "depth" / "test").mkdir()
    return root


def test_far_is_clipped_or_unknown_as_it_is_said(tmp_path: Path) -> None:
    depth = np.full((H, W), 5.0, np.float32)
    depth[0, :6] = (20.0, 25.0, np.inf, 19.9, 0.0, np.nan)
    root = paper1(tmp_path, depth)
    clipped = read(root)
    assert clipped.depth[0, :6].tolist() == pytest.approx([20, 20, 20, 19.9, 0, 0])
    assert clipped.valid[0, :6].tolist() == [True, True, True, True, False, False]
    unknown = read(root, far="invalid")
    assert unknown.depth[0, :6].tolist() == pytest.approx([0, 0, 0, 19.9, 0, 0])
    data = UnrealDataModule(str(root), num_workers=0)
    assert data.facts()["far"] == "clip"
    assert data.facts()["limits_m"] == [0.0, 20.0]
    batch = next(iter(data.val_dataloader()))
    # the protocol's cap is strict: what was clipped is not scored
    scored = get_protocol("unreal_20").mask(batch["depth"], batch["valid"])[0, 0, 0]
    assert scored[:6].tolist() == [False, False, False, True, False, False]


def test_paper1_without_test_files_is_tested_on_validation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = paper1(tmp_path, DISTANCE)
    data = UnrealDataModule(str(root))
    with caplog.at_level("INFO", "lightning.pytorch"):
        assert data.dataset("test").frame_id(0) == data.dataset("val").frame_id(0) == "rgb/val/00012"
    assert "testing uses the validation part" in caplog.text
    assert data.facts()["split"]["test_is_val"]
    assert data.image_size == (144, 256)
    assert data.protocol == get_protocol("unreal_20")
    assert np.isnan(data.dataset("train").read(0).intrinsics[:2, 2]).all()


def test_paper1_along_rays_needs_the_camera(tmp_path: Path) -> None:
    root = paper1(tmp_path, DISTANCE)
    assert np.array_equal(read(root).depth, DISTANCE)
    with pytest.raises(ConfigError, match=r"needs the camera.*horizontal_fov"):
        read(root, depth_kind="ray")
    raw = read(root, depth_kind="ray", horizontal_fov=90.0)
    assert np.allclose(raw.depth, z_of(DISTANCE, W / 2), rtol=1e-6)
    assert UnrealDataModule(str(root), depth_kind="ray", horizontal_fov=90.0).facts()["depth_in_files"] == ["ray"]


# -------------------------------------------------------------------------------------------------------------- AirSim


def pfm_from_the_top(path: Path, depth: F32) -> None:
    """As AirSim's recorder writes it: the standard wants the last row first."""
    path.write_bytes(f"Pf\n{W} {H}\n-1\n".encode() + depth.astype("<f4").tobytes())


def airsim(root: Path, kinds: tuple[int, ...], depth_suffix: str = ".pfm") -> Path:
    for recording in range(3):
        folder = root / f"2024-01-0{recording}"
        lines = ["VehicleName\tTimeStamp\tPOS_X\tImageFile"]
        for time in (1, 2):
            picture(folder / "images" / f"img_Drone_front_center_0_{time}.png")
            names = [f"img_Drone_front_center_0_{time}.png"]
            for kind in kinds:
                names.append(f"img_Drone_front_center_{kind}_{time + 50}{depth_suffix}")
                depth = DISTANCE + 20 * (kind - 1)
                if depth_suffix == ".pfm":
                    pfm_from_the_top(folder / "images" / names[-1], depth)
                else:
                    picture(folder / "images" / names[-1])
            lines.append(f"Drone\t{time}\t0.5\t{';'.join(names)}")
        (folder / "airsim_rec.txt").write_text("\n".join(lines) + "\n")
    return root


def test_airsim_s_recorder_writes_rows_from_the_top(tmp_path: Path) -> None:
    root = airsim(tmp_path, (1,))
    raw = read(root)
    assert np.array_equal(raw.depth, DISTANCE)
    assert np.allclose(raw.intrinsics, [[W / 2, 0, (W - 1) / 2], [0, W / 2, (H - 1) / 2], [0, 0, 1]])


def test_airsim_s_perspective_depth_becomes_z(tmp_path: Path) -> None:
    raw = read(airsim(tmp_path, (2,)))
    assert np.allclose(raw.depth, z_of(DISTANCE + 20, W / 2), rtol=1e-6)
    narrow = read(tmp_path, horizontal_fov=40.0)
    assert np.allclose(narrow.depth, z_of(DISTANCE + 20, W / 2 / np.tan(np.radians(20))), rtol=1e-5)
    assert UnrealDataModule(str(tmp_path)).facts()["encoding"] == ["airsim_perspective"]


def test_airsim_prefers_planar_and_splits_by_recording(tmp_path: Path) -> None:
    root = airsim(tmp_path, (2, 1))
    data = UnrealDataModule(str(root))
    assert np.array_equal(data.dataset("train").read(0).depth, DISTANCE)
    places = [{f.place for f in data.dataset(part).frames} for part in ("train", "val", "test")]
    assert sum(map(len, places)) == len(set().union(*places)) == 3
    assert data.dataset("train").frames[0].camera == "Drone_front_center"
    with pytest.raises(DataFormatError, match="no frames of cameras 'back'"):
        UnrealDataModule(str(root), cameras="back").facts()


def test_airsim_without_usable_depth_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match=r"no frames.*img_\*_1_TIME\.pfm"):
        UnrealDataModule(str(airsim(tmp_path / "seen", (3,)))).facts()  # DepthVis is for looking at
    root = airsim(tmp_path / "bytes", (1,), ".png")  # PixelsAsFloat was false
    with pytest.raises(DataFormatError, match=r"stored in \.pfm or \.npy, not in \.png"):
        read(root)
    (root / "2024-01-00" / "airsim_rec.txt").write_text("a,b\n1,2\n")
    with pytest.raises(DataFormatError, match="no column ImageFile"):
        UnrealDataModule(str(root)).facts()


# ------------------------------------------------------------------------------------------------------ published sets


def test_tartanair_v2_depth_is_the_bytes_of_a_float(tmp_path: Path) -> None:
    depth = DISTANCE.copy()
    depth[0, 0] = 10_000.0  # sky
    pixels = np.array([list(struct.pack("<f", value)) for value in depth.ravel()], np.uint8).reshape(H, W, 4)
    for trajectory in range(3):
        at = tmp_path / "House" / "Data_easy" / f"P00{trajectory}"
        picture(at / "image_lcam_front" / "000000_lcam_front.png")
        picture(at / "image_lcam_fish" / "000000_lcam_fish.png")  # no pinhole image
        (at / "depth_lcam_front").mkdir()
        assert cv2.imwrite(str(at / "depth_lcam_front" / "000000_lcam_front_depth.png"), pixels)
    raw = read(tmp_path)
    assert not raw.valid[0, 0]
    assert np.array_equal(raw.depth[raw.valid], DISTANCE[raw.valid])
    assert raw.valid.sum() == H * W - 1
    data = UnrealDataModule(str(tmp_path))
    assert data.facts()["frames"] == {"train": 1, "val": 1, "test": 1}
    assert data.facts()["split"]["by"] == "whole scenes, level 3"  # one house: by trajectory


def test_tartanair_reads_the_left_view_unless_others_are_named(tmp_path: Path) -> None:
    for scene in ("hospital", "ocean", "office"):
        for side in ("left", "right"):
            picture(tmp_path / scene / scene / "Easy" / "P001" / f"image_{side}" / f"000003_{side}.png")
            save(
                tmp_path / scene / scene / "Easy" / "P001" / f"depth_{side}" / f"000003_{side}_depth.npy",
                DISTANCE + (side == "right"),
            )
    data = UnrealDataModule(str(tmp_path))
    assert data.layout == "tartanair"
    assert np.array_equal(data.dataset("train").read(0).depth, DISTANCE)
    assert data.facts()["frames"] == {"train": 1, "val": 1, "test": 1}
    both = UnrealDataModule(str(tmp_path), cameras="left|right")
    assert both.facts()["frames"] == {"train": 2, "val": 2, "test": 2}
    assert np.array_equal(both.dataset("train").read(1).depth, DISTANCE + 1)


def test_stereo4k_is_focal_length_times_baseline_over_disparity(tmp_path: Path) -> None:
    disparity = RNG.uniform(2, 40, (H, W)).astype(np.float32)
    disparity[0, :2] = (0.0, 1e-4)  # sky
    for scene in range(3):
        at = tmp_path / f"0000{scene}"
        picture(at / "Image0" / "00000.png")
        save(at / "Disp0" / "00000.npy", disparity)
        for side, position in ((0, -1.25), (1, -1.0)):
            (at / f"Extrinsics{side}").mkdir()
            (at / f"Extrinsics{side}" / "00000.txt").write_text(f"12.5 0 4 0 12.5 3 0 0 1\n1 0 0 {position} 0 1 0 0\n")
    raw = read(tmp_path)
    assert np.allclose(raw.depth[raw.valid], 12.5 * 0.25 / disparity[raw.valid], rtol=1e-6)
    assert (~raw.valid).sum() == 2
    assert raw.intrinsics[0, 0] == 12.5
    assert len(UnrealDataModule(str(tmp_path)).dataset("train").files(0)) == 3
    with pytest.raises(ConfigError, match="comes with each frame"):
        UnrealDataModule(str(tmp_path), depth_scale=2.0)
    for scene in range(3):
        (tmp_path / f"0000{scene}" / "Extrinsics1" / "00000.txt").unlink()
    with pytest.raises(DataFormatError, match="needs Extrinsics0 and Extrinsics1"):
        read(tmp_path)


def hypersim(root: Path, scenes: int) -> Path:
    for scene in range(1, scenes + 1):
        at = root / f"ai_001_00{scene}" / "images"
        picture(at / "scene_cam_00_final_preview" / "frame.0007.tonemap.jpg")
        (at / "scene_cam_00_geometry_hdf5").mkdir()
        with h5py.File(at / "scene_cam_00_geometry_hdf5" / "frame.0007.depth_meters.hdf5", "w") as file:
            file["dataset"] = np.where(np.arange(W) == 0, np.nan, DISTANCE)
    return root


def test_hypersim_is_along_rays_of_a_camera_of_60_degrees(tmp_path: Path) -> None:
    raw = read(hypersim(tmp_path, 3))
    focal = 886.81 * W / 1024  # the focal length that its authors give for 1024 columns
    assert raw.intrinsics[0, 0] == pytest.approx(focal, rel=1e-5)
    assert np.allclose(raw.depth[:, 1:], z_of(DISTANCE, focal)[:, 1:], rtol=1e-5)
    assert not raw.valid[:, 0].any()  # NaN


def test_hypersim_s_own_split_is_used_where_it_is_there(tmp_path: Path) -> None:
    root = hypersim(tmp_path, 4)
    rows = ["scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name"]
    for scene, kept, part in ((1, True, "test"), (2, True, "train"), (3, False, "val"), (4, True, "val")):
        rows.append(f"ai_001_00{scene},cam_00,7,{kept},,{part}")
    (root / "metadata_images_split_scene_v1.csv").write_text("\n".join(rows) + "\n")
    data = UnrealDataModule(str(root))
    found = {part: [f.place[0] for f in data.dataset(part).frames] for part in ("train", "val", "test")}
    assert found == {"train": ["ai_001_002"], "val": ["ai_001_004"], "test": ["ai_001_001"]}
    assert data.facts()["split"]["by"] == "the data set's own parts"


@pytest.mark.parametrize("archives", [False, True])
def test_virtual_kitti_keeps_all_weathers_of_a_scene_together(tmp_path: Path, archives: bool) -> None:
    rgb, depth, text = (f"vkitti_2.0.3_{kind}/" if archives else "" for kind in ("rgb", "depth", "textgt"))
    stored = np.clip(np.round(DISTANCE * 100), 0, 65535).astype(np.uint16)
    stored[0, 0] = 65535
    for scene in ("01", "02", "18"):
        for weather in ("clone", "fog"):
            at = f"Scene{scene}/{weather}"
            picture(tmp_path / f"{rgb}{at}/frames/rgb/Camera_0/rgb_00003.jpg")
            path = tmp_path / f"{depth}{at}/frames/depth/Camera_0/depth_00003.png"
            path.parent.mkdir(parents=True)
            assert cv2.imwrite(str(path), stored)
            table = tmp_path / f"{text}{at}/intrinsic.txt"
            table.parent.mkdir(parents=True, exist_ok=True)
            table.write_text("frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]\n3 0 7.25 7.5 3.5 2.5\n3 1 1 1 1 1\n")
    data = UnrealDataModule(str(tmp_path))
    assert data.layout == "virtual_kitti"
    raw = data.dataset("train").read(0)
    assert raw.intrinsics.tolist() == [[7.25, 0, 3.5], [0, 7.5, 2.5], [0, 0, 1]]
    assert np.allclose(raw.depth[raw.valid], stored[raw.valid] / 100, rtol=1e-6)
    assert not raw.valid[0, 0]
    parts = [{f.place for f in data.dataset(part).frames} for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [1, 1, 1]
    assert data.facts()["frames"] == {"train": 2, "val": 2, "test": 2}
    for table in tmp_path.rglob("intrinsic.txt"):
        table.unlink()
    with pytest.raises(DataFormatError, match=r"6 depth or camera files are missing.*Scene01/clone/intrinsic\.txt"):
        read(tmp_path)
    assert read(tmp_path, intrinsics=[5.0, 5.0, 3.5, 2.5]).intrinsics[0, 0] == 5


def test_densedepth_s_archive_is_read_item_by_item(tmp_path: Path) -> None:
    path = tmp_path / "unreal_data.h5"
    centimetres = DISTANCE * 100
    centimetres[0, :4] = (4.0, 1500.0, 0.0, 65504.0)
    with h5py.File(path, "w") as file:
        for key in range(30):
            file[f"x/{key}"] = cv2.imencode(".png", np.full((H, W, 3), key, np.uint8))[1].ravel()
            file[f"y/{key}"] = centimetres[..., None] if key % 2 else centimetres
    assert recognise(tmp_path).name == recognise(path).name == "unreal/densedepth_h5"
    data = UnrealDataModule(str(path))
    dataset = data.dataset("train")
    raw = dataset.read(10).checked()
    assert int(raw.image[0, 0, 0]) == int(raw.id) == 10  # key 10 comes after key 9
    assert raw.depth[0, :4].tolist() == pytest.approx([0.1, 10, 0, 10])  # clipped to 0.1-10 m, as DenseDepth does
    assert np.allclose(raw.depth[1:], DISTANCE[1:], rtol=1e-6)
    assert read(path, index=11, far="invalid").depth[0, :4].tolist() == pytest.approx([0.04, 0, 0, 0])
    assert dataset.files(0) == (path,)
    assert np.array_equal(pickle.loads(pickle.dumps(dataset)).read(10).depth, raw.depth)
    (tmp_path / "second.h5").write_bytes(b"no archive")
    with pytest.raises(DatasetNotFoundError, match="2 HDF5 files"):
        UnrealDataModule(str(tmp_path), layout="densedepth_h5").facts()
    with pytest.raises(DataFormatError, match=r"groups x .* and y"):
        UnrealDataModule(str(tmp_path / "second.h5"), layout="densedepth_h5").facts()
    with h5py.File(tmp_path / "third.h5", "w") as file:
        file["x/1"], file["x/4"], file["y/1"] = [0], [0], [0]
    with pytest.raises(DataFormatError, match="1 keys are not in both x and y: 4"):
        UnrealDataModule(str(tmp_path / "third.h5")).facts()


def test_easysynth_holds_shares_of_its_depth_range(tmp_path: Path) -> None:
    pytest.importorskip("OpenEXR", reason="the extra exr is not installed")
    written = writers.write_easysynth(tmp_path, 2, smooth, (H, W))
    raw = read(tmp_path)
    truth = smooth(written[raw.id], H, W).depth
    assert np.allclose(raw.depth[raw.valid], truth[raw.valid], rtol=2**-10)
    halved = read(tmp_path, depth_scale=50.0)  # the depth range was 50 m
    assert np.allclose(halved.depth, raw.depth / 2)
    assert np.array_equal(halved.valid, raw.valid)


def test_carla_packs_depth_into_three_colours(tmp_path: Path) -> None:
    code = RNG.integers(1, 1 << 24, (H, W))
    code[0, 0] = (1 << 24) - 1  # 1 km: the far plane
    red, green, blue = code & 255, (code >> 8) & 255, code >> 16
    for run in range(3):
        picture(tmp_path / f"run{run}" / "rgb" / "000001.png")
        (tmp_path / f"run{run}" / "depth").mkdir()
        alpha = np.full((H, W), 255)
        cv2.imwrite(
            str(tmp_path / f"run{run}" / "depth" / "000001.png"),
            np.stack([blue, green, red, alpha], axis=2).astype(np.uint8),
        )
    raw = read(tmp_path)
    assert UnrealDataModule(str(tmp_path)).layout == "carla"
    expected = (red + 256 * green + 65536 * blue) / (256**3 - 1) * 1000
    assert np.allclose(raw.depth[raw.valid], expected[raw.valid], rtol=1e-6)
    assert np.array_equal(~raw.valid, code == (1 << 24) - 1)


# -------------------------------------------------------------------------------------------------------------- errors


def test_missing_depth_is_counted_and_ten_are_named(tmp_path: Path) -> None:
    writers.write_tartanair(tmp_path, 20, smooth, (H, W))
    for path in sorted((tmp_path / "office1").rglob("*.npy"))[:12]:
        path.unlink()
    with pytest.raises(DataFormatError) as caught:
        UnrealDataModule(str(tmp_path)).facts()
    text = str(caught.value)
    assert "12 depth or camera files are missing: office1/Easy/P000/depth_left/000000_left_depth.npy" in text
    assert "and 2 more" in text
    assert text.count(".npy") == 10
    data = UnrealDataModule(str(tmp_path), missing="skip")
    with pytest.warns(UserWarning, match="12 depth or camera files"):
        data.facts()
    assert data.facts()["missing"] == 12
    assert len(data.dataset("train")) == 8


def test_wrong_folders_and_settings(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="no such file or folder"):
        UnrealDataModule(str(tmp_path / "nothing"))
    with pytest.raises(DatasetNotFoundError, match=r"data\.root"):
        UnrealDataModule(str(tmp_path / "nothing"), layout="carla").facts()
    with pytest.raises(DataFormatError, match=r"none of the known layouts.*tartanair"):
        UnrealDataModule(str(tmp_path))
    with pytest.raises(DataFormatError, match=r"there are no frames.*TartanAir: ENV/Easy"):
        UnrealDataModule(str(tmp_path), layout="tartanair").facts()
    with pytest.raises(ConfigError, match="nearest: tartanair"):
        UnrealDataModule(str(tmp_path), layout="tartan_air")
    for setting, reason in (({"far": "cut"}, "use clip or invalid"), ({"depth_kind": "planar"}, "use z or ray")):
        with pytest.raises(ConfigError, match=reason):
            UnrealDataModule(str(tmp_path), layout="paper1", **setting)  # type: ignore[arg-type]


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    writers.write_tartanair_v2(tmp_path, 2, smooth, (H, W))
    frame = UnrealDataModule(str(tmp_path)).dataset("train").frames[0]
    for path in (Path(frame.depth), Path(frame.image)):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(DataFormatError, match=rf"truncated.*{path.name}"):
            read(tmp_path)
        path.write_bytes(data)


def test_every_form_has_a_layout_and_a_protocol_that_fits_its_range() -> None:
    for name, form in FORMS.items():
        layout = get_layout(f"unreal/{name}")
        assert layout.settings == {"layout": name}
        assert get_protocol(form.protocol).max_depth == form.depth_range[1]
        assert all(side % 16 == 0 for side in form.image_size)
