"""The script that makes the pictures of the documentation, at small size; and how its PNG files become small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import TINY
from tools.browser import BROWSER, DRIVER, MISSING
from tools.pictures import LARGEST, main, save_small


def test_a_small_file_keeps_its_colours(tmp_path: Path) -> None:
    ramp = np.zeros((300, 400, 3), np.uint8)
    ramp[:200] = np.linspace((68, 1, 84), (253, 231, 37), 400).round().astype(np.uint8)
    ramp[200:] = 255
    ramp[299, 399] = (213, 94, 0)  # a single pixel
    save_small(Image.fromarray(ramp), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        found = np.asarray(opened.convert("RGB")).astype(int)
    assert np.abs(found - ramp).max() <= 16
    assert (tmp_path / "a.png").stat().st_size < 20_000


def test_what_cannot_be_small_is_said(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="make the picture smaller"):
        save_small(Image.fromarray(noise), tmp_path / "a.png", most=5000)
    assert not (tmp_path / "a.png").exists()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None or DRIVER is None, reason=MISSING)
def test_all_pictures_are_made_without_hands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio", reason="needs gradio: pip install 'mde[demo]'")
    pytest.importorskip("selenium", reason="needs selenium: pip install selenium")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mde"])
    monkeypatch.delenv("MDE_RUN_FOLDER", raising=False)
    Path("tiny.yaml").write_text(TINY.replace("max_epochs: 2", "max_epochs: 1") + "run: {test: true}\n")
    assert main(["--config", "tiny.yaml", "--height", "72", "--rows", "1", "--out", "made"]) == 0
    made = sorted(Path("made").iterdir())
    assert [path.name for path in made] == ["cloud.png", "demo.png", "report.png", "worlds.png"]
    for path in made:
        assert path.stat().st_size <= LARGEST
        with Image.open(path) as opened:
            assert len(opened.convert("RGB").getcolors(1 << 20)) > 20  # not an empty page
