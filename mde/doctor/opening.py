"""Opening a data set that may be broken: a refusal of its data module becomes a finding, and what is left is opened."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mde.data.base import DepthDataModule
from mde.data.dataset import DepthDataset
from mde.data.layouts import Layout, get_layout, recognise
from mde.data.writers import is_made
from mde.doctor.files import broken_archives
from mde.doctor.findings import Finding, finding
from mde.doctor.salvage import salvage_folder
from mde.doctor.scan import shown
from mde.doctor.tally import SPLITS
from mde.errors import ConfigError, DataFormatError, DatasetNotFoundError, MdeError, nearest

__all__ = ["Opened", "open_data"]

_FALLBACK = "folder/rgbd"


@dataclass
class Opened:
    """What could be opened.

    Attributes:
        root: folder or file.
        layout: its name.
        data: the data module.
        datasets: of the splits that could be opened, each once (a test part that is the validation part is left out).
        findings: what showed on the way.
    """

    root: Path
    layout: str
    data: DepthDataModule
    datasets: dict[str, DepthDataset] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def open_data(root: str | Path, layout: str | None = None, settings: Mapping[str, Any] | None = None) -> Opened:
    """Open a data set as far as that is possible.

    Args:
        root: folder or file.
        layout: name of its layout; None to recognise it.
        settings: arguments of the data module.

    Raises:
        DatasetNotFoundError: there is nothing at `root`.
        ConfigError: the layout or a setting is unknown or out of range.
    """
    path, settings = Path(root), dict(settings or {})
    chosen, findings = _choose(path, layout)
    opened = Opened(path, chosen.name, _make(chosen, path, settings), findings=findings)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        refusals = _open_splits(opened)
        if refusals and _accepts(chosen, "missing") and "missing" not in settings:
            opened.data = _make(chosen, path, {**settings, "missing": "skip"})
            _open_splits(opened)
        if refusals and chosen.name.startswith("folder/") and path.is_dir():
            datasets, found = salvage_folder(path, opened.data, settings)
            opened.datasets = opened.datasets or datasets
            opened.findings += found
    if not opened.datasets:
        broken = [shown(file, path) if path.is_dir() else file.name for file in broken_archives(path)]
        opened.findings += [finding("dead-files", f"not whole: {', '.join(broken)}", broken)] if broken else []
    said = dict.fromkeys(str(w.message) for w in heard if issubclass(w.category, UserWarning))
    opened.findings += [finding("reader-says", text) for text in said]
    opened.findings += _refused(refusals, bool(opened.datasets))
    if is_made(path):
        opened.findings.append(finding("made-data", "these frames were rendered by mde make-data"))
    return opened


def _choose(path: Path, name: str | None) -> tuple[Layout, list[Finding]]:
    if name is not None:
        chosen = get_layout(name)
        if not path.exists():
            recognise(path)
        return chosen, []
    try:
        return recognise(path), []
    except DataFormatError:
        text = "the folder has none of the known layouts; it is looked at as a folder of images and depth maps"
        return get_layout(_FALLBACK), [finding("unknown-layout", text)]


def _make(layout: Layout, path: Path, settings: Mapping[str, Any]) -> DepthDataModule:
    known = _parameters(layout)
    for key in settings:
        if key not in known:
            hint = f"nearest: {nearest(key, known)}"
            raise ConfigError(f"{layout.name} has no setting {key!r}", where="--set", next_action=hint)
    return layout.make(path, **settings)


def _parameters(layout: Layout) -> set[str]:
    """Names of the settings of the data module of a layout, those of the base class included."""
    from importlib import import_module

    module, _, name = layout.data_module.rpartition(".")
    made = getattr(import_module(module), name)
    found = {*inspect.signature(made.__init__).parameters, *inspect.signature(DepthDataModule.__init__).parameters}
    return found - {"self", "root", "common"}


def _accepts(layout: Layout, setting: str) -> bool:
    return setting in _parameters(layout)


def _open_splits(opened: Opened) -> dict[str, Exception]:
    """Open what can be opened; returns what was refused, by split."""
    refusals: dict[str, Exception] = {}
    for split in SPLITS:
        try:
            dataset = opened.data.dataset(split)
            if len(dataset) == 0:
                raise DataFormatError("the split is empty", next_action="check the split settings")
        except (MdeError, OSError, KeyError, ValueError, EOFError) as error:
            refusals[split] = error
            continue
        if split == "test" and "val" in opened.datasets and _same_frames(opened.datasets["val"], dataset):
            opened.findings = [f for f in opened.findings if f.code != "test-is-val"]
            opened.findings.append(finding("test-is-val", "the test part has the frames of the validation part"))
        else:
            opened.datasets[split] = dataset
    return refusals


def _same_frames(first: DepthDataset, second: DepthDataset) -> bool:
    """True if two data sets have the same first, middle and last frame and the same number of them."""
    if len(first) != len(second) or type(first).frame_id is DepthDataset.frame_id:
        return False
    places = {0, len(first) // 2, len(first) - 1}
    return all(first.frame_id(i) == second.frame_id(i) and first.files(i) == second.files(i) for i in places)


def _refused(refusals: Mapping[str, Exception], opened: bool) -> list[Finding]:
    """One finding for each different message."""
    by_text: dict[str, list[str]] = {}
    severities: dict[str, str] = {}
    for split, error in refusals.items():
        text = str(error) or type(error).__name__
        by_text.setdefault(text, []).append(split)
        # a set that only has, say, a test part is whole in itself
        absent = opened and len(refusals) < len(SPLITS) and isinstance(error, DatasetNotFoundError | ConfigError)
        severities[text] = "info" if absent else "error"
    return [
        finding("cannot-open", f"{', '.join(names)}: {text}", severity=severities[text])
        for text, names in by_text.items()
    ]
