"""The words of ``mde predict``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mde.cli.arguments import Parser, size_pair

__all__ = ["make_parser"]

_DESCRIPTION = """\
Depth maps of your own pictures and videos by a trained network. INPUT is a picture, a video, a folder, a pattern in
quotes or a .txt file with a path a line; or 0, 1, … alone: a camera of this computer, live in a window. A run that was
stopped goes on where it was; unreadable pictures are listed, and the rest is done.

Without INPUT, with --ckpt_path or --config: the predictions of a data module by the Trainer, as mde test does it;
mde predict --config NAME --help shows those options."""

_NOTES = """\
formats: png16 (16 bits, its step in the file), npz, npy, tiff, exr, pfm; png16-256, png16-mm (metres only); pictures:
color, color-jpg, side (with photograph and bar), std; ply, glb (point clouds), mesh (metres and a camera only)

formats of videos: video (colours, bar, sound; the default), video-side (beside the clip); all others: one file a frame

exit status: 0 all done, 1 some were skipped, 2 something is wrong with the options, 130 stopped"""

_EXAMPLES = (
    "mde predict photos/ --checkpoint runs/quickstart -o depth",
    "mde predict 'photos/**/*.jpg' --checkpoint best.ckpt -o depth --format npz,side --color-range 0 10",
    "mde predict a.jpg --checkpoint depth-anything-v2-small -o depth --anchor 320,400,2.5 --anchor 100,80,7",
    "mde predict drive/ --checkpoint model.onnx -o depth --fov 80 --camera-height 1.65 --format ply",
    "mde predict clip.mp4 --checkpoint best.ckpt -o depth --format video-side,npz --smooth flow",
    "mde predict 0 --checkpoint best.ckpt -o depth",
    "mde predict --ckpt_path runs/quickstart",
)


def make_parser() -> Parser:
    """The parser; it imports neither torch nor NumPy."""
    made = Parser("predict", _DESCRIPTION, _EXAMPLES, _NOTES)
    made.add_argument("input", nargs="+", metavar="INPUT", help="pictures, videos, folders, patterns, .txt lists, 0")
    made.add_argument(
        "-c", "--checkpoint", required=True, metavar="X",
        help="a .ckpt or run folder, a depth network of the Hugging Face hub, or a file of mde export",
    )  # fmt: skip
    made.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="where the outputs go")
    made.add_argument("-f", "--format", action="append", metavar="A,B", help="default: png16,color; of videos: video")
    made.add_argument("-r", "--recursive", action="store_true", help="folders with their subfolders")
    made.add_argument("--overwrite", action="store_true", help="make again what is done already")
    made.add_argument(
        "--max-megapixels", type=float, default=80.0, metavar="N", help="skip larger pictures (default: 80)"
    )
    _add_network(made.add_argument_group("network"))
    _add_videos(made.add_argument_group("videos"))
    _add_camera(made.add_argument_group("camera (default: EXIF data)"))
    _add_scale(made.add_argument_group("scale: turn relative depth into metres, or correct metres"))
    _add_colours(made.add_argument_group("colours"))
    return made


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    group.add_argument("--precision", choices=("32", "bf16"), default="32")
    group.add_argument("--flip", action="store_true", help="average with the mirrored picture, in twice the time")
    group.add_argument("--size", type=size_pair, metavar="HxW", help="where the network works (default: as trained)")
    group.add_argument("--tiles", type=size_pair, metavar="RxC", help="rows x columns of tiles, for large pictures")
    group.add_argument("--batch", type=int, metavar="N", help="pictures of one size at once (default: 1; GPU: 8)")
    group.add_argument("--uncertainty", action="store_true", help="standard deviations, into npz and exr")
    group.add_argument("--min-confidence", type=float, metavar="P", help="leave out what is less sure, 0 to 1")


def _add_videos(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--smooth", choices=("none", "scale", "flow"), default="none",
        help="scale: without the flicker of the whole picture; flow: each point averaged along its motion, too",
    )  # fmt: skip
    group.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds to begin at")
    group.add_argument("--end", type=float, metavar="S", help="seconds to end before")
    group.add_argument("--stride", type=int, default=1, metavar="N", help="every Nth frame (default: 1)")


def _add_camera(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--intrinsics", type=_four, metavar="FX,FY,CX,CY", help="pixels of the upright picture")
    group.add_argument("--intrinsics-size", type=size_pair, metavar="HxW", help="of the picture of these pixels")
    group.add_argument("--fov", type=float, metavar="DEG", help="horizontal field of view")
    group.add_argument("--focal", type=float, nargs=2, metavar=("MM", "SENSOR_MM"), help="focal length, sensor width")


def _add_scale(group: argparse._ArgumentGroup) -> None:
    one = group.add_mutually_exclusive_group()
    one.add_argument(
        "--anchor", type=_three, action="append", metavar="X,Y,METRES",
        help="a pixel of known depth (repeat it), of a single picture or a camera that stands still",
    )  # fmt: skip
    one.add_argument("--camera-height", type=float, metavar="M", help="of the camera above level ground")
    one.add_argument("--sparse-depth", type=Path, metavar="PATH", help="a measured map, or a folder of them")
    group.add_argument("--sparse-encoding", type=_number_or_name, metavar="E", help="metres per unit, or a name")
    group.add_argument("--anchor-fit", metavar="MODE", help="such as log_affine (default: by what the network says)")


def _add_colours(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--colors", default="viridis", metavar="NAME", help="viridis, cividis, magma, inferno, plasma")
    group.add_argument("--color-range", type=float, nargs=2, metavar=("MIN", "MAX"), help="the same for all pictures")
    group.add_argument(
        "--color-from", type=int, default=8, metavar="N",
        help="without a range, one scale from the first N pictures, or N frames of a video (default: 8); "
        "0 is one for each",
    )  # fmt: skip
    group.add_argument("--color-percentiles", type=float, nargs=2, default=(1.0, 99.0), metavar=("LOW", "HIGH"))
    group.add_argument("--color-kind", default="linear", metavar="KIND", help="linear, log or reciprocal")


def _three(text: str) -> tuple[float, ...]:
    return _numbers(text, 3)


def _four(text: str) -> tuple[float, ...]:
    return _numbers(text, 4)


def _numbers(text: str, count: int) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != count:
        raise argparse.ArgumentTypeError(f"{text!r} is not {count} numbers with commas between")
    return found


def _number_or_name(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
