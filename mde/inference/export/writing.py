"""From a method to a file: ``.onnx`` or ``.pt2``."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from mde.errors import ConfigError, nearest
from mde.inference.export.graph import DepthGraph, require_exportable, trace
from mde.inference.export.info import ExportInfo, Size, info_of, network_size
from mde.inference.export.models import INFO_FILE, ExportedModel, OnnxModel, TorchModel
from mde.models.base import DepthModule
from mde.types import Ambiguity

__all__ = ["FORMATS", "OPSET", "export", "put_in_place"]

OPSET = 20
"""Of the ONNX files; 18 is the first whose Resize can smooth."""
_LARGEST = 2**31 - 2**24  # bytes of weights that a protobuf file holds beside its graph


def export(
    method: DepthModule,
    path: str | Path,
    format: str = "onnx",
    *,
    size: Size | None = None,
    dynamic: bool = False,
    batch: int | None = None,
    flip: bool = False,
    half: bool = False,
    name: str | None = None,
) -> ExportedModel:
    """Write a method as one file that needs neither this library nor Python to run.

    Input ``image``: uint8 (B,H,W,3), RGB, of any size. Output ``depth`` (``disparity`` of a network that says 1/depth):
    float32 (B,1,H,W) at that size, in metres where the method is METRIC. Inside: resize to the network's size,
    normalisation, network, codec, resize back: the numbers of ``method.predict(image)`` at `image_size` `size`.

    Args:
        method: any `DepthModule`; it is left as it was, on the CPU.
        path: of the file; one that exists is replaced when the new one is complete.
        format: key of `FORMATS`.
        size: (height, width) at which the network works; None takes that of its training.
        dynamic: it works at the picture's own size instead.
        batch: pictures in one call; None is any number where the network allows it, else 1.
        flip: average with the mirrored picture, in twice the time.
        half: weights and arithmetic of the network in float16.
        name: of the network, for tables and pictures; None takes the class's.

    Returns:
        The file, opened.

    Raises:
        ConfigError: the method is no single graph, torch cannot export it so, or a setting is wrong.
        OSError: the file cannot be written.
    """
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}", where="format", next_action=nearest(format, FORMATS))
    if batch is not None and batch < 1:
        raise ConfigError(f"no batch has {batch} pictures", where="batch", next_action="give 1 or more")
    require_exportable(method)
    inner, (write, opened) = network_size(method, size, dynamic), FORMATS[format]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    was_training, device = method.training, method.device
    method.eval().cpu()
    try:
        program, fixed = trace(DepthGraph(method, inner, flip, half).eval(), batch)
        info = info_of(method, name, inner, fixed, flip, half)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            write(program, Path(folder) / path.name, info)
            put_in_place(Path(folder) / path.name, path)
    finally:  # not before: the program shares its weights with the method
        method.train(was_training).to(device)
    return opened(path)


def put_in_place(made: Path, target: Path) -> None:
    """Move a file to the folder of `target`, after what was written beside it."""
    for part in sorted(made.parent.iterdir(), key=lambda part: part == made):
        part.replace(target.parent / part.name)


def _write_onnx(program: ExportedProgram, path: Path, info: ExportInfo) -> None:
    made = _onnx_program(program, info)
    model = made.model
    model.metadata_props.update(info.to_strings())
    for node in model.graph.all_nodes():
        node.metadata_props.clear()  # names files of this machine
        node.doc_string = None
    _name_sizes(model)
    weights = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    made.save(path, external_data=weights > _LARGEST)


def _onnx_program(program: ExportedProgram, info: ExportInfo) -> Any:
    try:
        from onnx_ir.passes import PassError  # with onnxscript, what torch.onnx is written in
        from torch import onnx
    except ImportError as error:
        raise ConfigError("writing ONNX needs onnx and onnxscript", next_action="pip install 'mde[export]'") from error
    output = "disparity" if info.ambiguity == Ambiguity.AFFINE_DISPARITY.value else "depth"
    names: dict[str, Any] = {"input_names": ["image"], "output_names": [output], "opset_version": OPSET}
    try:
        with _silent(), torch.no_grad():  # with gradients torch lays attention out in another way than in the tracing
            try:
                return onnx.export(program, dynamo=True, verbose=False, **names)
            except PassError:  # onnxscript 0.7 cannot simplify lists of unknown length (ZoeDepth): it stays as it is
                return onnx.export(program, dynamo=True, verbose=False, optimize=False, **names)
    except onnx.OnnxExporterError as error:
        found = re.search(r"op='([\w.]+)'", str(error))
        what = f"ONNX has no form of {found.group(1) if found else 'some operation'} in this network"
        hint = "use --format torch (.pt2), or leave that part out"
        raise ConfigError(what, where=info.model, next_action=hint) from error


def _name_sizes(model: Any) -> None:
    """Free sizes of input and output get their names; torch calls them s40, s62, s73."""
    (image,), (output,) = model.graph.inputs, model.graph.outputs
    free = {str(each): name for each, name in zip(image.shape, ("batch", "height", "width"), strict=False)}
    for value in (image, output):
        for axis, side in enumerate(value.shape):
            if not isinstance(side, int):
                value.shape[axis] = free.get(str(side), str(side))


def _write_torch(program: ExportedProgram, path: Path, info: ExportInfo) -> None:
    text = json.dumps(info.to_strings())
    with _silent():
        torch.export.save(program, path, extra_files={INFO_FILE: text})


@contextlib.contextmanager
def _silent() -> Any:
    """The exporters tell of their progress and of functions of torch that torch itself will drop."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


_Writer = Callable[[ExportedProgram, Path, ExportInfo], None]
FORMATS: dict[str, tuple[_Writer, Callable[[Path], ExportedModel]]] = {
    "onnx": (_write_onnx, OnnxModel),
    "torch": (_write_torch, TorchModel),
}
"""Writer and reader by name: "onnx" for ONNX Runtime and its kin, "torch" for torch.export (``.pt2``)."""
