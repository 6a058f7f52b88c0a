"""Ways to use a trained method: what it says of a picture, and predictions other than those of the method alone.

Names are imported when first used: reading a depth map back must not cost the seconds that importing Lightning takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mde.lazy import lazily

if TYPE_CHECKING:
    from mde.inference.camera import Camera
    from mde.inference.export import OnnxModel
    from mde.inference.inputs import sources
    from mde.inference.predictor import Predictor
    from mde.inference.result import DepthResult, masked, read_depth
    from mde.inference.tiling import TiledDepth

__all__ = ["Camera", "DepthResult", "OnnxModel", "Predictor", "TiledDepth", "masked", "read_depth", "sources"]

_NAMES = {
    "camera": ("Camera",),
    "export": ("OnnxModel",),
    "inputs": ("sources",),
    "predictor": ("Predictor",),
    "result": ("DepthResult", "masked", "read_depth"),
    "tiling": ("TiledDepth",),
}

__getattr__, __dir__ = lazily(__name__, _NAMES)
