"""Every layout of NYU under the contract, and what an item costs."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mde.data.base import DepthDataModule
from mde.data.layouts import get_layout, recognise
from mde.data.nyu import NYUDepthV2DataModule, nyu_camera
from mde.data.nyu.camera import NYU_SIZE
from mde.data.writers import SourceFrame, mark, smooth
from mde.errors import ConfigError
from tests.data.layout_contract import LayoutContract

pytestmark = pytest.mark.filterwarnings("ignore:.*frames instead of.*")
NAMES = ("nyu/labeled", "nyu/densedepth", "nyu/bts", "nyu/h5", "nyu/parquet", "nyu/eigen_npy")


class TestLabeled(LayoutContract):
    layout = "nyu/labeled"
    settings = {"depth": "raw"}


class TestDenseDepth(LayoutContract):
    layout = "nyu/densedepth"
    step = 10 / 255


class TestDenseDepthZip(LayoutContract):
    """The same inside an archive, where nothing is unpacked."""

    layout = "nyu/densedepth"
    step = 10 / 255

    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        root = folder / "data"
        if not root.exists():
            super().make(folder)
            (root / "data" / "nyu2_train" / ".DS_Store").write_bytes(b"")
            shutil.make_archive(str(folder / "archive"), "zip", root)
            shutil.rmtree(root)
            root.mkdir()
            shutil.move(folder / "archive.zip", root / "archive.zip")
        return super().make(folder, **settings)


class TestBts(LayoutContract):
    layout = "nyu/bts"
    step = 0.001


class TestH5(LayoutContract):
    layout = "nyu/h5"


class TestParquet(LayoutContract):
    layout = "nyu/parquet"


class TestEigenArrays(LayoutContract):
    """Test frames only: training frames come from another copy."""

    layout = "nyu/eigen_npy"
    step = 10 / 255
    settings: dict[str, Any] = {}

    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        root, other = folder / "data", folder / "other"
        if not root.exists():
            root.mkdir()
            test = get_layout(self.layout).load_writer()(root, 3, source, self.size)
            train = get_layout("nyu/densedepth").load_writer()(other, self.count, source, self.size)
            self.written = test | {name: index for name, index in train.items() if "test" not in name}
        return NYUDepthV2DataModule(str(other), test_root=str(root), image_size=self.image_size, **settings)

    @staticmethod
    def source(index: int, height: int, width: int, intrinsics: Any = None) -> SourceFrame:
        return source(index, height, width, intrinsics)

    def test_it_has_no_training_frames(self, data: DepthDataModule, tmp_path: Path) -> None:
        alone = NYUDepthV2DataModule(str(tmp_path / "data"), image_size=(24, 32))
        assert alone.protocol.name == "nyu_densedepth"
        assert len(alone.dataset("test")) == 3
        for split in ("train", "val"):
            with pytest.raises(ConfigError, match=r"test frames only.*data\.test_root"):
                alone.dataset(split)
        assert len(NYUDepthV2DataModule(str(tmp_path / "data"), val_on_test=True).dataset("val")) == 3
        assert data.facts()["tested_on"]["layout"] == "nyu/eigen_npy"
        assert data.facts()["layout"] == "nyu/densedepth"


def source(index: int, height: int, width: int, intrinsics: Any = None) -> SourceFrame:
    """`smooth` without its hole: the arrays are in-painted."""
    frame = smooth(index, height, width, intrinsics)
    depth = frame.depth.copy()
    depth[depth == 0] = 2.0
    return SourceFrame(frame.image, depth, frame.intrinsics)


def noise(index: int, height: int, width: int, intrinsics: Any = None) -> SourceFrame:
    """Frames that no format can compress."""
    rng = np.random.default_rng(index)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    depth = rng.uniform(0.5, 9, (height, width)).astype(np.float32)
    return SourceFrame(image, depth, nyu_camera(height, width))


def read_so_far() -> int:
    """Bytes that this process has read through system calls."""
    path = Path("/proc/self/io")
    if not path.is_file():
        pytest.skip("only Linux counts what a process reads")
    return int(path.read_text().split()[1])


@pytest.mark.parametrize("form", [*NAMES, "zip", "tar"])
def test_an_item_never_reads_the_whole_archive(form: str, tmp_path: Path) -> None:
    name = {"zip": "nyu/densedepth", "tar": "nyu/h5"}.get(form, form)
    count, height, width = 24, 96, 128
    get_layout(name).load_writer()(tmp_path, count, noise, (height, width))
    mark(tmp_path, name, {})
    root = tmp_path
    if form == "zip":
        root = Path(shutil.make_archive(str(tmp_path / "nyu_data"), "zip", tmp_path, "data"))
    if form == "tar":
        root = tmp_path / "shards"
        root.mkdir()
        for part in ("train", "val"):
            shutil.make_archive(str(tmp_path / part), "tar", tmp_path, part)
            shutil.move(tmp_path / f"{part}.tar", root / f"{part}-000000.tar")
    assert recognise(root).name == name
    dataset = NYUDepthV2DataModule(str(root), image_size=(24, 32)).dataset("test" if "eigen" in name else "train")
    dataset.read(0)  # opens what is opened once
    before = read_so_far()
    raw = dataset.read(len(dataset) - 1)
    cost = read_so_far() - before
    one = height * width * (3 + 4)
    total = count * one
    assert raw.image.shape == (height, width, 3)
    assert cost < 0.25 * total  # a row group of two frames, an HDF5 chunk, a file's header
    if form == "nyu/eigen_npy":
        assert isinstance(dataset._opened()[1], np.memmap)  # type: ignore[attr-defined]
        assert dataset.__getstate__()["_maps"] is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_the_camera_is_that_of_nyu(name: str, tmp_path: Path) -> None:
    seen = []

    def asked(index: int, height: int, width: int, intrinsics: Any = None) -> SourceFrame:
        seen.append(intrinsics)
        return smooth(index, height, width, intrinsics)

    get_layout(name).load_writer()(tmp_path, 2, asked, (48, 64))
    raw = NYUDepthV2DataModule(str(tmp_path), image_size=(24, 32)).dataset("test").read(0)
    expected = np.array([[51.885790, 0, (325.582449 + 0.5) / 10 - 0.5], [0, 51.946961, 24.923617], [0, 0, 1]])
    if name == "nyu/bts":
        expected[1, 1] = expected[0, 0]  # one focal length for both axes
    assert np.allclose(raw.intrinsics, expected, atol=1e-4)
    assert all(np.allclose(camera, raw.intrinsics) for camera in seen)
    assert np.allclose(nyu_camera(*NYU_SIZE)[1, 2], 253.736166)


def test_zip_is_opened_once_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get_layout("nyu/densedepth").load_writer()(tmp_path, 4, smooth, (24, 32))
    archive = Path(shutil.make_archive(str(tmp_path / "nyu_data"), "zip", tmp_path, "data"))
    dataset = NYUDepthV2DataModule(str(archive), image_size=(24, 32)).dataset("train")
    opened = []
    true = zipfile.ZipFile.__init__
    monkeypatch.setattr(zipfile.ZipFile, "__init__", lambda self, *a, **k: (opened.append(a), true(self, *a, **k))[1])
    for index in range(3):
        dataset.read(index)
    assert opened == []
    assert dataset.files(0) == (archive,)
    pid, handle = dataset.store._handle  # type: ignore[attr-defined]
    dataset.store._handle = (pid + 1, handle)  # type: ignore[attr-defined]  # as a forked worker finds it
    dataset.read(0)
    assert len(opened) == 1
