from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from mde.data.base import DepthDataModule
from mde.data.nyu import NYU_FRAMES, NYUDepthV2DataModule, NYUDepthV2Dataset, official_test_rows, split_rows
from mde.data.transforms import EvalTransform
from mde.data.writers import mark, smooth
from mde.data.writers.nyu import write_labeled
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from tests.data.contract import DataModuleContract
from tests.fakes import fake_frame, write_nyu_labeled

FACTS = Path(__file__).parents[2] / "../shared/facts/nyu_labeled_split.json"
SCENES = [f"kitchen_{row // 6:04d}{'ab'[row // 3 % 2]}" for row in range(NYU_FRAMES)]


@pytest.fixture(scope="module")
def mat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nyu_labeled(tmp_path_factory.mktemp("nyu"))


class TestContract(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _file(self, mat: Path) -> None:
        self.mat = mat

    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        settings["batch_size"] = 64
        return NYUDepthV2DataModule(str(self.mat), image_size=(12, 16), **settings)


def test_frame_is_turned_from_matlab_order(mat: Path) -> None:
    for depth in ("raw", "filled"):
        dataset = NYUDepthV2Dataset(mat, [7, 1448], depth, EvalTransform((12, 16)))
        raw = dataset.read(1)
        image, truth = fake_frame(1448, (12, 16))
        assert np.array_equal(raw.image, image)
        assert np.array_equal(raw.depth[truth > 0], truth[truth > 0])
        assert raw.valid.all() == (depth == "filled")
        assert raw.id == "nyu_01448"
        assert raw.intrinsics[0, 0] == pytest.approx(518.8579 * 16 / 640)


def test_handle_is_not_carried_to_another_process(mat: Path) -> None:
    dataset = NYUDepthV2Dataset(mat, [0], "raw", EvalTransform((12, 16)))
    dataset.read(0)
    handle = dataset._handle
    assert handle is not None
    assert pickle.loads(pickle.dumps(dataset))._handle is None
    dataset._handle = (handle[0] + 1, handle[1])  # as a forked worker finds it
    dataset.read(0)
    assert dataset._handle[1] is not handle[1]


def test_official_split() -> None:
    parts = {split: split_rows(split, "official", SCENES) for split in ("train", "val", "test")}
    assert len(parts["test"]) == 654
    assert len(parts["train"]) + len(parts["val"]) == 795
    assert sorted(row for part in parts.values() for row in part) == list(range(NYU_FRAMES))
    assert 60 <= len(parts["val"]) <= 100
    rooms = {split: {SCENES[row][:-1] for row in rows} for split, rows in parts.items()}
    assert not rooms["train"] & rooms["val"]  # a room is in one of the two, both walks through it
    assert parts["val"] == split_rows("val", "official", SCENES)
    habit = {split: split_rows(split, "official", SCENES, val_on_test=True) for split in ("train", "val")}
    assert len(habit["train"]) == 795
    assert habit["val"] == parts["test"]


def test_official_split_against_the_authors_list() -> None:
    if not FACTS.is_file():
        pytest.skip("the list of the authors' split is not on this machine")
    ranges = json.loads(FACTS.read_text())["test_ranges_1based"]
    assert official_test_rows() == [frame - 1 for first, last in ranges for frame in range(first, last + 1)]


def test_paper3_split_and_unknown_names() -> None:
    parts = [split_rows(split, "paper3", SCENES) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [1000, 224, 225]
    assert [row for part in parts for row in part] == list(range(NYU_FRAMES))
    assert len(set(official_test_rows()) & set(parts[0])) == 420  # why its numbers are not those of the benchmark
    for split, scheme in (("dev", "official"), ("train", "eigen")):
        with pytest.raises(ConfigError, match="unknown split"):
            split_rows(split, scheme, SCENES)


def test_protocol_follows_the_depth(mat: Path) -> None:
    assert NYUDepthV2DataModule(str(mat), depth="raw").protocol.ground_truth == "raw"
    assert NYUDepthV2DataModule(str(mat.parent)).protocol.name == "nyu_eigen_filled"
    assert NYUDepthV2DataModule(str(mat), protocol="nyu_densedepth").protocol.flip
    with pytest.raises(ConfigError, match="unknown depth"):
        NYUDepthV2DataModule(str(mat), depth="inpainted")  # type: ignore[arg-type]


def test_made_sets_and_splits_mat(tmp_path: Path, mat: Path) -> None:
    def module(folder: Path, **settings: Any) -> NYUDepthV2DataModule:
        return NYUDepthV2DataModule(str(folder), image_size=(12, 16), **settings)

    write_labeled(tmp_path, 16, smooth, (12, 16))
    stored = loadmat(tmp_path / "splits.mat")
    assert stored["trainNdxs"].ravel().tolist() == list(range(1, 19))  # counted from 1
    assert stored["testNdxs"].ravel().tolist() == [19, 20]
    with pytest.warns(UserWarning, match="2 test frames instead of 654"):
        dataset = module(tmp_path).dataset("test")
    assert dataset.frame_id(0) == "nyu_00018"
    mark(tmp_path, "nyu/labeled", {})
    parts = {split: len(module(tmp_path, split="paper3").dataset(split)) for split in ("train", "val", "test")}
    assert parts == {"train": 14, "val": 3, "test": 3}  # 20 frames as 1000 / 224 / 225
    own = tmp_path / "real"
    own.mkdir()
    (own / mat.name).symlink_to(mat)
    assert len(module(own).dataset("test")) == 654
    frames = np.arange(1, NYU_FRAMES + 1)
    savemat(own / "splits.mat", {"trainNdxs": frames[:795], "testNdxs": frames[795:]})
    with pytest.raises(DataFormatError, match="not the authors' test frames"):
        module(own).dataset("test")
    official = np.array(official_test_rows()) + 1
    savemat(own / "splits.mat", {"trainNdxs": np.setdiff1d(frames, official), "testNdxs": official})
    assert module(own).dataset("test").frame_id(2) == "nyu_00008"
    (own / "splits.mat").write_bytes(b"cut")
    with pytest.raises(DataFormatError, match="no splits of NYU"):
        module(own).dataset("test")


def test_one_room_cannot_be_split() -> None:
    with pytest.raises(DataFormatError, match=r"of 1 scene.*val_on_test"):
        split_rows("val", "official", ["attic_0001a", "attic_0001b", "bath_0002"], test_rows=[2])


def test_missing_broken_and_foreign_files(tmp_path: Path, mat: Path) -> None:
    help_ = r"nyu_depth_v2_labeled\.mat.*2\.8 GB.*cs\.nyu\.edu"
    with pytest.raises(DataFormatError, match=f"none of the known layouts.*{help_}"):
        NYUDepthV2DataModule(str(tmp_path)).setup("fit")
    with pytest.raises(DatasetNotFoundError, match=help_):
        NYUDepthV2DataModule(str(tmp_path / "nowhere")).setup("fit")
    cut = tmp_path / "nyu_depth_v2_labeled.mat"
    cut.write_bytes(mat.read_bytes()[:100_000])
    with pytest.raises(DataFormatError, match="truncated file"):
        NYUDepthV2DataModule(str(tmp_path)).setup("fit")
    with h5py.File(cut, "w") as file:
        file["images"] = np.zeros((10, 3, 4, 4), np.uint8)
    with pytest.raises(DataFormatError, match="10 frames instead of 1449"):
        NYUDepthV2DataModule(str(cut)).setup("test")
    cut.write_text("<html>404</html>")
    with pytest.raises(DataFormatError, match="fetch the file again"):
        NYUDepthV2DataModule(str(cut)).setup("test")
