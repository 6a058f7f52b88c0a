"""``mde demo``, as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mde.cli import main
from mde.cli.demo import make_parser
from tests.checkpoints import tiny_unet, write_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "best.ckpt", tiny_unet((16, 24)))


class Served:
    """A page that is closed at once by Ctrl+C."""

    url = "http://127.0.0.1:7860"
    calls: list[tuple[Any, ...]] = []
    closed = 0

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        Served.closed += 1

    def wait(self) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> type[Served]:
    def serve(*given: Any) -> Served:
        Served.calls.append(given)
        return Served()

    Served.calls, Served.closed = [], 0
    monkeypatch.setattr("mde.demo.server.serve", serve)
    monkeypatch.setattr("mde.demo.server.require_extra", lambda: None)
    return Served


def test_it_serves_until_it_is_stopped(
    served: type[Served], checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    words = [
        "demo",
        str(checkpoint),
        str(checkpoint),
        "--port",
        "8000",
        "--max-mb",
        "5",
        "--no-browser",
        "--size",
        "8x16",
    ]
    assert main(words) == 130
    torch.set_num_threads(threads)
    predictors, host, port, pixels, megabytes, browser = served.calls[0]
    assert [predictor.model for predictor in predictors] == ["UNet", "UNet"]
    assert predictors[0].network.works_at == (8, 16)
    assert (host, port, pixels, megabytes, browser) == ("127.0.0.1", 8000, 20.0, 5.0, False)
    assert served.closed == 1
    out, err = capsys.readouterr()
    assert f"Serving {checkpoint} and {checkpoint} at http://127.0.0.1:7860" in out
    assert "warning" not in err


@pytest.mark.parametrize(
    ("host", "warns"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("10.0.0.3", True)],
)
def test_an_address_that_others_reach_is_warned_of(
    served: type[Served], checkpoint: Path, capsys: pytest.CaptureFixture[str], host: str, warns: bool
) -> None:
    assert main(["demo", str(checkpoint), "--host", host]) == 130
    assert ("everybody who reaches this machine" in capsys.readouterr().err) is warns


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none.ckpt"], "no such checkpoint"),
        (["a", "b", "c"], "compares two networks, got 3"),
        ([], "required: CHECKPOINT"),
        (["a", "--size", "8"], "not two numbers with an x between"),
        (["a", "--share"], "unrecognized arguments: --share"),
    ],
)
def test_wrong_words_end_in_one_line(
    served: type[Served], capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main(["demo", *words]) == 2
    text = "".join(capsys.readouterr())
    assert says in text
    assert "Traceback" not in text
    assert served.calls == []


def test_help_is_quick_and_its_defaults_are_those_of_the_server() -> None:
    from mde.demo.server import MAX_MB, MAX_MEGAPIXELS

    assert make_parser().get_default("max_mb") == MAX_MB
    assert make_parser().get_default("max_megapixels") == MAX_MEGAPIXELS
    heavy = "bool({'torch', 'gradio'} & {*sys.modules})"
    code = f"import sys; from mde.cli import main; main(['demo', '--help']); sys.exit({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
