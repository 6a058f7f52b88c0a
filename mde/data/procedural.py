"""The embedded data set: scenes that are ray-cast on the CPU, with exact depth and intrinsics and no file on disk.

Sample `index` of a split depends on (seed, split, index) alone: the same bytes in every process, no scene in two
splits, and a longer data set begins with the scenes of the shorter one. It is learnable for the right reasons:
perspective, the sizes of known things, shading and occlusion. See `mde.data.worlds.rooms`, `mde.data.worlds.street`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mde.data.base import DepthDataModule
from mde.data.dataset import DepthDataset, RawSample, RightView
from mde.data.transforms import SampleTransform
from mde.data.worlds import BASELINES, DEPTH_RANGES, WORLDS, make_scene
from mde.data.worlds.pool import fill_in_parallel, shared_array
from mde.data.worlds.raycast import render
from mde.errors import ConfigError, nearest
from mde.protocol import EvalProtocol

__all__ = ["SPLITS", "ProceduralDataModule", "ProceduralDataset"]

SPLITS = {"train": 0, "val": 1, "test": 2}
"""The numbers that keep the splits' random scenes apart."""
_Views = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]


class ProceduralDataset(DepthDataset):
    """One split of a procedural world.

    Args:
        world: "rooms" (0.3 to 10 m, every pixel valid) or "street" (up to 300 m, the sky is invalid).
        split: "train", "val" or "test".
        length: number of scenes.
        height: of the rendered frames, pixels.
        width: like `height`.
        transform: turns a frame into tensors.
        seed: of the scenes and of the augmentation.
        baseline: metres from the camera to a second one on its right, whose picture and depth then come as well, in
            twice the time. The left picture is the same in any case. None: no pairs.

    Raises:
        ConfigError: an unknown world or split, or a number out of range.

    >>> from mde.data.transforms import EvalTransform
    >>> frame = ProceduralDataset("rooms", "train", 1, 24, 32, EvalTransform((24, 32))).read(0)
    >>> frame.id, frame.image.shape, bool(frame.valid.all())
    ('rooms-train-000000', (24, 32, 3), True)
    """

    def __init__(
        self,
        world: str,
        split: str,
        length: int,
        height: int,
        width: int,
        transform: SampleTransform,
        seed: int = 0,
        baseline: float | None = None,
    ) -> None:
        super().__init__(transform, seed)
        _check_choice(world, WORLDS, "world")
        _check_choice(split, SPLITS, "split")
        if length < 0 or min(height, width) < 1 or seed < 0:
            raise ConfigError(
                f"cannot render {length} scenes of {height}x{width} pixels from seed {seed}",
                where="ProceduralDataset",
                next_action="give a size of at least 1x1, and a length and seed of at least 0",
            )
        if baseline is not None and not 0 < baseline < np.inf:
            hint = "give metres above 0, or leave it out for the world's own"
            raise ConfigError(f"a baseline of {baseline} m", where="data.baseline", next_action=hint)
        self.world, self.split, self.length = world, split, length
        self.size = (height, width)
        self.baseline = baseline
        self._frames: _Views | None = None

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> RawSample:
        """Frame `index`: rendered now, or taken from memory after `preload`; the same bytes either way.

        Raises:
            IndexError: there is no such frame.
        """
        if not 0 <= index < self.length:
            raise IndexError(index)
        images, depths, intrinsics = self._render(index) if self._frames is None else (f[index] for f in self._frames)
        right = None if self.baseline is None else RightView(images[1], self.baseline, depths[1])
        return RawSample(images[0], depths[0], depths[0] > 0, intrinsics, self.frame_id(index), right=right)

    def frame_id(self, index: int) -> str:
        return f"{self.world}-{self.split}-{index:06d}"

    def preload(self, processes: int | None = None) -> None:
        """Render all frames once, into memory (7 bytes per pixel, of pairs 14) that loader processes share.

        Args:
            processes: default is one per usable core; see `mde.data.worlds.pool`.
        """
        views = 1 if self.baseline is None else 2
        images = shared_array((self.length, views, *self.size, 3), np.uint8)
        depths = shared_array((self.length, views, *self.size), np.float32)
        intrinsics = shared_array((self.length, 3, 3), np.float32)

        def make(index: int) -> None:
            images[index], depths[index], intrinsics[index] = self._render(index)

        fill_in_parallel(make, self.length, f"rendering {self.world} ({self.split})", processes)
        self._frames = (images, depths, intrinsics)

    def _render(self, index: int) -> _Views:
        """Pictures (V,H,W,3) and depth (V,H,W) of the V = 1 or 2 cameras, and their common intrinsics (3,3)."""
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, SPLITS[self.split], index)))
        scene, camera = make_scene(self.world, rng, *self.size)
        cameras = [camera] if self.baseline is None else [camera, camera.moved(right=self.baseline)]
        images, depths, _ = zip(*(render(scene, each, *self.size) for each in cameras), strict=True)
        return np.stack(images), np.stack(depths), camera.intrinsics.astype(np.float32)


class ProceduralDataModule(DepthDataModule):
    """Scenes made on the fly: the default data of the library, and what its quickstart trains on.

    Args:
        world: "rooms" or "street".
        train_scenes: number of scenes in the training split.
        val_scenes: in the validation split.
        test_scenes: in the test split.
        image_size: (height, width) of the network's input.
        render_size: (height, width) of the rendered frames, and hence of the ground truth; default `image_size`.
        preload: render each split once, in parallel, and keep it in memory; otherwise every frame is rendered whenever
            it is read.
        protocol: default is the protocol with the name of the world.
        depth_range: (min, max) in metres; default (0.3, 10) for rooms and (1, 80) for street.
        stereo: training frames are rectified pairs, with the keys `right` and `baseline` in a batch.
        baseline: metres between the cameras of a pair; default 0.12 for rooms and 0.54 for street.
        batch_size: training batch size per process.
        common: see `DepthDataModule`; `seed` is that of the scenes, too.

    Raises:
        ConfigError: an unknown world, or a number out of range.
    """

    def __init__(
        self,
        world: str = "rooms",
        train_scenes: int = 2000,
        val_scenes: int = 100,
        test_scenes: int = 200,
        image_size: tuple[int, int] = (96, 128),
        render_size: tuple[int, int] | None = None,
        batch_size: int = 16,
        preload: bool = True,
        protocol: str | EvalProtocol | None = None,
        depth_range: tuple[float, float] | None = None,
        stereo: bool = False,
        baseline: float | None = None,
        **common: Any,
    ) -> None:
        _check_choice(world, WORLDS, "world")
        if baseline is not None and not stereo:
            hint = "set data.stereo to true, or leave the baseline out"
            raise ConfigError("a baseline is that of stereo pairs", where="data.baseline", next_action=hint)
        super().__init__(
            protocol=world if protocol is None else protocol,
            depth_range=DEPTH_RANGES[world] if depth_range is None else depth_range,
            image_size=image_size,
            batch_size=batch_size,
            **common,
        )
        self.world = world
        self.lengths = {"train": train_scenes, "val": val_scenes, "test": test_scenes}
        self.render_size = self.image_size if render_size is None else (int(render_size[0]), int(render_size[1]))
        self.preload = preload
        self.baseline = (BASELINES[world] if baseline is None else baseline) if stereo else None
        if stereo:
            self.require_pairs_survive()

    @property
    def in_memory(self) -> bool:
        return self.preload or super().in_memory

    def facts(self) -> dict[str, Any]:
        facts = {"world": self.world, "scenes": dict(self.lengths), "seed": self.seed}
        return facts if self.baseline is None else {**facts, "baseline": self.baseline}

    def make_dataset(self, split: str) -> ProceduralDataset:
        """The data set of a split, rendered already if `preload`."""
        _check_choice(split, SPLITS, "split")
        height, width = self.render_size
        baseline = self.baseline if split == "train" else None
        dataset = ProceduralDataset(
            self.world, split, self.lengths[split], height, width, self.transform(split), self.seed, baseline
        )
        if self.preload and self.cache is None:
            dataset.preload()
        return dataset


def _check_choice(value: str, known: Iterable[str], name: str) -> None:
    names = list(known)
    if value not in names:
        raise ConfigError(
            f"unknown {name} {value!r}", where=f"data.{name}", next_action=f"nearest: {nearest(value, names)}"
        )
