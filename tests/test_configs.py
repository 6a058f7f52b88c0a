"""Every shipped experiment runs as it is, on tiny data in the true layout; only sizes and the root are overridden."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mde.cli import main
from mde.cli.experiments import names
from mde.data.layouts import get_layout, layouts
from mde.data.writers import mark, smooth
from tests.fakes import write_nyu_labeled, write_rgbd_folder

SMALL = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1")
QUIET = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--run.test", "true")
ENCODER = "--model.encoder.init_args"


def nyu(folder: Path) -> list[str]:
    # the crops are defined on 480x640 only
    write_nyu_labeled(folder, (480, 640), rows=[0, 1, 2, 5, 1000, 1001, 1224, 1225])
    return ["--data.root", str(folder), "--data.image_size", "[64, 64]", "--trainer.limit_test_batches", "1"]


def densenet(folder: Path) -> list[str]:
    return [*nyu(folder), f"{ENCODER}.weights", "null", f"{ENCODER}.name", "densenet121"]


def made(layout: str) -> Callable[[Path], list[str]]:
    """A densenet on what ``mde make-data`` writes for a layout, at its true size."""

    def needs(folder: Path) -> list[str]:
        get_layout(layout).load_writer()(folder, 4, smooth)
        mark(folder, layout, {})
        words = ["--data.root", str(folder), "--data.image_size", "[64, 64]", "--data.batch_size", "2"]
        return [*words, f"{ENCODER}.weights", "null", f"{ENCODER}.name", "densenet121"]

    return needs


def folder_of_frames(folder: Path) -> list[str]:
    write_rgbd_folder(folder, {"train": 10, "val": 2, "test": 2}, size=(48, 64))
    return ["--data.root", str(folder), "--data.image_size", "[48, 64]"]


def small(layout: str, size: tuple[int, int] = (64, 96)) -> Callable[[Path], list[str]]:
    """A small copy of a layout as ``mde make-data`` writes it."""

    def needs(folder: Path) -> list[str]:
        get_layout(layout).load_writer()(folder, 10, smooth, size)
        mark(folder, layout, {})
        return ["--data.root", str(folder), "--data.image_size", "[64, 96]", "--trainer.limit_test_batches", "1"]

    return needs


def deeplab(layout: str, size: tuple[int, int] | None = None) -> Callable[[Path], list[str]]:
    """A small DeepLab on small crops by Eigen's augmentation."""
    eigen = '[{"class_path": "mde.data.augment.EigenAugmentation", "init_args": {"crop": [48, 64]}}]'
    backbone = [f"{ENCODER}.weights", "null", f"{ENCODER}.name", "resnet18"]
    return lambda folder: [*small(layout, size or (64, 96))(folder), *backbone, "--data.augmentations", eigen]


def eigen(needs: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
    """A small network on small crops."""
    crop = '[{"class_path": "mde.data.augment.EigenAugmentation", "init_args": {"crop": [56, 64]}}]'
    tiny = ["--model.input_size", "[56, 64]", "--model.widths", "[4, 4, 4, 4, 4]", "--model.hidden", "8"]
    return lambda folder: [*needs(folder), *tiny, "--data.augmentations", crop, "--data.batch_size", "2"]


def stereo(folder: Path) -> list[str]:
    backbone = [f"{ENCODER}.weights", "null", f"{ENCODER}.name", "resnet18"]
    return [*small("kitti/raw", (375, 1242))(folder), *backbone, "--data.batch_size", "2"]


def resnet(folder: Path) -> list[str]:
    return [*small("unreal/paper1")(folder), f"{ENCODER}.weights", "null", f"{ENCODER}.name", "resnet18"]


def resnet_paper1(folder: Path) -> list[str]:
    crop = '[{"class_path": "mde.data.augment.CentreCrop", "init_args": {"crop": [64, 64]}}]'
    return [*resnet(folder), "--data.augmentations", crop]


def tiny_sam(needs: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
    config = '{"hidden_size": 24, "mlp_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64}'
    return lambda folder: [*needs(folder), f"{ENCODER}.weights", "null", f"{ENCODER}.config", config]


TINY_DEPTH_ANYTHING = {
    "model_type": "depth_anything",
    "patch_size": 14,
    "reassemble_hidden_size": 24,
    "neck_hidden_sizes": [8, 8, 16, 16],
    "fusion_hidden_size": 16,
    "head_hidden_size": 8,
    "backbone_config": {
        "model_type": "dinov2",
        "hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
        "image_size": 56,
        "patch_size": 14,
        "out_indices": [1, 2, 3, 4],
        "reshape_hidden_states": False,
    },
}


def tiny_depth_anything(needs: Callable[[Path], list[str]], **more: object) -> Callable[[Path], list[str]]:
    plain = ["--model.weights", "null", "--model.preprocessing", '{"size": [28, 42]}']
    return lambda folder: [*needs(folder), *plain, "--model.config", json.dumps({**TINY_DEPTH_ANYTHING, **more})]


def tiny_vit(needs: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
    options = '{"embed_dim": 24, "depth": 4, "num_heads": 2}'
    return lambda folder: [*needs(folder), f"{ENCODER}.weights", "null", f"{ENCODER}.options", options]


def densedepth_set(folder: Path) -> list[str]:
    get_layout("nyu/densedepth").load_writer()(folder, 20, smooth, (48, 64))  # paper 0's 1 % is one of 20
    mark(folder, "nyu/densedepth", {})
    return ["--data.root", str(folder), "--data.image_size", "[64, 64]", "--trainer.limit_test_batches", "1"]


def rendered(_: Path) -> list[str]:
    return [word for split in ("train", "val", "test") for word in (f"--data.{split}_scenes", "16")]


def part(name: str, words: list[str]) -> list[str]:
    """Settings of a data set, ``--data.root X``, as those of a part of a mixture; its size is the mixture's."""
    pairs = zip(words[::2], words[1::2], strict=True)
    own = [(key, value) for key, value in pairs if key.startswith("--data.") and key != "--data.image_size"]
    return [w for key, value in own for w in (key.replace("--data.", f"--data.parts.{name}.init_args."), value)]


def rendered_mixture(folder: Path) -> list[str]:
    return [*part("rooms", rendered(folder)), *part("street", rendered(folder))]


def nyu_and_kitti(folder: Path) -> list[str]:
    roots = [*part("nyu", nyu(folder / "nyu")), *part("kitti", small("kitti/raw", (375, 1242))(folder / "kitti"))]
    tiny = [f"{ENCODER}.weights", "null", f"{ENCODER}.name", "resnet18", "--data.image_size", "[64, 64]"]
    return [*roots, *tiny, "--data.epoch_length", "8", "--trainer.limit_test_batches", "1"]


NEEDS: dict[str, Callable[[Path], list[str]]] = {
    "folder/advised": folder_of_frames,
    "folder/densedepth": folder_of_frames,
    "folder/dpt_dinov2": tiny_vit(folder_of_frames),
    "kitti/deeplab_sid": deeplab("kitti/raw", (375, 1242)),
    "kitti/deeplab_sid_paper2": deeplab("kitti/raw", (375, 1242)),
    "kitti/densedepth": made("kitti/raw"),
    "kitti/densedepth_velodyne": made("kitti/raw"),
    "kitti/dpt_dinov2": tiny_vit(small("kitti/raw", (375, 1242))),
    "kitti/depth_anything_v2": tiny_depth_anything(small("kitti/raw", (375, 1242))),
    "kitti/dorn": deeplab("kitti/raw", (375, 1242)),
    "kitti/eigen": eigen(small("kitti/raw", (375, 1242))),
    "mixed/midas": rendered_mixture,
    "mixed/midas_nyu_kitti": nyu_and_kitti,
    "kitti/stereo": stereo,
    "kitti/stereo_semi": stereo,
    "nyu/densedepth": densenet,
    "nyu/densedepth_50k": made("nyu/densedepth"),
    "nyu/densedepth_bts": made("nyu/bts"),
    "nyu/densedepth_filled": made("nyu/h5"),
    "nyu/densedepth_paper3": densenet,
    "nyu/depth_anything_v2": tiny_depth_anything(nyu),
    "nyu/depth_anything_v2_metric": tiny_depth_anything(nyu, depth_estimation_type="metric", max_depth=10),
    "nyu/eigen": eigen(nyu),
    "nyu/dpt_dinov2": tiny_vit(nyu),
    "nyu/sam": tiny_sam(nyu),
    "nyu/sam_paper0": tiny_sam(densedepth_set),
    "nyu/unet": nyu,
    "quickstart": rendered,
    "rooms/advised": rendered,
    "rooms/densedepth": rendered,
    "rooms/densedepth_paper3": rendered,
    "rooms/depth_anything": rendered,
    "rooms/eigen": rendered,
    "rooms/dpt": rendered,
    "rooms/glpn": rendered,
    "rooms/resnet": rendered,
    "rooms/resnet_paper1": rendered,
    "rooms/sam": rendered,
    "rooms/sam_paper0": rendered,
    "rooms/unet": rendered,
    "street/deeplab_ordinal": rendered,
    "street/advised": rendered,
    "street/deeplab_sid": rendered,
    "street/stereo": rendered,
    "street/stereo_semi": rendered,
    "street/deeplab_sid_paper2": rendered,
    "synthia/deeplab_sid": deeplab("synthia/rand_cityscapes"),
    "synthia/deeplab_sid_paper2": deeplab("synthia/rand_cityscapes"),
    "synthia/densedepth": small("synthia/rand_cityscapes"),
    "unreal/densedepth": small("unreal/paper1"),
    "unreal/densedepth_80": small("unreal/tartanair"),
    "unreal/resnet": resnet,
    "unreal/resnet_paper1": resnet_paper1,
}


def test_every_experiment_is_run_here():
    assert set(NEEDS) == set(names())


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_it_trains_tests_and_says_what_it_found(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mde"])
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    words = NEEDS[name](tmp_path / "data")
    assert main(["fit", "--config", name, *SMALL, *QUIET, *words]) == 0
    found = list((tmp_path / "runs" / name.replace("/", "-")).glob("*/results.json"))
    assert len(found) == 1
    results = json.loads(found[0].read_text())
    assert results["images"] > 0
    assert results["metrics"]["abs_rel"] > 0
    assert results["baseline"]["abs_rel"] > 0
    assert results["protocol"]["fingerprint"]


OTHERS = [
    (layout.name, config)
    for layout in layouts().values()
    for config in layout.configs
    if not config.startswith("unreal/resnet")  # as above, on the one layout that names it
    and layout.name not in ("nyu/labeled", "nyu/densedepth", "nyu/bts", "nyu/h5", "kitti/raw", "folder/rgbd")
]


@pytest.mark.parametrize(("layout", "config"), OTHERS)
def test_every_layout_trains_by_its_experiments(layout, config, tmp_path, monkeypatch):
    """What `mde make-data` prints is what works: no other setting than the root is needed to open the data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mde"])
    words = (made if layout.startswith("nyu/") else small)(layout)(tmp_path / "data")
    width = "16" if config == "folder/advised" else "0.05"  # channels, or a share of them
    tiny = ("--model.decoder.init_args.width", width, "--trainer.limit_test_batches", "1")
    assert main(["fit", "--config", config, *SMALL, *QUIET, *words, *tiny]) == 0
    results = json.loads(next((tmp_path / "runs").glob("*/*/results.json")).read_text())
    assert results["data_facts"]["made"]
    assert results["metrics"]["abs_rel"] > 0


def test_a_mixture_is_tested_on_all_its_parts(tmp_path, monkeypatch):
    """In the training's run and from its checkpoint; each part against its own constant, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mde"])
    words = [*rendered_mixture(tmp_path), "--run.name", "mix"]
    assert main(["fit", "--config", "mixed/midas", *SMALL, *QUIET, *words]) == 0
    run = next((tmp_path / "runs/mix").iterdir())
    best = str(run / "checkpoints/best.ckpt")
    words = ["--ckpt_path", best, "--run.name", "again", "--data.evaluate", "street", "--trainer.accelerator", "cpu"]
    assert main(["test", *words]) == 0
    again = next((tmp_path / "runs/again").iterdir())
    for first, second, name in ((run, again / "rooms", "rooms"), (run / "street", again, "street")):
        here, there = (json.loads((folder / "results.json").read_text()) for folder in (first, second))
        assert here["metrics"] == there["metrics"]
        assert here["baseline_depth"] == there["baseline_depth"]
        assert here["protocol"]["name"] == f"{name}_disparity"
        assert (here["data"], here["data_facts"]["world"]) == ("ProceduralDataModule", name)
        assert here["checkpoint"].endswith("best.ckpt")
    assert (run / "street" / "per_image.csv").read_text() != (run / "per_image.csv").read_text()
    assert not (run / "street" / "checkpoints").exists()
