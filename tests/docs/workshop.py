"""What the blocks of the pages work on, each thing made once: a trained run, data in true layouts, pictures, a clip."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import cv2
import numpy as np

from mde.cli import main
from mde.cli.datasets import make_data_module
from mde.data.layouts import get_layout, layouts
from mde.data.writers import mark, smooth
from mde.report.pairs import TruthSet
from mde.report.predictions import flat_name
from tests.fakes import fake_frame, write_image
from tests.inference.clips import make_clip, ramps
from tests.test_configs import NEEDS

CPU = ("--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.enable_progress_bar", "false")
SHORT = (*CPU, "--data.num_workers", "0", "--trainer.limit_test_batches", "1")
FIT = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1")
ROOMS = ("--data.train_scenes", "16", "--data.val_scenes", "4", "--data.test_scenes", "10")
NETWORK = (
    "--model.encoder.init_args.options", "{channels: [8, 8, 16, 16], stem_width: 8}",
    "--model.decoder.init_args.width", "8",
)  # fmt: skip
_VARIABLES = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "MPLBACKEND": "Agg"}


def call(words: list[str], variables: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run ``mde`` in this process and folder; its exit code, what it wrote to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    changed = mock.patch.dict(os.environ, {**_VARIABLES, **(variables or {})})
    with changed, mock.patch("sys.argv", ["mde"]), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for name in ("LOCAL_RANK", "MDE_RUN_FOLDER"):
            os.environ.pop(name, None)
        code = main(words)
    return code, out.getvalue(), err.getvalue()


class Workshop:
    """Makes things in a folder when they are asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def stock(self) -> Path:
        """What stands in every sandbox: two runs, a checkpoint, pictures and a clip."""
        made = self.root / "stock"
        made.mkdir()
        with contextlib.chdir(made):
            for seed in ("0", "1"):
                words = ["fit", "--config", "quickstart", "--seed_everything", seed, *SHORT, *FIT, *ROOMS, *NETWORK]
                assert call(words)[0] == 0
            first, second = sorted(Path("runs/quickstart").iterdir())
            shutil.copytree(first, "runs/a")
            shutil.move(second, "runs/b")
            for name in ("a", "b"):  # as two runs of a sweep have it
                shutil.copytree(f"runs/{name}", f"runs/sweeps/comparison/{name}-seed0/{first.name}")
            shutil.copy("runs/a/checkpoints/best.ckpt", "best.ckpt")
            for number, name in enumerate(("photo.jpg", "photos/photo.jpg", "photos/more/0001.jpg")):
                write_image(Path(name), fake_frame(number, (120, 160))[0])
            make_clip(Path("clip.mp4"), ramps(12, (48, 64)))
        return made

    @cache  # noqa: B019
    def trained(self, experiment: str) -> Path:
        """``runs/NAME`` of an experiment on its data."""
        words = ["fit", "--config", experiment, "--data.root", str(self.data(experiment)), *SHORT, *FIT]
        with contextlib.chdir(self.root):
            made = call([*words, *self.needs(experiment)[1]])
            assert made[0] == 0, made[2]
        return self.root / "runs" / experiment.replace("/", "-")

    def data(self, experiment: str) -> Path:
        """A folder of data for an experiment."""
        known = [layout.name for layout in layouts().values() if experiment in layout.configs]
        return self.layout(known[0]) if known else self.needs(experiment)[0]

    @cache  # noqa: B019
    def needs(self, experiment: str) -> tuple[Path, list[str]]:
        """A folder of data for an experiment, and settings that make it small; no ``--data.root`` among them."""
        folder = self.root / "data" / experiment
        words = NEEDS[experiment](folder)
        if "--data.root" in words:
            at = words.index("--data.root")
            words = words[:at] + words[at + 2 :]
        return folder, words

    @cache  # noqa: B019
    def layout(self, name: str, size: tuple[int, int] | None = None) -> Path:
        """A data set as ``mde make-data`` writes it."""
        folder = self.root / "layouts" / name
        get_layout(name).load_writer()(folder, 6, smooth, size)
        mark(folder, name, {})
        return folder

    @cached_property
    def own_frames(self) -> Path:
        """The folder that `MyDataModule` of docs/custom.md reads: NAME.jpg, and NAME.npy in centimetres."""
        folder = self.root / "own"
        for number in range(20):
            image, depth = fake_frame(number, (48, 64))
            write_image(folder / f"{number:02d}.jpg", image)
            np.save(folder / f"{number:02d}.npy", 100 * depth)
        return folder

    @cache  # noqa: B019
    def predictions(self, experiment: str, form: Literal["kitti", "metres", "disparity"]) -> Path:
        """Maps for the test frames of a data set: 16-bit PNG as KITTI has it, or npy."""
        folder = self.root / "predictions" / form / experiment
        folder.mkdir(parents=True)
        data = make_data_module(experiment, {"root": self.data(experiment)})
        truth = TruthSet(data)
        for index in range(len(truth)):
            measured, valid = truth.measured(index)
            depth = np.where(valid, 1.1 * measured, 5.0)
            place = folder / flat_name(truth.frame_id(index))
            if form == "kitti":
                _write_png(place.with_suffix(".png"), depth, 256)
            else:
                values = depth if form == "metres" else 1 / depth
                np.save(place.with_suffix(".npy"), values.astype(np.float32))
        return folder

    @cached_property
    def maps(self) -> Path:
        """``gt/`` and ``out/``: measured maps of 480x640 in millimetres, predicted ones as floats in metres."""
        folder = self.root / "maps"
        for number in range(3):
            depth = fake_frame(number, (480, 640))[1].astype(np.float64)
            for name in ("gt", "out"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            _write_png(folder / "gt" / f"{number}.png", depth, 1000)
            np.save(folder / "out" / f"{number}.npy", np.maximum(1.1 * depth, 0.5).astype(np.float32))
        return folder


def _write_png(path: Path, depth: Any, scale: float) -> None:
    assert cv2.imwrite(str(path), np.round(depth * scale).astype(np.uint16))
