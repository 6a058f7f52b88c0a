"""The images of KITTI's depth benchmark, and predictions in the form of its server."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mde.callbacks import PredictionWriter
from mde.data.kitti import KITTISelectionDataModule, export_submission
from mde.data.kitti.calibration import NOMINAL
from mde.data.layouts import get_layout, recognise
from mde.data.writers import mark, smooth
from mde.data.writers.kitti import _selection_camera, write_selection
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.types import Ambiguity, Prediction
from tests.data.contract import check_batch

SIZE = (24, 80)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_selection(tmp_path / "kitti", 9, smooth, SIZE)
    mark(tmp_path / "kitti", "kitti/depth_selection", {})
    return tmp_path / "kitti"


def module(root: Path, part: str = "val") -> KITTISelectionDataModule:
    made = get_layout("kitti/depth_selection").make(root, part=part, image_size=SIZE, batch_size=2)
    assert isinstance(made, KITTISelectionDataModule)
    return made


def test_reads_what_was_written(tmp_path: Path) -> None:
    written = write_selection(tmp_path / "kitti", 9, smooth, SIZE)
    mark(tmp_path / "kitti", "kitti/depth_selection", {})
    assert recognise(tmp_path / "kitti").name == "kitti/depth_selection"
    data = module(tmp_path / "kitti")
    dataset = data.dataset("val")
    ids = [dataset.frame_id(i) for i in range(len(dataset))]
    assert ids == sorted(written)
    assert len(ids) == 9
    for index, name in enumerate(ids):
        raw = dataset.read(index).checked()
        truth = smooth(written[name], *SIZE)
        assert (raw.id, all(path.is_file() for path in dataset.files(index))) == (name, True)
        assert np.array_equal(raw.image, truth.image)
        assert raw.valid.any()
        assert np.abs(raw.depth - truth.depth)[raw.valid].max() <= 0.51 / 256
        assert raw.intrinsics[0, 0] == pytest.approx(NOMINAL["2011_09_26"][2] * 80 / 1242, rel=1e-5)
    assert data.facts() == {
        "layout": "kitti/depth_selection",
        "split": "val_selection_cropped",
        "ground_truth": "official",
    }


def test_batches(root: Path) -> None:
    data = module(root)
    data.setup("validate")
    data.setup("test")
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        check_batch(next(iter(loader)), SIZE)


def test_anonymous_images_are_predicted_and_not_scored(root: Path) -> None:
    data = module(root, "test")
    data.setup("predict")
    batch = next(iter(data.predict_dataloader()))
    check_batch(batch, SIZE)
    assert batch["id"] == ["0000000000"]
    assert not batch["valid"].any()
    with pytest.raises(DataFormatError, match=r"no ground truth.*mde predict, then .*export_submission"):
        data.setup("test")
    data.setup("validate")
    assert len(data.dataset("val")) == 9
    with pytest.raises(DatasetNotFoundError, match=r"no training part.*KITTIDataModule"):
        data.setup("fit")


def test_folders_in_which_it_is_found(root: Path, tmp_path: Path) -> None:
    above = tmp_path / "above"
    root.rename(above)
    (above / "depth_selection").mkdir()
    for name in ("val_selection_cropped", "test_depth_prediction_anonymous"):
        (above / name).rename(above / "depth_selection" / name)
    for place in (above, above / "depth_selection"):
        assert recognise(place).name == "kitti/depth_selection"
        assert len(module(place).dataset("val")) == 9
        assert len(module(place, "test").dataset("test")) == 1
    assert len(module(above / "depth_selection/val_selection_cropped").dataset("val")) == 9
    with pytest.raises(DatasetNotFoundError, match=r"no folder val_selection_cropped.*data_depth_selection\.zip"):
        module(tmp_path).dataset("val")
    with pytest.raises(ConfigError, match="unknown part"):
        module(above, "train")


def test_missing_and_broken_files(root: Path) -> None:
    folder = root / "val_selection_cropped"
    names = sorted(path.stem for path in (folder / "intrinsics").iterdir())
    (folder / "intrinsics" / f"{names[0]}.txt").write_text("721.5 0 609")
    (folder / "intrinsics" / f"{names[1]}.txt").unlink()
    dataset = module(root).dataset("val")
    with pytest.raises(DataFormatError, match="nine numbers"):
        dataset.read(0)
    assert np.isnan(dataset.read(1).intrinsics[0, 0])
    for path in sorted((folder / "groundtruth_depth").iterdir())[:4]:
        path.unlink()
    with pytest.raises(DatasetNotFoundError, match="4 of 9 depth maps are missing: 2011_09_26_drive_0002_sync_ground"):
        module(root).dataset("val")
    shutil.rmtree(folder / "groundtruth_depth")
    with pytest.raises(DatasetNotFoundError, match="9 of 9"):
        module(root).dataset("val")


def test_a_part_of_the_real_set_is_told(root: Path) -> None:
    (root / "made-by-mde.json").unlink()
    data = module(root)
    with pytest.warns(UserWarning, match="9 images, the benchmark has 1000"):
        data.dataset("val")
    assert data.facts()["left_out"] == {"val_selection_cropped": 991}


def test_the_camera_of_the_crop() -> None:
    height, width, focal, cx, cy = NOMINAL["2011_09_26"]
    camera = _selection_camera(352, 1216, cropped=True)
    expected = [[focal, 0, cx - (width - 1216) // 2], [0, focal, cy - (height - 352)], [0, 0, 1]]
    np.testing.assert_allclose(camera, expected, rtol=1e-6)


# ----------------------------------------------------------------------------------------------------------- submission


def predicted(root: Path, folder: Path, ambiguity: Ambiguity) -> Path:
    """What ``mde predict`` leaves behind for the anonymous images."""
    data = module(root, "test")
    data.setup("predict")
    for batch in data.predict_dataloader():
        values = torch.linspace(1.0, 79.0, 24 * 80).reshape(1, 1, 24, 80).expand(len(batch["id"]), -1, -1, -1)
        writer = PredictionWriter(folder)
        writer.write_on_batch_end(None, None, Prediction(values, ambiguity), None, batch, 0, 0)  # type: ignore[arg-type]
    return folder / "predictions"


@pytest.mark.filterwarnings("ignore:.*the benchmark takes 500")
def test_predictions_become_files_of_the_benchmark(root: Path, tmp_path: Path) -> None:
    files = export_submission(predicted(root, tmp_path, Ambiguity.METRIC), tmp_path / "out")
    assert [path.name for path in files] == ["0000000000.png"]
    raw = cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED)
    assert (raw.dtype, raw.shape) == (np.uint16, SIZE)
    np.testing.assert_array_equal(raw.ravel(), np.round(np.linspace(1, 79, 24 * 80, dtype=np.float32) * 256))
    with pytest.raises(ConfigError, match="not empty"):
        export_submission({}, tmp_path / "out")


def test_no_pixel_says_no_prediction(tmp_path: Path) -> None:
    maps = {f"{i:010d}": np.full((2, 3), metres, np.float32) for i, metres in enumerate((0.0, 0.001, 300.0))}
    with pytest.warns(UserWarning, match="3 predictions, the benchmark takes 500"):
        files = export_submission(maps, tmp_path / "out")
    assert [int(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).max()) for path in files] == [1, 1, 65535]


def test_what_cannot_be_submitted(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match="relative disparity"):
        export_submission(predicted(root, tmp_path, Ambiguity.AFFINE_DISPARITY), tmp_path / "out")
    with pytest.raises(ConfigError, match="not an image of the benchmark"):
        export_submission({"2011_09_26/0": np.ones((2, 3), np.float32)}, tmp_path / "out")
    with pytest.raises(DataFormatError, match="finite metres"):
        export_submission({"0": np.full((2, 3), np.nan, np.float32)}, tmp_path / "out")
    with pytest.raises(DatasetNotFoundError, match="no predictions"):
        export_submission(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/0.npz").write_bytes(b"PK")
    with pytest.raises(DataFormatError, match="no prediction of mde"):
        export_submission(tmp_path / "bad", tmp_path / "out")
