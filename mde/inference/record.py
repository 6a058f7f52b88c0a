"""What was done in a folder of outputs, so that a run that was cut short goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mde.inference.inputs import Source
from mde.inference.outputs import paths, write_whole

__all__ = ["RECORD", "RunRecord"]

RECORD = "predict.jsonl"


class RunRecord:
    """A file with one line of JSON for the settings and one for each picture that was done or skipped.

    A picture counts as done when its line was written for the same file (path, size and time of change) under the same
    settings, by the last one that wrote under this name, and all its outputs are there. A run with other settings,
    another checkpoint among them, begins a new record.

    Args:
        out: the folder; it is made.
        settings: all that outputs depend on, as plain data.
        formats: of the outputs.
        fresh: forget what was done.

    Attributes:
        facts: kept for the whole run, such as the ends of the colour scale.
        frames: how many of each clip are done, by its stem.
        other: the folder has outputs that were made with other settings.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], formats: Sequence[str], fresh: bool = False) -> None:
        self.path, self.formats = out / RECORD, tuple(formats)
        self.facts: dict[str, Any] = {}
        self.frames: dict[str, int] = {}
        self._done: dict[str, str] = {}
        settings = json.loads(json.dumps(settings))
        lines = _lines(self.path)
        before = next(lines, None)
        same = before == {"settings": settings}
        self.other = before is not None and not same
        if same and not fresh:
            for line in lines:
                self._remember(line)
        else:
            write_whole(self.path, (json.dumps({"settings": settings}) + "\n").encode())
        with self.path.open("rb+") as file:  # a line that was cut off must not swallow the next one
            file.seek(0, os.SEEK_END)
            whole = file.tell() == 0 or (file.seek(-1, os.SEEK_END), file.read(1))[1] == b"\n"
        self._file = self.path.open("a", encoding="utf-8")
        if not whole:
            self._file.write("\n")

    def done(self, source: Source, outputs: Iterable[Path] | None = None) -> bool:
        """All outputs of this picture are there; those of a clip are not told by the formats alone."""
        known = self._done.get(source.stem)
        files = self._outputs(source) if outputs is None else outputs
        return known is not None and known == _key(source.path) and all(map(Path.is_file, files))

    def add(self, source: Source, **facts: Any) -> None:
        """This picture is done; its outputs are written."""
        self._write({"stem": source.stem, "key": _key(source.path), "name": source.name, **facts})

    def skip(self, source: Source, reason: str) -> None:
        """This picture gave nothing."""
        self._write({"skipped": source.name, "reason": reason})

    def keep(self, **facts: Any) -> None:
        """Remember something for the rest of the run and for one that goes on with it."""
        self._write({"facts": facts})

    def close(self) -> None:
        """Nothing more follows."""
        self._file.close()

    def _outputs(self, source: Source) -> list[Path]:
        return paths(self.path.parent / source.stem, self.formats)

    def _write(self, line: dict[str, Any]) -> None:
        self._remember(line)
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _remember(self, line: Any) -> None:
        if not isinstance(line, dict):
            return
        if isinstance(line.get("stem"), str):
            self._done[line["stem"]] = str(line.get("key"))
            if isinstance(line.get("frames"), int):
                self.frames[line["stem"]] = line["frames"]
        if isinstance(line.get("facts"), dict):
            self.facts.update(line["facts"])


def _lines(path: Path) -> Iterator[Any]:
    """What stands in the record, without lines that were cut off."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                yield json.loads(text)
            except ValueError:
                continue


def _key(path: Path) -> str:
    """Of a file as it is now; short, because all of a folder's are kept in memory."""
    try:
        found = path.stat()
    except OSError:
        return ""
    text = f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()
