"""A method with all that surrounds it as one graph: a picture's bytes in, its map out, both at the picture's size."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from mde.errors import ConfigError
from mde.inference.tiling import TiledDepth
from mde.models.base import DepthModule
from mde.models.inputs import in_unit_range
from mde.models.pretrained import MarigoldDepth
from mde.resizing import axis_by_axis, smoothed

__all__ = ["DepthGraph", "require_exportable", "trace"]

Size = tuple[int, int]

_EXAMPLE = (192, 256)  # of the tracing where the network works at the picture's size; any other size runs, too
_OTHER = (192, 96)  # of another shape: what the tracing has settled for the example's shape shows here
_FIXED = "its code depends on the size of the picture"
_REASONS: tuple[tuple[type[DepthModule], str, str], ...] = (
    (
        MarigoldDepth,
        "Marigold is a loop of several networks over noise, no single graph",
        "export a PretrainedDepth, or keep it in PyTorch (mde predict --checkpoint)",
    ),
    (
        TiledDepth,
        "a TiledDepth fits and blends one prediction for each tile of a picture of known size",
        "export the method itself, and give the tiles at prediction",
    ),
)


class DepthGraph(nn.Module):
    """`DepthModule.predict` as a graph without Python.

    The resizes smooth where they shrink, and are the identity where sizes agree, as those of `predict`; written without
    a condition, one graph serves every size.

    Args:
        method: in evaluation mode.
        size: (height, width) of the network's input; None is the picture's own.
        flip: average with the mirrored picture.
        half: weights and arithmetic of the network in float16; a copy of `method` is made. Resizes and the codec stay
            in float32.
    """

    def __init__(self, method: DepthModule, size: Size | None, flip: bool = False, half: bool = False) -> None:
        super().__init__()
        self.dtype = torch.float16 if half else torch.float32
        self.method = copy.deepcopy(method).half() if half else method
        self.size, self.flip = size, flip

    def forward(self, image: Tensor) -> Tensor:
        """uint8 (B,H,W,3), RGB, to float32 (B,1,H,W); metres where the method's `ambiguity` is METRIC."""
        size = image.shape[1:3]
        pictures = image.permute(0, 3, 1, 2)
        if self.size is not None:
            pictures = smoothed(in_unit_range(pictures), self.size)
        if self.dtype == torch.float16:
            pictures = in_unit_range(pictures).half()
        values = self.method.predict_batch(pictures, self.flip).float()
        return values if self.size is None else axis_by_axis(values, (size[0], size[1]))


def require_exportable(method: DepthModule) -> None:
    """Refuse what is no single graph.

    Raises:
        ConfigError: with the reason.
    """
    for kind, reason, action in _REASONS:
        if isinstance(method, kind):
            raise ConfigError(f"cannot be exported: {reason}", where=type(method).__name__, next_action=action)


@torch.no_grad()
def trace(graph: DepthGraph, batch: int | None) -> tuple[ExportedProgram, int | None]:
    """The graph by torch.export, for pictures of any size.

    Args:
        graph: in evaluation mode, on the CPU.
        batch: pictures in one call; None asks for any number, and falls back to 1 where the network's code counts them.

    Returns:
        The program, and the number of pictures that it takes (None: any).

    Raises:
        ConfigError: torch cannot export the network, or not at any size.
    """
    _warm(graph)
    reason = _FIXED
    for count, free in ((2, True), (1, False)) if batch is None else ((batch, False),):
        try:
            program = _export(graph, count, free)
        except Exception as error:  # torch raises some thirty kinds of errors here
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        many, *sides = _sizes(program)
        if any(map(is_concrete_int, sides)) or (free and is_concrete_int(many)):
            reason = _FIXED
        elif graph.size is None and not _runs(program, count):
            reason = "how it brings pictures to its size depends on their shape"
        else:
            return program, None if free else count
    what = f"torch cannot export this network ({reason})"
    raise ConfigError(what, where=type(graph.method).__name__, next_action=_next(graph))


def _next(graph: DepthGraph) -> str:
    if graph.size is None:
        return "give --size HEIGHTxWIDTH instead of --dynamic: pictures of any size are then brought to it"
    return "another --size may do; otherwise keep it in PyTorch (mde predict --checkpoint)"


def _warm(graph: DepthGraph) -> None:
    """One prediction before the tracing: what is computed once and kept must not become part of the graph.

    Raises:
        ConfigError: the network does not run with these settings.
    """
    height, width = graph.size or _EXAMPLE
    try:
        graph(torch.zeros(1, height, width, 3, dtype=torch.uint8))
    except (RuntimeError, ValueError) as error:  # transformers has its own words for a wrong size
        reason = " ".join(str(error).split())[:200]
        what = f"the network does not run on a picture of {height}x{width} ({reason})"
        hint = "leave out --fp16: not all of it has a half-precision form" if graph.dtype == torch.float16 else ""
        hint = hint or "give a --size that suits the network, such as that of its training"
        raise ConfigError(what, where=type(graph.method).__name__, next_action=hint) from error


def _export(graph: DepthGraph, batch: int, free: bool) -> ExportedProgram:
    height, width = _EXAMPLE if graph.size is None else (graph.size[0] + 7, graph.size[1] + 11)
    example = torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    dims: dict[int, Any] = {1: Dim.AUTO, 2: Dim.AUTO}
    if free:
        dims[0] = Dim.AUTO
    with _silent():
        program = torch.export.export(graph, (example,), dynamic_shapes={"image": dims})
    parts = [part for part in program.graph_module.modules() if isinstance(part, GraphModule)]
    for node in (node for part in parts for node in part.graph.nodes):
        node.meta.pop("stack_trace", None)  # names files of this machine
    return program


def _runs(program: ExportedProgram, batch: int) -> bool:
    """On pictures of another shape; a program refuses those for which its tracing does not hold."""
    try:
        program.module()(torch.zeros(batch, *_OTHER, 3, dtype=torch.uint8))
    except AssertionError:
        return False
    return True


def _sizes(program: ExportedProgram) -> list[Any]:
    """Batch, height and width of the input; concrete where the tracing has fixed them."""
    name = program.graph_signature.user_inputs[0]
    value = next(node.meta["val"] for node in program.graph.nodes if node.name == name)
    return list(value.shape[:3])


@contextmanager
def _silent() -> Iterator[None]:
    """torch prints the whole graph of what it cannot export; the error says enough."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
