"""What stands for a reader's own data, runs and time in the commands of a page: small, and folders that exist."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from mde.cli import TRAINER_COMMANDS
from mde.cli.experiments import names
from tests.docs.workshop import FIT, NETWORK, ROOMS, SHORT, Workshop


class StandIns:
    """Completes the commands of one page.

    Args:
        folder: of the page.
        workshop: makes what is missing.
    """

    def __init__(self, folder: Path, workshop: Workshop) -> None:
        self.folder, self.workshop = folder, workshop

    def complete(self, words: list[str]) -> list[str]:
        """A command as it is run here: small, and with folders that exist in place of DIR, ROOT …"""
        command, rest = words[0], words[1:]
        for word in rest:
            self._bring_run(word)
        if command in TRAINER_COMMANDS:
            return [command, *self._trainer(command, rest)]
        if command == "dashboard" and not any(word.startswith("--") and "print" in word for word in rest):
            rest = [*rest, "--dry-run"]
        elif command == "sweep":
            rest = [*map(self.with_roots, rest), "--dry-run"]
        elif command == "make-data":
            rest = [*rest, "-n", "4", *(() if rest[0].startswith("kitti") else ("--size", "64", "96"))]
        elif command in ("doctor", "shards"):
            rest = [self._existing(word) for word in rest]
        elif command == "prepare" and "DIR" in rest and not Path("DIR").exists():
            rest = [*rest[:-1], str(self.workshop.layout("nyu/labeled"))]
        elif command in ("evaluate", "sensitivity"):
            rest = self._scored(rest)
        return [command, *rest]

    def _trainer(self, command: str, words: list[str]) -> list[str]:
        experiment, data = option(words, "--config"), option(words, "--data")
        added = [*SHORT, *(FIT if command == "fit" else ())]
        if experiment == "quickstart" or (experiment is None and data == "ProceduralDataModule"):
            added += [] if data not in (None, "ProceduralDataModule") else ROOMS
            added += [] if option(words, "--model") or experiment is None else NETWORK
        elif experiment in names():
            added += self.workshop.needs(experiment)[1]
        return [*self._with_root(words, experiment, data), *added]

    def _with_root(self, words: list[str], experiment: str | None, data: str | None) -> list[str]:
        root = option(words, "--data.root")
        if root is None or Path(root).exists():
            return words
        if data == "my_depth.MyDataModule":
            real = self.workshop.own_frames
        elif root.startswith("/data/"):
            real = self.folder / root.removeprefix("/data/")
        else:
            real = self._root(experiment)
        return replaced(words, "--data.root", str(real))

    def with_roots(self, text: str) -> str:
        """Settings of a sweep with a folder that exists."""
        return re.sub(r"(data\.root(?:=|: ))(?:DIR|FOLDER)\b", rf"\g<1>{self._root('folder/densedepth')}", text)

    def _bring_run(self, word: str) -> None:
        """A run that no block of the page has made: ``runs/kitti-densedepth`` is one of kitti/densedepth."""
        known = {f"runs/{name.replace('/', '-')}": name for name in names()}
        if word in known and not Path(word).exists():
            shutil.copytree(self.workshop.trained(known[word]), word)

    def _root(self, experiment: str | None) -> Path:
        assert experiment in names(), "whose data is it?"
        return self.workshop.data(experiment)

    def _existing(self, word: str) -> str:
        """A folder of data for DIR and the like, where the page has not made one of that name."""
        if Path(word).exists():
            return word
        if word == "/data/nyu":
            return str(self.workshop.layout("nyu/labeled"))
        if word in ("DIR", "FOLDER"):
            return str(self.workshop.layout("folder/rgbd", (64, 96)))
        return str(self.folder / word.removeprefix("/data/")) if word.startswith("/data/") else word

    def _scored(self, words: list[str]) -> list[str]:
        experiment = option(words, "--data")
        if option(words, "--truth"):
            words = replaced(words, "--truth", str(self.workshop.maps / "gt"))
            return replaced(words, "--predictions", str(self.workshop.maps / "out"))
        if option(words, "--predictions"):
            form = "metres" if experiment is None else "disparity" if "--ambiguity" in words else "kitti"
            maps = self.workshop.predictions(experiment or "kitti/densedepth", form)
            words = replaced(words, "--predictions", str(maps))
        return self._with_root(words, experiment, None)


def option(words: Sequence[str], name: str) -> str | None:
    """The value of ``--name value``."""
    return words[words.index(name) + 1] if name in words else None


def replaced(words: Sequence[str], name: str, value: str) -> list[str]:
    """The words with another value of ``--name value``."""
    at = words.index(name) + 1
    return [*words[:at], value, *words[at + 1 :]]
