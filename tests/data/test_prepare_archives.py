from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mde.data.prepare.archives import is_archive, unpack
from mde.data.prepare.files import DiskError
from mde.errors import DataFormatError

FILES = {"a/one.png": b"1" * 5000, "a/b/two.bin": np.random.default_rng(1).bytes(3000), "empty.txt": b""}
KINDS = ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"]


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("a/", b"")
            for name, content in files.items():
                made.writestr(name, content)
        return path
    mode = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            add(tar, name, content)
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **settings: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in settings.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content))


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_unpacks_and_says_what(tmp_path: Path, kind: str) -> None:
    archive = pack(tmp_path / f"x.{kind}", FILES)
    seen: list[tuple[int, int]] = []
    found = unpack(archive, tmp_path / "out", lambda done, total: seen.append((done, total)))
    assert is_archive(archive.name)
    assert tree(tmp_path / "out") == FILES
    assert found == {name: len(content) for name, content in FILES.items()}
    assert (seen[0], seen[-1]) == ((0, 8000), (8000, 8000))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_does_nothing_twice_and_mends(tmp_path: Path, kind: str) -> None:
    archive, out = pack(tmp_path / f"x.{kind}", FILES), tmp_path / "out"
    unpack(archive, out)
    (out / "a/b/two.bin").write_bytes(b"0" * 3000)  # the right size, and other bytes
    (out / "empty.txt").unlink()
    kept = (out / "a/one.png").stat()
    unpack(archive, out)
    assert tree(out) == FILES
    assert (out / "a/one.png").stat().st_ino == kept.st_ino  # a file that is written gets a new one
    assert (out / "a/one.png").stat().st_mtime_ns == kept.st_mtime_ns


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_interrupted_unpacking_leaves_no_half_files(tmp_path: Path, kind: str) -> None:
    archive, out = pack(tmp_path / f"x.{kind}", FILES), tmp_path / "out"

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, out, stop)
    assert tree(out) == {"a/one.png": FILES["a/one.png"]}
    unpack(archive, out)
    assert tree(out) == FILES


EVIL_NAMES = ["../evil", "a/../../evil", "/tmp/evil", "C:\\evil", "..\\evil", "\\\\host\\evil"]


@pytest.mark.parametrize("name", EVIL_NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_nothing_is_written_when_a_member_leads_out(tmp_path: Path, kind: str, name: str) -> None:
    archive = pack(tmp_path / f"x.{kind}", FILES | {name: b"evil"})
    before = tree(tmp_path)
    with pytest.raises(DataFormatError, match=r"1 member\(s\) .*nothing was unpacked .*official address"):
        unpack(archive, tmp_path / "in" / "out")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "../../outside"),
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "a/one.png"),
        (tarfile.LNKTYPE, "../outside"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "later.bin"),
        (tarfile.CHRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_links_and_devices_in_tar_are_refused(tmp_path: Path, kind: bytes, link: str) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "a/one.png", b"1")
        add(tar, "strange", type=kind, linkname=link)
        add(tar, "strange/through.txt", b"2")
        add(tar, "later.bin", b"3")
    with pytest.raises(DataFormatError, match="links, devices or lead out of the folder: strange"):
        unpack(tmp_path / "x.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hard_links_inside_become_copies(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        add(tar, "a/one.png", b"123")
        add(tar, "b/same.png", type=tarfile.LNKTYPE, linkname="a/one.png")
    assert unpack(tmp_path / "x.tar", tmp_path / "out") == {"a/one.png": 3, "b/same.png": 3}
    assert tree(tmp_path / "out") == {"a/one.png": b"123", "b/same.png": b"123"}


def test_links_in_zip_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr(info, "/etc/passwd")
    with pytest.raises(DataFormatError, match="lead out of the folder: link"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_backslashes_of_windows_are_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        made.writestr("RGB\\0.png", b"1")
    assert unpack(tmp_path / "x.zip", tmp_path / "out") == {"RGB/0.png": 1}
    assert (tmp_path / "out" / "RGB" / "0.png").read_bytes() == b"1"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("keep", [0.0, 0.2, 0.4])
def test_truncated_archives_are_named(tmp_path: Path, kind: str, keep: float) -> None:
    archive = pack(tmp_path / f"x.{kind}", FILES)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataFormatError, match=r"the archive is damaged .*fetch it again"):
        unpack(archive, tmp_path / "out")
    written = tree(tmp_path / "out") if (tmp_path / "out").exists() else {}
    assert written.items() <= FILES.items()


@pytest.mark.parametrize("end", [512, 6144, 9728, 10240])
def test_a_tar_cut_between_members_is_not_whole(tmp_path: Path, end: int) -> None:
    archive = pack(tmp_path / "x.tar", FILES)
    with tarfile.open(archive) as tar:
        assert [info.offset_data for info in tar] == [512, 6144, 9728]
    archive.write_bytes(archive.read_bytes()[: end - 512 if end > 512 else end])
    with pytest.raises(DataFormatError, match="the archive is damaged"):
        unpack(archive, tmp_path / "out")


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as made:  # stored, so that only the checksum can tell
        made.writestr("a.bin", b"0" * 1000)
    content = bytearray(archive.read_bytes())
    content[500] ^= 1
    archive.write_bytes(content)
    with pytest.raises(DataFormatError, match="Bad CRC-32"):
        unpack(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == {}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DiskError, match="cannot be written"):
        unpack(pack(tmp_path / "x.zip", FILES), tmp_path / "out")
