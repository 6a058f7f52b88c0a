"""What surrounds a network in use: reading, preparing and writing pictures, against the network's own time.

A folder is predicted by paper 3's U-Net (widths of ``rooms/unet``) working at the pictures' 480x640; both times are of
one run, the network's is what the main thread spent in it. The other rows are about a random network in the shape of
Depth Anything V2 small, beside transformers' own pipeline for depth estimation, from a picture in memory to its map.

Run: python -m benchmarks.bench_inference
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.harness import Row, alternate, parser, report
from mde.cli.environment import choose, this_machine, usable_cores
from mde.data import ProceduralDataset
from mde.data.transforms import EvalTransform
from mde.inference import Predictor, sources
from mde.inference.pipeline import predict_all
from mde.inference.record import RunRecord
from mde.models import PretrainedDepth, UNet

FORMATS = {"npy": ("npy",), "png16": ("png16",), "png16 and color": ("png16", "color")}
"""Rows of the folder by name; the goal is that of the first."""

SMALL: dict[str, Any] = {
    "model_type": "depth_anything", "reassemble_hidden_size": 16, "neck_hidden_sizes": [8, 8, 8, 8],
    "fusion_hidden_size": 8, "head_hidden_size": 8, "patch_size": 14,
    "backbone_config": {
        "model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14, "out_indices": [1, 2, 3, 4], "apply_layernorm": True, "reshape_hidden_states": False,
    },
}  # fmt: skip
# config.json of Depth-Anything-V2-Small-hf
FULL: dict[str, Any] = {
    "model_type": "depth_anything", "reassemble_hidden_size": 384, "neck_hidden_sizes": [48, 96, 192, 384],
    "fusion_hidden_size": 64, "head_hidden_size": 32, "patch_size": 14, "reassemble_factors": [4, 2, 1, 0.5],
    "backbone_config": {
        "model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6,
        "image_size": 518, "patch_size": 14, "out_indices": [3, 6, 9, 12], "apply_layernorm": True,
        "reshape_hidden_states": False,
    },
}  # fmt: skip


def make_photos(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Rendered rooms as JPEG."""
    folder.mkdir()
    rooms = ProceduralDataset("rooms", "test", 8, *size, EvalTransform(size))
    pictures = [Image.fromarray(rooms.read(index).image) for index in range(min(count, 8))]
    for index in range(count):
        pictures[index % 8].save(folder / f"{index:03}.jpg", quality=92)


def folder_rows(photos: Path, out: Path) -> list[Row]:
    """Time of a whole run over the network's own in the same run."""
    torch.manual_seed(0)
    predictor = Predictor(UNet(widths=(8, 16, 32, 64, 128)))
    shared = choose(this_machine(), in_memory=False)
    before = torch.get_num_threads()
    torch.set_num_threads(shared.threads)
    rows = []
    for name, formats in FORMATS.items():
        record = RunRecord(out / name, {}, formats)
        made = predict_all(predictor, sources([photos]), record, threads=max(1, shared.workers))
        whole, network = made.elapsed, made.seconds["network"]
        note = f"{made.done} JPEG, {made.speed()}, {shared.threads} network thread(s), {usable_cores()} core(s)"
        goal = 1.15 if not rows else None
        rows.append(Row(f"folder to {name}", "the network's own time", whole / network, goal, note=note))
    torch.set_num_threads(before)
    return rows


def pipeline_rows(quick: bool, photos: Path) -> list[Row]:
    """Depth Anything V2 small, random: whole calls, and what is left of them without the network."""
    from transformers import DPTImageProcessor, pipeline

    torch.manual_seed(0)
    rules = {"size": [28, 42]} if quick else {"size": [518, 518]}
    method = PretrainedDepth(config=SMALL if quick else FULL, weights=None, preprocessing=rules).eval()
    height, width = rules["size"]
    processor = DPTImageProcessor(
        size={"height": height, "width": width}, keep_aspect_ratio=True, ensure_multiple_of=14, resample=3,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    )  # fmt: skip
    theirs = pipeline("depth-estimation", model=method.net, image_processor=processor, device="cpu")
    ours, image = Predictor(method, device="cpu"), Image.open(next(photos.iterdir())).convert("RGB")
    spent: dict[str, list[float]] = {"mde": [], "transformers": []}
    forward, owner, inside = method.net.forward, "mde", dict.fromkeys(spent, 0.0)

    def timed(*given: Any, **named: Any) -> Any:
        start = time.process_time()
        made = forward(*given, **named)
        inside[owner] = time.process_time() - start
        return made

    def call(name: str) -> None:
        nonlocal owner
        owner, start = name, time.process_time()
        if name == "mde":
            ours(image)
        else:
            theirs(image)
        spent[name].append(time.process_time() - start - inside[name])

    method.net.forward = timed  # type: ignore[method-assign]
    repeats = 1 if quick else 7
    whole = alternate({name: lambda name=name: call(name) for name in spent}, repeats)  # type: ignore[misc]
    around = {name: statistics.median(times[1:]) for name, times in spent.items()}
    note = f"{1000 * whole['mde']:.0f} and {1000 * whole['transformers']:.0f} ms of CPU"
    beside = f"{1000 * around['mde']:.1f} and {1000 * around['transformers']:.1f} ms of CPU"
    call_ratio, rest_ratio = (times["mde"] / times["transformers"] for times in (whole, around))
    return [
        Row("Depth Anything V2 small", "transformers' pipeline", call_ratio, 1.0, note=note),
        Row("its pre- and post-processing", "that of transformers", rest_ratio, 0.5, note=beside),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    quick = parser(__doc__ or "").parse_args(argv).quick
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name) / "photos"
        make_photos(photos, 4 if quick else 200, (60, 80) if quick else (480, 640))
        rows = [*folder_rows(photos, Path(name)), *pipeline_rows(quick, photos)]
    return report("inference", rows, quick=quick)


if __name__ == "__main__":
    sys.exit(main())
