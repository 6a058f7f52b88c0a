"""Layouts: how a data set lies on disk, recognised by looking at the folder.

One data set circulates in many forms (NYU Depth v2 in six). A `Layout` ties one of them to the data module that reads
it, to the writer that makes a small rendered copy of it (``mde make-data``), and to the test that recognises it. A
family of layouts is one file in this package with a tuple ``LAYOUTS``. These files import neither torch nor Lightning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError, nearest

if TYPE_CHECKING:
    from mde.data.base import DepthDataModule
    from mde.data.writers import Writer

__all__ = ["FAMILIES", "Layout", "get_layout", "layouts", "recognise"]

FAMILIES = ("nyu", "kitti", "synthia", "unreal", "folder")
"""The files of this package, in the order in which a folder is compared with them: the most particular first."""


@dataclass(frozen=True)
class Layout:
    """One form in which a data set lies on disk.

    Attributes:
        name: "<data set>/<form>", such as "nyu/bts".
        summary: one line for people: what is in the folder, and who made this form.
        data_module: class path of the data module that reads it.
        matches: True if a folder (or file) has this form; looks at a few names only, never at a whole tree.
        settings: arguments of the data module next to `root`.
        writer: path of the `mde.data.writers.Writer` that makes a rendered copy, as "module:function".
        world: "rooms" or "street", which rendered world resembles the data.
        configs: experiments that train on this layout with no other setting than ``--data.root``.
    """

    name: str
    summary: str
    data_module: str
    matches: Callable[[Path], bool]
    writer: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    world: str = "rooms"
    configs: tuple[str, ...] = ()

    def load_writer(self) -> Writer:
        """The function that writes a rendered copy of this layout."""
        module, _, name = self.writer.partition(":")
        writer: Writer = getattr(import_module(module), name)
        return writer

    def make(self, root: str | Path, **settings: Any) -> DepthDataModule:
        """The data module that reads a folder of this layout."""
        module, _, name = self.data_module.rpartition(".")
        made: DepthDataModule = getattr(import_module(module), name)(str(root), **{**self.settings, **settings})
        return made


def layouts() -> Mapping[str, Layout]:
    """All layouts by name, in the order in which a folder is compared with them."""
    found = [layout for family in FAMILIES for layout in import_module(f"{__name__}.{family}").LAYOUTS]
    return MappingProxyType({layout.name: layout for layout in found})


def get_layout(name: str) -> Layout:
    """The layout of this name.

    Raises:
        ConfigError: there is none; the message lists the nearest.
    """
    known = layouts()
    if name not in known:
        raise ConfigError(f"unknown layout {name!r}", where="layout", next_action=f"nearest: {nearest(name, known)}")
    return known[name]


def recognise(root: str | Path, family: str | None = None) -> Layout:
    """The layout of a folder or file.

    Args:
        root: what the user calls the data set.
        family: only layouts of this data set ("nyu", "kitti", …) are considered.

    Raises:
        DatasetNotFoundError: there is nothing at `root`.
        DataFormatError: it has none of the known forms; the message lists them.
    """
    path = Path(root)
    if not path.exists():
        raise DatasetNotFoundError("no such file or folder", where=path, next_action="check the path")
    candidates = [x for x in layouts().values() if family is None or x.name.split("/")[0] == family]
    for layout in candidates:
        if layout.matches(path):
            return layout
    forms = "; ".join(f"{layout.name}: {layout.summary}" for layout in candidates)
    raise DataFormatError("the folder has none of the known layouts", where=path, next_action=f"it should be {forms}")
