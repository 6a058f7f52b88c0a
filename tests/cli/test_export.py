from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import mde
from mde.cli import main
from mde.inference import OnnxModel
from mde.inference.export import export
from mde.models import UNet
from tests.checkpoints import tiny_unet, write_checkpoint

SIZE = (32, 48)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best.ckpt", tiny_unet(SIZE))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must end with a code and returns what it printed, errors last."""

    def call(code: int, *words: str) -> str:
        assert main(["export", *words]) == code
        return "".join(capsys.readouterr())

    return call


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong words must be found before the work."""
    monkeypatch.setattr("mde.inference.export.export", lambda *_, **__: pytest.fail("exported"))


def test_from_a_checkpoint_to_the_numbers_of_predict(
    checkpoint: Path, said: Callable[..., str], tmp_path: Path
) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (51, 40, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo).save(tmp_path / "photos" / "a.png")
    text = said(0, str(checkpoint), "-o", "out/depth.onnx", "--check", "photos", "--name", "mine")
    assert "mine: metric (m, 0.2 to 12 m), fp32" in text
    assert "any number of pictures a call; works at 32x48" in text
    assert "parity     passed, 3 predictions" in text
    assert "Written: out/depth.onnx" in text
    assert sorted(path.name for path in Path("out").iterdir()) == ["depth.onnx", "depth.onnx.parity.json"]
    report = json.loads(Path("out/depth.onnx.parity.json").read_text())
    assert report["passed"] is True
    assert report["max_relative"] < 1e-4
    assert report["size"] == [51, 40]
    session = onnxruntime.InferenceSession("out/depth.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"image": photo[None]})
    np.testing.assert_allclose(found, mde.load(checkpoint).predict(photo).values.numpy(), rtol=1e-5)
    assert OnnxModel("out/depth.onnx").info.model == "mine"


def test_the_suffix_names_the_format(checkpoint: Path, said: Callable[..., str]) -> None:
    text = said(0, str(checkpoint), "-o", "depth.pt2", "--size", "24x40", "--batch", "1", "--flip")
    assert "1 picture(s) a call; works at 24x40" in text
    program = torch.export.load("depth.pt2").module()
    picture = torch.randint(0, 256, (1, 30, 44, 3), dtype=torch.uint8)
    model = mde.load(checkpoint)
    model.image_size = (24, 40)
    wanted = model.predict(picture.permute(0, 3, 1, 2), flip=True).values
    with torch.no_grad():
        torch.testing.assert_close(program(picture), wanted, rtol=1e-5, atol=0)


@pytest.mark.parametrize("force", [False, True])
def test_a_file_that_says_something_else_is_not_kept(
    checkpoint: Path, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, force: bool
) -> None:
    """The network changes between export and comparison."""
    made = export(mde.load(checkpoint), tmp_path / "made" / "a.pt2", "torch").path

    def other(method: UNet, path: Path, *_: object, **__: object) -> object:
        from mde.inference.export import TorchModel

        path.write_bytes(made.read_bytes())
        with torch.no_grad():
            next(method.parameters()).mul_(-1)
        return TorchModel(path)

    monkeypatch.setattr("mde.inference.export.export", other)
    Path("a.pt2").write_text("of before")
    text = said(1, str(checkpoint), "-o", "a.pt2", *(["--force"] if force else []))
    assert "parity     FAILED" in text
    assert ("and was not kept [a.pt2]. Next: " in text) is not force
    assert (Path("a.pt2").read_bytes() == b"of before") is not force
    assert Path("a.pt2.parity.json").exists() is force
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.usefixtures("no_export")
@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("absent.ckpt", "-o", "a.onnx"), "no such checkpoint [absent.ckpt]. Next: "),
        (("absent", "-o", "a.onnx"), "no folder and no known pretrained network 'absent'"),
        (("text.ckpt", "-o", "a.onnx"), "not a readable checkpoint"),
        (("text.ckpt", "-o", "a.tflite"), "of the format onnx ends in .onnx [a.tflite]. Next: give -o a.onnx"),
        (("text.ckpt", "-o", "a.onnx", "--format", "torch"), "ends in .pt2"),
        (("text.ckpt", "-o", "a.onnx", "--size", "480"), "'480' is no HEIGHTxWIDTH such as 480x640"),
        (("text.ckpt", "-o", "a.onnx", "--size", "4x4", "--dynamic"), "not allowed with argument"),
        (("text.ckpt", "-o", "a.onnx", "--check", "nowhere"), "no pictures to compare [nowhere]. Next: "),
        (("text.ckpt",), "-o"),
    ],
)
def test_wrong_words(said: Callable[..., str], words: tuple[str, ...], match: str) -> None:
    Path("text.ckpt").write_text("no checkpoint")
    text = said(2, *words)
    assert match in text
    assert "Traceback" not in text
    assert not Path("a.onnx").exists()


def test_a_folder_that_cannot_be_written(checkpoint: Path, said: Callable[..., str]) -> None:
    Path("file").write_text("")
    assert "mde: error: " in said(2, str(checkpoint), "-o", "file/a.onnx")


def test_help_needs_no_torch() -> None:
    code = "import sys; from mde.cli import main; main(['export', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "uint8 (B,H,W,3)" in done.stdout
