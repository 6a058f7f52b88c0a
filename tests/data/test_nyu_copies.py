"""Wrong, incomplete and unusual copies of NYU, and which frames are for what."""

from __future__ import annotations

import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mde.data.layouts import get_layout
from mde.data.nyu import NYUDepthV2DataModule, official_test_rows
from mde.data.nyu.files import Tars, Zip
from mde.data.nyu.module import COPIES
from mde.data.nyu.splits import room_of
from mde.data.writers import mark, smooth
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError

SPLITS = ("train", "val", "test")
ignore_counts = pytest.mark.filterwarnings("ignore:.*frames instead of.*")
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a layout that passes for a real one, or, with made=True, one that says that it was made."""

    def written(name: str, count: int = 4, *, made: bool = False, folder: str = "copy") -> Path:
        root = tmp_path / folder
        root.mkdir()
        get_layout(name).load_writer()(root, count, smooth, (24, 32))
        if made:
            mark(root, name, {})
        return root

    return written


def module(root: Path, **settings: Any) -> NYUDepthV2DataModule:
    return NYUDepthV2DataModule(str(root), image_size=(24, 32), **settings)


# -------------------------------------------------------------------------------------------------------------- splits


@ignore_counts
def test_paper0_follows_the_csv_file(write: Write) -> None:
    root = write("nyu/densedepth", 30)
    lines = (root / "data" / "nyu2_train.csv").read_text().split()
    data = module(root, split="paper0")
    ids = [data.dataset(split).frame_id(i) for split in SPLITS for i in range(len(data.dataset(split)))]
    assert ids == [line.split(",")[0].removeprefix("data/").removesuffix(".jpg") for line in lines]
    assert [len(data.dataset(split)) for split in SPLITS] == [29, 3, 1]  # of 33 rows
    facts = module(root, split="paper0", chunks=[0]).facts()
    assert (facts["split"], facts["chunks"]) == ("paper0", [0])
    assert "share scenes" in facts["validation"]


@ignore_counts
@pytest.mark.parametrize("name", ["nyu/densedepth", "nyu/bts", "nyu/h5"])
def test_validation_never_shares_a_room_with_training(name: str, write: Write) -> None:
    data = module(write(name, 40))
    rooms = {}
    for split in ("train", "val"):
        dataset = data.dataset(split)
        rooms[split] = {room_of(Path(dataset.frame_id(i)).parent.name) for i in range(len(dataset))}
    assert len(data.dataset("train")) + len(data.dataset("val")) == 45
    assert 3 <= len(data.dataset("val")) <= 7
    assert rooms["val"]
    assert not rooms["train"] & rooms["val"]
    habit = module(data.train_copy.root, val_on_test=True)
    assert len(habit.dataset("train")) == 45
    assert habit.dataset("val").frame_id(0) == habit.dataset("test").frame_id(0)
    assert habit.facts()["validation"] == "the test frames"


def test_layouts_depths_and_splits_that_do_not_fit(write: Write) -> None:
    bts = write("nyu/bts", made=True)
    assert module(bts).protocol.ground_truth == "raw"
    assert module(bts).facts()["ground_truth"].startswith("raw")
    with pytest.raises(ConfigError, match=r"nyu/bts holds no filled depth, only raw.*nyu/labeled"):
        module(bts, depth="filled")
    with pytest.raises(ConfigError, match=r"no split 'paper0'.*use official"):
        module(bts, split="paper0")
    with pytest.raises(ConfigError, match="unknown layout 'nyu/btz'"):
        module(bts, layout="nyu/btz")
    for settings in ({"chunks": [0]}, {"lists": {"val": "x"}}, {"missing": "ignore"}):
        with pytest.raises(ConfigError, match=r"\[data\.(chunks|lists|missing)\]"):
            module(bts, **settings)
    with pytest.raises(ConfigError, match="trains on frames of the official one"):
        module(bts, split="paper3", test_root=str(bts))
    labeled = write("nyu/labeled", made=True, folder="labeled")
    mixed = module(bts, test_root=str(labeled), depth="filled")  # the truth that is tested on
    assert (mixed.protocol.ground_truth, mixed.train_copy.kind, mixed.test_copy.kind) == ("filled", "raw", "filled")
    assert mixed.dataset("test").frame_id(0) == "nyu_00005"
    assert mixed.dataset("train").frame_id(0) == "kitchen_0000a/rgb_00000"


def test_every_layout_has_a_reader() -> None:
    from mde.data.layouts.nyu import LAYOUTS

    assert [layout.name for layout in LAYOUTS] == list(COPIES)


# ----------------------------------------------------------------------------------------------------------- DenseDepth


def test_densedepth_is_found_wherever_the_root_points(write: Write, tmp_path: Path) -> None:
    root = write("nyu/densedepth", made=True)
    kaggle = tmp_path / "kaggle"
    shutil.copytree(root, kaggle / "nyu_data")
    mark(kaggle, "nyu/densedepth", {})
    archive = Path(shutil.make_archive(str(tmp_path / "any"), "zip", kaggle, "nyu_data"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for place in (root, root / "data", kaggle):
            data = module(place)
            assert data.layout == "nyu/densedepth"
            assert data.dataset("train").frame_id(0) == "nyu2_train/kitchen_0000a_out/1"
    with pytest.warns(UserWarning, match="frames instead of 50688"):
        assert len(module(archive).dataset("train")) == 4
    rows = official_test_rows()
    assert module(root).dataset("test").frame_id(0) == f"nyu2_test/{rows[0]:05d}"


@ignore_counts
def test_densedepth_depth_is_8_bit_for_training_and_16_bit_for_test(write: Write) -> None:
    root = write("nyu/densedepth")
    train, test = (module(root).dataset(split) for split in ("train", "test"))
    path = train.files(0)[1]
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint8
    assert (stored == 0).any()
    raw = train.read(0)
    assert np.allclose(raw.depth, stored / 255 * 10)
    assert np.array_equal(raw.valid, stored > 0)
    assert cv2.imread(str(test.files(0)[1]), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    cv2.imwrite(str(path), np.dstack([stored] * 3))  # some exports have three equal channels
    assert np.array_equal(train.read(0).depth, raw.depth)
    cv2.imwrite(str(path), stored.astype(np.uint16) * 39)
    with pytest.raises(DataFormatError, match=r"uint16.*uint8 with 0\.03922 m.*encoded anew.*depth_scale"):
        train.read(0)


@ignore_counts
def test_densedepth_broken_copies(write: Write, tmp_path: Path) -> None:
    root = write("nyu/densedepth", 12)
    archive = Path(shutil.make_archive(str(tmp_path / "nyu_data"), "zip", root, "data"))
    cut = tmp_path / "cut.zip"
    cut.write_bytes(archive.read_bytes()[:-3000])
    with pytest.raises(DataFormatError, match=r"truncated.*cut\.zip.*fetch it again"):
        module(cut).dataset("train")
    with pytest.raises(DataFormatError, match=r"truncated.*cut\.zip"):
        Zip(cut)
    dataset = module(archive).dataset("train")
    with zipfile.ZipFile(archive) as file:
        start = file.getinfo(f"data/{dataset.frame_id(0)}.jpg").header_offset
    with open(archive, "r+b") as file:
        file.seek(start + 200)
        file.write(bytes(100))
    with pytest.raises(DataFormatError, match=r"nyu_data\.zip:data/nyu2_train.*fetch the archive again"):
        dataset.read(0)
    lists = {part: root / "data" / f"nyu2_{part}.csv" for part in ("train", "test")}
    text = lists["train"].read_text()
    lists["train"].write_text(text.replace("data/nyu2_train", "elsewhere"))
    with pytest.raises(DataFormatError, match=r"26 files.*are missing.* and 16 more.*none is there: is data\.root"):
        module(root).dataset("train")
    lists["train"].write_text(text.replace(",", ";"))
    with pytest.raises(DataFormatError, match=r"nyu2_train\.csv:1.*image,depth"):
        module(root).dataset("train")
    lists["train"].unlink()
    with pytest.raises(DatasetNotFoundError, match=r"there is no nyu2_train\.csv.*nyu_data\.zip"):
        module(root).dataset("train")
    with pytest.raises(DatasetNotFoundError, match=r"no nyu2_train\.csv"):
        module(root / "data" / "nyu2_train", layout="nyu/densedepth").dataset("train")


@pytest.mark.parametrize("made", [False, True])
def test_missing_frames_are_counted_or_skipped(made: bool, write: Write) -> None:
    root = write("nyu/densedepth", 12, made=made)
    for number in (1, 2):
        (root / f"data/nyu2_train/kitchen_0000{'ab'[number - 1]}_out/{number}.png").unlink()
    if made:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = module(root)
            assert len(data.dataset("train")) + len(data.dataset("val")) == 11
        return
    told = r"2 files that the csv file.*kitchen_0000a_out/1\.png.*missing to skip"
    with (
        pytest.warns(UserWarning, match="13 train frames instead of 50688"),
        pytest.raises(DataFormatError, match=told),
    ):
        module(root).dataset("train")
    data = module(root, missing="skip")
    with pytest.warns(UserWarning, match="2 of 13 frames are left out"):
        data.setup("fit")
    assert data.facts()["frames_missing"] == {"train": 2}


# ------------------------------------------------------------------------------------------------------------------ BTS


@ignore_counts
def test_bts_lists_in_all_their_places(write: Write, tmp_path: Path) -> None:
    root = write("nyu/bts")
    names = {part: f"nyudepthv2_{part}_files_with_gt.txt" for part in ("train", "test")}
    assert (root / names["train"]).read_text().startswith("/kitchen_0000a/rgb_00000.jpg /kitchen_0000a/sync_depth")
    assert (root / names["test"]).read_text().startswith("bathroom/rgb_00000.jpg bathroom/sync_depth_00000.png ")
    first = module(root).dataset("test").read(0)
    inputs = root / "train_test_inputs"
    inputs.mkdir()
    for name in names.values():
        shutil.move(root / name, inputs / name)
    assert np.array_equal(module(root).dataset("test").read(0).depth, first.depth)
    assert len(module(root / "sync").dataset("train")) == 4  # lists one level up
    elsewhere = tmp_path / "lists"
    shutil.move(inputs, elsewhere)
    assert module(root).layout == "nyu/bts"  # by its pictures
    with pytest.raises(DatasetNotFoundError, match=r"no list file for train.*train_test_inputs.*data\.lists"):
        module(root).dataset("train")
    lists = {part: str(elsewhere / name) for part, name in names.items()}
    assert len(module(root, lists=lists).dataset("train")) == 4
    assert np.array_equal(module(root, lists=lists).dataset("test").read(0).depth, first.depth)


@ignore_counts
def test_bts_focal_column_and_bad_lines(write: Write) -> None:
    root = write("nyu/bts")
    path = root / "nyudepthv2_train_files_with_gt.txt"
    words = path.read_text().split()
    path.write_text(path.read_text().replace(words[2], "30.5"))
    raw = module(root).dataset("train").read(0)
    assert (raw.intrinsics[0, 0], raw.intrinsics[1, 1]) == (30.5, 30.5)
    path.write_text("\n".join(" ".join(line.split()[:2]) for line in path.read_text().splitlines()))
    raw = module(root).dataset("train").read(0)
    assert raw.intrinsics[1, 1] == pytest.approx(519.46961 * 24 / 480)  # no focal column: the camera of NYU
    for line in ("alone.jpg", "a.jpg a.png wide", "a.jpg a.png -1"):
        path.write_text(f"{line}\n")
        with pytest.raises(DataFormatError, match=r"files_with_gt\.txt:1.*rgb depth focal"):
            module(root).dataset("train")


def test_bts_test_list_of_other_frames_is_noticed(write: Write) -> None:
    root = write("nyu/bts")
    data = module(root)
    frames = [f"bathroom/rgb_{row:05d}.jpg bathroom/sync_depth_{row:05d}.png 518.8579" for row in official_test_rows()]
    path = root / "nyudepthv2_test_files_with_gt.txt"
    home = root / "official_splits/test/bathroom"
    for row in official_test_rows():
        (home / f"rgb_{row:05d}.jpg").touch()
        (home / f"sync_depth_{row:05d}.png").touch()
    path.write_text("\n".join(frames))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(data.dataset("test")) == 654
    path.write_text("\n".join([frames[0].replace("00000", "00002"), *frames[1:]]))
    shutil.copy(home / "rgb_00000.jpg", home / "rgb_00002.jpg")
    shutil.copy(home / "sync_depth_00000.png", home / "sync_depth_00002.png")
    with pytest.warns(UserWarning, match="official test part differ in 2 frames"):
        module(root).dataset("test")


# ------------------------------------------------------------------------------------------------ HDF5, parquet, arrays


@ignore_counts
def test_h5_files_and_shards_that_are_broken(write: Write, tmp_path: Path) -> None:
    root = write("nyu/h5")
    assert (root / "val" / "official" / "00001.h5").is_file()
    dataset = module(root).dataset("train")
    path = dataset.files(0)[0]
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataFormatError, match=r"no HDF5 file with rgb and depth.*00001\.h5"):
        dataset.read(0)
    shards = tmp_path / "data"
    shards.mkdir()
    shard = Path(shutil.make_archive(str(tmp_path / "train"), "tar", root, "train"))
    packed = shards / "train-000000.tar"
    packed.write_bytes(shard.read_bytes())
    assert len(Tars([packed], ".h5").members) == 5
    with pytest.raises(DatasetNotFoundError, match=r"no val/official/00001\.h5"):
        module(tmp_path, layout="nyu/h5").dataset("test")
    last = max(start for _, start, _ in Tars([packed], ".h5").members.values())
    packed.write_bytes(shard.read_bytes()[: last + 100])
    with pytest.raises(DataFormatError, match=r"truncated.*train-000000\.tar"):
        module(tmp_path, layout="nyu/h5").dataset("train")
    squeezed = Path(shutil.make_archive(str(tmp_path / "train"), "gztar", root, "train"))
    packed.write_bytes(squeezed.read_bytes())
    with pytest.raises(DataFormatError, match=r"unpack it if it is \.gz"):
        module(tmp_path, layout="nyu/h5").dataset("train")


def _encoded(kind: str, depth: np.ndarray) -> Any:
    if kind == "float":
        return {"bytes": cv2.imencode(".tiff", depth)[1].tobytes(), "path": None}
    if kind == "uint16":
        return {"bytes": cv2.imencode(".png", np.round(depth * 1000).astype(np.uint16))[1].tobytes(), "path": None}
    if kind == "uint8":
        return {"bytes": cv2.imencode(".png", np.round(depth * 25.5).astype(np.uint8))[1].tobytes(), "path": None}
    if kind == "turned":
        return depth.T.tolist()
    return depth.ravel().tolist() if kind == "flat" else depth.tolist()


@ignore_counts
@pytest.mark.filterwarnings("ignore:.*which scene.*")
@pytest.mark.parametrize(
    ("kind", "step"), [("float", 0), ("uint16", 0.001), ("uint8", 10 / 255), ("lists", 0), ("turned", 0), ("flat", 0)]
)
def test_parquet_forms_of_depth(kind: str, step: float, tmp_path: Path) -> None:
    frames = [smooth(index, 6, 8) for index in range(12)]
    cells = {
        "image": [{"bytes": cv2.imencode(".png", f.image[..., ::-1])[1].tobytes(), "path": None} for f in frames],
        "depth": [_encoded(kind, f.depth) for f in frames],
    }
    pq.write_table(pa.table(cells), tmp_path / "train-00000-of-00001.parquet", row_group_size=5)
    data = NYUDepthV2DataModule(str(tmp_path), image_size=(6, 8))
    assert (len(data.dataset("train")), len(data.dataset("val"))) == (11, 1)  # no scenes: the last tenth
    for index in (0, 4, 5, 10):
        raw = data.dataset("train").read(index).checked()
        assert np.abs(raw.depth - frames[index].depth).max() <= 0.51 * step + 1e-5
        assert np.array_equal(raw.image, frames[index].image)
    assert data.dataset("val").read(0).id == "train/000011"
    with pytest.raises(DatasetNotFoundError, match=r"no data/validation.*data\.test_root"):
        data.dataset("test")


@pytest.mark.filterwarnings("ignore:.*which scene.*", "ignore:.*frames instead of.*")
def test_parquet_errors_and_the_labelled_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train-00000-of-00001.parquet"
    path.write_bytes(b"PAR1 cut off")
    with pytest.raises(DataFormatError, match=r"no parquet file, or a truncated one.*fetch it again"):
        module(tmp_path).dataset("train")
    image = {"bytes": cv2.imencode(".png", np.zeros((2, 3, 3), np.uint8))[1].tobytes(), "path": "a.png"}
    pq.write_table(pa.table({"image": [image] * 20, "normals": [1] * 20}), path)
    dataset = module(tmp_path).dataset("train")
    with pytest.raises(DataFormatError, match=r"no column depth_map or depth, only image"):
        dataset.read(0)
    pq.write_table(pa.table({"image": [image] * 20, "depth": [[1.0] * 5] * 20}), path)
    with pytest.raises(DataFormatError, match=r"5 values of float64.*picture is 3x2"):
        module(tmp_path).dataset("train").read(0)
    pq.write_table(pa.table({"image": [{"bytes": None, "path": "a.png"}] * 20, "depth": [[1.0] * 6] * 20}), path)
    with pytest.raises(DataFormatError, match="the picture is not in the file"):
        module(tmp_path).dataset("train").read(0)
    pq.write_table(pa.table({"img": [image] * 1449, "depth": [[1.0] * 6] * 1449}), path, row_group_size=500)
    with pytest.warns(UserWarning, match="taken for the labelled set"):
        test = module(tmp_path).dataset("test")
    assert len(test) == 654
    assert test.read(2).id == "train/000008"
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"needs pyarrow.*mde\[parquet\]"):
        module(tmp_path).dataset("test")


@ignore_counts
def test_arrays_are_checked(write: Write) -> None:
    root = write("nyu/eigen_npy")
    assert np.load(root / "eigen_test_crop.npy").tolist() == [20, 459, 24, 615]
    np.save(root / "eigen_test_crop.npy", np.array([20, 460, 24, 616]))
    with pytest.raises(DataFormatError, match=r"crop is \[20, 460, 24, 616\], DenseDepth's is \[20, 459, 24, 615\]"):
        module(root).dataset("test")
    (root / "eigen_test_crop.npy").unlink()
    depth = np.load(root / "eigen_test_depth.npy")
    np.save(root / "eigen_test_depth.npy", depth[:, :5])
    with pytest.raises(DataFormatError, match=r"should be uint8 \(N,H,W,3\)"):
        module(root).dataset("test")
    path = root / "eigen_test_rgb.npy"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataFormatError, match=r"truncated.*eigen_test_rgb\.npy.*unpack nyu_test\.zip again"):
        module(root).dataset("test")
    (root / "eigen_test_depth.npy").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"nyu_test\.zip.*unpack it"):
        module(root).dataset("test")
