"""What surrounds a network on a video: decoding, flicker, smoothing, drawing and encoding, against the network's time.

A clip of a camera in a rendered room, 480x640, H.264 with sound, is predicted by paper 3's U-Net (widths of
``rooms/unet``) working at the frames' size. Whole and network's time are of one run; the network's is what the main
thread spent in it.

Run: python -m benchmarks.bench_video
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

from benchmarks.harness import Row, parser, report
from mde.cli.environment import choose, this_machine, usable_cores
from mde.data.worlds import make_scene
from mde.data.worlds.raycast import render
from mde.inference import Predictor, sources
from mde.inference.pipeline import Colours
from mde.inference.record import RunRecord
from mde.inference.video import Clip, predict_clip
from mde.models import UNet

RUNS: dict[str, tuple[tuple[str, ...], str]] = {
    "to npy": (("npy",), "none"),
    "to video": (("video",), "none"),
    "to video-side, scale": (("video-side",), "scale"),
    "to video-side, flow": (("video-side",), "flow"),
}
"""Formats and smoothing of each row; the goal is that of the second."""


def make_clip(path: Path, count: int, size: tuple[int, int]) -> None:
    """A camera that goes forward; frames are rendered once in five and shifted between, which is quicker."""
    scene, camera = make_scene("rooms", np.random.default_rng(0), *size)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for index in range(count):
            if index % 5 == 0:
                step = 0.01 * index * camera.rotation[:, 2]
                picture = render(scene, replace(camera, position=camera.position + step), *size)[0]
            shift = np.array([[1, 0, index % 5], [0, 1, 0]], np.float32)
            moved = cv2.warpAffine(picture, shift, size[::-1], borderMode=cv2.BORDER_REPLICATE)
            frame = av.VideoFrame.from_ndarray(moved, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def rows(path: Path, out: Path) -> list[Row]:
    """Time of a whole run over the network's own in the same run."""
    torch.manual_seed(0)
    predictor = Predictor(UNet(widths=(8, 16, 32, 64, 128)))
    shared = choose(this_machine(), in_memory=False)
    before = torch.get_num_threads()
    torch.set_num_threads(shared.threads)
    made = []
    for name, (formats, smooth) in RUNS.items():
        record = RunRecord(out / name.replace(" ", "_"), {}, formats)
        [source] = sources([path])
        threads = max(1, shared.workers)
        run = predict_clip(predictor, source, Clip(path), record, Colours((0.3, 10)), smooth=smooth, threads=threads)
        record.close()
        spent = run.summary
        note = f"{spent.done} frames, {spent.speed()}, {shared.threads} network thread(s), {usable_cores()} core(s)"
        goal = 1.15 if name == "to video" else None
        made.append(Row(name, "the network's own time", spent.elapsed / spent.seconds["network"], goal, note=note))
    torch.set_num_threads(before)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    quick = parser(__doc__ or "").parse_args(argv).quick
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "clip.mp4"
        make_clip(path, 6 if quick else 100, (60, 80) if quick else (480, 640))
        found = rows(path, Path(name))
    return report("video", found, quick=quick)


if __name__ == "__main__":
    sys.exit(main())
