"""``mde demo``: a page in the browser that shows what trained networks say of a picture."""

from __future__ import annotations

import argparse
import ipaddress
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mde.cli.arguments import Parser, size_pair
from mde.cli.environment import choose, prepare_process, this_machine
from mde.errors import ConfigError

if TYPE_CHECKING:
    from mde.inference.predictor import Predictor

__all__ = ["make_parser", "run"]


def run(words: Sequence[str]) -> int:
    """Serve until Ctrl+C; 2 for wrong words or networks that cannot be opened."""
    options = make_parser().parse_args(list(words))
    if len(options.checkpoint) > 2:
        what = f"the page compares two networks, got {len(options.checkpoint)}"
        raise ConfigError(what, where="mde demo", next_action="give one or two")
    print(f"Opening {' and '.join(options.checkpoint)} …", flush=True)  # imports and weights take seconds
    prepare_process()
    from mde.demo.server import require_extra, serve

    require_extra()  # before the networks are read
    predictors = [_predictor(each, options) for each in options.checkpoint]
    _share_cores(predictors[0])
    with (
        _ended_by_signal(),
        serve(
            predictors, options.host, options.port, options.max_megapixels, options.max_mb, not options.no_browser
        ) as served,
    ):
        _say(served.url, options)
        served.wait()
    return 0


def _predictor(checkpoint: str, options: argparse.Namespace) -> Predictor:
    from mde.inference.predictor import Predictor

    return Predictor(
        checkpoint, options.device, options.precision, options.flip, options.size, options.tiles, batch_size=1
    )


def _share_cores(predictor: Predictor) -> None:
    import torch

    accelerator = predictor.network.device.startswith(("cuda", "mps"))
    torch.set_num_threads(choose(this_machine(accelerator=accelerator), in_memory=True).threads)


def _say(url: str, options: argparse.Namespace) -> None:
    if not _is_local(options.host):
        print(
            f"mde: warning: at {options.host} everybody who reaches this machine can use the page, without a password "
            "and without encryption; browsers give it no webcam there",
            file=sys.stderr,
        )
    print(f"Serving {' and '.join(options.checkpoint)} at {url} (Ctrl+C ends it; nothing is kept)", flush=True)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """A request to end is like Ctrl+C: what was uploaded is deleted."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def make_parser() -> Parser:
    """The parser; it imports neither torch nor Gradio."""
    made = Parser(
        "demo",
        "A page in the browser: drop a picture or take the webcam, read depth under the pointer, turn the point cloud, "
        "download the map, compare two networks. Needs the extra demo. Pictures stay on this machine and are deleted "
        "after use.",
        [
            "mde demo runs/quickstart",
            "mde demo best.ckpt depth.onnx",
            "mde demo depth-anything-v2-small --port 8000 --no-browser",
        ],
        "exit status: 130 ended by Ctrl+C, 2 something is wrong with the options",
    )
    made.add_argument(
        "checkpoint", nargs="+", metavar="CHECKPOINT",
        help="one network, or two to compare: a .ckpt or run folder, a depth network of the Hugging Face hub, or a "
        "file of mde export",
    )  # fmt: skip
    made.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default: 127.0.0.1, this machine alone")
    made.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860 on")
    made.add_argument("--no-browser", action="store_true", help="do not open the page in the browser")
    made.add_argument("--max-mb", type=float, default=30.0, metavar="N", help="refuse larger files (default: 30)")
    made.add_argument(
        "--max-megapixels", type=float, default=20.0, metavar="N", help="refuse larger pictures (default: 20)"
    )
    made.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    made.add_argument("--precision", choices=("32", "bf16"), default="32")
    made.add_argument("--flip", action="store_true", help="average with the mirrored picture, in twice the time")
    made.add_argument("--size", type=size_pair, metavar="HxW", help="where the network works (default: as trained)")
    made.add_argument("--tiles", type=size_pair, metavar="RxC", help="rows x columns of tiles, for large pictures")
    return made
