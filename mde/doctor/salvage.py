"""A folder that its data module refuses: which files are without a partner or missing, and the frames that are left."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mde.data.base import DepthDataModule
from mde.data.dataset import DepthDataset
from mde.data.encodings import DepthEncoding, get_encoding
from mde.data.folder import CameraModel, RGBDFolderDataset
from mde.data.io import DEPTH_SUFFIXES, IMAGE_SUFFIXES, propose_encoding, read_pixels
from mde.data.pairing import Frame, role_and_key
from mde.doctor.findings import Finding, finding
from mde.doctor.scan import sampled, shown
from mde.doctor.tally import SPLITS
from mde.errors import MdeError

__all__ = ["salvage_folder"]

_JUDGED = 8  # maps from which a scale is proposed


def salvage_folder(
    root: Path, data: DepthDataModule, settings: Mapping[str, Any]
) -> tuple[dict[str, DepthDataset], list[Finding]]:
    """The complete frames of a folder by split, and findings about the others.

    Args:
        root: the folder.
        data: the data module that refused it.
        settings: those that it was made with.
    """
    if (root / "train.txt").is_file() and settings.get("split", "auto") in ("auto", "lists"):
        parts, findings = _from_lists(root)
    else:
        parts, findings = _from_names(root)
    everything = [frame for frames in parts.values() for frame in frames]
    encoding = _encoding(everything, settings)
    numbers = settings.get("intrinsics")
    camera = CameraModel(None if numbers is None else tuple(numbers), settings.get("horizontal_fov"))
    made = {
        split: RGBDFolderDataset(frames, encoding, data.transform(split), camera)
        for split, frames in parts.items()
        if frames
    }
    return dict(made), findings


def _from_lists(root: Path) -> tuple[dict[str, list[Frame]], list[Finding]]:
    parts: dict[str, list[Frame]] = {}
    missing: dict[str, None] = {}
    wrong: list[str] = []
    for split in SPLITS:
        parts[split] = []
        path = root / f"{split}.txt"
        for number, line in enumerate(path.read_text().splitlines() if path.is_file() else (), start=1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) < 2:
                wrong.append(f"{path.name}:{number}")
                continue
            image, depth = (str(root / word.lstrip("/")) for word in words[:2])
            absent = [file for file in (image, depth) if not os.path.isfile(file)]
            missing.update(dict.fromkeys(shown(file, root) for file in absent))
            if not absent:
                parts[split].append(Frame(Path(words[0].lstrip("/")).with_suffix("").as_posix(), image, depth))
    found = (
        [finding("missing-files", f"files of the lists that do not exist: {len(missing)}", missing)] if missing else []
    )
    if wrong:
        text = f"lines that are not 'image depth': {len(wrong)}"
        found.append(finding("unreadable", text, wrong, next_action="write 'image depth' or 'image depth focal'"))
    return parts, found


def _from_names(root: Path) -> tuple[dict[str, list[Frame]], list[Finding]]:
    pairs, lonely, jpegs = _paired(root)
    found = []
    if jpegs:
        found.append(finding("depth-jpeg", f"depth maps stored as JPEG, which blurs every edge: {len(jpegs)}", jpegs))
    if lonely:
        found.append(finding("unpaired", f"files without a partner: {len(lonely)}", lonely))
    parts: dict[str, list[Frame]] = {split: [] for split in SPLITS}
    for frame in pairs:
        first = frame.id.split("/")[0]
        parts[first if first in parts else "train"].append(frame)
    return parts, found


def _paired(root: Path) -> tuple[list[Frame], list[str], list[str]]:
    """Complete frames, files without a partner, and depth maps stored as JPEG."""
    images: dict[str, Path] = {}
    depths: dict[str, Path] = {}
    jpegs: dict[str, Path] = {}
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            role, key = role_and_key(path.relative_to(root))
            suffix = path.suffix.lower()
            if role == "image" and suffix in IMAGE_SUFFIXES:
                images[key] = path
            elif role == "depth" and suffix in DEPTH_SUFFIXES:
                depths[key] = path
            elif role == "depth" and suffix in {".jpg", ".jpeg"}:
                jpegs[key] = path
    alone = [images[key] for key in images if key not in depths and key not in jpegs]
    alone += [depths[key] for key in depths if key not in images]
    frames = [Frame(key, str(images[key]), str(depths[key])) for key in images if key in depths]
    return frames, [shown(path, root) for path in alone], [shown(path, root) for path in jpegs.values()]


def _encoding(frames: list[Frame], settings: Mapping[str, Any]) -> DepthEncoding:
    """What the settings say, with a proposal where they are silent."""
    if settings.get("encoding") is not None:
        return get_encoding(settings["encoding"])
    invalid = settings.get("depth_invalid")
    markers = DepthEncoding().invalid if invalid is None else tuple(invalid)
    kind, scale = settings.get("depth_kind", "z"), settings.get("depth_scale", "auto")
    if not isinstance(scale, str):
        return DepthEncoding(scale, kind, markers)
    pixels = []
    for index in sampled(len(frames), _JUDGED):
        try:
            pixels.append(read_pixels(frames[index].depth))
        except MdeError:  # looked at file by file
            continue
    try:
        found = propose_encoding(pixels)[0]
    except MdeError:  # nothing can be read as depth, and each frame will say why
        return DepthEncoding(1.0, kind, markers)
    return DepthEncoding(found.scale, kind, markers) if found.packing == "plain" else found
