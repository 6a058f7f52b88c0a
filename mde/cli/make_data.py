"""``mde make-data``: a small rendered copy of a data set in its true layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mde.cli.arguments import Parser
from mde.console import counting
from mde.data.layouts import get_layout, layouts
from mde.data.writers import FrameSource, SourceFrame, mark, rendered
from mde.errors import ConfigError

__all__ = ["make_parser", "run"]


def run(words: Sequence[str]) -> int:
    """Write the data set and say how to train on it."""
    options = make_parser().parse_args(list(words))
    layout = get_layout(options.layout)
    root = Path(options.dir)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        what = "the folder is not empty" if root.is_dir() else "there is a file of this name"
        raise ConfigError(what, where=root, next_action="give a new folder")
    if options.n < 1:
        raise ConfigError(f"-n must be at least 1, got {options.n}")
    world = options.world or layout.world
    root.mkdir(parents=True, exist_ok=True)
    size = tuple(options.size) if options.size else None
    with counting() as show:
        source = _Counted(rendered(world, options.seed), lambda made: show("rendering", made, None))
        index = layout.load_writer()(root, options.n, source, size)
    mark(root, layout.name, {"frames": len(index), "world": world, "seed": options.seed})
    print(f"{root}: {len(index)} rendered frames of {world} in the layout {layout.name} ({layout.summary})")
    for config in layout.configs:
        print(f"  mde fit --config {config} --data.root {root}")
    print(f"  mde doctor {root}")
    return 0


class _Counted:
    """A source that says how far it is."""

    def __init__(self, source: FrameSource, say: Callable[[int], None]) -> None:
        self.source, self.say = source, say
        self.made = 0

    def __call__(
        self, index: int, height: int, width: int, intrinsics: NDArray[np.float32] | None = None, right: float = 0.0
    ) -> SourceFrame:
        self.made += 1
        self.say(self.made)
        return self.source(index, height, width, intrinsics, right)


def make_parser() -> Parser:
    known = "\n".join(f"  {layout.name:<24} {layout.summary}" for layout in layouts().values())
    made = Parser(
        "make-data",
        "Render a small data set in the layout of a real one, to try a recipe before a download.",
        ["mde make-data folder/rgbd FOLDER -n 60", "mde make-data kitti/raw /tmp/kitti -n 20"],
        f"layouts:\n{known}",
    )
    made.add_argument("layout", help="one of the layouts below")
    made.add_argument("dir", help="a new folder")
    made.add_argument("-n", type=int, default=16, metavar="N", help="training frames (default 16)")
    made.add_argument("--world", choices=("rooms", "street"), help="default: what suits the layout")
    made.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="default: the real data set's")
    made.add_argument("--seed", type=int, default=0)
    return made
