"""The command: what it writes and returns, on whole, broken and unknown data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mde.cli import main
from mde.data.writers import rendered
from mde.data.writers.folder import write_rgbd
from mde.data.writers.source import mark
from mde.doctor import examine, to_dict

KEYS = (
    *("format", "mde", "root", "layout", "settings", "protocol", "span_m", "interrupted", "seconds", "splits"),
    *("counts", "findings", "histogram", "planes"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("doctor") / "rooms"
    write_rgbd(root, 24, rendered("rooms"), (60, 80))
    mark(root, "folder/rgbd", {})
    return root


def codes(record: dict[str, Any]) -> set[str]:
    return {found["code"] for found in record["findings"]}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "rect", "line"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "line"):
            assert self.open.pop() == tag


def test_a_clean_set(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, page = tmp_path / "out" / "a.json", tmp_path / "out" / "a.html"
    assert main(["doctor", str(made), "--json", str(record), "--html", str(page), "--workers", "2"]) == 0
    shown = capsys.readouterr().out
    assert "train: 24 frames, 24 decoded, median depth" in shown
    assert "0 errors, 0 warnings" in shown
    assert "\x1b" not in shown  # no colours where nobody sees them
    written = json.loads(record.read_text())
    assert tuple(written) == KEYS
    assert written["counts"] == {"error": 0, "warning": 0, "info": len(written["findings"])}
    assert {"made-data", "reader-says", "no-camera"} <= codes(written)
    assert sum(written["histogram"]["counts"]["train"]) == 24 * 60 * 80
    assert abs(written["planes"]["exponent"]) < 0.1
    tags = _Tags()
    tags.feed(page.read_text())
    assert tags.open == []
    assert tags.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in tags.sources)
    assert not re.search(r"https?://|@import|url\(|<script", page.read_text())
    one = to_dict(examine(made, workers=1))
    for key in set(KEYS) - {"seconds"}:
        assert one[key] == written[key]  # whatever the number of processes


def test_errors_make_1_and_all_items_are_in_the_json(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "<b>&"
    for number in range(30):
        name = f"{number:06d}"
        source = made / "train" / "rgb" / f"{number % 24:06d}.jpg"
        for place in (root / "train/rgb" / f"{name}.jpg", root / "val/rgb" / f"{name}.jpg"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(source.read_bytes())
    record, page = tmp_path / "a.json", tmp_path / "a.html"
    assert main(["doctor", str(root), "--json", str(record), "--html", str(page)]) == 1
    found = {f["code"]: f for f in json.loads(record.read_text())["findings"]}
    assert found["unpaired"]["count"] == len(found["unpaired"]["items"]) == 60
    text = page.read_text()
    assert "and 40 more, in the JSON file" in text
    assert "<b>&</" not in text
    assert "&lt;b&gt;&amp;" in text


def test_wrong_usage(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        ([str(tmp_path / "nothing")], "no such file or folder"),
        ([str(tmp_path / "nothing"), "--layout", "folder/rgbd"], "no such file or folder"),
        ([str(made), "--layout", "folder/rgb"], "nearest: folder/rgbd"),
        ([str(made), "--set", "depth_scal=1"], "nearest: depth_scale"),
        ([str(made), "--set", "depth_scale"], "write --set depth_scale=0.001"),
        ([str(made), "--set", "depth_scale=[1"], "write it as YAML"),
        ([str(made), "--set", "depth_scale=-1"], "above 0"),
        ([str(made), "--sample", "0"], "use --all"),
        ([str(made), "--workers", "0"], "at least 1"),
        ([str(made), "--all", "--sample", "3"], "not allowed with"),
        ([], "required: dir"),
    ):
        assert main(["doctor", *words]) == 2
        assert said in capsys.readouterr().err


def test_a_folder_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert main(["doctor", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "none of the known layouts" in shown
    assert "no image with a depth map" in shown


def test_a_sample_and_settings(made: Path, tmp_path: Path) -> None:
    record = tmp_path / "a.json"
    words = ["doctor", str(made), "--sample", "4", "--set", "horizontal_fov=60", "--set", "depth_scale=0.001"]
    assert main([*words, "--json", str(record), "--workers", "1"]) == 0
    written = json.loads(record.read_text())
    assert {split: facts["decoded"] for split, facts in written["splits"].items()} == {"train": 4, "val": 3, "test": 3}
    assert written["settings"] == {"horizontal_fov": 60, "depth_scale": 0.001}
    assert not codes(written) & {"no-camera", "reader-says"}


def test_a_broken_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((3, 3, 8, 6), np.uint8)
    path.write_bytes(path.read_bytes()[:700])
    assert main(["doctor", str(path), "--layout", "nyu/labeled"]) == 1
    shown = capsys.readouterr().out
    assert "the data module refuses" in shown
    assert f"not whole: {path.name}" in shown
    assert path.name in shown


def test_stopped_in_the_middle(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mde.doctor.examination as module

    def stopping(work: Any, jobs: Any, workers: int) -> Iterator[Any]:
        for number, job in enumerate(jobs):
            if number == 22:
                raise KeyboardInterrupt
            yield work(job)

    monkeypatch.setattr(module, "in_order", stopping)
    record, page = tmp_path / "a.json", tmp_path / "a.html"
    assert main(["doctor", str(made), "--json", str(record), "--html", str(page)]) == 130
    written = json.loads(record.read_text())
    assert written["interrupted"]
    assert "interrupted" in codes(written)
    assert 0 < written["splits"]["train"]["decoded"] < 24
    assert "stopped before the end" in page.read_text()


def test_every_frame_is_dead(made: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for kind, suffix in (("rgb", "jpg"), ("depth", "png")):
            path = tmp_path / "data" / split / kind / f"0.{suffix}"
            path.parent.mkdir(parents=True)
            path.touch()
    record, page = tmp_path / "a.json", tmp_path / "a.html"
    assert main(["doctor", str(tmp_path / "data"), "--json", str(record), "--html", str(page)]) == 1
    dead = [f for f in json.loads(record.read_text())["findings"] if f["code"] == "dead-files"]
    assert len(dead[0]["items"]) == 4
    assert "No depth was read" in page.read_text()


def test_real_frames() -> None:
    root = Path(__file__).parents[2] / "../shared/data/seven_scenes_mini"
    if not root.is_dir():
        pytest.skip("the real frames are not on this machine")
    camera = [263.5, 263.5, 160.75, 118.78]
    found = examine(root, settings={"depth_scale": 0.001, "intrinsics": camera}, sample=25, workers=1)
    assert [f for f in found.findings if f.severity != "info"] == []
    assert abs(to_dict(found)["planes"]["exponent"]) < 0.35


def test_nothing_is_changed(made: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in made.rglob("*")}
    examine(made, sample=2, workers=1)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in made.rglob("*")} == before
