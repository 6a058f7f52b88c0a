"""Reading a folder of 640x480 JPEG and 16-bit PNG pairs: images per second against bare decoding and a PIL loader.

The PIL loader does what the PyTorch loader of DenseDepth does: encoded files in memory, PIL for both pictures,
mirroring and a channel swap, depth halved by PIL, tensors from bytes, division by 255. Ours reads files, checks
them, keeps the depth's full size and the mask, and follows the camera.

Run: python -m benchmarks.bench_loader
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import Row, alternate, parser, report
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


def loader(root: Path, workers: int, augmented: bool) -> DataLoader[Batch]:
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
    )
    return data.train_dataloader()


def main(argv: Sequence[str] | None = None) -> int:
    quick = parser(__doc__ or "").parse_args(argv).quick
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_frames(root, (8 if quick else 48) + 1)
        frames, repeats = find_frames(root)[:-1], 1 if quick else 15
        plain, augmented, parallel = loader(root, 0, False), loader(root, 0, True), loader(root, 2, True)
        pil = DataLoader(PilLoader(frames), BATCH, shuffle=True)
        alone = alternate(
            {
                "decode": lambda: decode(frames),
                "plain": lambda: consume(plain),
                "augmented": lambda: consume(augmented),
                "pil": lambda: consume(pil),
            },
            repeats,
        )
        wall = alternate({"0": lambda: consume(augmented), "2": lambda: consume(parallel)}, repeats, wall=True)
    rate = {name: len(frames) / seconds for name, seconds in alone.items()}
    rows = [
        _row("0 workers, no augmentation", "bare cv2 decoding", rate["plain"] / rate["decode"], 0.85, rate["plain"]),
        _row("0 workers, augmented", "bare cv2 decoding", rate["augmented"] / rate["decode"], None, rate["augmented"]),
        _row("0 workers, augmented", "PIL loader", rate["augmented"] / rate["pil"], 1.6, rate["augmented"]),
        _row("2 workers, augmented", "0 workers", wall["0"] / wall["2"], None, len(frames) / wall["2"]),
    ]
    return report("loader", rows, quick=quick)


def _row(name: str, reference: str, ratio: float, goal: float | None, rate: float) -> Row:
    return Row(name, reference, ratio, goal, at_least=True, note=f"{rate:.0f} images/s")


if __name__ == "__main__":
    sys.exit(main())
