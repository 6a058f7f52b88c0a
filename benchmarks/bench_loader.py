"""Reading a folder of 640x480 JPEG and 16-bit PNG pairs: images per second against bare decoding and a PIL loader.

The PIL loader does what the PyTorch loader of DenseDepth does: the zip's files in memory, PIL for both pictures,
mirroring and a channel swap, depth halved by PIL, tensors from bytes, division by 255. Ours reads files, checks them,
keeps the depth's full size and the mask, and follows the camera. "Cached" is ours with ``cache=DIR``, after it was
written.

Bare decoding is `cv2.imread` of the same files and nothing else, in this process; "2 processes that only decode" are
two loader processes that throw the pictures away, which nothing that also makes batches can equal. One process is timed
in CPU seconds, two in wall time.

Run: python -m benchmarks.bench_loader
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import Row, alternate, parser, report
from mde.cli.environment import keep_freed_memory
from mde.data.folder import RGBDFolderDataModule
from mde.data.pairing import Frame, find_frames
from mde.types import Batch

BATCH = 8
SIZE = (480, 640)


def write_frames(root: Path, count: int) -> None:
    """Pictures that compress much as indoor frames do: 70 kB of JPEG, 300 kB of PNG with Kinect noise and holes."""
    rng = np.random.default_rng(0)
    for name in ("rgb", "depth"):
        (root / name).mkdir(parents=True)
    for number in range(count):
        coarse = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        image = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        image = cv2.add(image, rng.integers(0, 8, image.shape, dtype=np.uint8))
        cv2.imwrite(str(root / "rgb" / f"{number}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        metres = cv2.resize(rng.uniform(0.8, 5, (6, 8)), SIZE[::-1])
        step = 0.0028 * metres**2  # depth resolution of the Kinect (Khoshelham & Elberink 2012)
        metres = np.round(metres / step + rng.normal(0, 0.4, SIZE)) * step
        metres[cv2.resize(rng.random((24, 32)), SIZE[::-1]) < 0.2] = 0
        cv2.imwrite(str(root / "depth" / f"{number}.png"), (metres * 1000).astype(np.uint16))


class Decoder(Dataset[int]):
    """The floor of a loader with processes: they decode, and hand over nothing."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> int:
        decode(self.frames[index : index + 1])
        return index


class PilLoader(Dataset[dict[str, Tensor]]):
    """The reference, in its own words."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.encoded = [(Path(f.image).read_bytes(), Path(f.depth).read_bytes()) for f in frames]

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image: Image.Image
        depth: Image.Image
        image, depth = (Image.open(io.BytesIO(data)) for data in self.encoded[index])
        if random.random() < 0.5:
            image, depth = (p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in (image, depth))
        if random.random() < 0.5:
            image = Image.fromarray(np.asarray(image)[..., random.sample(range(3), 3)])
        depth = depth.resize((SIZE[1] // 2, SIZE[0] // 2))
        metres = torch.from_numpy(np.asarray(depth).astype(np.float32))[None] / 1000
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return {"image": pixels.float().div(255), "depth": metres.clamp(0.1, 10)}


def decode(frames: Sequence[Frame]) -> None:
    """The floor: both files through cv2, nothing else."""
    for frame in frames:
        cv2.imread(frame.image, cv2.IMREAD_COLOR_RGB)
        cv2.imread(frame.depth, cv2.IMREAD_UNCHANGED)


def consume(loader: Iterable[object]) -> None:
    for _ in loader:
        pass


def loader(root: Path, workers: int, augmented: bool, cache: Path | None = None) -> DataLoader[Batch]:
    """The library's own training loader on all files but the last, which is for validation."""
    data = RGBDFolderDataModule(
        str(root),
        0.001,
        split="blocks",
        val_fraction=1 / len(find_frames(root)),
        test_fraction=0,
        guard=0,
        augmentations=None if augmented else [],
        image_size=SIZE,
        batch_size=BATCH,
        num_workers=workers,
        cache=None if cache is None else str(cache),
    )
    return data.train_dataloader()


def main(argv: Sequence[str] | None = None) -> int:
    quick = parser(__doc__ or "").parse_args(argv).quick
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keep_freed_memory()  # as the command line does
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        write_frames(root, (8 if quick else 48) + 1)
        frames, repeats = find_frames(root)[:-1], 1 if quick else 15
        loaders = {
            "plain": loader(root, 0, False),
            "augmented": loader(root, 0, True),
            "cached": loader(root, 0, True, Path(folder) / "cache"),
            "pil": DataLoader(PilLoader(frames), BATCH, shuffle=True),
        }
        alone = alternate({"decode": partial(decode, frames), **_consumers(loaders)}, repeats)
        pairs: dict[str, DataLoader[Any]] = {
            "decode": DataLoader(Decoder(frames), BATCH, num_workers=2, persistent_workers=True),
            "augmented": loader(root, 2, True),
            "one": loaders["augmented"],
        }
        wall = alternate({"one process": partial(decode, frames), **_consumers(pairs)}, repeats, wall=True)
    rate = {name: len(frames) / seconds for name, seconds in alone.items()}
    two = {name: len(frames) / seconds for name, seconds in wall.items()}
    rows = [
        _row("0 workers, no augmentation", "bare cv2 decoding", rate["plain"], rate["decode"], 0.85),
        _row("0 workers, augmented", "bare cv2 decoding", rate["augmented"], rate["decode"]),
        _row("2 workers, augmented", "bare cv2 decoding", two["augmented"], two["one process"], 0.85),
        _row("2 workers, augmented", "2 processes that only decode", two["augmented"], two["decode"]),
        _row("2 workers, augmented", "0 workers", two["augmented"], two["one"]),
        _row("0 workers, augmented", "PIL loader", rate["augmented"], rate["pil"], 1.6),
        _row("cached, augmented", "PIL loader", rate["cached"], rate["pil"], 10),
        _row("cached, augmented", "0 workers, augmented", rate["cached"], rate["augmented"], 7),
    ]
    return report("loader", rows, quick=quick)


def _consumers(loaders: Mapping[str, DataLoader[Any]]) -> dict[str, Callable[[], object]]:
    return {name: partial(consume, each) for name, each in loaders.items()}


def _row(name: str, reference: str, rate: float, other: float, goal: float | None = None) -> Row:
    return Row(name, reference, rate / other, goal, at_least=True, note=f"{rate:.0f} images/s")


if __name__ == "__main__":
    sys.exit(main())
