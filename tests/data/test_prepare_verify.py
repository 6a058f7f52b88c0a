from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mde.data.layouts import FAMILIES, get_layout
from mde.data.prepare import expected, known
from mde.data.prepare.catalog import KnownData, RemoteFile
from mde.data.prepare.download import checksums
from mde.data.prepare.files import DiskError
from mde.data.prepare.manifest import (
    MANIFEST,
    Manifest,
    file_sizes,
    fingerprint_of,
    read_manifest,
    sample_hashes,
    write_manifest,
)
from mde.data.prepare.verify import Thoroughness, Verdict, describe, verify
from mde.data.writers import mark, smooth
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError

FOLDER = known.get_known("folder")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve training, one validation and one test frame."""
    made = tmp_path / "data"
    get_layout("folder/rgbd").load_writer()(made, 12, smooth, (24, 32))
    return made


def wrongs(verdict: Verdict) -> str:
    return "\n".join(finding.what for finding in verdict.findings if finding.wrong)


# ------------------------------------------------------------------------------------------------------------- catalog


def test_the_catalog_is_consistent() -> None:
    for name, entry in known.KNOWN.items():
        assert entry.name == name
        assert entry.family in FAMILIES
        assert entry.files or entry.by_hand
        assert bool(entry.files) == bool(entry.default) == bool(entry.layout)
        assert set(entry.default) <= set(entry.parts)
        names = [file.name for file in entry.files]
        assert len(set(names)) == len(names)
        for file in entry.files:
            assert file.url().startswith(("http://", "https://"))
            assert (file.size or 1) > 0
            assert all(
                digest is None or (len(digest) == size and int(digest, 16) >= 0)
                for digest, size in ((file.md5, 32), (file.sha256, 64))
            )
        for step in entry.by_hand:
            assert "{root}" not in step.format(root="DIR")
    with pytest.raises(ConfigError, match=r"unknown data set 'kiti'.*nearest: kitti"):
        known.get_known("kiti")


def test_the_parts_of_kitti() -> None:
    kitti = known.get_known("kitti")
    drives = [file for file in kitti.select(["eigen"]) if file.name.endswith("_sync.zip")]
    assert len(drives) == 28 + 33
    assert len(kitti.select(["eigen_test"])) == 28 + 5  # and the calibration of five days
    assert {file.name for file in kitti.select()} == {f.name for f in kitti.files} - {"data_depth_selection.zip"}
    assert [file.path for file in kitti.select(["2011_09_26/0002"])] == [
        "raw_data/2011_09_26_calib.zip",
        "raw_data/2011_09_26_drive_0002/2011_09_26_drive_0002_sync.zip",
    ]
    assert (
        kitti.select(["selection"])[0].url("http://127.0.0.1:1/m/") == "http://127.0.0.1:1/m/data_depth_selection.zip"
    )
    with pytest.raises(ConfigError, match=r"kitti has no part '2011_09_26/0003'.*eigen_test"):
        kitti.select(["2011_09_26/0003"])
    with pytest.raises(ConfigError, match="nothing of it can be fetched"):
        known.get_known("hypersim").select(["all"])


def test_expected_numbers_are_those_of_the_lists() -> None:
    from mde.data.kitti.frames import eigen_frames

    kitti = expected.FRAMES["kitti/raw"]
    assert kitti == {"train+val": len(eigen_frames("train_23158")), "test": len(eigen_frames("test_652"))}
    assert sum(expected.FRAMES["nyu/labeled"].values()) == 1449


# ------------------------------------------------------------------------------------------------------------ verifying


def test_a_whole_folder(root: Path) -> None:
    verdict = verify(root, FOLDER)
    assert verdict.complete
    assert verdict.counts == {"train": 12, "val": 1, "test": 1}
    assert len(verdict.files) == 28
    assert "train: 12 of 12 frames read, 32x24" in [finding.what for finding in verdict.findings]
    assert "layout folder/rgbd, frames: 12 train, 1 val, 1 test, 28 files" in describe(verdict)[0]


def test_a_truncated_frame_is_found_in_a_sample_or_by_reading_all(root: Path) -> None:
    path = root / "train" / "rgb" / "000005.jpg"
    path.write_bytes(path.read_bytes()[:200])
    few = Thoroughness(frames=2)
    assert verify(root, FOLDER, few).complete  # the first and the last are whole
    verdict = verify(root, FOLDER, dataclasses.replace(few, full=True))
    assert "train: 1 of 12 frames cannot be read: the file is truncated" in wrongs(verdict)
    assert "000005.jpg" in wrongs(verdict)
    assert not verdict.complete


def test_samples_are_spread_and_splits_chosen(root: Path) -> None:
    data = get_layout("folder/rgbd").make(root).dataset("train")
    assert Thoroughness(frames=3).indices(data) in ([0, 6, 11], [0, 5, 11])
    assert list(Thoroughness(frames=3, full=True).indices(data)) == list(range(12))
    assert verify(root, FOLDER, Thoroughness(splits=("test",))).counts == {"test": 1}


def test_empty_files_and_depth_without_a_pixel(root: Path) -> None:
    (root / "val" / "depth" / "000000.png").write_bytes(b"")
    blank = root / "train" / "depth" / "000004.png"
    cv2.imwrite(str(blank), np.zeros((24, 32), np.uint16))
    found = wrongs(verify(root, FOLDER))
    assert "val: 1 files are empty" in found
    assert "val: 1 of 1 frames cannot be read" in found
    assert "train: 1 of 12 frames have no depth at all: train/000004" in found


def test_eight_bits_where_sixteen_are_expected(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(root / "train" / "depth" / "000000.png"), np.full((24, 32), 200, np.uint8))
    verdict = verify(root, FOLDER)
    assert verdict.complete  # one's own depth may have eight bits
    assert any("depth of 8 bits where 16 are expected in 1 of 12 files" in f.what for f in verdict.findings)
    monkeypatch.setattr("mde.data.prepare.verify.FREE_FORMS", frozenset())
    assert "train: depth of 8 bits" in wrongs(verify(root, FOLDER))
    monkeypatch.setattr("mde.data.prepare.verify.EIGHT_BIT", frozenset({"folder/rgbd"}))
    assert not any("8 bits" in f.what for f in verify(root, FOLDER).findings)


def test_too_few_and_too_many_frames(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"folder/rgbd": {"train+val": 20, "test": 1}}
    monkeypatch.setattr("mde.data.prepare.verify.FRAMES", numbers)
    assert wrongs(verify(root, FOLDER)) == "train+val: 13 frames instead of 20, 7 are missing"
    numbers["folder/rgbd"] = {"train+val": 10, "test": 1}
    assert wrongs(verify(root, FOLDER)) == "train+val: 13 frames instead of 10, 3 too many"
    only = Thoroughness(splits=("train", "test"))
    assert verify(root, FOLDER, only).complete  # of two numbers together one alone says nothing
    mark(root, "folder/rgbd", {})
    assert verify(root, FOLDER).complete
    assert verify(root, FOLDER).made


def test_splits_that_a_form_does_not_have(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mde.data.prepare.verify.FRAMES", {"folder/rgbd": {"test": 1}})
    assert verify(root, FOLDER).counts == {"test": 1}
    cv2.imwrite(str(root / "test" / "depth" / "000000.png"), np.zeros((24, 32), np.uint16))
    assert "have no depth at all" in wrongs(verify(root, FOLDER))
    monkeypatch.setattr("mde.data.prepare.verify.UNPUBLISHED", {("folder/rgbd", "test")})
    assert verify(root, FOLDER).complete


def test_errors_of_the_data_module_become_findings(root: Path) -> None:
    shutil.rmtree(root / "train" / "rgb")
    verdict = verify(root, FOLDER)
    assert not verdict.complete
    assert not verdict.counts.get("train")
    with pytest.raises(DatasetNotFoundError, match="no such file or folder"):
        verify(root / "none", FOLDER)
    with pytest.raises(DataFormatError, match="none of the known layouts"):
        verify(root / "val" / "depth", FOLDER)


def test_what_is_there_is_read_where_most_is_missing(tmp_path: Path) -> None:
    synthia = get_layout("synthia/rand_cityscapes")
    synthia.load_writer()(tmp_path / "data", 4, smooth, (24, 32))
    verdict = verify(tmp_path / "data", known.get_known("synthia"))
    assert verdict.counts == {"train": 4, "val": 1, "test": 1}
    assert len(verdict.files) >= 12
    first, second = wrongs(verdict).splitlines()
    assert first.startswith("train, val, test: 18788 files are missing")  # said once
    assert second == "train+val+test: 6 frames instead of 9400, 9394 are missing"


def test_published_files_are_compared(root: Path) -> None:
    published = root / "published.mat"
    published.write_bytes(b"12345")
    file = RemoteFile("http://127.0.0.1", "published.mat", ("all",), 5, sha256=checksums(published)["sha256"])
    entry = dataclasses.replace(FOLDER, files=(file,), parts={"all": ""}, default=("all",))
    full = Thoroughness(full=True)
    assert any("SHA-256 is the published one" in finding.what for finding in verify(root, entry, full).findings)
    published.write_bytes(b"54321")
    assert verify(root, entry).complete
    assert wrongs(verify(root, entry, full)) == "published.mat: its SHA-256 is not the published one"
    published.write_bytes(b"123")
    assert wrongs(verify(root, entry)) == "published.mat has 3 bytes, published are 5"


# ------------------------------------------------------------------------------------------------------------- manifest


def manifest_of(root: Path, entry: KnownData = FOLDER) -> Manifest:
    verdict = verify(root, entry)
    files = file_sizes(root, verdict.files)
    return Manifest(
        data_set=entry.name,
        layout=verdict.layout.name,
        made=verdict.made,
        complete=verdict.complete,
        counts=verdict.counts,
        files=files,
        hashes=sample_hashes(root, files),
        total_bytes=sum(files.values()),
        sources=({"url": "http://127.0.0.1/a.zip", "name": "a.zip", "size": 1, "sha256": "0"},),
        licence={"name": "none"},
        date="2026-01-01T00:00:00+00:00",
        mde="0",
    )


def test_a_manifest_comes_back(root: Path) -> None:
    made = manifest_of(root)
    assert fingerprint_of(root) is None
    path = write_manifest(root, made)
    assert path == root / MANIFEST
    assert fingerprint_of(str(root)) == made.fingerprint
    again = read_manifest(root)
    assert dataclasses.replace(again, sources=made.sources) == made
    assert list(again.sources) == list(made.sources)
    assert len(made.fingerprint) == 12
    assert int(made.fingerprint, 16) >= 0
    assert made.total_bytes == sum(p.stat().st_size for p in root.rglob("*/*/*") if p.is_file())
    sample = next(iter(made.hashes))
    assert made.hashes[sample] == hashlib.sha256((root / sample).read_bytes()).hexdigest()
    assert len(made.hashes) == 16
    assert not list(root.glob("*.tmp"))


def test_the_fingerprint_names_the_data_and_nothing_else(root: Path, tmp_path: Path) -> None:
    first = manifest_of(root)
    other_day = dataclasses.replace(first, date="2027", mde="9", sources=(), licence={}, complete=False)
    assert other_day.fingerprint == first.fingerprint
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    assert manifest_of(copy).fingerprint == first.fingerprint
    image = copy / "train" / "rgb" / "000000.jpg"
    image.write_bytes(image.read_bytes()[:-2] + b"\0\xff\xd9"[-2:] + b"\0")
    assert manifest_of(copy).fingerprint != first.fingerprint
    mark(root, "folder/rgbd", {})
    assert manifest_of(root).fingerprint != first.fingerprint


def test_damaged_manifests_are_named(root: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"no mde-manifest.json .*`mde prepare NAME"):
        read_manifest(root)
    path = write_manifest(root, manifest_of(root))
    whole = path.read_text()
    for spoiled, message in (
        (whole[: len(whole) // 2], "no readable JSON"),
        ("[]", "a JSON object is expected"),
        (whole.replace('"format": 1', '"format": 2'), r"format 2 of the manifest is not known.*update mde"),
        (whole.replace('"train": 12', '"train": 13'), "the manifest was changed"),
        (json.dumps({"format": 1, "layout": "x"}), "the manifest lacks complete, counts"),
    ):
        path.write_text(spoiled)
        with pytest.raises(DataFormatError, match=message):
            read_manifest(root)


def test_a_manifest_is_written_whole_or_not_at_all(root: Path, tmp_path: Path) -> None:
    made = manifest_of(root)
    path = write_manifest(root, made)
    before = path.read_bytes()
    path.unlink()
    path.mkdir()  # cannot be replaced by a file
    with pytest.raises(DiskError, match="cannot be written"):
        write_manifest(root, made)
    path.rmdir()
    write_manifest(root / "train" / "rgb" / "000000.jpg", made)  # of a data set that is one file: beside it
    assert (root / "train" / "rgb" / MANIFEST).read_bytes() == before
