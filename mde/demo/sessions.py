"""What the server remembers of each open page: its last picture and the files made of it, for minutes."""

from __future__ import annotations

import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mde.demo.seen import Seen
from mde.errors import ConfigError

__all__ = ["Sessions"]


@dataclass
class _Kept:
    seen: Seen
    used: float


class Sessions:
    """The last picture of each page, in memory, and a folder for the files made of it.

    Args:
        root: the folders lie in it.
        most: pages that are remembered; of more the one that was used longest ago is forgotten.
        seconds: after which a page that is not used is forgotten.
        clock: seconds that pass.
    """

    def __init__(
        self, root: Path, most: int = 8, seconds: float = 900, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.root, self.most, self.seconds, self._clock = root, most, seconds, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, page: str, seen: Seen) -> None:
        """Remember a page's picture; what was made of the one before is deleted."""
        with self._lock:
            self.drop(page)
            self._kept[page] = _Kept(seen, self._clock())
            while len(self._kept) > self.most:
                self.drop(next(iter(self._kept)))

    def get(self, page: str) -> Seen | None:
        """The page's picture; None where there is none, or none any more."""
        with self._lock:
            self.sweep()
            found = self._kept.get(page)
            if found is None:
                return None
            found.used = self._clock()
            self._kept.move_to_end(page)
            return found.seen

    def need(self, page: str) -> Seen:
        """The page's picture.

        Raises:
            ConfigError: there is none, or none any more.
        """
        found = self.get(page)
        if found is None:
            hint = "drop a picture; nothing is kept for more than some minutes"
            raise ConfigError("there is no picture", next_action=hint)
        return found

    def folder(self, page: str, name: str) -> Path:
        """An empty folder for files of one kind; what lay in it is deleted."""
        made = self._folder(page) / name
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        return made

    def drop(self, page: str) -> None:
        """Forget a page and delete its files."""
        with self._lock:
            self._kept.pop(page, None)
            shutil.rmtree(self._folder(page), ignore_errors=True)

    def sweep(self) -> None:
        """Forget the pages that nobody used for long."""
        with self._lock:
            latest = self._clock() - self.seconds
            for page in [page for page, kept in self._kept.items() if kept.used < latest]:
                self.drop(page)

    def _folder(self, page: str) -> Path:
        return self.root / "".join(letter for letter in page if letter.isalnum())[:64]
