"""A network as a picture: its stages with the shapes of their maps, drawn from the module itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mde.errors import ConfigError
from mde.report.figures import _figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mde.models import DepthModule

__all__ = ["Stage", "network_figure", "network_stages"]

_COLOURS = {
    "picture": "0.75",
    "trained": "#4c78a8",
    "partly frozen": "#7ba7cf",
    "frozen": "#c6dbef",
    "without parameters": "#eeca3b",
}
_GAP = 1.0  # between blocks, where a picture of 1000 pixels is some 30 high
_LETTER = 0.55  # width of one of the headings


class Stage(NamedTuple):
    """One part of a network, such as its encoder, at work.

    Attributes:
        name: of the part.
        kind: name of its class.
        maps: (channels, height, width) of each map that it gives, in its order.
        parameters: how many it has.
        trained: how many of them are trained.
    """

    name: str
    kind: str
    maps: tuple[tuple[int, int, int], ...]
    parameters: int
    trained: int


def network_stages(method: DepthModule, image_size: Sequence[int] | None = None) -> list[Stage]:
    """The parts that a picture passes, in their order, and the shapes of what each gives; the output comes last.

    Shapes alone are computed, so that even a large network at a large size takes no time.

    Args:
        method: any method; it is not changed.
        image_size: (height, width) of the picture; default that of the method.

    Raises:
        ConfigError: no size is known.

    >>> from mde.models import UNet
    >>> for stage in network_stages(UNet(widths=(4, 8)), (16, 24)):
    ...     print(stage.name, stage.maps)
    image ((3, 16, 24),)
    encoder ((4, 16, 24), (8, 8, 12))
    decoder ((4, 16, 24),)
    output ((1, 16, 24),)
    """
    size = image_size or method.image_size
    if size is None:
        raise ConfigError("the size of the picture is unknown", where="image_size", next_action="give (height, width)")
    stages = [Stage("image", "RGB", ((3, int(size[0]), int(size[1])),), 0, 0)]
    hooks = [part.register_forward_hook(_noting(stages, name)) for name, part in method.named_children()]
    training = method.training
    try:
        output = _shaped(method.eval(), size)
    finally:
        method.train(training)
        for hook in hooks:
            hook.remove()
    return [*stages, Stage("output", "network space", _shapes(output), 0, 0)]


def network_figure(method: DepthModule, image_size: Sequence[int] | None = None, title: str = "") -> Figure:
    """The stages as blocks: as high as their maps (by the root of the rows), as wide as their channels (by the root).

    Above each part its class and parameters; its colour says whether it is trained or frozen.

    Args:
        method: any method.
        image_size: (height, width) of the picture; default that of the method.
        title: above the figure; default the name of the method.

    Returns:
        A matplotlib figure; the caller saves it.

    Raises:
        ConfigError: no size is known.
    """
    stages = network_stages(method, image_size)
    figure = _figure(11.0, 3.3)
    axis = figure.add_subplot()
    x, tallest = 0.0, max(shape[1] for stage in stages for shape in stage.maps) ** 0.5
    for stage in stages:
        heading = _heading(stage)
        blocks = sum(_width(shape) + _GAP for shape in stage.maps) - _GAP
        room = max(blocks, _LETTER * max(map(len, heading.splitlines())))
        _blocks(axis, x + (room - blocks) / 2, stage)
        axis.text(x + room / 2, tallest / 2 + 1, heading, ha="center", va="bottom", fontsize=8)
        x += room + 2 * _GAP
    axis.set_xlim(-_GAP, x - _GAP)
    axis.set_ylim(-tallest / 2 - 4, tallest / 2 + 7)
    axis.set_axis_off()
    _legend(figure, stages)
    figure.suptitle(title or type(method).__name__, fontsize=11)
    return figure


def _shaped(method: DepthModule, size: Sequence[int]) -> Any:
    """The output for a picture without numbers, of a network without numbers."""
    # torch's way to run a module for its shapes; the meta device, which is public, knows no autocast
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        return method(torch.zeros(1, 3, int(size[0]), int(size[1])))


def _noting(stages: list[Stage], name: str) -> Any:
    def note(part: nn.Module, _: object, output: Any) -> None:
        counts = [(p.numel(), p.requires_grad) for p in part.parameters()]
        total, trained = sum(n for n, _ in counts), sum(n for n, needed in counts if needed)
        stages.append(Stage(name, type(part).__name__, _shapes(output), total, trained))

    return note


def _shapes(output: Any) -> tuple[tuple[int, int, int], ...]:
    maps = [output] if isinstance(output, Tensor) else output
    return tuple((int(each.shape[1]), int(each.shape[2]), int(each.shape[3])) for each in maps)


def _blocks(axis: Any, x: float, stage: Stage) -> None:
    from matplotlib.patches import Rectangle

    for shape in stage.maps:
        channels, rows, columns = shape
        height, width = rows**0.5, _width(shape)
        colour = _COLOURS[_state(stage)]
        axis.add_patch(Rectangle((x, -height / 2), width, height, facecolor=colour, edgecolor="0.25", linewidth=0.7))
        label = f"{channels}\n{rows}x{columns}"
        axis.text(x + width / 2, -height / 2 - 0.4, label, ha="center", va="top", fontsize=6, linespacing=1.1)
        x += width + _GAP


def _width(shape: tuple[int, int, int]) -> float:
    return 0.8 + float(shape[0]) ** 0.5 / 6


def _state(stage: Stage) -> str:
    if stage.name in ("image", "output"):
        return "picture"
    if not stage.parameters:
        return "without parameters"
    return {0: "frozen", stage.parameters: "trained"}.get(stage.trained, "partly frozen")


def _heading(stage: Stage) -> str:
    if not stage.parameters:
        return stage.name
    share = f"\n{_count(stage.trained)} of them trained" if 0 < stage.trained < stage.parameters else ""
    return f"{stage.name}\n{stage.kind}\n{_count(stage.parameters)} parameters{share}"


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M" if parameters >= 1e6 else f"{parameters / 1e3:.1f} K"


def _legend(figure: Figure, stages: Sequence[Stage]) -> None:
    from matplotlib.patches import Patch

    found = {_state(stage) for stage in stages} - {"picture"}
    patches = [Patch(facecolor=_COLOURS[state], edgecolor="0.25", label=state) for state in sorted(found)]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False, fontsize=7)
