"""Runs the blocks of a page, in order, in a folder that has what a reader has by then (`Workshop.stock`)."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from mde.cli import COMMANDS, TRAINER_COMMANDS
from mde.cli.train import check_trainer_command
from tests.docs.blocks import ROOT, Block, Command, commands
from tests.docs.stand_ins import StandIns
from tests.docs.workshop import Workshop, call

OTHERS = {
    "source": "a shell's own command",
    "wandb login": "asks for a password",
    "wandb sync": "needs the network",
    "wandb sweep": "needs the network",
}
"""Commands that are not ours and are not run, with the reason; files that they name must be there."""

UNATTENDED = {
    r"demo ": "serves until it is stopped",
    r"predict \d+ ": "needs a camera",
}
"""Commands of ours of which only the words are checked."""

RUN = ("python", "bash", "yaml", "toml", "json")
"""Languages of blocks that are run or read."""

NOT_FOUND = r"sensitivity .*--find"  # exit code 1: a made-up network does not give a published number


class Sandbox:
    """The folder of one page.

    Args:
        folder: an empty one.
        workshop: makes what the blocks need.
    """

    def __init__(self, folder: Path, workshop: Workshop) -> None:
        self.folder, self.stand_ins = folder, StandIns(folder, workshop)
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self._fresh: set[str] = set()
        self.languages: dict[str, Callable[[Block], Any]] = {
            "python": self._python,
            "bash": self._bash,
            "yaml": self._yaml,
            "toml": lambda block: tomllib.loads(block.text),
            "json": lambda block: json.loads(block.text),
        }
        shutil.copytree(workshop.stock, folder, dirs_exist_ok=True)

    def run(self, block: Block) -> None:
        """Run or read a block.

        Raises:
            Exception: whatever is wrong with it.
        """
        with contextlib.chdir(self.folder), self._importable():
            for needed in block.orders.get("needs", "").split():
                assert Path(needed).exists(), f"{needed} is not there"
            self.languages[block.language](block)

    @contextlib.contextmanager
    def _importable(self) -> Iterator[None]:
        """Modules of this folder are found here, and are forgotten elsewhere."""
        before = set(sys.modules)
        sys.path.insert(0, str(self.folder))
        try:
            yield
        finally:
            sys.path.remove(str(self.folder))
            for name in set(sys.modules) - before:
                if str(self.folder) in str(getattr(sys.modules[name], "__file__", "")):
                    del sys.modules[name]

    # ---- python ------------------------------------------------------------------------------------------------------

    def _python(self, block: Block) -> None:
        if block.file:
            self._write(block.file, block.text)
            self._import(Path(block.file).stem)
            return
        code = compile("\n" * block.line + block.text, str(ROOT / block.page), "exec")
        if "skip" not in block.orders:
            exec(code, self.namespace)

    def _import(self, name: str) -> None:
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        if name.startswith("test_"):
            quiet = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", str(self.folder)]
            assert pytest.main([f"{name}.py", "-c", os.devnull, *quiet]) == 0
        else:
            importlib.import_module(name)

    def _write(self, name: str, text: str) -> None:
        """Write a file; the blocks of one page with the same name are its parts."""
        path = Path(name)
        with path.open("a" if name in self._fresh else "w", encoding="utf-8") as file:
            file.write(f"{text}\n\n\n")
        self._fresh.add(name)

    # ---- yaml --------------------------------------------------------------------------------------------------------

    def _yaml(self, block: Block) -> None:
        parsed = yaml.safe_load(block.text)
        assert isinstance(parsed, dict), "neither a part of an experiment nor a sweep"
        name = block.file or f"line_{block.line}.yaml"
        self._write(name, block.text)
        if "set" in parsed or "recipes" in parsed:
            Path(name).write_text(self.stand_ins.with_roots(block.text), encoding="utf-8")
            self._mde(["sweep", name], block)
        else:
            base = block.orders.get("over", "quickstart")
            words = ["fit", "--config", base, "--config", name]
            if "skip" in block.orders:
                assert call([*words, "--print_config"])[0] == 0, words
            else:
                assert check_trainer_command(words) == 0, words

    # ---- bash --------------------------------------------------------------------------------------------------------

    def _bash(self, block: Block) -> None:
        found = list(commands(block.text))
        assert found, "no command in it"
        for command in found:
            self._command(command, block, last=command is found[-1])

    def _command(self, command: Command, block: Block, last: bool) -> None:
        words = [each for word in command.words for each in self._expanded(word, command)]
        if words[:3] == ["python", "-m", "mde.cli"]:
            words = ["mde", *words[3:]]
        if words[0] == "srun":
            words = words[1:]
        if words[0] != "mde":
            _of_others(words)
        elif "skip" in block.orders or any(re.match(p, " ".join(words[1:]) + " ") for p in UNATTENDED):
            self._check(words[1:])
        else:
            offline = last and "offline" in block.orders
            said = self._mde(words[1:], block, command.variables, offline)
            if command.output:
                Path(command.output).write_text(said, encoding="utf-8")

    def _expanded(self, word: str, command: Command) -> list[str]:
        if word not in command.patterns:
            return [word]
        found = sorted(str(path) for path in Path().glob(word))
        assert found, f"no file is like {word}"
        return found

    def _mde(self, words: list[str], block: Block, variables: Any = None, offline: bool = False) -> str:
        complete = self.stand_ins.complete(words)
        code, out, err = call(complete, variables)
        if offline:
            assert code == 2, f"expected to end for want of a network: {err}"
            assert "Next: " in err
            return out
        allowed = (0, 1) if re.match(NOT_FOUND, " ".join(words)) else (0,)
        assert code in allowed, f"exit code {code} of: mde {' '.join(complete)}\n{err[-1500:]}\n{out[-1500:]}"
        return out

    def _check(self, words: list[str]) -> None:
        """Only what the words say, without doing it."""
        if words[0] in TRAINER_COMMANDS:
            complete = self.stand_ins.complete(words)
            assert check_trainer_command(complete) == 0, complete
            return
        parser = importlib.import_module(COMMANDS[words[0]][0]).make_parser()
        assert vars(parser.parse_intermixed_args(words[1:]))


def _of_others(words: Sequence[str]) -> None:
    """``make TARGET`` and ``pip install`` name what exists; what else is not ours stands in `OTHERS`."""
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert set(words[1:]) <= set(targets), words
    elif list(words[:2]) == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for found in re.findall(r"(?:mde|\.)\[([\w,]+)\]", " ".join(words)):
            assert set(found.split(",")) <= set(extras), found
    else:
        assert words[0] in OTHERS or " ".join(words[:2]) in OTHERS, f"neither ours nor in OTHERS: {words}"
