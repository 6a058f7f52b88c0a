from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mde import __version__
from mde.cli import main
from mde.data.layouts import get_layout
from mde.data.prepare import fetching, files
from mde.data.prepare.catalog import KnownData, RemoteFile
from mde.data.prepare.known import KNOWN
from mde.data.prepare.manifest import read_manifest
from mde.data.writers import smooth
from tests.data.prepare_server import Web, serve

LICENCE = "--accept-licence"


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as started:
        yield started


@pytest.fixture
def entry(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownData:
    """A data set of two archives, one for training and validation, one for testing."""
    frames = tmp_path / "original"
    get_layout("folder/rgbd").load_writer()(frames, 8, smooth, (24, 32))
    remote = []
    for part, folders, kind in (("train", ("train", "val"), "zip"), ("test", ("test",), "gztar")):
        inside = tmp_path / part
        for folder in folders:
            shutil.copytree(frames / folder, inside / folder)
        path = Path(shutil.make_archive(str(inside), kind, inside))
        content = path.read_bytes()
        web.put(f"/sets/{path.name}", content)
        digest = hashlib.sha256(content).hexdigest()
        remote.append(RemoteFile(f"{web.url}/sets", path.name, ("all", part), sha256=digest))
    made = KnownData(
        name="tiny",
        title="a tiny set",
        family="folder",
        size="8 kB",
        licence="CC0",
        home_page=web.url,
        files=tuple(remote),
        parts={"all": "all of it", "train": "for training", "test": "for testing"},
        default=("all",),
        layout="folder/rgbd",
    )
    monkeypatch.setattr("mde.cli.prepare.get_known", {**KNOWN, "tiny": made}.__getitem__)
    return made


def prepare(*words: object) -> int:
    return main(["prepare", *map(str, words), "--wait", "0", "--retries", "1"])


def images(folder: Path) -> dict[str, bytes]:
    found = [path for split in ("train", "val", "test") for path in (folder / split).rglob("*.*")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_the_list_and_the_cards(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--list"], []):
        assert main(["prepare", *words]) == 0
        out = capsys.readouterr().out
        assert all(name in out and entry.home_page in out for name, entry in KNOWN.items())
        assert "not re-checked" in out
    assert main(["prepare", "--help"]) == 0
    assert "--accept-licence" in capsys.readouterr().out
    for name, entry in KNOWN.items():
        assert main(["prepare", name]) == 0
        out = capsys.readouterr().out
        assert entry.size in out
        assert all(part in out for part in entry.parts)
        assert "DIR" in out
    assert main(["prepare", "nyy"]) == 2
    assert "unknown data set 'nyy' [mde prepare]. Next: nearest: nyu" in capsys.readouterr().err


def test_a_plan_fetches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "nyu", str(tmp_path / "nyu"), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "1 file(s) to fetch" in out
    assert "2.97 GB  http://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/nyu_depth_v2_labeled.mat (sha256)" in out
    words = ["--part", "eigen_test", "--part", "ground_truth", "--mirror", "http://127.0.0.1:9/kitti", "--dry-run"]
    assert main(["prepare", "kitti", str(tmp_path / "kitti"), *words]) == 0
    out = capsys.readouterr().out
    assert "34 file(s)" in out
    assert "14 GB and 28 of unknown size" in out
    assert "14 GB  http://127.0.0.1:9/kitti/data_depth_annotated.zip (md5, then unpacked)" in out
    assert list(tmp_path.iterdir()) == []


def test_fetch_unpack_verify(entry: KnownData, web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    web.files["/sets/train.zip"].cuts = [1000]
    root = tmp_path / "data"
    assert prepare("tiny", root, LICENCE) == 0
    out = capsys.readouterr().out
    assert images(root) == images(tmp_path / "original")
    assert "layout folder/rgbd, frames: 8 train, 1 val, 1 test" in out
    assert f"mde fit --config folder/densedepth --data.root {root}" in out
    manifest = read_manifest(root)
    assert manifest.fingerprint in out
    assert manifest.complete
    assert manifest.counts == {"train": 8, "val": 1, "test": 1}
    assert (manifest.data_set, manifest.mde, manifest.licence["name"]) == ("tiny", __version__, "CC0")
    assert {source["url"] for source in manifest.sources} == {file.url() for file in entry.files}
    assert not (root / "train.zip").exists()
    asked = len(web.requests)
    assert prepare("tiny", root) == 0  # nothing is missing: no licence, no network
    assert len(web.requests) == asked
    assert read_manifest(root).fingerprint == manifest.fingerprint


def test_what_went_missing_is_fetched_again(entry: KnownData, web: Web, tmp_path: Path) -> None:
    root = tmp_path / "data"
    assert prepare("tiny", root, LICENCE, "--keep-archives") == 0
    assert (root / "train.zip").is_file()
    kept = (root / "train" / "rgb" / "000000.jpg").stat().st_mtime_ns
    (root / "train" / "rgb" / "000003.jpg").unlink()
    asked = len(web.requests)
    assert prepare("tiny", root, LICENCE) == 0
    assert len([path for method, path, *_ in web.requests[asked:] if method == "GET"]) == 0  # from the kept archive
    assert images(root) == images(tmp_path / "original")
    (root / "train" / "rgb" / "000003.jpg").unlink()
    assert prepare("tiny", root, LICENCE) == 0
    assert web.requests[-1][:2] == ("GET", "/sets/train.zip")
    assert images(root) == images(tmp_path / "original")
    assert (root / "train" / "rgb" / "000000.jpg").stat().st_mtime_ns == kept


def test_several_at_a_time_from_a_mirror(entry: KnownData, web: Web, tmp_path: Path) -> None:
    for name in ("train.zip", "test.tar.gz"):
        web.files[f"/mirror/{name}"] = web.files.pop(f"/sets/{name}")
    root = tmp_path / "data"
    assert prepare("tiny", root, LICENCE, "--jobs", 2, "--mirror", f"{web.url}/mirror/") == 0
    assert images(root) == images(tmp_path / "original")


def test_one_failure_does_not_stop_the_others(
    entry: KnownData, web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = web.files.pop("/sets/train.zip")
    for jobs in (1, 2):
        root = tmp_path / f"data{jobs}"
        assert prepare("tiny", root, LICENCE, "--jobs", jobs) == 1
        error = capsys.readouterr().err
        assert error.startswith("mde: error: 1 of 2 files could not be fetched. the server refuses: HTTP 404")
        assert error.count("\n") == 1
        assert (root / "test" / "rgb").is_dir()
    web.files["/sets/train.zip"] = whole
    assert prepare("tiny", root, LICENCE) == 0


def test_the_licence(
    entry: KnownData, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    assert prepare("tiny", root) == 2
    assert "the licence must be accepted: CC0" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "no")
    assert prepare("tiny", root) == 2
    assert "the licence was not accepted" in capsys.readouterr().err
    assert not web.requests
    assert not root.exists()
    monkeypatch.setattr("builtins.input", lambda _: "Yes ")
    assert prepare("tiny", root) == 0


def test_the_disk_is_looked_at_first(
    entry: KnownData, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = sorted(len(resource.content) for resource in web.files.values())
    options = fetching.FetchOptions()
    assert fetching.check_space(entry.files, tmp_path / "data", options) == sum(sizes) + sizes[-1]
    keep = fetching.FetchOptions(keep_archives=True)
    assert fetching.check_space(entry.files, tmp_path / "data", keep) == 2 * sum(sizes)
    monkeypatch.setattr(fetching, "free_bytes", lambda folder: 1000)
    assert prepare("tiny", tmp_path / "data", LICENCE) == 1
    assert f"{files.human_size(sum(sizes) + sizes[-1])} are needed, the disk has 1 kB" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    assert all(method == "HEAD" for method, *_ in web.requests)


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_can_be_resumed(
    entry: KnownData,
    web: Web,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    jobs: int,
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    root = tmp_path / "data"
    with monkeypatch.context() as patched:
        patched.setattr(fetching, "unpack", stop)
        assert prepare("tiny", root, LICENCE, "--jobs", jobs) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert prepare("tiny", root, LICENCE, "--jobs", jobs) == 0
    assert images(root) == images(tmp_path / "original")


def test_what_somebody_put_there_is_verified_and_not_fetched(
    entry: KnownData, web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "original"
    assert prepare("tiny", root) == 0
    out = capsys.readouterr().out
    assert "holds folder/rgbd: nothing is fetched (--part would)" in out
    assert not web.requests
    (root / "test" / "rgb" / "000000.jpg").write_bytes(b"broken")
    assert prepare("tiny", root, "--verify", "--full") == 1
    out = capsys.readouterr().out
    assert "WRONG  test: 1 of 1 frames cannot be read" in out
    assert "not complete\nnext:\n  mde prepare tiny" in out
    assert not read_manifest(root).complete


def test_a_file_that_is_not_the_published_one(
    entry: KnownData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "train.zip").write_bytes(b"fetched halfway by a browser")
    assert prepare("tiny", root, LICENCE) == 1
    error = capsys.readouterr().err
    assert "is not the published one (sha256" in error
    assert "Next: remove it" in error
    assert (root / "train.zip").is_file()  # it is the user's


def test_data_sets_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "frames"
    assert prepare("hypersim", root) == 1
    out = capsys.readouterr().out
    assert f"there is nothing at {root}" in out
    assert str(root) in out.split("next:")[1]
    assert prepare("hypersim", root, "--part", "all") == 2
    assert "nothing of it can be fetched" in capsys.readouterr().err
    root.mkdir()
    (root / "notes.txt").write_text("hello")
    assert prepare("hypersim", root) == 1
    assert "none of the known layouts" in capsys.readouterr().err


def test_a_made_copy_and_a_single_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "made"
    assert main(["make-data", "folder/rgbd", str(root), "-n", "2", "--size", "24", "32"]) == 0
    assert prepare("folder", root) == 0
    assert "a rendered copy, in order" in capsys.readouterr().out
    assert json.loads((root / "mde-manifest.json").read_text())["made"] is True
    assert prepare("nyu", tmp_path / "nyu_depth_v2_labeled.mat", "--verify") == 1
    assert "there is nothing at" in capsys.readouterr().out
    assert main(["prepare", "folder", str(root), "--jobs", "0"]) == 2
