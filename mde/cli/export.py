"""``mde export``: a trained network as one file that runs without this library."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mde.cli.arguments import Parser, size_pair
from mde.cli.environment import prepare_process
from mde.errors import ConfigError, DatasetNotFoundError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mde.inference.export import ExportedModel, Parity
    from mde.models import DepthModule

__all__ = ["make_parser", "run"]

_SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")


def run(words: Sequence[str]) -> int:
    """Export, compare with PyTorch, report; 0 when both say the same, 1 when not."""
    options = make_parser().parse_args(list(words))
    target = _target(options)
    pictures = None if options.check is None else _pictures(options.check)
    prepare_process()
    from mde.inference.export import compare, export
    from mde.inference.export.writing import put_in_place

    method = _method(options.checkpoint)
    print(f"Exporting {options.checkpoint} ({type(method).__name__}) …", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        unchecked = Path(folder) / target.name
        made = export(
            method, unchecked, options.format, size=options.size, dynamic=options.dynamic, batch=options.batch,
            flip=options.flip, half=options.fp16, name=options.name or _name(options.checkpoint),
        )  # fmt: skip
        found = compare(method, made, None if pictures is None else _read(pictures))
        _show(made, found)
        if not (found.passed or options.force):
            what = f"mde: error: the file does not say what the network says, and was not kept [{target}]"
            print(f"{what}. Next: look at it with --force, or report it as a bug", file=sys.stderr)
            return 1
        found.write(unchecked.with_name(f"{target.name}.parity.json"))
        put_in_place(unchecked, target)
    print(f"Written: {target} ({target.stat().st_size / 2**20:.1f} MiB) and {target.name}.parity.json")
    return 0 if found.passed else 1


def _target(options: argparse.Namespace) -> Path:
    """Where the file goes; its suffix names the format where none was given."""
    target = Path(options.out)
    kinds = {suffix: kind for kind, suffix in _SUFFIXES.items()}
    if options.format is None:
        options.format = kinds.get(target.suffix, "onnx")
    if target.suffix != _SUFFIXES[options.format]:
        what = f"a file of the format {options.format} ends in {_SUFFIXES[options.format]}"
        hint = f"give -o {target.with_suffix(_SUFFIXES[options.format])}"
        raise ConfigError(what, where=target, next_action=hint)
    return target


def _method(checkpoint: str) -> DepthModule:
    """One of our checkpoints, or a depth network of the Hugging Face hub by name or folder."""
    from mde.models.checkpoint import find_checkpoint, load

    path = find_checkpoint(checkpoint)
    if path.suffix == ".ckpt" or path.is_file():
        return load(path)
    from mde.models import PretrainedDepth

    return PretrainedDepth(checkpoint).eval()


def _name(checkpoint: str) -> str | None:
    """A network of the hub is called as it is there, one of ours by its class."""
    from mde.models.checkpoint import find_checkpoint

    path = find_checkpoint(checkpoint)
    return None if path.is_file() else path.name


def _pictures(folder: Path) -> list[Path]:
    found = [folder] if folder.is_file() else sorted(p for p in folder.glob("*") if p.suffix.lower() in _PICTURES)
    if not found:
        hint = f"give a folder with {', '.join(_PICTURES)}, or leave --check out for rendered pictures"
        raise DatasetNotFoundError("no pictures to compare", where=folder, next_action=hint)
    return found


def _read(paths: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    from mde.data.io import read_image

    return (read_image(path, upright=True) for path in paths)


def _show(made: ExportedModel, found: Parity) -> None:
    info = made.info
    at = "the picture's own size" if info.image_size is None else f"{info.image_size[0]}x{info.image_size[1]}"
    reach = "" if info.depth_range is None else f", {info.depth_range[0]:g} to {info.depth_range[1]:g} m"
    batch = "any number of pictures" if info.batch is None else f"{info.batch} picture(s)"
    timed = f"{found.size[0]}x{found.size[1]}, {found.threads} thread(s)"
    lines = (
        f"{info.model}: {info.ambiguity} ({info.unit}{reach}), {info.precision}",
        f"  takes      uint8 (B,H,W,3) RGB of any size, {batch} a call; works at {at}",
        f"  parity     {'passed' if found.passed else 'FAILED'}, {found.pictures} predictions against PyTorch",
        f"  max abs    {found.max_abs:.3g} {info.unit}, max relative {found.max_relative:.3g}",
        f"  drift      AbsRel {found.abs_rel:.3g} (at most {found.tolerance:g})",
        f"  pixels     {found.beyond:.3%} differ by more than {found.tolerance:g} (at most {found.allowed:.1%})",
        f"  latency    {found.exported_ms:.1f} ms, PyTorch {found.pytorch_ms:.1f} ms ({timed})",
    )
    print("\n".join(lines))


def make_parser() -> Parser:
    made = Parser(
        "export",
        "Write a trained network as one file with all that surrounds it: bytes of a picture of any size in (uint8 "
        "(B,H,W,3), RGB as PIL gives it), depth at that size out (float32 (B,1,H,W), metres of a metric network). The "
        "file is compared with PyTorch, and kept only if both say the same.",
        [
            "mde export runs/quickstart -o depth.onnx",
            "mde export best.ckpt -o depth.onnx --size 480x640 --check my_pictures",
            "mde export best.ckpt -o depth.pt2 --flip",
            "mde export depth-anything-v2-metric-indoor-small -o indoor.onnx --size 480x640",
        ],
        "exit status: 0 written, 1 the file and PyTorch differ, 2 wrong usage",
    )
    made.add_argument("checkpoint", help="a .ckpt of this library, the folder of a run, or a depth network of the hub")
    made.add_argument("-o", "--out", required=True, metavar="FILE", help="where it goes: .onnx or .pt2")
    made.add_argument("--format", choices=tuple(_SUFFIXES), help="default: as the file's name says")
    size = made.add_mutually_exclusive_group()
    size.add_argument("--size", type=size_pair, metavar="HxW", help="where the network works (default: as trained)")
    size.add_argument("--dynamic", action="store_true", help="it works at each picture's own size")
    made.add_argument("--batch", type=int, metavar="N", help="pictures a call (default: any number where it can be)")
    made.add_argument("--flip", action="store_true", help="average with the mirrored picture, in twice the time")
    made.add_argument("--fp16", action="store_true", help="weights and arithmetic of the network in half precision")
    made.add_argument("--name", help="of the network, written into the file (default: its class)")
    made.add_argument("--check", type=Path, metavar="DIR", help="pictures to compare on (default: rendered rooms)")
    made.add_argument("--force", action="store_true", help="keep the file although it differs from PyTorch")
    return made
