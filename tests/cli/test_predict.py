"""``mde predict``, as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mde
from mde.cli import main
from mde.cli.predict_options import make_parser
from mde.data.io import write_depth
from tests.checkpoints import tiny_unet, write_checkpoint

SIZE = (16, 24)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt", tiny_unet(SIZE))


@pytest.fixture
def photos() -> Path:
    folder = Path("photos")
    (folder / "sub").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "sub/c.png"):
        Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], checkpoint: Path) -> Callable[..., str]:
    """Runs the command, which must end with a code, and returns what it printed, errors last."""

    def call(code: int, *words: str | Path, given: str | Path = checkpoint) -> str:
        threads = torch.get_num_threads()
        assert main(["predict", *map(str, words), "--checkpoint", str(given), "-o", "out"]) == code
        torch.set_num_threads(threads)
        return "".join(capsys.readouterr())

    return call


def files(folder: str = "out") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_a_folder_becomes_depth_maps(said: Callable[..., str], photos: Path, checkpoint: Path) -> None:
    text = said(0, photos, "--recursive", "--format", "npy,side", "--format", "png16")
    assert "UNet: metric (m, 0.2 to 12 m); works at 16x24, to which pictures are stretched" in text
    assert "3 pictures in " in text
    assert "Written: out (npy, side, png16)" in text
    endings = ("_depth.npy", "_depth.npy.json", "_depth.png", "_side.png")
    assert files() == sorted([f"{stem}{end}" for stem in ("a", "b", "sub/c") for end in endings] + ["predict.jsonl"])
    found = mde.read_depth("out/sub/c_depth.npy")
    wanted = mde.load(checkpoint).predict(photos / "sub" / "c.png").values[0, 0].numpy()
    np.testing.assert_array_equal(found.values, wanted)
    np.testing.assert_allclose(mde.read_depth("out/sub/c_depth.png").values, wanted, atol=1e-3)
    assert (found.model, found.source, found.unit) == ("UNet", "sub/c.png", "m")
    assert "0 pictures in" in said(0, photos, "-r", "--format", "npy,side,png16")
    text = said(0, photos, "-r", "--format", "npy,side,png16", "--flip")
    assert "outputs of other settings: they are made again" in text
    assert "3 pictures in" in text


def test_bad_pictures_are_listed_and_the_rest_is_done(said: Callable[..., str], photos: Path) -> None:
    (photos / "zero.jpg").touch()
    (photos / "text.png").write_text("hello")
    text = said(1, photos, "--format", "npz", "--fov", "60")
    assert "2 pictures in" in text
    assert "mde: skipped: the file is empty [photos/zero.jpg]. Next: " in text
    assert "2 skipped, listed above and in out/predict.jsonl" in text
    found = mde.read_depth("out/a_depth.npz")
    assert found.intrinsics is not None
    assert found.intrinsics[0, 0] == pytest.approx(20 / np.tan(np.radians(30)))


def test_clouds_masks_and_deviations(said: Callable[..., str], photos: Path) -> None:
    words = ("--fov", "60", "--min-confidence", "0.9", "--size", "32x48")
    said(0, photos / "a.png", "-f", "ply,std,npz", *words)
    found = mde.read_depth("out/a_depth.npz")
    assert found.std is not None
    known = np.isfinite(found.values)
    assert (found.std[known] <= 0.1001 * found.values[known]).all()
    header = Path("out/a_cloud.ply").read_bytes().split(b"end_header")[0]
    assert b"element vertex %d" % known.sum() in header


def test_scales(said: Callable[..., str], photos: Path) -> None:
    picture = photos / "a.png"
    said(0, picture, "-f", "npy")
    plain = mde.read_depth("out/a_depth.npy").values
    text = said(0, picture, "-f", "npy", "--anchor", f"10,20,{3 * plain[20, 10]}")
    assert "mde: a.png: scale 3, shift 0, by 1 anchors; residuals: median 0 m" in text
    np.testing.assert_allclose(mde.read_depth("out/a_depth.npy").values, 3 * plain, rtol=1e-5)
    write_depth("truth/a.png", 2 * plain, 0.001, np.uint16)
    said(0, picture, "-f", "npy", "--sparse-depth", "truth", "--sparse-encoding", "0.001")
    np.testing.assert_allclose(mde.read_depth("out/a_depth.npy").values, 2 * plain, rtol=1e-3)
    assert mde.read_depth("out/a_depth.npy").model == "UNet, scaled by 1200 measured depths"
    assert "the camera is unknown" in said(1, picture, "-f", "npy", "--camera-height", "1.65")
    assert "beside the picture" in said(1, picture, "-f", "npy", "--anchor", "99,1,2")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["photoz"], "no such file or folder [photoz]. Next: "),
        (["photos", "--format", "pgn16"], "unknown output format 'pgn16'. Next: nearest: png16"),
        (["photos", "--format", "png16,png16-mm"], "the same file"),
        (["photos", "--device", "gpu"], "Next: use auto or cpu"),
        (["photos", "--size", "48"], "not two numbers with an x between"),
        (["photos", "--anchor", "1,2"], "not 3 numbers"),
        (["photos", "--anchor", "1,2,3", "--camera-height", "2"], "not allowed with argument"),
        (["photos", "--anchor", "1,2,-3"], "depth above 0"),
        (["photos", "--min-confidence", "2"], "between 0 and 1"),
        (["photos", "--fov", "200"], "no camera has field of view 200"),
        (["photos", "--format", "ply"], "camera"),
        (["photos", "--sparse-depth", "photos/a.png"], "give --sparse-encoding"),
        (["photos", "--max-megapixels", "900"], "between 0 and 178"),
        (["photos", "--color-range", "3", "1"], "rises from one finite number"),
        (["photos", "--ckpt_path", "x"], "unrecognized arguments: --ckpt_path"),
        ([], "required: INPUT"),
    ],
)
def test_wrong_words_end_in_one_line_that_helps(
    said: Callable[..., str], photos: Path, words: list[str], says: str
) -> None:
    text = said(2, *words)
    assert says in text
    assert "Traceback" not in text


def test_checkpoints_and_folders_that_do_not_work(said: Callable[..., str], photos: Path) -> None:
    Path("other.ckpt").write_bytes(b"nothing")
    for name, says in (("none.ckpt", "no such checkpoint"), ("other.ckpt", "not a readable"), ("unett", "no known")):
        assert says in said(2, photos, given=name)
    assert not Path("out/predict.jsonl").exists()
    Path("out").rmdir()
    Path("out").write_text("a file")
    assert "the folder of the outputs cannot be made" in said(2, photos)


def test_outputs_never_become_inputs(said: Callable[..., str], photos: Path, checkpoint: Path) -> None:
    assert main(["predict", "photos", "-c", str(checkpoint), "-o", "photos"]) == 2
    words = ["predict", "photos", "-r", "-c", str(checkpoint), "-o", "photos/depth"]
    assert main(words) == 0
    once = files("photos")
    assert main(words) == 0
    assert files("photos") == once
    assert "this is an output of mde" in said(1, "photos/depth/*.png")


def test_help_is_quick_and_names_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    from mde.inference.outputs import FORMATS
    from mde.inference.pictures import MAX_MEGAPIXELS

    assert make_parser().get_default("max_megapixels") == MAX_MEGAPIXELS
    text = make_parser().format_help()
    assert all(name in text for name in FORMATS)
    assert main(["predict", "--help"]) == 0
    assert "Without INPUT, with --ckpt_path" in capsys.readouterr().out
    code = "import sys; from mde.cli import main; main(['predict', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "trainer"),
    [
        (["--ckpt_path", "a.ckpt"], True),
        (["--config", "quickstart", "--help"], True),
        (["--data.root=x"], True),
        (["--model", "UNet", "--trainer.devices", "1"], True),
        (["--checkpoint", "a.ckpt", "-o", "out", "photos"], False),
        (["photos", "--checkpoint", "a.ckpt", "-o", "out"], False),
        (["photos", "--ckpt_path", "a.ckpt"], False),
        (["--help"], False),
        ([], False),
    ],
)
def test_the_trainers_predict_stays_reachable(words: list[str], trainer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[list[str]] = []
    monkeypatch.setattr("mde.cli.train.run_trainer_command", lambda given: taken.append(list(given)) or 0)
    monkeypatch.setattr("mde.cli.predict._predict", lambda _: 0)
    main(["predict", *words])
    assert taken == ([["predict", *words]] if trainer else [])
