from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml

import mde
from mde.cli.experiments import names
from mde.cli.info import _TABLE, SECTIONS, _required, run
from mde.errors import ConfigError
from mde.models import DepthModule
from mde.protocol import PROTOCOLS, get_protocol


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run([*words, "--format", "json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_everything_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    facts = said(capsys)
    assert list(facts) == list(SECTIONS)
    assert facts["versions"]["mde"] == mde.__version__
    assert facts["versions"]["torch"] not in ("", "missing")
    assert set(facts["experiments"]) == set(names())
    assert all(facts["experiments"].values())
    assert not [about for about in facts["experiments"].values() if about.endswith("et al") or ": " in about]
    assert set(facts["protocols"]) == set(PROTOCOLS)
    assert "nyu/labeled" in facts["data"]
    assert facts["extras"]["sam"].startswith("transformers ")
    assert facts["devices"]["cpu"].split()[0].isdigit()
    assert {"DenseDepth", "TiledDepth"} <= set(facts["methods"])
    assert DepthModule.__name__ not in facts["methods"]
    assert all(facts["methods"].values())


def test_licences_of_the_weights_are_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert run(["pretrained"]) == 0
    title, head, rule, *rows = capsys.readouterr().out.splitlines()
    assert title.strip() == "pretrained"
    assert head.split("  ")[0].strip() == "network"
    assert set(rule) <= {"─", " "}
    for row, (name, entry) in zip(rows, yaml.safe_load(_TABLE.read_text()).items(), strict=True):
        cells = [cell.strip() for cell in row.split("   ") if cell.strip()]
        assert cells == [name, entry["licence"], entry["ambiguity"], entry["hub"]]


@pytest.mark.parametrize("columns", ["60", "100", "200"])
@pytest.mark.parametrize("section", ["pretrained", "protocols", "experiments"])
def test_nothing_is_lost_in_narrow_terminals(
    section: str, columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert run([section]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {len(line) for line in lines} <= set(range(int(columns) + 1))
    assert not any("…" in line and "…/" not in line for line in lines)
    for name, about in SECTIONS[section]().items():
        assert any(line.split()[:1] == [name] for line in lines)  # whole, to be copied
        assert about.split()[0].strip(";") in "".join(lines)


@pytest.mark.parametrize("name", ["depth-anything-v2-large", "quickstart", "nyu/labeled", "nyu_eigen"])
def test_one_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    ((title, facts),) = said(capsys, name).items()
    assert title.endswith(name)
    expected = {
        "depth-anything-v2-large": ("licence", "CC-BY-NC-4.0 (no commercial use)"),
        "quickstart": ("use", "mde fit --config quickstart"),
        "nyu/labeled": ("data", "mde.data.nyu.NYUDepthV2DataModule"),
        "nyu_eigen": ("fingerprint", get_protocol("nyu_eigen").fingerprint),
    }
    key, value = expected[name]
    assert facts[key] == value


def test_a_wrong_name_ends_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"nothing is called 'quickstrat'.*Next: nearest: quickstart"):
        run(["quickstrat"])


@pytest.mark.parametrize(
    "words", [["--help"], ["versions"], ["extras"], ["pretrained"], ["experiments"], ["dpt-large"]]
)
def test_what_needs_no_torch_does_not_import_it(words: list[str]) -> None:
    code = (
        "import sys; from mde.cli.info import run\n"
        "try: run(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    made = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert made.stdout.splitlines()[-1] == "False"
    assert len(made.stdout.splitlines()) > 5


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("torch>=2.6", ("torch", None)),
        ('wandb>=0.18; extra == "wandb"', ("wandb", "wandb")),
        ("jsonargparse[signatures]>=4.40", ("jsonargparse", None)),
        ("a (>=1); python_version < '3' and extra == 'x'", ("a", "x")),
    ],
)
def test_requirements(line: str, expected: tuple[str, str | None]) -> None:
    assert _required(line) == expected
