from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mde.cli import main
from mde.data.base import DepthDataModule
from mde.data.layouts import recognise
from mde.data.synthia import (
    SYNTHIA_CLASSES,
    SYNTHIADataModule,
    class_masks,
    read_labels,
    split_frames,
    write_split,
)
from mde.data.writers import mark, smooth
from mde.data.writers.synthia import write_rand_cityscapes
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from tests.data.layout_contract import LayoutContract

SIZE = (20, 32)


class TestRandCityscapes(LayoutContract):
    layout = "synthia/rand_cityscapes"
    step = 0.01

    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        made = super().make(folder, **settings)
        mark(folder / "data", self.layout, {})  # only some of the 9400 frames are there
        return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_rand_cityscapes(tmp_path, 3, smooth, SIZE)
    return tmp_path / "RAND_CITYSCAPES"


def module(root: Path, **settings: object) -> SYNTHIADataModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = SYNTHIADataModule(
            str(root), **{"missing": "skip", "image_size": SIZE, "num_workers": 0, "batch_size": 1, **settings}
        )
        made.facts()
    return made


def first(root: Path) -> str:
    return f"{split_frames('train')[0]:07d}.png"


def test_the_split_is_pinned() -> None:
    parts = {split: split_frames(split) for split in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [7990, 470, 940]
    assert sorted(number for part in parts.values() for number in part) == list(range(9400))
    digests = {split: hashlib.sha256(str(part).encode()).hexdigest()[:12] for split, part in parts.items()}
    assert digests == {"train": "69dec88634ce", "val": "1d90256e46e5", "test": "ce3a0f9b7745"}
    assert split_frames("test", seed=1) != parts["test"]
    with pytest.raises(ConfigError, match="use train, val, test"):
        split_frames("eval")


def test_the_split_does_not_follow_the_files(root: Path) -> None:
    before = module(root).dataset("train").frame_id(1)
    (root / "RGB" / first(root)).unlink()
    data = module(root)
    assert data.dataset("train").frame_id(0) == before
    assert data.facts()["missing"] == 9400 - 5 + 1
    assert data.facts()["split"] == {"by": "permutation of 9400", "seed": 0}
    assert data.facts()["frames"] == {"train": 2, "val": 1, "test": 1}


def test_a_split_in_a_csv_file(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    write_split(path)
    lines = path.read_text().splitlines()
    assert len(lines) == 9401
    assert lines[0] == "frame,split"
    assert f"{split_frames('test')[0]:07d},test" in lines
    ids = [f"{split_frames('train')[i]:07d}" for i in range(3)]
    path.write_text(f"frame,split\n{ids[2]},train\n{ids[0]},val\n{ids[1]},test\n")
    data = SYNTHIADataModule(str(root), split_csv=str(path))  # nothing is missing of these
    assert [data.dataset(split).frame_id(0) for split in ("train", "val", "test")] == [ids[2], ids[0], ids[1]]
    assert data.facts()["split"] == {"csv": str(path)}
    for text, reason in (
        ("frame,split\n1,train\n1,val\n", "listed twice"),
        ("frame,split\n1,training\n", "unknown parts"),
        ("a,b\n1,train\n", "write lines 'frame,split'"),
        ("frame,split\nx,train\n", "no split"),
    ):
        path.write_text(text)
        with pytest.raises(DataFormatError, match=reason):
            module(root, split_csv=str(path))
    with pytest.raises(DatasetNotFoundError, match=r"data\.split_csv"):
        module(root, split_csv=str(tmp_path / "nothing.csv"))


def test_depth_has_sixteen_bits_in_three_channels_and_pil_would_lose_eight(root: Path) -> None:
    from PIL import Image

    numbers = np.random.default_rng(0).integers(1, 65535, SIZE, dtype=np.uint16)
    numbers[0, :2] = (0, 65535)
    path = root / "Depth" / first(root)
    assert cv2.imwrite(str(path), np.repeat(numbers[..., None], 3, axis=2))
    by_pil = np.asarray(Image.open(path))
    assert by_pil.dtype == np.uint8  # the trap: no error, and depth in steps of 2.56 m
    raw = module(root, mask_sky=False).dataset("train").read(0)
    expected = np.where((numbers == 0) | (numbers == 65535), 0, numbers / 100)
    assert np.allclose(raw.depth, expected, rtol=1e-6)
    assert np.array_equal(raw.valid, expected > 0)
    assert cv2.imwrite(str(path), by_pil)
    with pytest.raises(DataFormatError, match="PIL"):
        module(root).dataset("train").read(0)


def test_classes_are_in_the_red_channel(root: Path, tmp_path: Path) -> None:
    classes = np.random.default_rng(1).integers(0, len(SYNTHIA_CLASSES), SIZE, dtype=np.uint16)
    path = root / "GT" / "LABELS" / first(root)
    blue_green_red = np.stack([np.full(SIZE, 7, np.uint16), np.full(SIZE, 300, np.uint16), classes], axis=2)
    assert cv2.imwrite(str(path), blue_green_red)
    data = module(root, labels=True)
    raw = data.dataset("train").read(0).checked()
    assert raw.labels is not None
    assert np.array_equal(raw.labels, classes)
    assert not raw.valid[classes == 1].any()  # sky
    depth = smooth(0, *SIZE).depth
    assert np.array_equal(raw.valid, (depth > 0) & (classes != 1))
    without = module(root, labels=True, mask_sky=False).dataset("train").read(0)
    assert np.array_equal(without.valid, depth > 0)
    assert len(data.dataset("train").files(0)) == 3
    blue_green_red[0, 0, 2] = 200
    cv2.imwrite(str(path), blue_green_red)
    with pytest.raises(DataFormatError, match="class 200"):
        read_labels(path)
    cv2.imwrite(str(path), blue_green_red.astype(np.uint8))
    with pytest.raises(DataFormatError, match="16-bit colour"):
        read_labels(path)


def test_labels_arrive_in_evaluation_and_make_masks(root: Path) -> None:
    data = module(root, labels=True)
    assert "labels" not in next(iter(data.train_dataloader()))
    batch = next(iter(data.val_dataloader()))
    assert batch["labels"].dtype == torch.uint8
    assert batch["labels"].shape == batch["depth"].shape
    masks = class_masks(batch["labels"])
    assert torch.equal(masks["sky"], ~batch["valid"])
    assert set(masks) <= {"sky", "road", "building"}
    named = class_masks(batch["labels"].numpy(), ["sky", "train"])
    assert not named["train"].any()
    assert np.array_equal(named["sky"], masks["sky"].numpy())
    with pytest.raises(ConfigError, match="nearest: sky"):
        class_masks(batch["labels"], ["skyy"])
    assert "labels" not in next(iter(module(root).val_dataloader()))


def test_intrinsics_are_in_this_library_s_convention(root: Path) -> None:
    matrix = module(root).dataset("train").read(0).intrinsics
    height, width = SIZE
    # the principal point is the middle of the picture, whatever its size
    assert np.allclose(matrix[:2, 2], [(width - 1) / 2, (height - 1) / 2])
    assert np.allclose([matrix[0, 0], matrix[1, 1]], [532.740352 * width / 1280, 532.740352 * height / 760])


def test_missing_files_are_counted_and_the_first_ten_named(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    there = [split_frames(split)[0] for split in ("train", "val", "test")]
    gone = range(5000, 5012)
    rows = [f"{n},{s}" for n, s in zip(there, ("train", "val", "test"), strict=True)] + [f"{n},train" for n in gone]
    path.write_text("\n".join(["frame,split", *rows]) + "\n")
    for number in gone:
        (root / "RGB" / f"{number:07d}.png").write_bytes(b"")
        (root / "Depth" / f"{number:07d}.png").unlink(missing_ok=True)
    with pytest.raises(DataFormatError) as caught:
        SYNTHIADataModule(str(root), split_csv=str(path)).facts()
    text = str(caught.value)
    assert "12 files are missing" in text
    assert "Depth/0005000.png" in text
    assert "and 2 more" in text
    assert text.count("Depth/") == 10
    assert "data.missing to skip" in text
    data = SYNTHIADataModule(str(root), split_csv=str(path), missing="skip")
    with pytest.warns(UserWarning, match="12 files are missing"):
        data.facts()
    assert len(data.dataset("train")) == 1


def test_wrong_folders_settings_and_broken_files(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"RGB, Depth and GT/LABELS.*data\.root"):
        SYNTHIADataModule(str(tmp_path / "elsewhere")).dataset("train")
    with pytest.raises(ConfigError, match="use error or skip"):
        SYNTHIADataModule(str(root), missing="ignore")  # type: ignore[arg-type]
    for folder in ("Depth", "RGB"):
        path = root / folder / first(root)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(DataFormatError, match=rf"truncated.*{folder}"):
            module(root).dataset("train").read(0)
        path.write_bytes(data)
    (root / "Depth" / "Depth").mkdir()  # some unpackers nest it
    for path in (root / "Depth").glob("*.png"):
        path.rename(root / "Depth" / "Depth" / path.name)
    assert recognise(root).name == "synthia/rand_cityscapes"
    assert module(root).dataset("train").read(0).valid.any()


def test_made_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "made"
    assert main(["make-data", "synthia/rand_cityscapes", str(root), "-n", "2", "--size", "19", "32"]) == 0
    assert "synthia/densedepth" in capsys.readouterr().out
    data = SYNTHIADataModule(str(root))  # missing frames are no error in a made data set
    assert data.facts()["frames"] == {"train": 2, "val": 1, "test": 1}
    assert recognise(root).name == "synthia/rand_cityscapes"
