"""What the page does, without its layout: from the fields and the picture to what is shown and written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from mde.data.formats.notes import sidecar
from mde.demo.choices import Colours, anchors_of, camera_of, number_of
from mde.demo.seen import Network, Seen, in_metres, look, open_upload, thinned
from mde.demo.sessions import Sessions
from mde.demo.views import view
from mde.errors import ConfigError
from mde.inference.camera import Camera
from mde.inference.outputs import write
from mde.inference.pictures import MAX_MEGAPIXELS
from mde.inference.result import DepthResult

__all__ = ["CLOUDS", "Fields", "Page", "Shown", "problem"]

CLOUDS = {"surface": "mesh", "points": "glb"}
"""Kinds of the point cloud that is shown, and their formats."""

_CLOUD = 250_000
"""Points of the cloud that is shown; of larger pictures every second, third … pixel. Files have all."""


class Fields(NamedTuple):
    """The fields of the page in the order of its layout, as they were typed."""

    colours: str = "viridis"
    kind: str = "linear"
    near: str = ""
    far: str = ""
    fov: str = ""
    focal_mm: str = ""
    sensor_mm: str = ""
    anchors: str = ""

    @property
    def scale(self) -> Colours:
        """The colour scale.

        Raises:
            ConfigError: an end is no number.
        """
        return Colours(self.colours, self.kind, number_of(self.near, "near end"), number_of(self.far, "far end"))

    @property
    def camera(self) -> Camera:
        """How the picture was taken.

        Raises:
            ConfigError: no number, or no camera.
        """
        focal, sensor = number_of(self.focal_mm, "focal length"), number_of(self.sensor_mm, "sensor width")
        return camera_of(number_of(self.fov, "field of view"), focal, sensor)


class Shown(NamedTuple):
    """What the page shows: data of the viewer (see `view`), and a line of HTML about it."""

    viewer: dict[str, Any]
    about: str


class Page:
    """One or two networks, and what is remembered of each open page.

    Args:
        networks: one, or two to compare.
        sessions: memory and folders.
        max_megapixels: larger pictures are refused.
    """

    def __init__(self, networks: Sequence[Network], sessions: Sessions, max_megapixels: float = MAX_MEGAPIXELS) -> None:
        self.networks, self.sessions, self.max_megapixels = tuple(networks), sessions, max_megapixels

    def uploaded(self, page: str, path: str | Path, fields: Fields, name: str | None = None) -> Shown:
        """Read an uploaded picture, delete its file, ask the networks.

        Args:
            page: whose it is.
            path: of the picture.
            fields: of the page.
            name: of the picture, default that of its file.

        Raises:
            MdeError: no picture, too large, or fields that do not suit it. A picture that was read stays: `again` shows
                it when the fields are right.
        """
        self.sessions.drop(page)
        self.sessions.put(page, look(self.networks, open_upload(path, self.max_megapixels, name)))
        return self.again(page, fields)

    def again(self, page: str, fields: Fields) -> Shown:
        """Show the page's picture with other fields.

        Raises:
            MdeError: there is no picture, or a field that does not suit it.
        """
        seen = self.sessions.need(page)
        results, notes = _finished(seen, fields)
        viewer, more = view(results, seen.titles, fields.scale)
        return Shown(viewer, _about(seen, results, [*notes, *more]))

    def cloud(self, page: str, fields: Fields, title: str, kind: str) -> Path:
        """A point cloud of one network, to be turned in the page.

        Raises:
            MdeError: no metres, an unknown camera, or as of `again`.
        """
        seen = self.sessions.need(page)
        results, _ = _finished(seen, fields)
        result = results[seen.titles.index(title) if title in seen.titles else 0]
        stem = self.sessions.folder(page, "cloud") / _safe(seen.picture.name)
        return write(thinned(result, _CLOUD), stem, [CLOUDS.get(kind, "mesh")])[0]

    def files(self, page: str, fields: Fields, formats: Sequence[str]) -> list[Path]:
        """The results of all networks in these formats, with the files that say what their numbers mean.

        Raises:
            MdeError: no format, one that these maps cannot have, or as of `again`.
        """
        if not formats:
            raise ConfigError("no format is chosen", next_action="choose one or several")
        seen = self.sessions.need(page)
        results, _ = _finished(seen, fields)
        folder, made = self.sessions.folder(page, "files"), list[Path]()
        for letter, result in zip("AB", results, strict=False):
            stem = _safe(seen.picture.name) + (f"_{letter}_{_safe(result.model)}" if len(results) > 1 else "")
            made += write(result, folder / stem, formats, fields.scale.scale([result]))
        return [each for path in made for each in (path, sidecar(path)) if each.is_file()]


def problem(error: Exception) -> str:
    """An error as a line of HTML."""
    text = str(error)
    return f'<p class="problem" role="alert">{escape(text[:1].upper() + text[1:])}</p>'


def _finished(seen: Seen, fields: Fields) -> tuple[list[DepthResult], list[str]]:
    return in_metres(seen, fields.camera, anchors_of(fields.anchors))


def _about(seen: Seen, results: Sequence[DepthResult], notes: Sequence[str]) -> str:
    height, width = seen.picture.size
    parts = [f"{escape(seen.picture.name)}, {width} x {height} pixels"]
    for title, result, seconds in zip(seen.titles, results, seen.seconds, strict=True):
        ends = "" if result.depth_range is None else ", {:g} to {:g} m".format(*result.depth_range)
        unit = "metres" if result.unit == "m" else f"{result.unit}, no metres"
        parts.append(f"{escape(title)}: {unit}{ends}, {1000 * seconds:.0f} ms")
    lines = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<p>{' · '.join(parts)}</p>{lines}"


def _safe(name: str) -> str:
    """A name for files, of letters, digits, minus and underscore."""
    return re.sub(r"[^\w-]+", "-", Path(name).stem, flags=re.ASCII).strip("-")[:60] or "picture"
