"""Stereo pairs for tests: of a flat wall, where everything is exact, and rendered."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mde.data.worlds import make_scene
from mde.data.worlds.raycast import render
from mde.geometry import intrinsics_matrix
from mde.types import Batch

FOCAL_PX = 40.0


class Pair(NamedTuple):
    left: Tensor  # (1,3,H,W)
    right: Tensor  # (1,3,H,W)
    of_left: Tensor  # (1,1,H,W), disparity in pixels, 0 where the sky is
    of_right: Tensor  # (1,1,H,W)
    both_see: Tensor  # bool (1,1,H,W), pixels of the left picture that the right one shows, too


def wall(shift: int, batch: int = 1, height: int = 24, width: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Left and right picture of a textured wall that is parallel to both: one is the other, moved by whole pixels."""
    rng = np.random.default_rng(seed)
    columns, rows = np.arange(width + shift), np.arange(height)
    waves = [
        np.sin(columns * rng.uniform(0.1, 0.9) + rows[:, None] * rng.uniform(-0.7, 0.7) + rng.uniform(0, 6))
        for _ in range(batch * 3 * 4)
    ]
    texture = torch.tensor(np.stack(waves).reshape(batch, 3, 4, height, width + shift).mean(2) * 0.4 + 0.5).float()
    # what the left shows at u, the right shows at u - shift
    return texture[..., :width].contiguous(), texture[..., shift:].contiguous()


def wall_batch(
    batch: int = 2, height: int = 32, width: int = 48, seed: int = 0, far: float = 10.0, shift: int = 4, **more: Any
) -> Batch:
    """A wall at the depth that moves it by `shift` pixels: 2 m for a focal length of 40 px and a baseline of 0.2 m."""
    left, right = wall(shift, batch, height, width, seed)
    baseline = torch.full((batch,), 0.2)
    depth = torch.full((batch, 1, height, width), FOCAL_PX * 0.2 / shift)
    camera = intrinsics_matrix(FOCAL_PX, FOCAL_PX, (width - 1) / 2, (height - 1) / 2)
    ids = [f"wall-{seed}-{i}" for i in range(batch)]
    known = torch.ones_like(depth, dtype=torch.bool)
    return Batch(
        image=left, depth=depth, valid=known, intrinsics=camera.expand(batch, 3, 3), id=ids,
        right=right, baseline=baseline,
    )  # fmt: skip


def rendered(world: str, index: int, baseline: float, height: int = 60, width: int = 120) -> Pair:
    """A scene seen by two cameras, `baseline` metres apart along their own x axis."""
    scene, camera = make_scene(world, np.random.default_rng(index), height, width)
    views = [render(scene, each, height, width)[:2] for each in (camera, camera.moved(right=baseline))]
    pictures = [torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image, _ in views]
    reach = float(camera.intrinsics[0, 0]) * baseline
    disparities = [np.where(depth > 0, reach / np.where(depth > 0, depth, 1), 0) for _, depth in views]
    both = _both_see(*(depth for _, depth in views), reach)
    of_left, of_right = (torch.from_numpy(each)[None, None].float() for each in disparities)
    return Pair(pictures[0], pictures[1], of_left, of_right, torch.from_numpy(both)[None, None])


def _both_see(left: np.ndarray, right: np.ndarray, reach: float) -> np.ndarray:
    """By the depths alone: the two pixels of the right camera around a point have its depth within 2 %."""
    height, width = left.shape
    out = np.zeros(left.shape, bool)
    for v in range(height):
        for u in range(width):
            place = u - reach / left[v, u] if left[v, u] > 0 else -1.0
            if 0 <= place <= width - 1:
                near = right[v, [int(np.floor(place)), int(np.ceil(place))]]
                out[v, u] = bool((np.abs(near / left[v, u] - 1) < 0.02).all())
    return out
