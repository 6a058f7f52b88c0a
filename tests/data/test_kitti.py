"""The data modules of KITTI on made drives in the true layout."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mde.data.base import DepthDataModule
from mde.data.dataset import RawSample
from mde.data.io import decode_array, write_depth, write_image
from mde.data.kitti import KITTIDataModule
from mde.data.kitti.calibration import NOMINAL
from mde.data.kitti.dataset import kb_cropped
from mde.data.kitti.drives import Drives
from mde.data.kitti.frames import HELD_OUT_DRIVES, Frame, drive_folder, eigen_frames, has_official_depth
from mde.data.layouts import recognise
from mde.data.writers import MARKER, mark, smooth
from mde.data.writers.kitti import write_raw
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.protocol import get_protocol
from tests.data.layout_contract import LayoutContract

SIZE = (24, 80)


class RawContract(LayoutContract):
    layout = "kitti/raw"
    size = SIZE
    image_size = SIZE

    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        made = super().make(folder, **settings)
        if not (folder / "data" / MARKER).exists():
            mark(folder / "data", self.layout, {})
        return made


class TestOfficial(RawContract):
    step = 1 / 256


class TestVelodyne(RawContract):
    # the points were made for pixel centres at whole numbers, as everything in the library
    settings = {"ground_truth": "velodyne", "velodyne_convention": "centred"}

    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        made = super().make(folder, **settings)
        # the frame without official depth; the writer rendered it after all others
        self.written.setdefault("2011_09_26_drive_0002_sync/image_02/0000000000", len(self.written))
        return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kitti")
    write_raw(root, 8, smooth, SIZE)
    mark(root, "kitti/raw", {})
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy that may be changed, and that is not known to be made."""
    copy = tmp_path / "kitti"
    shutil.copytree(made, copy)
    (copy / MARKER).unlink()
    return copy


def module(root: Path, **settings: Any) -> KITTIDataModule:
    return KITTIDataModule(str(root), **{"image_size": SIZE, **settings})


def frames_of(data: KITTIDataModule, split: str) -> list[Frame]:
    return [sample.frame for sample in data.dataset(split).samples]  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------------ what is written


def test_the_made_set_is_like_the_real_one(made: Path) -> None:
    days = sorted(path.name for path in made.iterdir() if path.name in NOMINAL)
    assert days == sorted(NOMINAL)
    for path in made.rglob("proj_depth/groundtruth/image_0[23]/*.png"):
        frame = path.parents[3].name
        drive = f"{frame[:10]}/{frame[17:21]}"
        assert has_official_depth(drive, int(path.stem))
        assert (path.parents[4].name == "val") == (drive in HELD_OUT_DRIVES)
        raw = decode_array(path.read_bytes(), ".png", path)
        assert raw.dtype == np.uint16
        assert 0.03 < (raw > 0).mean() < 0.3
        assert not raw[:9].any()
    scans = list(made.rglob("velodyne_points/data/*.bin"))
    points = np.fromfile(scans[0], np.float32).reshape(-1, 4)
    assert (points[:, 0] < 0).mean() > 0.2  # behind the car
    assert len(scans) == 8 + 1 + 1 + 1


def test_frames_are_of_the_same_part_under_every_split(made: Path) -> None:
    parts = {
        (split, truth): tuple(
            tuple(frames_of(module(made, split=split, ground_truth=truth), part)) for part in ("train", "val", "test")
        )
        for split in ("eigen", "monodepth2")
        for truth in ("official", "velodyne")
    }
    assert parts["eigen", "official"] == parts["monodepth2", "official"]
    assert parts["eigen", "velodyne"][:2] == parts["eigen", "official"][:2]
    without = Frame("2011_09_26/0002", 0)
    assert set(parts["eigen", "velodyne"][2]) - set(parts["eigen", "official"][2]) == {without}


# ------------------------------------------------------------------------------------------------------------- settings


def test_cameras_are_of_training_only(made: Path) -> None:
    left, right, both = (module(made, cameras=cameras) for cameras in ("left", "right", "both"))
    assert {frame.camera for frame in frames_of(right, "train")} == {3}
    assert set(frames_of(both, "train")) == set(frames_of(left, "train")) | set(frames_of(right, "train"))
    assert frames_of(both, "val") == frames_of(left, "val")
    raw = right.dataset("train").read(0).checked()
    assert "image_03" in raw.id
    assert raw.valid.any()
    assert not np.array_equal(raw.image, left.dataset("train").read(0).image)
    scan = module(made, cameras="right", ground_truth="velodyne").dataset("train").read(0).checked()
    assert scan.valid.any()


def test_depth_of_scans_follows_the_settings(made: Path, tmp_path: Path) -> None:
    def depth(**settings: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        return module(made, ground_truth="velodyne", **settings).dataset("train").read(0).depth

    devkit, centred = depth(), depth(velodyne_convention="centred")
    assert np.array_equal(devkit[:-1, :-1], centred[1:, 1:])
    ahead = depth(velodyne_depth="x")
    both = (ahead > 0) & (devkit > 0)
    assert 0.2 < float(np.median(ahead[both] - devkit[both])) < 0.4
    for _ in range(2):
        assert np.array_equal(depth(velodyne_cache=str(tmp_path / "cache")), devkit)
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1


def test_the_protocol_names_the_ground_truth(made: Path) -> None:
    assert module(made).protocol == get_protocol("kitti_eigen_garg_80")
    assert module(made, kb_crop=True).protocol == get_protocol("kitti_eigen_garg_80_kb")
    velodyne = module(made, ground_truth="velodyne").protocol
    assert velodyne == get_protocol("kitti_eigen_garg_80_velodyne")
    others = [{"velodyne_depth": "x"}, {"velodyne_convention": "centred"}, {"kb_crop": True}]
    made_for = [module(made, ground_truth="velodyne", **other).protocol for other in others]  # type: ignore[arg-type]
    assert len({protocol.fingerprint for protocol in [velodyne, *made_for]}) == 4
    given = module(made, ground_truth="velodyne", velodyne_depth="x", protocol="kitti_eigen_80").protocol
    assert (given.crop, given.ground_truth) == ("kitti_eigen", "velodyne_x")
    own = replace(get_protocol("none"), max_depth=50.0)
    assert module(made, protocol=own).protocol == own
    with pytest.raises(ConfigError, match="is for official depth, the data gives velodyne"):
        module(made, ground_truth="velodyne", protocol="kitti_eigen_garg_80")
    with pytest.raises(ConfigError, match=r"kb_crop cuts the frame.*kitti_eigen_garg_80_kb"):
        module(made, kb_crop=True, protocol="kitti_eigen_garg_50")


@pytest.mark.parametrize("key", ["split", "ground_truth", "cameras", "missing", "velodyne_depth"])
def test_unknown_settings(made: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown {key} 'nothing' \[data.{key}\]"):
        module(made, **{key: "nothing"})


def test_frames_of_unequal_size_are_evaluated_one_by_one(made: Path) -> None:
    assert module(made, batch_size=8).eval_batch_size == 1
    assert module(made, batch_size=8, eval_batch_size=None).eval_batch_size == 1
    assert module(made, batch_size=8, eval_batch_size=2).eval_batch_size == 2
    assert module(made, batch_size=8, kb_crop=True).eval_batch_size == 8


def test_own_lists(made: Path, tmp_path: Path) -> None:
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    default = module(made)
    names = {part: list(frames_of(default, part)) for part in ("train", "test")}
    train.write_text("".join(f"{f.drive[:10]}/{drive_folder(f.drive)} {f.number} r\n" for f in names["train"][:2]))
    test.write_text("".join(f"{f.drive[:10]}/{drive_folder(f.drive)} {f.number} l\n" for f in names["test"]))
    data = module(made, lists={"train": str(train), "test": str(test)})
    assert frames_of(data, "train") == [frame._replace(camera=3) for frame in names["train"][:2]]
    assert frames_of(data, "val") == frames_of(data, "test") == names["test"]
    assert data.facts()["split"] == "lists"
    test.write_text(test.read_text() + train.read_text().replace(" r", " l"))  # the left view of a training moment
    with pytest.raises(DataFormatError, match="2 frames are in the lists of train and of test: 2011_09_26/0001 5"):
        module(made, lists={"train": str(train), "test": str(test)}).dataset("test")
    with pytest.raises(ConfigError, match="no list for test"):
        module(made, lists={"train": str(train)}).dataset("test")
    with pytest.raises(ConfigError, match="lists are files for train, val and test"):
        module(made, lists={"training": str(train)})


def test_validation_on_test(made: Path) -> None:
    data = module(made, val_on_test=True)
    assert frames_of(data, "val") == frames_of(data, "test")
    assert len(frames_of(data, "train")) == 9  # the held-out frame trains, too
    assert data.facts()["validation"] == "test"


# --------------------------------------------------------------------------------------------------------- on the disk


def merged(root: Path) -> None:
    """All official depth in one folder beside the images, as BTS wants it."""
    for half in ("train", "val"):
        for drive in (root / "data_depth_annotated" / half).iterdir():
            drive.rename(root / drive.name)
    shutil.rmtree(root / "data_depth_annotated")


def halves(root: Path) -> None:
    for half in ("train", "val"):
        (root / "data_depth_annotated" / half).rename(root / half)


def beneath(root: Path) -> None:
    """Images in a folder of their own."""
    (root / "raw").mkdir()
    for date in NOMINAL:
        (root / date).rename(root / "raw" / date)


def inside(root: Path) -> None:
    """Official depth unpacked into the raw drives."""
    for drive in root.glob("data_depth_annotated/*/*_sync"):
        (drive / "proj_depth").rename(root / drive.name[:10] / drive.name / "proj_depth")


@pytest.mark.parametrize("arrange", [merged, halves, beneath, inside])
def test_official_depth_is_found_wherever_it_lies(root: Path, arrange: Any) -> None:
    before = module(root, missing="skip").dataset("train")
    expected = [before.read(i) for i in range(8)]
    arrange(root)
    assert recognise(root).name == "kitti/raw"
    dataset = module(root, missing="skip").dataset("train")
    for index, raw in enumerate(expected):
        again = dataset.read(index)
        assert again.id == raw.id
        assert np.array_equal(again.depth, raw.depth)
        assert np.array_equal(again.intrinsics, raw.intrinsics)


def test_depth_root_apart_from_the_images(root: Path, tmp_path: Path) -> None:
    (root / "data_depth_annotated").rename(tmp_path / "depth")
    with pytest.raises(DatasetNotFoundError, match=r"fetch data_depth_annotated\.zip .*or into data\.depth_root"):
        module(root, missing="skip").dataset("test")
    assert len(module(root, missing="skip", depth_root=str(tmp_path / "depth")).dataset("train")) == 8
    with pytest.raises(DatasetNotFoundError, match=r"no such folder.*data\.depth_root"):
        module(root, depth_root=str(tmp_path / "nothing")).dataset("train")


def test_jpg_copies_are_read_and_never_twice(root: Path) -> None:
    frame = frames_of(module(root, missing="skip"), "train")[0]
    folder = root / frame.drive[:10] / drive_folder(frame.drive) / "image_02/data"
    image = module(root, missing="skip").dataset("train").read(0).image
    write_image(folder / f"{frame.number:010d}.jpg", 255 - image)
    both = module(root, missing="skip").dataset("train")
    assert (len(both), np.array_equal(both.read(0).image, image)) == (8, True)
    (folder / f"{frame.number:010d}.png").unlink()
    jpg = module(root, missing="skip").dataset("train")
    assert jpg.files(0)[0].suffix == ".jpg"
    assert np.abs(jpg.read(0).image.astype(int) - (255 - image)).mean() < 8


def test_missing_files_are_counted_and_the_first_are_listed(root: Path) -> None:
    with pytest.raises(DatasetNotFoundError) as caught:
        module(root).dataset("test")
    text = str(caught.value)
    assert "651 of 652 frames of KITTI's test part lack files, in 28 drives; 1302 files are missing" in text
    assert text.count(".png") == 10
    assert "and 1292 more" in text
    assert "fetch the drives 2011_09_26/0002, " in text
    assert "data.missing to skip" in text
    data = module(root, missing="skip")
    with pytest.warns(UserWarning, match="651 of 652 frames of test have no files"):
        data.dataset("test")
    assert data.facts()["left_out"] == {"test": 651}
    # in a made set they are left out without a word
    mark(root, "kitti/raw", {})
    assert len(module(root).dataset("test")) == 1
    assert "left_out" not in module(root).facts()


def test_a_listing_for_each_folder_and_no_more(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    listed: list[str] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(str(path)) or listdir(path))
    frames = [Frame(drive, number) for drive, number in eigen_frames("train_23488")]
    found, lost = Drives(root).locate(frames, "velodyne", "skip", "train")
    assert (len(found), lost) == (9, 23488 - 9)
    assert len(listed) == len(set(listed)) <= 4 * 33


def test_folders_that_are_not_kitti(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="no such folder"):
        module(tmp_path / "nothing").dataset("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetNotFoundError, match=r"no drives of KITTI.*raw_data\.php"):
        module(tmp_path / "empty").dataset("train")
    with pytest.raises(DatasetNotFoundError, match="folder above the days"):
        module(root / "2011_09_26/2011_09_26_drive_0001_sync").dataset("train")
    with pytest.raises(DatasetNotFoundError, match=r"set data\.root to .*kitti, the folder above the days"):
        module(root / "2011_09_26").dataset("train")
    (tmp_path / "empty/2011_09_26_drive_0001_extract").mkdir()
    with pytest.raises(DatasetNotFoundError, match="unsynced drives"):
        module(tmp_path / "empty").dataset("train")


def test_without_calibration_the_published_camera_is_taken_and_said_once(root: Path, tmp_path: Path) -> None:
    # of the true size: the published camera is for it
    frame = Frame("2011_09_28/0001", 50)
    folder = tmp_path / "real" / "2011_09_28" / drive_folder(frame.drive)
    write_image(folder / "image_02/data/0000000050.png", np.zeros((370, 1224, 3), np.uint8))
    depth = np.where(np.arange(370)[:, None] > 200, np.full((370, 1224), 9, np.float32), 0)
    write_depth(folder / "proj_depth/groundtruth/image_02/0000000050.png", depth, "kitti", np.uint16)
    data = module(tmp_path / "real", missing="skip")
    with pytest.warns(UserWarning, match=r"no calib_cam_to_cam.txt for 2011_09_28"):
        raw = data.dataset("train").read(0)
    assert raw.intrinsics[0].tolist() == pytest.approx([707.0493, 0, 604.0814])
    with pytest.raises(DatasetNotFoundError):
        module(tmp_path / "real", ground_truth="velodyne", missing="skip").dataset("train")
    # a resized copy must not get the camera of the original
    for path in root.rglob("calib_cam_to_cam.txt"):
        path.unlink()
    with pytest.raises(DataFormatError, match=r"\(24, 80\) \(height, width\).*native size"):
        module(root, missing="skip").dataset("train").read(0)
    with pytest.raises(DataFormatError, match="calibration of the lidar"):
        module(root, ground_truth="velodyne", missing="skip").dataset("train")


def test_truncated_files_name_themselves(root: Path) -> None:
    dataset = module(root, missing="skip").dataset("train")
    for path in dataset.files(0):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(DataFormatError, match=rf"truncated.*{path.name}"):
            dataset.read(0)
        path.write_bytes(data)
    scan = module(root, ground_truth="velodyne", missing="skip").dataset("train")
    path = scan.files(0)[1]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataFormatError, match="16 bytes for each point"):
        scan.read(0)


# ----------------------------------------------------------------------------------------------------------------- crop


@pytest.mark.parametrize("date", list(NOMINAL))
def test_kb_crop_takes_the_bottom_middle_and_the_camera_follows(date: str) -> None:
    height, width, focal, cx, cy = NOMINAL[date]
    rows, columns = np.mgrid[:height, :width]
    depth = (1 + rows * 2000 + columns).astype(np.float32)
    image = np.stack([rows % 256, columns % 256, rows // 256], axis=2).astype(np.uint8)
    camera = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]], np.float32)
    made = kb_cropped(RawSample(image, depth, depth > 0, camera, "a")).checked()
    top, left = height - 352, (width - 1216) // 2
    assert made.depth.shape == (352, 1216)
    assert made.depth[0, 0] == depth[top, left]
    assert made.depth[-1, -1] == depth[-1, left + 1215]
    assert np.array_equal(made.image, image[top:, left : left + 1216])
    # the same pixel looks along the same ray as before
    for row, column in ((0, 0), (351, 1215)):
        before = np.linalg.inv(camera) @ (column + left, row + top, 1)
        after = np.linalg.inv(made.intrinsics) @ (column, row, 1)
        np.testing.assert_allclose(before, after, atol=1e-5)
    assert camera[1, 2] == np.float32(cy)


def test_the_crop_scores_the_pixels_that_it_scores_on_the_whole_frame() -> None:
    import torch

    height, width = NOMINAL["2011_09_26"][:2]
    depth = torch.rand(1, 1, height, width) * 70 + 2
    whole = get_protocol("kitti_eigen_garg_80_kb").mask(depth, depth > 0)
    cropped = depth[..., height - 352 :, 13 : 13 + 1216]
    mask = get_protocol("kitti_eigen_garg_80_kb").mask(cropped, cropped > 0)
    assert torch.equal(depth[whole], cropped[mask])


def test_small_frames_cannot_be_cropped(made: Path) -> None:
    with pytest.raises(DataFormatError, match=r"\(24, 80\) is smaller than .*data.kb_crop to false"):
        module(made, kb_crop=True).dataset("train").read(0)
