"""Shards: what is read is what was written, each frame once per epoch, and a stopped epoch goes on with the rest."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningModule, Trainer

from mde.cli.shards import run
from mde.data.base import DepthDataModule, SeededSampler
from mde.data.dataset import ChangedDataset, RawSample
from mde.data.encodings import DepthEncoding
from mde.data.io import read_image, write_depth, write_image
from mde.data.layouts import get_layout
from mde.data.shards import ShardedDataModule
from mde.data.shards.items import decode_frame, decode_id, encode_frame
from mde.data.shards.writer import estimated_bytes, write_shards
from mde.data.writers import smooth
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError
from mde.types import Batch
from tests.data.contract import DataModuleContract, epoch, same_items

pytest.importorskip("litdata", reason="the extra 'shards' is not installed")
TRAIN = 13


def source(root: Path, **more: Any) -> DepthDataModule:
    """A folder of JPEG and 16-bit PNG."""
    layout = get_layout("folder/rgbd")
    if not root.exists():
        layout.load_writer()(root, TRAIN, smooth, (24, 32))
    fixed: dict[str, Any] = {"depth_scale": 0.001, "image_size": (16, 24), "protocol": "kinect", "seed": 3}
    return layout.make(root, **{**fixed, **more})


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(source(folder / "data", depth_range=(0.2, 8.0)), folder / "out", chunk_bytes=4000)
    return folder / "out"


def equal(first: RawSample, second: RawSample) -> bool:
    arrays = [(getattr(first, k), getattr(second, k)) for k in ("image", "depth", "valid", "intrinsics", "labels")]
    return first.id == second.id and all(
        a is b is None or (a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
        for a, b in arrays
    )


# --------------------------------------------------------------------------------------------------------------- items


@given(
    seed=st.integers(0, 10**6),
    unit=st.sampled_from([None, 1 / 1000, 1 / 256, 1 / 100, 1 / 5000, 10 / 255]),
    labels=st.booleans(),
    known=st.sampled_from([0.0, 0.05, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_a_frame_comes_back_bit_for_bit(seed: int, unit: float | None, labels: bool, known: float) -> None:
    rng = np.random.default_rng(seed)
    shape = (7, 9)
    counts = np.where(rng.random(shape) < known, rng.integers(1, 65536, shape), 0).astype(np.uint16)
    depth, valid = DepthEncoding(unit or 1.0, invalid=()).to_metres(counts)
    if unit is None:
        depth = np.where(valid, rng.uniform(0.01, 200, shape), 0).astype(np.float32)
    camera = np.array([[500.25, 0, 4.1], [0, 499.75, 3.3], [0, 0, 1]], np.float32)
    raw = RawSample(
        rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
        depth,
        valid,
        np.full((3, 3), np.nan, np.float32) if seed % 2 else camera,
        f"szene/größe {seed}",
        rng.integers(0, 256, shape, dtype=np.uint8) if labels else None,
    )
    item = encode_frame(raw)
    assert equal(decode_frame(item, "x"), raw)
    assert decode_id(item, "x") == raw.id


def test_files_are_kept_as_they_are(tmp_path: Path) -> None:
    dataset = source(tmp_path / "data").dataset("train")
    image, depth = dataset.files(0)
    _, stored_image, stored_depth, _ = encode_frame(dataset.read(0), dataset.files(0))
    assert stored_image == image.read_bytes()
    assert stored_depth == depth.read_bytes()


def test_a_file_that_reads_otherwise_is_not_trusted(tmp_path: Path) -> None:
    dataset = source(tmp_path / "data").dataset("train")
    other = dataset.read(1)
    item = encode_frame(other, dataset.files(0))
    assert item[1] != dataset.files(0)[0].read_bytes()
    assert equal(decode_frame(item, "x"), other)


@pytest.mark.parametrize("scale", [0.002, 1 / 256, 10 / 255, 0.00033])
def test_the_unit_of_a_file_is_found(tmp_path: Path, scale: float) -> None:
    raw = RawSample(
        np.zeros((5, 6, 3), np.uint8),
        *DepthEncoding(scale).to_metres(np.random.default_rng(0).integers(0, 256, (5, 6)).astype(np.uint8)),
        np.eye(3, dtype=np.float32),
        "a",
    )
    write_depth(tmp_path / "d.png", raw.depth, scale, np.uint8)
    item = encode_frame(raw, (tmp_path / "none.mat", tmp_path / "d.png"))
    assert item[2] == (tmp_path / "d.png").read_bytes()
    assert equal(decode_frame(item, "x"), raw)


def test_files_that_need_more_than_decoding_are_passed_over(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(1, 256, (5, 6, 3), dtype=np.uint8)
    write_image(tmp_path / "packed.png", colours)
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff no end")
    depth = (colours @ np.array([1, 256, 65536])).astype(np.float32) / 16777
    raw = RawSample(colours, depth, depth > 0, np.eye(3, dtype=np.float32), "packed")
    assert equal(decode_frame(encode_frame(raw, (tmp_path / "cut.jpg", tmp_path / "packed.png")), "x"), raw)


def test_what_is_no_frame_is_named() -> None:
    with pytest.raises(DataFormatError, match=r"not a frame \[here\].*Next"):
        decode_frame([b"{", b"", b"", b""], "here")
    negative = np.full((2, 2), -1, np.float32)
    raw = RawSample(np.zeros((2, 2, 3), np.uint8), negative, negative < 0, np.eye(3, dtype=np.float32), "bad")
    with pytest.raises(DataFormatError, match=r"without loss \[bad\].*Next"):
        encode_frame(raw)


# ------------------------------------------------------------------------------------------------------------ the sets


class TestSharded(DataModuleContract):
    def make(self, folder: Path, **settings: Any) -> DepthDataModule:
        if not (folder / "out").exists():
            write_shards(source(folder / "data"), folder / "out", chunk_bytes=4000)
        return ShardedDataModule(str(folder / "out"), **settings)


def test_reads_what_the_source_reads(shards: Path) -> None:
    before = source(shards.parent / "data", depth_range=(0.2, 8.0))
    after = ShardedDataModule(str(shards), seed=3)
    assert (after.protocol, after.depth_range, after.image_size) == (before.protocol, (0.2, 8.0), (16, 24))
    assert len(list((shards / "train").glob("*.bin"))) > 2
    for split in ("train", "val", "test"):
        first, second = before.dataset(split), after.dataset(split)
        assert len(first) == len(second)
        for index in range(len(first)):
            assert equal(first.read(index), second.read(index))
            assert first.frame_id(index) == second.frame_id(index)
            assert same_items(first[index + 5 * len(first)], second[index + 5 * len(second)])
    assert all(map(same_items, epoch(before, 2), epoch(after, 2)))
    assert after.facts() == {**before.facts(), "shards_of": "RGBDFolderDataModule", "frames": after.facts()["frames"]}
    assert ShardedDataModule(str(shards), image_size=(8, 8), protocol="nyu_eigen").protocol.crop == "nyu_eigen"


def test_workers_write_the_same_files(shards: Path, tmp_path: Path) -> None:
    again = source(shards.parent / "data", depth_range=(0.2, 8.0))
    seen: list[tuple[str, int, int]] = []
    write_shards(again, tmp_path / "out", chunk_bytes=4000, num_workers=2, progress=lambda *step: seen.append(step))
    assert seen[:TRAIN] == [("train", done, TRAIN) for done in range(1, TRAIN + 1)]
    names = sorted(path.relative_to(shards) for path in shards.rglob("*.bin"))
    assert names == sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.bin"))
    assert all((shards / name).read_bytes() == (tmp_path / "out" / name).read_bytes() for name in names)
    written = sum((shards / name).stat().st_size for name in names)
    assert abs(estimated_bytes(again) - written) < 0.2 * written


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_frame_once_per_epoch_over_the_ranks(shards: Path, monkeypatch: pytest.MonkeyPatch, world: int) -> None:
    """All frames are dealt out; ranks draw equally often, so at most world - 1 frames come a second time."""
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: world)
    seen = []
    for rank in range(world):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        sampler = ShardedDataModule(str(shards), batch_size=2).train_dataloader().sampler
        assert isinstance(sampler, SeededSampler)
        sampler.set_epoch(4)
        seen.append([index - 4 * TRAIN for index in sampler])
    assert {len(part) for part in seen} == {-(-TRAIN // world)}
    dealt = [part[i] for i in range(len(seen[0])) for part in seen]
    assert sorted(dealt[:TRAIN]) == list(range(TRAIN))
    assert dealt[TRAIN:] == dealt[: len(dealt) - TRAIN]


# ------------------------------------------------------------------------------------------------------------ resuming


class Seen(LightningModule):
    """Learns nothing, and remembers which pictures it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.pictures: list[tuple[int, str, float]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        sums = batch["image"].sum(dim=(1, 2, 3)).tolist()
        self.pictures += [(self.current_epoch, name, total) for name, total in zip(batch["id"], sums, strict=True)]
        return self.weight * 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Kill(Callback):
    """Saves a checkpoint after so many steps, when `ModelCheckpoint(every_n_train_steps=…)` would, and stops."""

    def __init__(self, steps: int, path: Path) -> None:
        self.steps, self.path = steps, path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.steps:
            trainer.save_checkpoint(self.path)
            raise RuntimeError("killed")


def fit(shards: Path, workers: int, ckpt: Path | None = None, kill: Kill | None = None) -> list[Any]:
    data = ShardedDataModule(str(shards), batch_size=2, num_workers=workers)
    model = Seen()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0}
    callbacks: list[Callback] = [kill] if kill else []
    trainer = Trainer(accelerator="cpu", max_epochs=3, callbacks=callbacks, enable_checkpointing=False, **quiet)
    with pytest.raises(RuntimeError, match="killed") if kill else nullcontext():
        trainer.fit(model, data, ckpt_path=None if ckpt is None else str(ckpt))
    return model.pictures


@pytest.mark.parametrize(("steps", "workers"), [(2, 0), (2, 2), (6, 0), (8, 2), (11, 0)])
def test_a_stopped_epoch_goes_on_with_the_rest(shards: Path, tmp_path: Path, workers: int, steps: int) -> None:
    whole = fit(shards, 0)
    assert len(whole) == 3 * 12  # 13 frames in batches of two
    first = fit(shards, workers, kill=Kill(steps, tmp_path / "c.ckpt"))
    rest = fit(shards, workers, ckpt=tmp_path / "c.ckpt")
    assert first == whole[: 2 * steps]
    assert rest == whole[2 * steps :]


def test_other_batches_are_not_taken_for_the_rest(shards: Path) -> None:
    loader = ShardedDataModule(str(shards), batch_size=2).train_dataloader()
    next(iter(loader))
    state = loader.state_dict()  # type: ignore[attr-defined]
    assert state["batches"] == 1
    other = ShardedDataModule(str(shards), batch_size=3).train_dataloader()
    with pytest.raises(ConfigError, match=r"'batch_size': 2.*'batch_size': 3.*Next"):
        other.load_state_dict(state)  # type: ignore[attr-defined]


# -------------------------------------------------------------------------------------------------------------- damage


class Stops(ChangedDataset):
    """A data set whose second frame cannot be read."""

    def read(self, index: int) -> RawSample:
        if index == 1:
            raise DataFormatError("broken frame")
        return self.dataset.read(index)


def test_an_interrupted_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = source(tmp_path / "data", val_fraction=0.3), tmp_path / "out"
    test = data.dataset("train")
    monkeypatch.setitem(data._datasets, "test", Stops(test))
    with pytest.raises(DataFormatError, match="broken frame"):
        write_shards(data, out)
    with pytest.raises(DatasetNotFoundError, match=r"unfinished.*Next"):
        ShardedDataModule(str(out))
    stamp = (out / "train" / "index.json").stat().st_mtime_ns
    with pytest.raises(ConfigError, match=r"something else.*Next"):
        write_shards(source(tmp_path / "data", image_size=(8, 8)), out)
    monkeypatch.setitem(data._datasets, "test", test)
    counts = write_shards(data, out)
    assert (out / "train" / "index.json").stat().st_mtime_ns == stamp
    assert counts == {split: len(ShardedDataModule(str(out)).dataset(split)) for split in ("train", "val", "test")}
    assert sorted(path.name for path in out.iterdir()) == ["about", "test", "train", "val"]


def test_another_source_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = source(tmp_path / "data"), source(tmp_path / "other")
    monkeypatch.setitem(first._datasets, "train", Stops(first.dataset("train")))
    with pytest.raises(DataFormatError, match="broken frame"):
        write_shards(first, tmp_path / "out")
    assert second.facts() == first.facts()
    with pytest.raises(ConfigError, match=r"something else.*Next"):
        write_shards(second, tmp_path / "out")


def test_a_cache_of_smaller_frames_is_no_source(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.cache.*Next"):
        write_shards(source(shards.parent / "data", cache=str(tmp_path / "cache")), tmp_path / "out")


def test_nothing_is_overwritten(shards: Path) -> None:
    with pytest.raises(ConfigError, match=r"not empty.*Next"):
        write_shards(source(shards.parent / "data"), shards)


def test_no_shards(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(DatasetNotFoundError, match=r"no shards of mde.*Next: .*mde shards"):
            ShardedDataModule(str(place))


def test_missing_and_cut_chunks_are_counted(tmp_path: Path) -> None:
    write_shards(source(tmp_path / "data"), tmp_path / "out", chunk_bytes=4000)
    chunks = sorted((tmp_path / "out" / "train").glob("*.bin"))
    chunks[0].unlink()
    chunks[1].write_bytes(chunks[1].read_bytes()[:-1])
    data = ShardedDataModule(str(tmp_path / "out"))
    with pytest.raises(
        DataFormatError, match=rf"2 of {len(chunks)} chunks .*{chunks[0].name}, {chunks[1].name} .*Next"
    ):
        data.setup("fit")


def test_without_litdata_the_extra_is_named(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litdata.streaming", None)
    with pytest.raises(ConfigError, match=r"pip install mde\[shards\]"):
        ShardedDataModule(str(shards))
    with pytest.raises(ConfigError, match=r"pip install mde\[shards\]"):
        write_shards(source(shards.parent / "data"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------------------------------------------- object store


@pytest.fixture
def store(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """A server that answers as S3 does, with the shards as its bucket, and the ranges it was asked for."""
    ranges: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = shards / self.path.split("?")[0].removeprefix("/bucket/set/")
            if not path.is_file():
                return self._answer(404, b"", {})
            data, asked = path.read_bytes(), re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
            if asked is None:
                return self._answer(200, data, {})
            low, high = int(asked[1]), int(asked[2]) + 1
            ranges.append(path.parent.name)
            return self._answer(206, data[low:high], {"Content-Range": f"bytes {low}-{high - 1}/{len(data)}"})

        do_HEAD = do_GET

        def _answer(self, code: int, data: bytes, more: dict[str, str]) -> None:
            self.send_response(code)
            date = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "ETag": '"x"'}
            for key, value in {"Content-Length": str(len(data)), **date, **more}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield f"http://127.0.0.1:{server.server_port}", ranges
    server.shutdown()


def test_an_object_store_gives_the_same_frames(shards: Path, store: tuple[str, list[str]]) -> None:
    address, ranges = store
    remote = ShardedDataModule("s3://bucket/set", storage={"endpoint_url": address})
    local = ShardedDataModule(str(shards))
    assert remote.protocol == local.protocol
    for index in (0, TRAIN - 1, 5):
        assert equal(remote.dataset("train").read(index), local.dataset("train").read(index))
    assert ranges == ["about"] * 2 + ["train"] * 6  # the place of a frame, then its bytes; never a whole chunk


def test_an_object_store_without_shards(store: tuple[str, list[str]]) -> None:
    with pytest.raises(DataFormatError, match=r"s3://bucket/other/about.*Next"):
        ShardedDataModule("s3://bucket/other", storage={"endpoint_url": store[0]})


# -------------------------------------------------------------------------------------------------------- command line


def test_the_command_writes_and_says_how_to_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source(tmp_path / "data")
    words = [str(tmp_path / "data"), str(tmp_path / "out"), "--set", "depth_scale=0.001", "--set", "image_size=[8, 12]"]
    assert run([*words, "--estimate"]) == 0
    assert not (tmp_path / "out").exists()
    assert run(words) == 0
    said = capsys.readouterr().out
    assert f"{TRAIN} train, 1 val, 1 test" in said
    assert "--data ShardedDataModule --data.root" in said
    assert ShardedDataModule(str(tmp_path / "out")).image_size == (8, 12)
    image = source(tmp_path / "data").dataset("train").files(0)[0]
    stored = ShardedDataModule(str(tmp_path / "out")).dataset("train").read(0).image
    assert np.array_equal(stored, read_image(image))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "depth_scale"], "key=value"),
        (["--set", "dept_scale=1"], "dept_scale.*Next"),
        (["--set", "a=[1"], "cannot be read.*Next"),
        (["--layout", "folder/rgdb"], "nearest: folder/rgbd"),
        (["--chunk-mb", "0"], "chunk-mb"),
    ],
)
def test_wrong_commands(tmp_path: Path, words: list[str], message: str) -> None:
    source(tmp_path / "data")
    with pytest.raises(ConfigError, match=message):
        run([str(tmp_path / "data"), str(tmp_path / "out"), *words])


def test_a_full_disk_is_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source(tmp_path / "data")
    monkeypatch.setattr("mde.cli.shards.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(ConfigError, match="larger disk"):
        run([str(tmp_path / "data"), str(tmp_path / "out"), "--set", "depth_scale=0.001"])
    assert not (tmp_path / "out").exists()


def test_the_index_is_litdatas_own(shards: Path) -> None:
    index = json.loads((shards / "train" / "index.json").read_text())
    assert sum(chunk["chunk_size"] for chunk in index["chunks"]) == TRAIN
    assert index["config"]["data_format"] == ["bytes"] * 4
