"""The forms in which frames of the Unreal engine, and of renderers like it, lie on disk, as one table.

A `Form` says which files are images, where the depth of each lies, what its numbers mean, and through which camera it
was seen. Paths are regular expressions over paths relative to the root; the groups that have a meaning are

- ``place``: folders of the scene, from coarse to fine; splits are made of whole places, so that neighbours never leak;
- ``name``: the moment; with `place` the same for all variants and all cameras of one moment;
- ``camera``: which of several cameras (`Form.camera` of them are read, if the user names no others);
- ``split``: where the form has folders for training, validation and test.

Pixel convention: the documentation of simulators puts the principal point at half the size (corner convention). In the
convention of this library (`mde.geometry`) that is (size - 1) / 2, which is what a field of view stands for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mde.data.encodings import DepthEncoding

__all__ = ["FORMS", "Form", "Pair"]

_PICTURE = r"\.(?:png|jpe?g)"
_HEAD = r"(?P<head>(?:(?P<place>.+)/)?)"
_ROOMS = (0.1, 20.0)  # metres


@dataclass(frozen=True)
class Pair:
    """Where the parts of a frame lie.

    Attributes:
        image: regular expression that matches the whole relative path of an image.
        depth: path of its depth map, as a template for `re.Match.expand`.
        calibration: path of a file about its camera, as such a template.
    """

    image: str
    depth: str
    calibration: str = ""


@dataclass(frozen=True)
class Form:
    """One form.

    Attributes:
        pairs: alternatives; empty where frames are not found by their path alone (`mde.data.unreal.find`).
        encoding: of the depth files, a name of `mde.data.encodings.ENCODINGS` or an encoding.
        image_size: (height, width) of a network's input that suits the data.
        fov: horizontal field of view in degrees, where the form's owner states it.
        camera: regular expression for the ``camera`` that is read by default.
        limits: (near, far) in metres to which the authors clip the depth; see `UnrealDataModule.far`.
        depth_range: metres, of a network for this data.
        protocol: name of the evaluation protocol.
    """

    pairs: tuple[Pair, ...]
    encoding: str | DepthEncoding
    image_size: tuple[int, int]
    fov: float | None = None
    camera: str = ".*"
    limits: tuple[float, float] | None = None
    depth_range: tuple[float, float] = (0.3, 80.0)
    protocol: str = "unreal_80"


_VIRTUAL_KITTI = r"(?P<head>(?P<place>Scene\d+)/(?P<variant>[^/]+)/frames/)"
_VIRTUAL_KITTI_IMAGE = r"rgb/(?P<camera>Camera_[01])/rgb_(?P<name>\d+)\.(?:jpg|png)"
_VIRTUAL_KITTI_DEPTH = r"\g<head>depth/\g<camera>/depth_\g<name>.png"
_VIRTUAL_KITTI_CAMERA = r"\g<place>/\g<variant>/intrinsic.txt"

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        # paper 1's set (course set "DepthEstimationUnreal"); camera, and z or ray, are not documented
        "paper1": Form(
            (Pair(rf"rgb/(?P<split>train|val|test)/(?P<name>[^/]+){_PICTURE}", r"depth/\g<split>/\g<name>.npy"),),
            "metres",
            (144, 256),
            limits=(0.0, 20.0),
            depth_range=_ROOMS,
            protocol="unreal_20",
        ),
        # AirSim's recorder (RecordingFile.cpp); 256x144 and 90 degrees are its defaults (settings.md)
        "airsim": Form((), "airsim_planar", (144, 256), fov=90.0),
        # TartanAir (data_type.md of its tools): 640x480, fx = fy = 320, corner convention
        "tartanair": Form(
            (
                Pair(
                    rf"{_HEAD}image_(?P<camera>left|right)/(?P<name>\d+)_(?P=camera){_PICTURE}",
                    r"\g<head>depth_\g<camera>/\g<name>_\g<camera>_depth.npy",
                ),
            ),
            "tartanair_v1",
            (240, 320),
            fov=90.0,
            camera="left",
        ),
        # TartanAir V2 (modalities.rst of tartanairpy): 640x640, 90 degrees; fisheye and panorama are no pinhole images
        "tartanair_v2": Form(
            (
                Pair(
                    rf"{_HEAD}image_(?P<camera>[lr]cam_(?:front|back|left|right|top|bottom))/"
                    rf"(?P<name>\d+)_(?P=camera){_PICTURE}",
                    r"\g<head>depth_\g<camera>/\g<name>_\g<camera>_depth.png",
                ),
            ),
            "tartanair_v2",
            (320, 320),
            fov=90.0,
            camera="lcam_front",
        ),
        # UnrealStereo4K (Tosi et al., CVPR 2021); the left view, with the focal length and baseline of each frame
        "stereo4k": Form(
            (
                Pair(
                    rf"{_HEAD}Image0/(?P<name>\d+){_PICTURE}",
                    r"\g<head>Disp0/\g<name>.npy",
                    r"\g<head>Extrinsics0/\g<name>.txt",
                ),
            ),
            "unrealstereo4k",
            (288, 512),
        ),
        # EasySynth (its README): z as a share of its "depth range", 100 m by default; 1 is all that is farther
        "easysynth": Form(
            (
                Pair(
                    rf"(?P<head>(?:(?:(?P<place>.+)/)?(?P<camera>[^/]+)/)?)ColorImage/(?P<name>[^/]+){_PICTURE}",
                    r"\g<head>DepthImage/\g<name>.exr",
                ),
            ),
            DepthEncoding(100.0, "z", (1.0,), files=(".exr",), name="easysynth"),
            (288, 512),
        ),
        # DenseDepth's unreal_data.h5 (data.py): one file, the keys of a frame under x and y
        "densedepth_h5": Form(
            (), "densedepth_unreal", (240, 320), limits=(0.1, 10.0), depth_range=(0.1, 10.0), protocol="rooms"
        ),
        # Hypersim (README of ml-hypersim): 1024x768 and 60 degrees, a focal length of 886.81 px
        "hypersim": Form(
            (
                Pair(
                    r"(?P<head>(?:.+/)?(?P<place>ai_\d+_\d+)/images/scene_(?P<camera>cam_\d+)_)"
                    r"final_preview/frame\.(?P<name>\d+)\.tonemap\.jpg",
                    r"\g<head>geometry_hdf5/frame.\g<name>.depth_meters.hdf5",
                ),
            ),
            "hypersim",
            (384, 512),
            fov=60.0,
            depth_range=_ROOMS,
            protocol="unreal_20",
        ),
        # Virtual KITTI 2: all archives unpacked in one folder, or each in one of its own name
        "virtual_kitti": Form(
            (
                Pair(_VIRTUAL_KITTI + _VIRTUAL_KITTI_IMAGE, _VIRTUAL_KITTI_DEPTH, _VIRTUAL_KITTI_CAMERA),
                Pair(
                    rf"(?P<archive>vkitti_[\d.]+)_rgb/{_VIRTUAL_KITTI}{_VIRTUAL_KITTI_IMAGE}",
                    rf"\g<archive>_depth/{_VIRTUAL_KITTI_DEPTH}",
                    rf"\g<archive>_textgt/{_VIRTUAL_KITTI_CAMERA}",
                ),
            ),
            "virtual_kitti",
            (192, 640),
            camera="Camera_0",
        ),
        # CARLA has no layout of its own: this is its documented ``image.save_to_disk`` of both cameras, at default fov
        "carla": Form(
            (Pair(rf"{_HEAD}rgb/(?P<name>[^/]+){_PICTURE}", r"\g<head>depth/\g<name>.png"),),
            "carla",
            (240, 320),
            fov=90.0,
        ),
    }
)
"""Forms by the name of their layout, without "unreal/"."""
