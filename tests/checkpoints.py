"""Checkpoints of tiny untrained networks, as a training would have written them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mde.models import UNet
from mde.models.base import DepthModule

__all__ = ["tiny_unet", "write_checkpoint"]


def tiny_unet(size: tuple[int, int]) -> UNet:
    """A metric network of two levels whose weights are always the same."""
    torch.manual_seed(0)
    return UNet(widths=(4, 8), image_size=size, depth_range=(0.2, 12.0))


def write_checkpoint(path: Path, method: DepthModule) -> Path:
    """Write what `mde.load` reads; returns the path."""
    content: dict[str, Any] = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path
