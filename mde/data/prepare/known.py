"""The data sets: where they are, how large, under which licence, and how many frames they have.

This was written without a network: addresses, sizes and licences are as published by the owners or by users, and were
not tried again. A checksum stands here only where several independent users publish the same one, or the owner does.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mde.data.kitti.frames import eigen_frames
from mde.data.prepare.catalog import KnownData, RemoteFile
from mde.errors import ConfigError, nearest

__all__ = ["KNOWN", "get_known"]

_NYU = KnownData(
    name="nyu",
    title="NYU Depth v2, the labelled set of 1449 frames",
    family="nyu",
    size="3 GB",
    licence=None,
    home_page="https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html",
    files=(
        RemoteFile(
            base="http://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2",
            path="nyu_depth_v2_labeled.mat",
            parts=("labelled",),
            size=2_972_037_809,
            md5="520609c519fba3ba5ac58c8fefcc3530",
            sha256="2d724b0c0ab358aa1ce5df855e5bd14a2279ab7202efe22f32a30d612dcb86aa",
        ),
    ),
    parts={"labelled": "nyu_depth_v2_labeled.mat: 795 training and 654 test frames"},
    default=("labelled",),
    by_hand=(
        "DenseDepth's 50,688 training frames (8-bit depth) need a Kaggle account: in the terminal "
        "`kaggle datasets download -d soumikrakshit/nyu-depth-v2 -p {root} --unzip`, or with a browser from "
        "https://www.kaggle.com/datasets/soumikrakshit/nyu-depth-v2",
        "other forms (BTS's sync folders, FastDepth's h5, parquet) are verified where they are: mde prepare nyu FOLDER",
    ),
    layout="nyu/labeled",
)

# ------------------------------------------------------------------------------------------------------------- KITTI

_S3 = "https://s3.eu-central-1.amazonaws.com/avg-kitti"


def _kitti_files() -> tuple[RemoteFile, ...]:
    """The drives, the calibration of their days, and the ground truth."""
    files: list[RemoteFile] = []
    days: dict[str, set[str]] = {}
    for part, frames in (("eigen_test", "test_697"), ("eigen_train", "train_23488")):
        for name in sorted({drive for drive, _ in eigen_frames(frames)}):
            day, number = name.split("/")
            parts = ("eigen", part, name)
            drive = f"{day}_drive_{number}"
            files.append(RemoteFile(_S3, f"raw_data/{drive}/{drive}_sync.zip", parts))
            days.setdefault(day, set()).update(parts)
    calibration = [RemoteFile(_S3, f"raw_data/{day}_calib.zip", tuple(sorted(p)), 5_000) for day, p in days.items()]
    depth = RemoteFile(
        _S3, "data_depth_annotated.zip", ("ground_truth",), 14 * 10**9, md5="7d1ce32633dc2f43d9d1656a1f875e47"
    )
    selection = RemoteFile(_S3, "data_depth_selection.zip", ("selection",), 2 * 10**9)
    return (*calibration, depth, selection, *files)


_KITTI = KnownData(
    name="kitti",
    title="KITTI raw drives of the Eigen split, with the official depth ground truth",
    family="kitti",
    size="some 190 GB: 14 GB of ground truth, 175 GB of drives as users say",
    licence="CC BY-NC-SA 3.0",
    home_page="https://www.cvlibs.net/datasets/kitti/eval_depth.php?benchmark=depth_prediction",
    files=_kitti_files(),
    parts={
        "eigen": "the 61 drives of the Eigen split, with calibration",
        "eigen_test": "only the 28 drives of its test frames (verify them with --split test)",
        "eigen_train": "only the 33 drives of its training frames",
        "ground_truth": "data_depth_annotated.zip, accumulated lidar for training and the 652 test frames (14 GB)",
        "selection": "data_depth_selection.zip, the benchmark's 1000 validation and 500 test crops (2 GB)",
        "DATE/NNNN": "one drive of them with its calibration, such as 2011_09_26/0002",
    },
    default=("eigen", "ground_truth"),
    by_hand=(
        "single drives: --part 2011_09_26/0002, repeated; drives that were unpacked by other means are fetched anew",
        "if the server refuses: log in at the home page, download there, put the zips into {root}, repeat",
    ),
    layout="kitti/raw",
)

# --------------------------------------------------------------------------------------------------------- synthetic

_SYNTHIA = KnownData(
    name="synthia",
    title="SYNTHIA-RAND-CITYSCAPES, 9,400 rendered street scenes",
    family="synthia",
    size="20 GB",
    licence="CC BY-NC-SA 3.0 (non-commercial)",
    home_page="https://synthia-dataset.net/downloads/",
    files=(
        RemoteFile(
            "http://synthia-dataset.cvc.uab.cat", "SYNTHIA_RAND_CITYSCAPES.rar", ("rand_cityscapes",), 20 * 10**9
        ),
    ),
    parts={"rand_cityscapes": "SYNTHIA_RAND_CITYSCAPES.rar; unpack it with unrar, 7z or bsdtar"},
    default=("rand_cityscapes",),
    by_hand=(
        "rar is not unpacked here: `unrar x SYNTHIA_RAND_CITYSCAPES.rar` in {root} (or `7z x`, `bsdtar -xf`); it makes "
        "RAND_CITYSCAPES/ with RGB, Depth and GT",
    ),
    layout="synthia/rand_cityscapes",
)

_VKITTI2 = KnownData(
    name="vkitti2",
    title="Virtual KITTI 2 (2.0.3), 5 rendered drives in 10 variations, two cameras",
    family="unreal",
    size="16 GB",
    licence="CC BY-NC-SA 3.0",
    home_page="https://europe.naverlabs.com/research/computer-vision/proxy-virtual-worlds-vkitti-2/",
    # the checksums are those of the owner's vkitti_2.0.3_md5_checksums.txt
    files=tuple(
        RemoteFile(
            "https://download.europe.naverlabs.com/virtual_kitti_2.0.3", f"vkitti_2.0.3_{name}", (part,), size, md5
        )
        for part, name, size, md5 in (
            ("rgb", "rgb.tar", 7_532_472_320, "1e00a143a397c2c53aa9720a868fe34a"),
            ("depth", "depth.tar", 8_145_715_200, "1d34a96f870fc5d33b482df87844f5e4"),
            ("cameras", "textgt.tar.gz", 24_451_078, "855f7f37746e5508f094e522c9cf41f4"),
        )
    ),
    parts={"rgb": "images", "depth": "depth, 16-bit PNG in centimetres", "cameras": "intrinsics and poses"},
    default=("rgb", "depth", "cameras"),
    layout="unreal/virtual_kitti",
)

_UNREAL = KnownData(
    name="unreal",
    title="frames of Unreal Engine (AirSim), such as DepthEstimationUnreal of the course's paper",
    family="unreal",
    size="unknown",
    licence=None,
    home_page="none is known",
    by_hand=(
        "DepthEstimationUnreal (256x144 jpg, npy in metres, 0 to 20 m) was given to a course and is published nowhere "
        "that we know: put {root}/rgb/<split>/NAME.jpg and {root}/depth/<split>/NAME.npy there",
        "your own export: see `mde make-data --help` for the layouts that are read",
    ),
)

_TARTANAIR = KnownData(
    name="tartanair",
    title="TartanAir, AirSim flights through rendered worlds",
    family="unreal",
    size="some TB for all; choose environments",
    licence="CC BY 4.0",
    home_page="https://theairlab.org/tartanair-dataset/",
    by_hand=(
        "version 1: `git clone https://github.com/castacks/tartanair_tools`, then "
        "`python download_training.py --output-dir {root} --rgb --depth --only-left`, and unzip",
        "version 2: `pip install tartanair`, then choose environments as https://tartanair.org tells",
    ),
)

_HYPERSIM = KnownData(
    name="hypersim",
    title="Hypersim, photorealistic rooms (depth along viewing rays)",
    family="unreal",
    size="1.9 TB for all; choose scenes",
    licence="CC BY-SA 3.0",
    home_page="https://github.com/apple/ml-hypersim",
    by_hand=("fetch scenes with the scripts of the home page (its contrib/99991 takes single files out) into {root}",),
)

_UNREALSTEREO4K = KnownData(
    name="unrealstereo4k",
    title="UnrealStereo4K, stereo pairs of 3840x2160 with disparity",
    family="unreal",
    size="unknown",
    licence=None,
    home_page="https://github.com/fabiotosi92/SMD-Nets",
    by_hand=("the links stand on the home page; unpack the scenes into {root}/<scene>/{{Image0,Disp0,Extrinsics0,…}}",),
)

_FOLDER = KnownData(
    name="folder",
    title="your own images with depth maps",
    family="folder",
    size="yours",
    licence=None,
    home_page="none",
    by_hand=("put {root}/<split>/rgb/NAME.jpg and {root}/<split>/depth/NAME.png (millimetres) there",),
)

KNOWN: Mapping[str, KnownData] = MappingProxyType(
    {
        known.name: known
        for known in (_NYU, _KITTI, _SYNTHIA, _UNREAL, _TARTANAIR, _VKITTI2, _HYPERSIM, _UNREALSTEREO4K, _FOLDER)
    }
)
"""By name."""


def get_known(name: str) -> KnownData:
    """The data set of this name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in KNOWN:
        hint = f"nearest: {nearest(name, KNOWN)}; see mde prepare --list"
        raise ConfigError(f"unknown data set {name!r}", where="mde prepare", next_action=hint)
    return KNOWN[name]
