"""The scripts of `mde completion`, run by real shells."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mde.cli import COMMANDS, TRAINER_COMMANDS, main
from mde.cli.completion import SHELLS, CommandWords, command_words, script
from mde.cli.experiments import names
from mde.cli.trainer_words import FLAGS
from mde.data.layouts import layouts


def bash(folder: Path, *words: str) -> list[str]:
    """What bash offers for these words, the last of which is being typed."""
    split = [part for word in words for part in (re.split("(=)", word) if word.startswith("--") else [word])]
    split = split[:-1] if split[-1] == "" and split[-2:-1] == ["="] else split
    typed = " ".join(f"'{word}'" for word in ("mde", *split))
    code = f'source {folder}/mde.bash; COMP_WORDS=({typed}); COMP_CWORD={len(split)}; _mde; echo "${{COMPREPLY[*]}}"'
    return run(["bash", "--norc", "-c", code]).split()


def fish(folder: Path, *words: str) -> list[str]:
    code = f"source {folder}/mde.fish; complete -C 'mde {' '.join(words)}'"
    return [line.partition("\t")[0] for line in run(["fish", "--no-config", "-c", code]).splitlines()]


def run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20)
    assert not done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, words = tmp_path_factory.mktemp("completion"), command_words()
    for shell in SHELLS:
        (made / f"mde.{shell}").write_text(script(shell, words), encoding="utf-8")
    return made


@pytest.fixture(params=["bash", "fish"])
def offered(request: pytest.FixtureRequest, folder: Path) -> Callable[..., list[str]]:
    shell = {"bash": bash, "fish": fish}[request.param]
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return lambda *words: shell(folder, *words)


def test_commands(offered: Callable[..., list[str]]) -> None:
    assert set(offered("")) >= {*COMMANDS, *TRAINER_COMMANDS, "experiments"}
    assert set(offered("com")) == {"compare", "completion"}


def test_experiments_come_after_config(offered: Callable[..., list[str]]) -> None:
    for command in ("fit", "test", "sweep"):
        assert set(offered(command, "--config", "")) >= set(names())
        assert offered(command, "--config", "qui") == ["quickstart"]
    assert offered("evaluate", "--data", "nyu/dpt") == ["nyu/dpt_dinov2"]
    assert [word.removeprefix("--config=") for word in offered("fit", "--config=qui")] == ["quickstart"]


def test_options_of_a_command(offered: Callable[..., list[str]]) -> None:
    assert set(offered("fit", "--trainer.max")) == {"--trainer.max_epochs"}
    assert "--data.root" in offered("fit", "--config", "quickstart", "--data.")
    assert set(offered("predict", "a.jpg", "--min")) == {"--min-confidence"}
    assert set(offered("predict", "a.jpg", "--smooth", "")) >= {"none", "scale", "flow"}
    assert offered("export", "best.ckpt", "--format", "o") == ["onnx"]


def test_names_come_directly_after_a_command(offered: Callable[..., list[str]]) -> None:
    assert set(offered("make-data", "ny")) == {name for name in layouts() if name.startswith("nyu")}
    assert "quickstart" in offered("info", "quick")
    assert "bash" in offered("completion", "")
    assert "nyu/bts" not in offered("make-data", "nyu/bts", "ny")  # a new folder comes there


def test_files_elsewhere(folder: Path) -> None:
    assert bash(folder, "predict", "") == []  # so that bash itself offers files
    code = f"source {folder}/mde.bash; complete -p mde"
    assert "-o default" in run(["bash", "--norc", "-c", code])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_reads_its_script(shell: str, folder: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert run([shell, "-n", str(folder / f"mde.{shell}")]) == ""


def test_zsh_offers_the_same(folder: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    code = "COMP_WORDS=(mde fit --config=qui); COMP_CWORD=2; emulate -R sh -c '_mde; print -r -- ${COMPREPLY[*]}'"
    words = run(["zsh", "-f", "-c", f"source {folder}/mde.zsh; {code}"]).split()
    assert words == [f"--config={name}" for name in names()]  # zsh itself takes those that begin as was typed


def test_nothing_is_started_at_tab(folder: Path) -> None:
    """The function uses what is built into bash alone: it works without any program."""
    code = f"source {folder}/mde.bash; PATH=; COMP_WORDS=(mde fit --config qui); COMP_CWORD=3; _mde; echo $COMPREPLY"
    assert run(["bash", "--norc", "-c", code]).strip() == "quickstart"


def test_printing_it_imports_no_torch() -> None:
    code = "import sys; from mde.cli import main; main(['completion', 'fish']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# fish")


def test_an_unknown_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err


def test_words_of_a_shell_are_no_commands_of_it() -> None:
    made = script("fish", {"a": CommandWords("it's \\ $HOME", ("--b",))})
    assert "-d 'it\\'s \\\\ $HOME'" in made
    assert len(set(FLAGS)) == len(FLAGS)
