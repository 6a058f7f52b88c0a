"""Rendered frames in the forms of `mde.data.unreal.forms`, each with the names, bits and sky of the real thing.

Every form but paper 1's is written as separate scenes, of which the data module holds out whole ones: the training
frames in one scene, those of validation and test in one each.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from mde.data.encodings import DepthEncoding, get_encoding
from mde.data.formats import encode_pixels
from mde.data.io import write_depth, write_image
from mde.data.writers.source import FrameSource, SourceFrame, parts_of
from mde.geometry import intrinsics_from_fov

__all__ = [
    "write_airsim",
    "write_carla",
    "write_densedepth_h5",
    "write_easysynth",
    "write_hypersim",
    "write_paper1",
    "write_stereo4k",
    "write_tartanair",
    "write_tartanair_v2",
    "write_virtual_kitti",
]

Size = tuple[int, int]
_FAR = 10_000.0  # metres: TartanAir's sky sphere (data_type.md)
_HALF_MAX = 65504.0  # metres: AirSim's sky, the largest float16 of its render target
_RECORD_HEADER = "VehicleName TimeStamp POS_X POS_Y POS_Z Q_W Q_X Q_Y Q_Z ImageFile".split()  # noqa: SIM905
_STEREO_FOCAL = 0.5  # of the width
_STEREO_BASELINE = 0.2  # metres
_VKITTI_FOCAL = 725.0087 / 1242  # of the width; fx of Virtual KITTI 2


def write_paper1(root: Path, count: int, source: FrameSource, size: Size | None = None) -> dict[str, int]:
    """``rgb/train/00000.jpg`` and ``depth/train/00000.npy``, metres, 0 where there is nothing.

    Nothing ends at 20 m: paper 1's loader clips, and so does the data module. The copy that students got has no test
    files; this one has.
    """
    height, width = size or (144, 256)
    index: dict[str, int] = {}
    for split, frames in parts_of(count).items():
        for number in range(frames):
            frame = source(len(index), height, width)
            index[f"rgb/{split}/{number:05d}"] = len(index)
            write_image(root / "rgb" / split / f"{number:05d}.jpg", frame.image)
            write_depth(root / "depth" / split / f"{number:05d}.npy", frame.depth)
    return index


def write_airsim(
    root: Path, count: int, source: FrameSource, size: Size | None = None, *, depth_type: int = 1
) -> dict[str, int]:
    """Three recordings: ``airsim_rec.txt``, ``images/img_0_0_TIME.png`` and ``img_0_1_TIME.pfm`` (rows from the top).

    Args:
        depth_type: of AirSim's ImageType: 1 for DepthPlanar, 2 for DepthPerspective (along rays).
    """
    height, width = size or (144, 256)
    camera = _from_fov(height, width, 90.0)
    encoding = get_encoding("airsim_planar" if depth_type == 1 else "airsim_perspective")
    rows: dict[str, list[str]] = {}
    index: dict[str, int] = {}
    for place, number, frame in _scenes(count, source, height, width, camera, "2024-05-0{}-12-00-00"):
        time = 1_700_000_000_000_000_000 + number * 100_000_000
        names = [f"img_0_0_{time}.png", f"img_0_{depth_type}_{time + 1_000_000}.pfm"]
        index[f"{place}/images/{names[0].removesuffix('.png')}"] = len(index)
        write_image(root / place / "images" / names[0], frame.image)
        numbers = encoding.from_metres(_sky(frame.depth, 2 * _HALF_MAX), np.float32, camera)
        # saturated as in the render target; and turned over, since OpenCV follows the standard and AirSim does not
        upside_down = np.ascontiguousarray(np.minimum(numbers, np.float32(_HALF_MAX))[::-1])
        encode_pixels(root / place / "images" / names[1], upside_down)
        pose = [f"{0.1 * number:.4f}", "0", "-1.6", "1", "0", "0", "0"]
        row = ["SimpleFlight", str(time // 1_000_000), *pose, ";".join(names)]
        rows.setdefault(place, ["\t".join(_RECORD_HEADER)]).append("\t".join(row))
    for place, lines in rows.items():
        (root / place / "airsim_rec.txt").write_text("\n".join(lines) + "\n")
    return index


def write_tartanair(root: Path, count: int, source: FrameSource, size: Size | None = None) -> dict[str, int]:
    """``office1/Easy/P000/image_left/000000_left.png``, ``depth_left/000000_left_depth.npy``; the sky 10 km away."""
    height, width = size or (480, 640)
    index: dict[str, int] = {}
    for place, number, frame in _scenes(count, source, height, width, _from_fov(height, width, 90.0), "office{}"):
        at = root / place / "Easy" / "P000"
        index[f"{place}/Easy/P000/image_left/{number:06d}_left"] = len(index)
        write_image(at / "image_left" / f"{number:06d}_left.png", frame.image)
        write_depth(at / "depth_left" / f"{number:06d}_left_depth.npy", _sky(frame.depth, _FAR), "tartanair_v1")
    return index


def write_tartanair_v2(root: Path, count: int, source: FrameSource, size: Size | None = None) -> dict[str, int]:
    """``House1/Data_easy/P000/image_lcam_front/000000_lcam_front.png``, depth as the bytes of a float32 in RGBA."""
    height, width = size or (640, 640)
    index: dict[str, int] = {}
    for place, number, frame in _scenes(count, source, height, width, _from_fov(height, width, 90.0), "House{}"):
        at, name = f"{place}/Data_easy/P000", f"{number:06d}_lcam_front"
        index[f"{at}/image_lcam_front/{name}"] = len(index)
        write_image(root / at / "image_lcam_front" / f"{name}.png", frame.image)
        path = root / at / "depth_lcam_front" / f"{name}_depth.png"
        write_depth(path, _sky(frame.depth, _FAR), "tartanair_v2")
    return index


def write_stereo4k(root: Path, count: int, source: FrameSource, size: Size | None = None) -> dict[str, int]:
    """``00001/Image0/00000.png``, ``Disp0/00000.npy`` (the sky almost 0), ``Extrinsics0`` and ``1``; no right images.

    540x960 by default, a quarter of the real size.
    """
    height, width = size or (540, 960)
    focal = _STEREO_FOCAL * width
    camera = _central(height, width, focal)
    encoding = get_encoding("unrealstereo4k").with_scale(focal * _STEREO_BASELINE)
    index: dict[str, int] = {}
    for place, number, frame in _scenes(count, source, height, width, camera, "0000{}"):
        name = f"{number:05d}"
        index[f"{place}/Image0/{name}"] = len(index)
        write_image(root / place / "Image0" / f"{name}.png", frame.image)
        write_depth(root / place / "Disp0" / f"{name}.npy", _sky(frame.depth, 100 * _FAR), encoding)
        for side in (0, 1):
            lines = (
                f"{focal} 0 {width / 2} 0 {focal} {height / 2} 0 0 1\n1 0 0 {side * _STEREO_BASELINE} 0 1 0 0 0 0 1 0\n"
            )
            path = root / place / f"Extrinsics{side}" / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(lines)
    return index


def write_easysynth(root: Path, count: int, source: FrameSource, size: Size | None = None) -> dict[str, int]:
    """``run1/c0/ColorImage/Sequence.0000.jpeg`` and ``DepthImage/Sequence.0000.exr``: shares of 100 m, the sky is 1.

    float16, as Unreal writes it. Needs the extra ``mde[exr]``. 540x960 by default.
    """
    height, width = size or (540, 960)
    encoding = DepthEncoding(100.0, "z", (1.0,))
    index: dict[str, int] = {}
    for place, number, frame in _scenes(count, source, height, width, None, "run{}"):
        name = f"Sequence.{number:04d}"
        index[f"{place}/c0/ColorImage/{name}"] = len(index)
        write_image(root / place / "c0" / "ColorImage" / f"{name}.jpeg", frame.image)
        depth = np.minimum(_sky(frame.depth, 100.0), np.float32(100.0))
        write_depth(root / place / "c0" / "DepthImage" / f"{name}.exr", depth, encoding, np.float16)
    return index


def write_densedepth_h5(root: Path, count: int, source: FrameSource, size: Size | None = None) -> dict[str, int]:
    """``unreal_data.h5`` with ``x/<key>``, the bytes of a JPEG, and ``y/<key>``, float32 centimetres."""
    height, width = size or (480, 640)
    index: dict[str, int] = {}
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "unreal_data.h5", "w") as file:
        for number in range(sum(parts_of(count).values())):
            frame = source(number, height, width)
            _, data = cv2.imencode(".jpg", frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
            file[f"x/{number:05d}"] = data.ravel()
            file[f"y/{number:05d}"] = get_encoding("densedepth_unreal").from_metres(frame.depth)
            index[f"{number:05d}"] = number
    return index


def write_hypersim(root: Path, count: int, source: FrameSource, size: Size | None = None) -> dict[str, int]:
    """``ai_001_001/images/scene_cam_00_final_preview/frame.0000.tonemap.jpg``; float16 along rays, NaN for nothing."""
    height, width = size or (768, 1024)
    camera = _from_fov(height, width, 60.0)
    index: dict[str, int] = {}
    for place, number, frame in _scenes(count, source, height, width, camera, "ai_001_00{}"):
        at = f"{place}/images/scene_cam_00_"
        index[f"{at}final_preview/frame.{number:04d}.tonemap"] = len(index)
        write_image(root / f"{at}final_preview/frame.{number:04d}.tonemap.jpg", frame.image)
        path = root / f"{at}geometry_hdf5/frame.{number:04d}.depth_meters.hdf5"
        write_depth(path, _sky(frame.depth, np.nan), "hypersim", np.float16, camera)
    return index


def write_virtual_kitti(root: Path, count: int, source: FrameSource, size: Size | None = None) -> dict[str, int]:
    """``Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg``; centimetres, 65535 for the sky; ``intrinsic.txt``."""
    height, width = size or (375, 1242)
    camera = _central(height, width, _VKITTI_FOCAL * width)
    lines: dict[str, list[str]] = {}
    index: dict[str, int] = {}
    for place, number, frame in _scenes(count, source, height, width, camera, "Scene0{}"):
        at = f"{place}/clone/frames"
        index[f"{at}/rgb/Camera_0/rgb_{number:05d}"] = len(index)
        write_image(root / at / "rgb" / "Camera_0" / f"rgb_{number:05d}.jpg", frame.image)
        path = root / at / "depth" / "Camera_0" / f"depth_{number:05d}.png"
        write_depth(path, _sky(frame.depth, 655.35), "virtual_kitti")
        numbers = " ".join(f"{camera[row, column]:.7g}" for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
        header = ["frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]"]
        lines.setdefault(place, header).append(f"{number} 0 {numbers}")
    for place, told in lines.items():
        (root / place / "clone" / "intrinsic.txt").write_text("\n".join(told) + "\n")
    return index


def write_carla(root: Path, count: int, source: FrameSource, size: Size | None = None) -> dict[str, int]:
    """``run1/rgb/00000000.png`` and ``run1/depth/00000000.png``: 24 bits in red, green, blue; 1000 m is the sky."""
    height, width = size or (600, 800)
    index: dict[str, int] = {}
    for place, number, frame in _scenes(count, source, height, width, _from_fov(height, width, 90.0), "run{}"):
        index[f"{place}/rgb/{number:08d}"] = len(index)
        write_image(root / place / "rgb" / f"{number:08d}.png", frame.image)
        write_depth(root / place / "depth" / f"{number:08d}.png", _sky(frame.depth, 1000.0), "carla")
    return index


def _scenes(
    count: int, source: FrameSource, height: int, width: int, camera: NDArray[np.float32] | None, name: str
) -> Iterator[tuple[str, int, SourceFrame]]:
    """(folder of the scene, number in the scene, frame), as many scenes as there are parts."""
    made = 0
    for scene, frames in enumerate(parts_of(count).values(), start=1):
        for number in range(frames):
            yield name.format(scene), number, source(made, height, width, camera)
            made += 1


def _sky(depth: NDArray[np.float32], metres: float) -> NDArray[np.float32]:
    """Where there is nothing: what the renderer writes there."""
    return np.where(depth > 0, depth, np.float32(metres))


def _from_fov(height: int, width: int, degrees: float) -> NDArray[np.float32]:
    return np.asarray(intrinsics_from_fov(height, width, degrees).numpy())


def _central(height: int, width: int, focal: float) -> NDArray[np.float32]:
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], np.float32)
