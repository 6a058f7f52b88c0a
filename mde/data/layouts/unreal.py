"""Layouts of frames from the Unreal engine and renderers like it (`mde.data.unreal.forms` holds the details)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mde.data.layouts import Layout

__all__ = ["LAYOUTS"]

_LEVELS = 5  # TartanAir: environment/environment/Easy/P000/image_left
_WIDTH = 4  # folders looked into on each level
_PNG_HEADER = 26  # signature, length, "IHDR", width, height, bit depth, colour type (PNG specification, 11.2.2)


def _folders(root: Path, levels: int = _LEVELS) -> Iterator[Path]:
    """The root and the first few folders on each level below it."""
    if not root.is_dir():
        return
    yield root
    if levels > 1:
        with os.scandir(root) as entries:  # knows folders without asking the disk about each of 10 000 images
            below = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        for name in below[:_WIDTH]:
            yield from _folders(root / name, levels - 1)


def _has(*names: str, levels: int = _LEVELS) -> Callable[[Path], bool]:
    """Some folder holds all of these."""
    return lambda root: any(all((folder / name).exists() for name in names) for folder in _folders(root, levels))


def _is_paper1(root: Path) -> bool:
    depth = root / "depth" / "train"
    return (root / "rgb" / "train").is_dir() and depth.is_dir() and any(p.suffix == ".npy" for p in depth.iterdir())


def _is_densedepth(root: Path) -> bool:
    """An HDF5 file with the groups x and y."""
    if root.is_dir():
        found = [path for path in root.iterdir() if path.suffix in (".h5", ".hdf5")]
        return len(found) == 1 and _is_densedepth(found[0])
    if root.suffix not in (".h5", ".hdf5"):
        return False
    import h5py

    try:
        with h5py.File(root, "r") as file:
            return "x" in file and "y" in file
    except OSError:
        return False


def _is_hypersim(root: Path) -> bool:
    scene = re.compile(r"ai_\d{3}_\d{3}")
    return any(scene.fullmatch(folder.name) and (folder / "images").is_dir() for folder in _folders(root))


def _is_virtual_kitti(root: Path) -> bool:
    scene = re.compile(r"Scene\d+")
    return any(scene.fullmatch(f.name) and any(f.glob("*/frames/rgb")) for f in _folders(root, 3) if f != root)


def _is_carla(root: Path) -> bool:
    """Folders rgb and depth, and the depth is a colour picture of 8 bits."""
    for folder in _folders(root, 3):
        if (folder / "rgb").is_dir() and (folder / "depth").is_dir():
            first = next((path for path in (folder / "depth").iterdir() if path.suffix == ".png"), None)
            return first is not None and _is_colour(first)
    return False


def _is_colour(path: Path) -> bool:
    with path.open("rb") as file:
        header = file.read(_PNG_HEADER)
    return header[12:16] == b"IHDR" and header[24] == 8 and header[25] in (2, 6)


def _layout(name: str, summary: str, matches: Callable[[Path], bool], world: str, *configs: str) -> Layout:
    return Layout(
        name=f"unreal/{name}",
        summary=summary,
        data_module="mde.data.unreal.UnrealDataModule",
        matches=matches,
        writer=f"mde.data.writers.unreal:write_{name}",
        settings={"layout": name},
        world=world,
        configs=tuple(f"unreal/{config}" for config in configs),
    )


LAYOUTS = (
    _layout(
        "airsim",
        "recordings of AirSim: airsim_rec.txt beside images/img_*_0_TIME.png and img_*_1_TIME.pfm (2: along rays)",
        _has("airsim_rec.txt", "images"),
        "street",
        "densedepth_80",
    ),
    _layout(
        "tartanair",
        "TartanAir: ENV/Easy/P000/image_left/000000_left.png and depth_left/000000_left_depth.npy, metres",
        lambda root: _has("image_left", "depth_left")(root) or _has("image_right", "depth_right")(root),
        "rooms",
        "densedepth_80",
    ),
    _layout(
        "tartanair_v2",
        "TartanAir V2: ENV/Data_easy/P000/image_lcam_front/*.png and depth_lcam_front/*_depth.png, floats in RGBA",
        lambda root: _has("image_lcam_front", "depth_lcam_front")(root) or _has("image_rcam_front")(root),
        "rooms",
        "densedepth_80",
    ),
    _layout(
        "stereo4k",
        "UnrealStereo4K: 00000/Image0/*.png, Disp0/*.npy in pixels, Extrinsics0 and Extrinsics1 with *.txt",
        _has("Image0", "Disp0", levels=3),
        "street",
        "densedepth_80",
    ),
    _layout(
        "easysynth",
        "EasySynth for Unreal: CAMERA/ColorImage/*.jpeg and CAMERA/DepthImage/*.exr, shares of the depth range",
        _has("ColorImage", "DepthImage"),
        "rooms",
        "densedepth_80",
    ),
    _layout(
        "densedepth_h5",
        "DenseDepth's unreal_data.h5: encoded images x/KEY, depth y/KEY in centimetres",
        _is_densedepth,
        "rooms",
        "densedepth",
    ),
    _layout(
        "hypersim",
        "Hypersim: ai_001_001/images/scene_cam_00_final_preview/*.jpg and scene_cam_00_geometry_hdf5, along rays",
        _is_hypersim,
        "rooms",
        "densedepth",
    ),
    _layout(
        "virtual_kitti",
        "Virtual KITTI 2: Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg and depth/Camera_0/depth_00000.png, cm",
        _is_virtual_kitti,
        "street",
        "densedepth_80",
    ),
    _layout(
        "paper1",
        "rgb/{train,val,test}/NAME.jpg and depth/{train,val,test}/NAME.npy, metres, clipped to 20 m (paper 1)",
        _is_paper1,
        "rooms",
        "densedepth",
        "resnet",
        "resnet_paper1",
    ),
    _layout(
        "carla",
        "CARLA's save_to_disk: RUN/rgb/NAME.png and RUN/depth/NAME.png, 24 bits in three colours",
        _is_carla,
        "street",
        "densedepth_80",
    ),
)
