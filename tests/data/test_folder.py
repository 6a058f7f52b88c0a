from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mde.data.base import DepthDataModule
from mde.data.encodings import ENCODINGS
from mde.data.folder import CameraModel, RGBDFolderDataModule, RGBDFolderDataset
from mde.data.io import DepthEncoding
from mde.data.io import write_depth as write_encoded
from mde.data.pairing import Frame, find_frames, read_list, split_blocks
from mde.data.transforms import EvalTransform
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from tests.data.contract import DataModuleContract, check_batch
from tests.fakes import fake_frame, write_depth, write_image, write_rgbd_folder

REAL = Path(__file__).parents[2] / "../shared/data/seven_scenes_mini"
SIZE = (24, 32)


def module(root: Path, **settings: Any) -> RGBDFolderDataModule:
    defaults: dict[str, Any] = {"depth_scale": 0.001, "image_size": SIZE, "batch_size": 2, "num_workers": 0, "guard": 1}
    return RGBDFolderDataModule(str(root), **{**defaults, **settings})


class TestFoldersContract(DataModuleContract):
    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        return module(write_rgbd_folder(folder, {"train": 6, "val": 3, "test": 2}), horizontal_fov=60.0, **settings)


class TestListsContract(DataModuleContract):
    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        root = write_rgbd_folder(folder, {"train": 6, "val": 3}, lists=True, focal=40.0, depth_suffix=".npz")
        return module(root, **{**settings, "depth_scale": 1.0})


class TestBlocksContract(DataModuleContract):
    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        return module(write_rgbd_folder(folder, {"": 20}), val_fraction=0.2, test_fraction=0.1, **settings)


LAYOUTS = [
    ("rgb/a/{}.jpg", "depth/a/{}.png"),
    ("a/image/{}.png", "a/depth/{}.npy"),
    ("a/Color/{}.jpg", "a/DEPTH/{}.tiff"),
    ("a/{}.color.jpg", "a/{}.depth.png"),
    ("a/{}_colors.png", "a/{}_depth.png"),
    ("a/rgb_{}.jpg", "a/depth_{}.png"),
    ("rgb/a/{}_rgb.jpg", "depth/a/{}_depth.pfm"),
]


@pytest.mark.parametrize(("image_name", "depth_name"), LAYOUTS)
def test_layouts_name_the_same_frames(tmp_path: Path, image_name: str, depth_name: str) -> None:
    for number in (2, 10, 1):
        image, depth = fake_frame(number)
        write_image(tmp_path / image_name.format(number), image)
        write_depth(tmp_path / depth_name.format(number), depth)
    (tmp_path / "poses.txt").write_text("not a frame")
    frames = find_frames(tmp_path)
    assert [frame.id for frame in frames] == ["a/1", "a/2", "a/10"]
    assert [Path(frame.depth) for frame in frames] == [tmp_path / depth_name.format(n) for n in (1, 2, 10)]


def test_files_without_a_partner_are_listed(tmp_path: Path) -> None:
    write_rgbd_folder(tmp_path, {"train": 20})
    for number in range(13):
        (tmp_path / f"train/depth/{number}.png").unlink()
    with pytest.raises(DataFormatError, match=r"13 files without a partner: .*0\.jpg.*9\.jpg and 3 more"):
        find_frames(tmp_path)
    with pytest.raises(DataFormatError, match=r"rgb/NAME\.jpg"):
        find_frames(tmp_path / "train/rgb")
    write_image(tmp_path / "train/rgb/0.png", fake_frame(0)[0])
    with pytest.raises(DataFormatError, match="two files for the image of train/0"):
        find_frames(tmp_path)


def test_list_files(tmp_path: Path) -> None:
    write_rgbd_folder(tmp_path, {"train": 3}, lists=True, focal=51.5)
    frames = read_list(tmp_path / "train.txt")  # with a comment, an empty line and leading slashes
    assert [frame.id for frame in frames] == ["train/rgb/0", "train/rgb/1", "train/rgb/2"]
    assert {frame.focal_px for frame in frames} == {51.5}
    listed = tmp_path / "train.txt"
    listed.write_text("# nothing\n\n")
    with pytest.raises(DataFormatError, match="names no frames"):
        read_list(listed)
    listed.write_text("train/rgb/0.jpg train/depth/0.png\nonly-one-word\n")
    with pytest.raises(DataFormatError, match=r"only-one-word.*train\.txt:2"):
        read_list(listed)
    listed.write_text("train/rgb/0.jpg train/depth/0.png far\n")
    with pytest.raises(DataFormatError, match="focal"):
        read_list(listed)
    listed.write_text("".join(f"gone/{n}.jpg train/depth/0.png\n" for n in range(12)))
    with pytest.raises(DataFormatError, match=r"12 files are missing: .*gone/0\.jpg.* and 2 more"):
        read_list(listed)
    with pytest.raises(DatasetNotFoundError, match="no such list"):
        read_list(tmp_path / "val.txt")


@given(
    count=st.integers(0, 300),
    val=st.floats(0, 0.45),
    test=st.floats(0, 0.45),
    guard=st.integers(0, 20),
)
def test_blocks_are_contiguous_and_guarded(count: int, val: float, test: float, guard: int) -> None:
    parts = split_blocks([Frame(str(i), "", "") for i in range(count)], val, test, guard)
    spans = {name: [int(frame.id) for frame in part] for name, part in parts.items()}
    assert all(numbers == list(range(numbers[0], numbers[-1] + 1)) for numbers in spans.values() if numbers)
    order = [numbers for numbers in spans.values() if numbers]
    assert all(after[0] - before[-1] == guard + 1 for before, after in pairwise(order))
    assert not order or order[-1][-1] == count - 1
    assert len(spans["test"]) == round(test * count)
    assert sum(map(len, spans.values())) <= count


def test_splits_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("mde.data.folder.rank_zero_info", said.append)
    root = write_rgbd_folder(tmp_path / "folders", {"train": 4, "val": 2})
    data = module(root)
    assert [len(data.dataset(s)) for s in ("train", "val", "test")] == [4, 2, 2]
    assert data.dataset("test").read(0).id == "val/0"
    assert len(said) == 1
    assert "has no test part" in said[0]
    blocks = module(root, split="blocks", val_fraction=0.2, test_fraction=0.2)
    assert [len(blocks.dataset(s)) for s in ("train", "val", "test")] == [2, 1, 1]
    with pytest.raises(ConfigError, match="unknown split"):
        module(root, split="random")
    shutil.rmtree(root / "val")
    with pytest.raises(DataFormatError, match=r"no frames in val.*set data\.split"):
        module(root).setup("fit")
    with pytest.raises(DatasetNotFoundError, match="no such folder"):
        module(tmp_path / "nowhere").setup("fit")


def test_a_frame_in_two_splits_is_refused(tmp_path: Path) -> None:
    write_rgbd_folder(tmp_path, {"train": 3, "val": 2}, lists=True)
    with (tmp_path / "val.txt").open("a") as file:
        file.write("train/rgb/1.jpg train/depth/1.png\n")
    with pytest.raises(DataFormatError, match="1 frames are in train and in val: train/rgb/1"):
        module(tmp_path).setup("fit")


def test_depth_scale_is_proposed_with_a_reason(tmp_path: Path) -> None:
    write_rgbd_folder(tmp_path, {"train": 4, "val": 2})
    data = module(tmp_path, depth_scale="auto")
    with pytest.warns(UserWarning, match=r"taking 0\.001 m per unit: in the range of millimetres"):
        data.setup("fit")
    raw = data.dataset("train").read(0)
    assert np.abs(raw.depth - fake_frame(5000)[1]).max() < 0.001


def test_wrong_scale_is_refused_with_a_better_one(tmp_path: Path) -> None:
    write_rgbd_folder(tmp_path, {"train": 4, "val": 2})
    with pytest.raises(ConfigError, match=r"median depth is .*e\+03 m, not 0\.1 to 10.*from the numbers: 0\.001"):
        module(tmp_path, depth_scale=1.0).setup("fit")
    module(tmp_path, depth_scale=1.0, depth_range=(100.0, 10_000.0)).setup("fit")  # someone who means it
    with pytest.raises(ConfigError, match="cannot be guessed"):
        module(tmp_path, depth_scale="auto", depth_kind="disparity")


def test_cameras() -> None:
    assert np.isnan(CameraModel().matrix(4, 6)[0, 0])
    assert np.allclose(CameraModel(horizontal_fov=90.0).matrix(4, 6), [[3, 0, 2.5], [0, 3, 1.5], [0, 0, 1]])
    assert np.allclose(CameraModel().matrix(4, 6, 7.0), [[7, 0, 2.5], [0, 7, 1.5], [0, 0, 1]])
    assert np.allclose(CameraModel((5, 6, 1, 2)).matrix(4, 6, 7.0), [[5, 0, 1], [0, 6, 2], [0, 0, 1]])
    for wrong in (((1, 2, 3), None), ((0, 1, 2, 3), None), (None, 200.0), ((5, 6, 1, 2), 90.0)):
        with pytest.raises(ConfigError):
            CameraModel(*wrong)


def test_ray_depth_and_invalid_markers(tmp_path: Path) -> None:
    write_rgbd_folder(tmp_path, {"train": 2, "val": 1}, depth_suffix=".npy")
    settings: dict[str, Any] = {"depth_scale": 1.0, "horizontal_fov": 90.0, "depth_invalid": [3.0]}
    flat = np.full(SIZE, 4.0, np.float32)
    flat[:, :5] = 3.0
    np.save(tmp_path / "train/depth/0.npy", flat)
    z = module(tmp_path, **settings).dataset("train").read(0)
    ray = module(tmp_path, depth_kind="ray", **settings).dataset("train").read(0)
    assert not z.valid[:, :5].any()
    assert z.valid[:, 5:].all()
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    factor = np.sqrt(((u - 15.5) / 16) ** 2 + ((v - 11.5) / 16) ** 2 + 1)
    assert np.allclose(ray.depth * factor, z.depth, atol=1e-5)


def test_bad_frames(tmp_path: Path) -> None:
    write_rgbd_folder(tmp_path, {"train": 6, "val": 1}, depth_suffix=".npy")
    depth = tmp_path / "train/depth"
    np.save(depth / "0.npy", np.ones((10, 10), np.float32))
    np.save(depth / "1.npy", np.zeros(SIZE, np.float32))
    np.save(depth / "2.npy", np.full(SIZE, np.nan, np.float64))
    image = tmp_path / "train/rgb/3.jpg"
    image.write_bytes(image.read_bytes()[:200])
    np.save(depth / "4.npy", np.zeros(SIZE, complex))
    train = RGBDFolderDataset(find_frames(tmp_path), DepthEncoding(), EvalTransform(SIZE))
    with pytest.raises(DataFormatError, match=r"depth is 10x10, image is 32x24 \[train/0\].*register"):
        train[0]
    for empty in (1, 2):  # allowed: a frame without any measurement
        assert not train[empty]["valid"].any()
        assert (train[empty]["depth"] == 0).all()
    with pytest.raises(DataFormatError, match=r"truncated.*3\.jpg"):
        train[3]
    with pytest.raises(DataFormatError, match="not complex128"):
        train[4]


def test_native_truth_of_unequal_sizes_is_named(tmp_path: Path) -> None:
    write_rgbd_folder(tmp_path, {"train": 2, "val": 1})
    for name, size in (("val/{}/7", (24, 32)), ("val/{}/8", (20, 32))):
        image, depth = fake_frame(0, size)
        write_image(tmp_path / f"{name.format('rgb')}.jpg", image)
        write_depth(tmp_path / f"{name.format('depth')}.png", depth)
    with pytest.raises(DataFormatError, match=r"different sizes.*eval_batch_size to 1"):
        list(module(tmp_path, batch_size=3).val_dataloader())
    sizes = {tuple(b["depth"].shape) for b in module(tmp_path, eval_batch_size=1).val_dataloader()}
    assert sizes == {(1, 1, 24, 32), (1, 1, 20, 32)}


def test_settings_of_the_base_are_checked(tmp_path: Path) -> None:
    for wrong in ({"batch_size": 0}, {"depth_range": (5.0, 1.0)}, {"depth_scale": -1.0}, {"protocol": "kinnect"}):
        with pytest.raises(ConfigError):
            module(tmp_path, **wrong)


# ------------------------------------------------------------------------------------------------------------ encodings


def encoded_folder(root: Path, name: str) -> Path:
    """Five frames in a named encoding."""
    suffix = ".pgm" if name == "nyu_raw_kinect" else ".png"
    for split, number in (("train", 0), ("train", 1), ("train", 2), ("val", 3), ("val", 4)):
        image, depth = fake_frame(number, (36, 48))
        write_image(root / split / "rgb" / f"{number}.png", image)
        write_encoded(root / split / "depth" / f"{number}{suffix}", depth, name)
    return root


@pytest.mark.parametrize("name", ["carla", "virtual_kitti", "tartanair_v2", "sun_rgbd", "synthia", "nyu_raw_kinect"])
def test_encodings_by_name(tmp_path: Path, name: str) -> None:
    data = module(encoded_folder(tmp_path, name), depth_scale="auto", encoding=name)
    truth = fake_frame(0, (36, 48))[1]
    raw = data.dataset("train").read(0)
    assert np.array_equal(raw.valid, truth > 0)
    assert np.abs(raw.depth - truth).max() < 0.05
    assert data.facts() == {"layout": "folder/rgbd", "split": "folders", "encoding": str(ENCODINGS[name])}


@pytest.mark.parametrize("name", ["carla", "tartanair_v2", "sun_rgbd", "synthia", "nyu_raw_kinect"])
def test_packed_files_are_recognised(tmp_path: Path, name: str) -> None:
    """Left to itself the folder takes the right encoding; a scale alone is refused or warned about."""
    root = encoded_folder(tmp_path, name)
    with pytest.warns(UserWarning, match=f"taking {name} .*looks like"):
        raw = module(root, depth_scale="auto").dataset("train").read(0)
    assert np.abs(raw.depth - fake_frame(0, (36, 48))[1]).max() < 0.05
    if name in ("carla", "tartanair_v2"):
        with pytest.raises(DataFormatError, match=f"set encoding: {name}"):
            module(root, depth_scale=0.001).setup("fit")
    elif name != "synthia":
        scale = 0.0001  # leaves some of the wrong numbers in range
        with pytest.warns(UserWarning, match=rf"set data\.encoding: {name}"):
            module(root, depth_scale=scale, depth_range=(0.01, 100.0)).setup("fit")


def test_names_and_numbers_exclude_each_other(tmp_path: Path) -> None:
    for numbers in ({"depth_scale": 0.01}, {"depth_kind": "ray"}, {"depth_invalid": [1.0]}):
        with pytest.raises(ConfigError, match=r"encoding=carla and .* are both given"):
            module(tmp_path, **{"depth_scale": "auto", "encoding": "carla", **numbers})
    with pytest.raises(ConfigError, match="nearest: carla"):
        module(tmp_path, depth_scale="auto", encoding="calra")
    with pytest.raises(ConfigError, match="scale of its own"):
        module(tmp_path, depth_scale="auto", encoding="unrealstereo4k")
    root = encoded_folder(tmp_path / "mm", "millimetres")
    with pytest.raises(ConfigError, match=r"encoding=metres the median depth is .*from the numbers: 0\.001"):
        module(root, depth_scale="auto", encoding="metres").setup("fit")


def test_facts_say_what_was_found(tmp_path: Path) -> None:
    root = write_rgbd_folder(tmp_path, {"train": 2, "val": 1}, lists=True)
    assert module(root).facts() == {"layout": "folder/rgbd", "split": "lists", "encoding": "z, 0.001 m per unit"}
    with pytest.warns(UserWarning, match="taking 0.001"):
        facts = module(root, depth_scale="auto", split="folders").facts()
    assert facts == {"layout": "folder/rgbd", "split": "folders", "encoding": "millimetres (z, 0.001 m per unit)"}


def test_real_kinect_frames() -> None:
    if not REAL.is_dir():
        pytest.skip("the real frames are not on this machine")
    manifest = json.loads((REAL / "manifest.json").read_text())
    k = manifest["intrinsics_320x240"]
    data = module(REAL, intrinsics=[k["fx"], k["fy"], k["cx"], k["cy"]], image_size=(120, 160))
    assert {s: len(data.dataset(s)) for s in ("train", "val", "test")} == {"train": 251, "val": 50, "test": 50}
    batch = next(iter(data.val_dataloader()))
    check_batch(batch, (120, 160), native=(240, 320))
    half = [[k["fx"] / 2, 0, (k["cx"] + 0.5) / 2 - 0.5], [0, k["fy"] / 2, (k["cy"] + 0.5) / 2 - 0.5], [0, 0, 1]]
    assert torch.allclose(batch["intrinsics"][0], torch.tensor(half), atol=1e-4)
    known = np.concatenate([(raw := data.dataset("val").read(i)).depth[raw.valid] for i in range(0, 50, 5)])
    assert known.min() >= 0.8
    assert known.max() <= manifest["max_depth_m"]
    assert np.median(known) == pytest.approx(manifest["stats"]["val"]["depth_m_percentiles_0_5_50_95_100"][2], abs=0.4)
    assert data.train_median_depth(images=60) == pytest.approx(1.848, abs=0.05)
