"""Ways to use a trained method: what it says of a picture, and predictions other than those of the method alone.

Names are imported when first used: reading a depth map back must not cost the seconds that importing Lightning takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mde.inference.camera import Camera
    from mde.inference.export import OnnxModel
    from mde.inference.inputs import sources
    from mde.inference.predictor import Predictor
    from mde.inference.result import DepthResult, masked, read_depth
    from mde.inference.tiling import TiledDepth

__all__ = ["Camera", "DepthResult", "OnnxModel", "Predictor", "TiledDepth", "masked", "read_depth", "sources"]

_HOMES = {
    "Camera": "camera",
    "DepthResult": "result",
    "OnnxModel": "export",
    "Predictor": "predictor",
    "TiledDepth": "tiling",
    "masked": "result",
    "read_depth": "result",
    "sources": "inputs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mde.inference' has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(import_module(f"mde.inference.{_HOMES[name]}"), name)
