"""KITTI's stereo pairs: image_03 beside image_02, the distance of the cameras, the depth of both."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mde.data.dataset import RawSample, RightView
from mde.data.io import read_image, write_image
from mde.data.kitti import KITTIDataModule, nominal_calibration, read_calibration
from mde.data.kitti.dataset import kb_cropped
from mde.data.kitti.frames import LEFT, RIGHT, drive_folder
from mde.data.writers import MARKER, mark, rendered
from mde.data.writers.kitti import write_raw
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from tests.data.contract import check_batch, epoch, same_items
from tests.data.test_stereo import between, explained

SIZE = (60, 200)
SAMPLES = Path(__file__).parents[2] / "../shared/data/samples/kitti/calib"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kitti")
    write_raw(root, 4, rendered("street"), SIZE)
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
    return KITTIDataModule(str(root), **{"image_size": SIZE, "stereo": True, "batch_size": 2, **settings})


def frames(data: KITTIDataModule) -> list[RawSample]:
    dataset = data.dataset("train")
    return [dataset.read(i).checked() for i in range(len(dataset))]


def pictures(root: Path, camera: int) -> list[Path]:
    return sorted(root.glob(f"20*/*/image_0{camera}/data/*.png"))


# --------------------------------------------------------------------------------------------------------- calibration


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample frames are not on this machine")
def test_the_real_cameras_stand_half_a_metre_apart() -> None:
    """Of the rectified pair, both cameras have one matrix, and fx * baseline / z is their disparity."""
    found = [read_calibration(path) for path in sorted(SAMPLES.glob("*.txt"))]
    assert len(found) == 5
    for calibration in found:
        assert calibration.baseline == pytest.approx(0.54, abs=0.01)
        left, right = (calibration.cameras[camera] for camera in (LEFT, RIGHT))
        assert np.array_equal(left[:, :3], right[:, :3])
        for x, allowed in ((0.0, 0.01), (-4.0, 0.05), (4.0, 0.05)):  # 2 mm of z, in the corner of the picture
            (u, _, z), (u_right, _, z_right) = (camera @ np.array([x, -0.4, 12.0, 1.0]) for camera in (left, right))
            disparity = u / z - u_right / z_right
            assert disparity == pytest.approx(left[0, 0] * calibration.baseline / z, abs=allowed)


def test_baseline_of_written_calibrations(made: Path) -> None:
    """Written are shifts of 0.06 and -0.47 m."""
    for day in sorted(path for path in made.iterdir() if path.is_dir() and path.name.startswith("2011")):
        assert read_calibration(day).baseline == pytest.approx(0.53, abs=1e-5)
    with pytest.raises(DataFormatError, match=r"distance of the cameras.*calib_cam_to_cam\.txt"):
        _ = nominal_calibration("2011_09_26").baseline


def test_swapped_cameras_are_noticed(made: Path) -> None:
    calibration = read_calibration(made / "2011_09_26")
    swapped = replace(calibration, cameras={LEFT: calibration.cameras[RIGHT], RIGHT: calibration.cameras[LEFT]})
    with pytest.raises(DataFormatError, match="distance of the cameras"):
        _ = swapped.baseline


# --------------------------------------------------------------------------------------------------------------- frames


def test_pairs_are_pairs_and_depth_is_that_of_each_camera(made: Path) -> None:
    """Both cameras measured points of one scene: read where the left one says, the right one has the same depth."""
    raws = frames(module(made))
    assert len(raws) == 4
    assert explained([(r.image, r.right.image, _dense(r), r.intrinsics[0, 0], 0.53) for r in raws if r.right])
    ratios = []
    for raw in raws:
        assert "image_02" in raw.id
        right = raw.right
        assert right is not None
        assert right.depth is not None
        disparity = raw.intrinsics[0, 0] * right.baseline / np.where(raw.valid, raw.depth, 1)
        columns = np.rint(np.arange(SIZE[1]) - disparity)
        rows, at = np.nonzero(raw.valid & (columns >= 0) & (columns < SIZE[1]))
        other = right.depth[rows, columns[rows, at].astype(int)]
        ratios.append(other[other > 0] / raw.depth[rows, at][other > 0])
    ratio = np.concatenate(ratios)
    assert len(ratio) > 100
    assert abs(float(np.median(ratio)) - 1) < 0.01
    assert (np.abs(ratio - 1) < 0.05).mean() > 0.8


def _dense(raw: RawSample) -> Any:
    """The exact depth of a written training frame: one of the first four scenes, rendered again through its camera."""
    truth = (rendered("street")(number, *SIZE, raw.intrinsics) for number in range(4))
    return next(frame.depth for frame in truth if np.array_equal(frame.image, raw.image))


def test_scans_are_projected_into_both_cameras(made: Path) -> None:
    raws = frames(module(made, ground_truth="velodyne", velodyne_convention="centred"))
    official = {raw.id: raw for raw in frames(module(made))}
    for raw in raws:
        right = raw.right
        assert right is not None
        assert right.depth is not None
        seen = right.depth > 0
        assert seen.mean() > 0.01
        assert not np.array_equal(seen, raw.valid)
        exact = official[raw.id].right
        assert exact is not None
        assert exact.depth is not None
        both = seen & (exact.depth > 0)
        assert both.sum() > 5
        assert np.median(np.abs(right.depth / np.where(both, exact.depth, 1) - 1)[both]) < 0.02
    dataset = module(made, ground_truth="velodyne").dataset("train")
    assert [path.parts[-3] for path in dataset.files(0)] == ["image_02", "velodyne_points", "image_03"]


def test_files_of_a_pair(made: Path) -> None:
    paths = module(made).dataset("train").files(0)
    assert [path.parent.parent.name if path.parent.name == "data" else path.parent.name for path in paths] == [
        "image_02", "image_02", "image_03", "image_03"
    ]  # fmt: skip
    assert all(path.is_file() for path in paths)


def test_batches_and_workers(made: Path) -> None:
    data = module(made, num_workers=0)
    batches = epoch(data, 1)
    for batch in batches:
        check_batch(batch, SIZE, stereo=True)
        assert batch["baseline"].tolist() == pytest.approx([0.53] * 2, abs=1e-5)
    assert all(map(same_items, batches, epoch(module(made, num_workers=2), 1)))
    check_batch(next(iter(data.val_dataloader())), SIZE, native=SIZE)
    check_batch(next(iter(data.test_dataloader())), SIZE, native=SIZE)


def test_the_benchmark_crop_cuts_both_views_alike() -> None:
    height, width = 370, 1226
    rows, columns = np.mgrid[:height, :width]
    depth = (1 + rows * 2000 + columns).astype(np.float32)
    image = np.stack([rows % 256, columns % 256, rows // 256], axis=2).astype(np.uint8)
    camera = np.array([[700, 0, 601], [0, 700, 183], [0, 0, 1]], np.float32)
    right = RightView(255 - image, 0.5, depth + 1)
    made = kb_cropped(RawSample(image, depth, depth > 0, camera, "a", right=right)).checked()
    assert made.right is not None
    assert made.right.depth is not None
    assert np.array_equal(made.right.image, 255 - made.image)
    assert np.array_equal(made.right.depth, made.depth + 1)
    assert made.right.baseline == 0.5
    bare = kb_cropped(RawSample(image, depth, depth > 0, camera, "a", right=RightView(image, 0.5))).right
    assert bare is not None
    assert bare.depth is None


# ------------------------------------------------------------------------------------------------------------- settings


def test_right_pictures_that_are_missing_are_counted(root: Path) -> None:
    whole = module(root, missing="skip")
    assert len(whole.dataset("train")) == 4
    gone = pictures(root, RIGHT)[0]
    gone.unlink()
    data = module(root, missing="skip")
    with pytest.warns(UserWarning, match=r"frames of train have no files and are left out"):
        assert len(data.dataset("train")) == 3
    assert data.facts()["left_out"]["train"] == whole.facts()["left_out"]["train"] + 1
    for path in pictures(root, RIGHT):
        path.unlink()
    with pytest.raises(DatasetNotFoundError) as caught:
        module(root, missing="skip").dataset("train")
    text = str(caught.value)
    assert "image_03/data/" in text
    assert "fetch the drives 2011_09_26/" in text
    assert len(module(root, missing="skip", stereo=False).dataset("train")) == 4


def test_depth_of_the_right_camera_may_be_missing(root: Path) -> None:
    """Then mirrored pairs have no depth, and all others theirs."""
    for folder in root.rglob("proj_depth/groundtruth/image_03"):
        shutil.rmtree(folder)
    data = module(root, missing="skip", num_workers=0)
    assert all(raw.right is not None and raw.right.depth is None for raw in frames(data))
    dataset = data.dataset("train")
    straight = dataset.samples[0].frame.id  # type: ignore[attr-defined]
    seen = {bool(dataset[number * len(dataset)]["valid"].any()) for number in range(12)}
    assert (seen, dataset[0]["id"]) == ({True, False}, straight)


def test_cameras_and_lists(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a stereo pair has both cameras, got cameras=right.*data\.cameras"):
        module(made, cameras="right")
    samples = module(made).dataset("train").samples  # type: ignore[attr-defined]
    names = [sample.frame for sample in samples]
    listed = tmp_path / "train.txt"
    lines = [f"{f.drive[:10]}/{drive_folder(f.drive)} {f.number} {side}\n" for f in names[:2] for side in "rl"]
    listed.write_text("".join(lines))  # of monodepth2, which names each camera of a pair by itself
    found = module(made, lists={"train": str(listed)}).dataset("train").samples  # type: ignore[attr-defined]
    assert [sample.frame for sample in found] == names[:2]
    assert module(made).facts()["cameras"] == "stereo"


def test_without_calibration_there_is_no_stereo(root: Path) -> None:
    for path in root.rglob("calib_cam_to_cam.txt"):
        path.unlink()
    with pytest.raises(DataFormatError, match=r"distance of the cameras.*fetch the day's calibration"):
        module(root, missing="skip").dataset("train")


def test_a_right_picture_of_another_size_is_refused(root: Path) -> None:
    path = pictures(root, RIGHT)[0]
    write_image(path, read_image(path)[:, 4:])
    dataset = module(root, missing="skip").dataset("train")
    with pytest.raises(DataFormatError, match=r"\(60, 196\) \(height, width\).*native size"):
        [dataset.read(i) for i in range(len(dataset))]


def test_monocular_frames_have_no_second_view(made: Path) -> None:
    raw = module(made, stereo=False).dataset("train").read(0)
    assert raw.right is None
    assert module(made).dataset("test").read(0).right is None
    assert between(raw.depth, np.full(SIZE, 3.0))[0, 0] == raw.depth[0, 3]
