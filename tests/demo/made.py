"""Networks whose answer is known: depth that can be computed from the picture by hand."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.types import Ambiguity, Prediction


@dataclass
class Known:
    """Depth = least + red / 64 + 2 * blue / 255, NaN where the picture is pure green: an `Exported` without a file."""

    least: float = 1.0
    ambiguity: Ambiguity = Ambiguity.METRIC
    name: str = "Known"

    @property
    def info(self) -> Any:
        ends = (self.least, 10.0) if self.ambiguity is Ambiguity.METRIC else None
        return SimpleNamespace(model=self.name, depth_range=ends, image_size=None, weights="0")

    def predict(self, image: Tensor, flip: bool = False) -> Prediction:
        values = [self.depth(each) for each in image.permute(0, 2, 3, 1).numpy()]
        return Prediction(torch.from_numpy(np.stack(values))[:, None], self.ambiguity)

    def depth(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """For uint8 (H,W,3), float32 (H,W)."""
        red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
        made = self.least + red / 64 + 2 * blue / 255
        return np.where((green == 255) & (red == 0) & (blue == 0), np.float32(np.nan), made).astype(np.float32)


def picture(height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Red grows to the right, blue downwards; a green square at the upper left has no depth."""
    made = np.zeros((height, width, 3), np.uint8)
    made[..., 0] = np.linspace(0, 255, width).round()
    made[..., 2] = np.linspace(0, 255, height).round()[:, None]
    made[: height // 6, : width // 8] = (0, 255, 0)
    return made
